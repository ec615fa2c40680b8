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


# What is otherwise with an Exim that was built with OpenSSL (not lab.refuses_early). It hears of a refusal during the
# handshake only where it verifies by itself, so that the mail waits and the next host is not tried; it does not tell of
# the certificates above one whose issuer it does not know; and OpenSSL 3 speaks no TLS 1.1.
_WITH_OPENSSL = {
    **dict.fromkeys(('first-wrong', 'five-wrong', 'mixed', 'mixed-clear', 'mixed-sts'), 'queued: sealane: .* refused'),
    **dict.fromkeys(('dane-ta-intermediate', 'dane-ta-full-unsent'), 'queued: tlsa-mismatch'),
    'plain-old-tls': 'mx1 clear',
}


def exim_outcome(lab, case):
    """What must become of a message: cases.toml, `exim`."""
    return case.data['exim'] if lab.refuses_early else _WITH_OPENSSL.get(case.name, case.data['exim'])


def exim(lab, made):
    for case in lab.cases:
        if 'exim' in case.data:
            yield _check('exim', lab, made, case, lambda case: deliver(lab, made, case))


def deliver(lab, made, case):
    subject = f'{made.place.name} {case.name}'
    outcome = made.send([case.recipient], subject)[case.recipient]
    case = dataclasses.replace(case, data={**case.data, 'exim': exim_outcome(lab, case)})
    return judge_delivery(case, outcome, lab.sink, subject)


def _check(suite, lab, made, case, run):
    return Check(f'{suite}/{made.backend}', case.name, case.rule, lambda: run(case),
                 lambda folder: lab.evidence(folder, made, [case]))
