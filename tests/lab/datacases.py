"""The checks that follow from cases.toml alone."""

import dataclasses
import json

from cases import judge_decision, judge_delivery
from report import Check


def decision(lab, made):
    def run(case):
        options = case.data.get('options', [])
        faults = judge_decision(case, made.decide(case.asked, options=options)[case.asked])
        for question in case.data.get('unasked', []):
            owner, rrtype = question.split()
            if lab.asked(f'{owner}.{case.domain}', rrtype):
                faults.append(f'{question} was asked for')
        # `explain` asks no agent: once is enough.
        return faults + (_replayed(made, case, options) if made.backend == 'fork' else [])

    for case in lab.cases:
        yield _check('decision', lab, made, case, run)


def _replayed(made, case, options):
    """`explain --json` gives the right decision, and its evidence gives that decision again, to the last member: the
    time that it was made at is part of the evidence, so that nothing may differ."""
    explained = made.sealane('explain', '--json', *options, case.asked).stdout
    decision = json.loads(explained)['decision']
    replayed = json.loads(made.sealane('decide', '--json', '--evidence', '-', input=explained).stdout)
    faults = [f'explain: {fault}' for fault in judge_decision(case, decision)]
    if replayed != decision:
        faults.append(f'decide --evidence: {replayed}, explain: {decision}')
    return faults


# Cases in which the first host is refused by its certificate while TLS is set up, and the next one is tried. An Exim that
# does not refuse that early (lab.refuses_early) leaves the mail in the queue.
_REFUSED_EARLY = ('first-wrong', 'five-wrong', 'mixed', 'mixed-clear', 'mixed-sts', 'dane-old-first')


def exim(lab, made):
    for case in lab.cases:
        if 'exim' in case.data:
            yield _check('exim', lab, made, case, lambda case: deliver(lab, made, case))


def deliver(lab, made, case):
    subject = f'{made.place.name} {case.name}'
    outcome = made.send([case.recipient], subject)[case.recipient]
    if not lab.refuses_early and case.name in _REFUSED_EARLY:
        case = dataclasses.replace(case, data={**case.data, 'exim': 'queued: sealane: .* refused'})
    return judge_delivery(case, outcome, lab.sink, subject)


def _check(suite, lab, made, case, run):
    return Check(f'{suite}/{made.backend}', case.name, case.rule, lambda: run(case),
                 lambda folder: lab.evidence(folder, made, [case]))
