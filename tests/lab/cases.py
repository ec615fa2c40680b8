"""Reads cases.toml and makes the world that it describes; says afterwards whether a decision and a delivery are what
the case demands. The format is explained at the top of cases.toml."""

import itertools
import re
import tomllib
from dataclasses import dataclass, field

from https import ADDRESS as POLICY_ADDRESS, NOBODY, Policy
from namespaces import HERE
from pki import Presented
from sink import Host

_CASE_KEYS = {'rule', 'zone', 'host', 'mx', 'records', 'bogus', 'refused', 'policy', 'override', 'decide', 'exim',
              'sni', 'demo'}
_HOST_KEYS = {'cert', 'sends', 'tlsa', 'tlsa_at', 'in', 'family', 'alias', 'starttls', 'max_tls', 'refuse'}
_POLICY_KEYS = {'mode', 'mx', 'max_age', 'cert', 'fault', 'server', 'txt', 'text', 'content_type'}
_SHARED = {'secure': 'signed', 'insecure': 'insecure', 'bogus': 'bogus'}


@dataclass
class Case:
    name: str
    data: dict
    domain: str = ''
    names: dict = field(default_factory=dict)  # short host name -> full name, without the trailing dot

    @property
    def rule(self):
        return self.data['rule']

    @property
    def recipient(self):
        return f'someone@{self.domain}'


def read(path=HERE / 'cases.toml'):
    cases = [Case(name, data, f'{name}.test') for name, data in tomllib.loads(path.read_text()).items()]
    for case in cases:
        _check_keys(case.name, case.data, _CASE_KEYS)
        for host in case.data.get('host', {}).values():
            _check_keys(case.name, host, _HOST_KEYS)
        _check_keys(case.name, case.data.get('policy', {}), _POLICY_KEYS)
    return cases


def _check_keys(name, data, known):
    if unknown := set(data) - known:
        raise SystemExit(f'cases.toml: [{name}]: unknown {", ".join(sorted(unknown))}')


class World:
    """Everything outside the mail machine."""

    def __init__(self, tree, policies, sink):
        self.tree, self.policies, self.sink = tree, policies, sink
        self._next = itertools.count(1)
        self._shared = {name: tree.zone(f'{name}.test.', kind) for name, kind in _SHARED.items()}

    def add(self, case):
        data = case.data
        zone = None
        if data.get('zone') != 'none':
            zone = self.tree.zone(case.domain + '.', data.get('zone', 'signed'))
        hosts = data.get('host', {})
        for short, host in hosts.items():
            case.names[short] = _full_name(short, host, case)
        for short, host in hosts.items():
            self._host(case, zone, case.names[short], host)
        if zone is None:
            return
        for preference, target in (entry.split() for entry in data.get('mx', _in_order(hosts))):
            zone.add(zone.name, f'MX {preference} {case.names[target] + "." if target in case.names else target}')
        for record in data.get('records', []):
            owner, _, text = record.partition(' ')
            zone.add(_owner(owner, zone), text)
        for record in data.get('bogus', []):
            owner, rrtype = record.split()
            zone.break_signature(_owner(owner, zone), rrtype)
        for owner in data.get('refused', []):
            zone.add(_owner(owner, zone), 'NS refuses.test.')
        if 'policy' in data:
            self._policy(case, zone, data['policy'])

    def _host(self, case, zone, name, data):
        if 'in' in data:
            zone = self._shared[data['in']]
        presented = Presented(data.get('cert', 'right'), name, case.domain, data.get('sends', ['leaf', 'intermediate']))
        tlsa_owner = f'_25._tcp.{name}.'
        if 'tlsa_at' in data:
            zone.add(tlsa_owner, f'CNAME {data["tlsa_at"]}.{zone.name}')
            tlsa_owner = f'{data["tlsa_at"]}.{zone.name}'
        for text in data.get('tlsa', []):
            rdata = presented.tlsa(text)
            zone.add(tlsa_owner, f'TYPE52 \\# {len(rdata) // 2} {rdata}')
        if 'alias' in data:
            zone.add(name + '.', f'CNAME {case.names[data["alias"]]}.')
            return
        number = next(self._next)
        addresses = []
        if data.get('family', 'v4') in ('v4', 'both'):
            addresses.append(f'198.18.{number >> 8}.{number & 255}')
            zone.add(name + '.', f'A {addresses[-1]}')
        if data.get('family') in ('v6', 'both'):
            addresses.append(f'2001:db8::{number:x}')
            zone.add(name + '.', f'AAAA {addresses[-1]}')
        host = Host(name, presented, data.get('starttls', 'offered'), data.get('max_tls'), data.get('refuse'))
        self.sink.add(host, addresses)

    def _policy(self, case, zone, data):
        text = data.get('text')
        if text is None:
            patterns = [case.names.get(pattern, pattern) for pattern in data.get('mx', [])]
            lines = ['version: STSv1', f'mode: {data["mode"]}', *(f'mx: {pattern}' for pattern in patterns),
                     f'max_age: {data.get("max_age", 86400)}']
            text = '\n'.join(lines) + '\n'
        policy = Policy(case.domain, text, data.get('cert', 'right'), data.get('fault'),
                        data.get('content_type', 'text/plain'))
        self.policies.add(policy)
        zone.add('mta-sts.' + zone.name, f'A {NOBODY if data.get("server") == "down" else POLICY_ADDRESS}')
        zone.add('_mta-sts.' + zone.name, f'TXT "{data.get("txt", "v=STSv1; id=1;")}"')


