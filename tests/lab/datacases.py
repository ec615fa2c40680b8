"""The checks that follow from cases.toml alone."""

from cases import judge_decision, judge_delivery
from report import Check


def decision(lab, made):
    def run(case):
        return judge_decision(case, made.decide(case.domain)[case.domain])

    for case in lab.cases:
        yield _check('decision', lab, made, case, run)


def exim(lab, made):
    def run(case):
        subject = f'{made.backend} {case.name}'
        outcome = made.send([case.recipient], subject)[case.recipient]
        return judge_delivery(case, outcome, lab.sink, subject)

    for case in lab.cases:
        yield _check('exim', lab, made, case, run)


def _check(suite, lab, made, case, run):
    return Check(f'{suite}/{made.backend}', case.name, case.rule, lambda: run(case),
                 lambda folder: lab.evidence(folder, made, [case]))
