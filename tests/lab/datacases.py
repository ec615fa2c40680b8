"""The checks that follow from cases.toml alone."""

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


def exim(lab, made):
    def run(case):
        subject = f'{made.backend} {case.name}'
        outcome = made.send([case.recipient], subject)[case.recipient]
        return judge_delivery(case, outcome, lab.sink, subject)

    for case in lab.cases:
        if 'exim' in case.data:
            yield _check('exim', lab, made, case, run)


def _check(suite, lab, made, case, run):
    return Check(f'{suite}/{made.backend}', case.name, case.rule, lambda: run(case),
                 lambda folder: lab.evidence(folder, made, [case]))