def _full_name(short, host, case):
    if short == '@':
        return case.domain
    if 'in' in host:
        return f'{short}.{case.name}.{host["in"]}.test'
    return f'{short}.{case.domain}'


def _in_order(hosts):
    return [f'{preference} {host}' for preference, host in zip(itertools.count(10, 10), hosts)]


def _owner(text, zone):
    return zone.name if text == '@' else f'{text}.{zone.name}'


_DECISION_KEYS = ('action', 'reason', 'mechanism', 'mx_dnssec', 'others', 'implicit', 'floor')


def judge_decision(case, decision):
    """What is wrong with the decision, as a list of sentences."""
    faults = []
    hosts = {host['host']: host for host in decision.get('hosts', [])}
    for key, wanted in case.data['decide'].items():
        if key in _DECISION_KEYS:
            got = decision.get(key)
        elif key == 'sts':
            got = (decision.get('sts') or {}).get('state', 'none')
        else:
            got, wanted = _demand(hosts.get(case.names.get(key, key)), wanted)
        if got != wanted:
            faults.append(f'{key} is {got}, not {wanted}')
    return faults


def _demand(host, wanted):
    """The host's demand in as many words as the case uses: 'dane tlsa-usable', 'opportunistic would=skip'."""
    if host is None:
        return 'not among the hosts', wanted
    words = wanted.split()
    got = [host['tls']]
    if len(words) > 1 and not words[1].startswith('would='):
        got.append(host['reason'])
    if words[-1].startswith('would='):
        got.append(f'would={host["would"]}')
    return ' '.join(got), wanted


def judge_delivery(case, outcome, sink, subject):
    """What is wrong with what Exim did, by its log and, more to be believed, by what reached the servers."""
    demand = case.data['exim']
    deliveries = sink.deliveries(subject)
    kind, _, pattern = demand.partition(': ')
    if kind in ('queued', 'bounced'):
        faults = []
        if outcome.state != kind:
            faults.append(f'{outcome.state}, not {kind}')
        if deliveries:
            faults.append(f'reached {deliveries[0][0]["host"]} over {deliveries[0][0]["tls"] or "clear text"}')
        if pattern and not re.search(pattern, outcome.log):
            faults.append(f'the log does not say {pattern}')
        return faults
    short, tls = demand.split()
    name = case.names.get(short, short)
    if outcome.state != 'delivered' or len(deliveries) != 1:
        return [f'{outcome.state}, {len(deliveries)} deliveries, not delivered to {name}']
    record, message = deliveries[0]
    faults = []
    if record['host'] != name:
        faults.append(f'delivered to {record["host"]}, not {name}')
    if bool(record['tls']) != (tls == 'TLS'):
        faults.append(f'delivered over {record["tls"] or "clear text"}, not {tls}')
    if 'sni' in case.data and record['sni'] != case.names[case.data['sni']]:
        faults.append(f'asked for {record["sni"]}, not {case.names[case.data["sni"]]}')
    if message['auth']:
        faults.append('AUTH= was sent')
    return faults
