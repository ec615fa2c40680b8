"""How many rounds of questions a cold decision takes, counted at the authoritative server, which answers late."""

import time

from cases import Case
from report import Check

SHORT = 0.02  # seconds: an ordinary distance
DELAY = 1.0  # seconds: questions of one round come much closer together, on a busy machine too


def world():
    yield Case('rounds', {
        'rule': 'used by one check', 'server': f'delay {DELAY}',
        'host': {'mx1': {'family': 'both', 'tlsa': ['3 1 1 leaf']}, 'mx2': {'family': 'both', 'tlsa': ['3 1 1 leaf']}},
        'policy': {'mode': 'enforce', 'mx': ['mx1', 'mx2']}}, 'rounds.test')


    yield Case('rounds-short', {
        'rule': 'used by one benchmark', 'server': f'delay {SHORT}',
        'host': {'mx1': {'tlsa': ['3 1 1 leaf']}, 'mx2': {'tlsa': ['3 1 1 leaf']}}}, 'rounds-short.test')


def checks(lab):
    yield Check('decision', 'rounds', 'RFC 7672 2.2: MX, addresses, TLSA: three rounds of questions; TXT and HTTPS beside them',
                lambda: _count(lab))


def _count(lab):
    address = next(address for address, domain in lab.world.served.items() if domain == 'rounds.test')
    asked = lab.resolvers.questions[address]
    with lab.machine('agent', config={'resolver': 'recursive', 'timeout': '60s', 'dns_timeout': '30s'}) as made:
        made.start()
        made.decide('warm.rounds.test')  # a name that does not exist: brings the delegation and the keys
        before = len(asked)
        decision = made.decide('rounds.test')['rounds.test']
    rounds = []
    for one in asked[before:]:
        if not rounds or one.at - rounds[-1][0].at > DELAY * 0.8:
            rounds.append([])
        rounds[-1].append(one)
    shown = [sorted({f'{one.name} {one.rrtype}' for one in questions}) for questions in rounds]
    faults = [] if decision['floor'] == 'dane' else [f'no DANE: {decision}']
    return faults + ([] if len(rounds) == 3 else [f'{len(rounds)} rounds: {shown}'])


def benches(lab):
    yield Check('bench', 'cold-decision', 'a cold decision, in round trips of 20 ms to the authoritative server',
                lambda: _time(lab))


def _time(lab):
    """The same command twice, so that what the second takes, from memory, is what the command itself costs."""
    ratios = []
    for _ in range(5):
        with lab.machine('agent', config={'resolver': 'recursive'}) as made:
            made.start()
            made.decide('warm.rounds-short.test')
            took = []
            for _ in range(2):
                started = time.monotonic()
                decision = made.decide('rounds-short.test')['rounds-short.test']
                took.append(time.monotonic() - started)
            ratios.append((took[0] - took[1]) / SHORT)
    ratios.sort()
    print(f'# cold decision of two DANE hosts: {ratios[2]:.1f} round trips (median of 5; {ratios[0]:.1f} to {ratios[-1]:.1f})',
          flush=True)
    return [] if decision['floor'] == 'dane' and ratios[0] > 2.5 else [f'{ratios}: {decision}']
