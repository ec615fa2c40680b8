"""How many rounds of questions a cold decision takes, counted at the authoritative server, which answers late."""

from cases import Case
from report import Check

DELAY = 1.0  # seconds: questions of one round come much closer together, on a busy machine too


def world():
    yield Case('rounds', {
        'rule': 'used by one check', 'server': f'delay {DELAY}',
        'host': {'mx1': {'family': 'both', 'tlsa': ['3 1 1 leaf']}, 'mx2': {'family': 'both', 'tlsa': ['3 1 1 leaf']}},
        'policy': {'mode': 'enforce', 'mx': ['mx1', 'mx2']}}, 'rounds.test')


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
