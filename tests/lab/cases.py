"""Reads cases.toml and makes the world that it describes; says afterwards whether a decision and a delivery are what
the case demands. The format is explained at the top of cases.toml."""

import itertools
import re
import tomllib
from dataclasses import dataclass, field

from https import ADDRESS as POLICY_ADDRESS, NOBODY, Policy
from namespaces import HERE
from pki import Presented
from resolvers import TYPES, adds, delays, spoils
from sink import Host

_CASE_KEYS = {'rule', 'zone', 'server', 'child', 'host', 'many', 'mx', 'records', 'wire', 'bogus', 'refused', 'policy',
              'override', 'ask', 'options', 'decide', 'unasked', 'exim', 'smtpd', 'sni', 'demo'}
_HOST_KEYS = {'cert', 'sends', 'tlsa', 'tlsa_at', 'in', 'family', 'alias', 'at', 'starttls', 'max_tls', 'refuse'}
_POLICY_KEYS = {'mode', 'mx', 'max_age', 'cert', 'fault', 'server', 'alias', 'at', 'txt', 'text',
                'content_type'}
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
    def asked(self):
        """The recipient domain: the case's own domain, or a name below it."""
        return f'{self.data["ask"]}.{self.domain}' if 'ask' in self.data else self.domain

    @property
    def recipient(self):
        return f'someone@{self.asked}'


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
        self.habits = {}  # address -> habit of the name server there
        self.served = {}  # address -> the domain that it serves
        self._next = itertools.count(1)
        self._next_server = itertools.count(128)
        self._address, self._presented = {}, {}
        self._shared = {name: tree.zone(f'{name}.test.', kind) for name, kind in _SHARED.items()}

    def add(self, case):
        data = case.data
        zone = None
        if data.get('zone') != 'none':
            zone = self.tree.zone(case.domain + '.', data.get('zone', 'signed'), self._server(case))
        for name, child in data.get('child', {}).items():
            made = self.tree.child(zone, f'{name}.{zone.name}', child['zone'])
            for record in child.get('records', []):
                owner, _, text = record.partition(' ')
                made.add(_owner(owner, made), text)
        hosts = data.get('host', {})
        for short, host in hosts.items():
            case.names[short] = _full_name(short, host, case)
        for short, host in hosts.items():
            self._host(case, zone, case.names[short], host)
        if zone is None:
            return
        for preference, target in (entry.split() for entry in data.get('mx', _in_order(hosts))):
            zone.add(zone.name, f'MX {preference} {case.names[target] + "." if target in case.names else target}')
        self._many(case, zone, data.get('many', {}))
        for record in data.get('records', []):
            owner, _, text = record.partition(' ')
            owner = _owner(owner, zone)
            self.tree.zone_of(owner).add(owner, text)
        for record in data.get('bogus', []):
            owner, rrtype = record.split()
            zone.break_signature(_owner(owner, zone), rrtype)
        for owner in data.get('refused', []):
            zone.add(_owner(owner, zone), 'NS refuses.test.')
        if 'policy' in data:
            self._policy(case, zone, data['policy'])

    def _server(self, case):
        """The address of the name server that the zone has for itself, or None."""
        rrtype, _, how = case.data.get('server', '').partition(' ')
        if rrtype == 'delay':
            habit = delays(float(how))
        elif rrtype:
            habit = spoils(rrtype, how)
        elif 'wire' in case.data:
            habit = adds(self._wire(case))
        else:
            return None
        address = f'192.0.2.{next(self._next_server)}'
        self.habits[address], self.served[address] = habit, case.domain
        return address

    def _wire(self, case):
        rrsets = {}
        zone = case.domain + '.'
        for entry in case.data['wire']:
            owner, rrtype, *rdata = entry.split()
            name, number = zone if owner == '@' else f'{owner}.{zone}', TYPES[rrtype]
            rdata = [bytes.fromhex('' if one == '-' else one) for one in rdata]
            signature = None if case.data.get('zone') == 'insecure' else self.tree.key.rrsig(zone, name, number, rdata)
            rrsets[name.rstrip('.'), number] = rdata, signature
        return rrsets

    def _many(self, case, zone, data):
        """MX hosts h001, h002 … that differ in nothing but their names and preferences."""
        digest = 'ab' * 32
        for number in range(1, data.get('count', 0) + 1):
            short = f'h{number:03}'
            name = case.names[short] = f'{short}-{"x" * 40}.{case.domain}'
            zone.add(zone.name, f'MX {number} {name}.')
            zone.add(f'{name}.', 'A 198.18.255.1')
            if data.get('tlsa'):
                zone.add(f'_25._tcp.{name}.', f'TLSA 3 1 1 {digest}')

    def _host(self, case, zone, name, data):
        if data.get('in') in self._shared:
            zone = self._shared[data['in']]
        elif 'in' in data:
            zone = self.tree.zones[f'{data["in"]}.{zone.name}']
        other = case.names[data['at']] if 'at' in data else name
        presented = self._presented.get(other) or Presented(
            data.get('cert', 'right'), name, case.domain, data.get('sends', ['leaf', 'intermediate']))
        self._presented[name] = presented
        tlsa_owner = f'_25._tcp.{name}.'
        if 'tlsa_at' in data:
            target = _owner(data['tlsa_at'], zone)
            self.tree.zone_of(tlsa_owner).add(tlsa_owner, f'CNAME {target}')
            tlsa_owner = target
        for text in data.get('tlsa', []):
            for rdata in presented.tlsa(text):
                self.tree.zone_of(tlsa_owner).add(tlsa_owner, f'TYPE52 \\# {len(rdata) // 2} {rdata}')
        if 'alias' in data:
            zone.add(name + '.', f'CNAME {case.names[data["alias"]]}.')
            return
        if 'at' in data:
            zone.add(name + '.', f'A {self._address[other]}')
            return
        number = next(self._next)
        addresses = []
        if data.get('family', 'v4') in ('v4', 'both'):
            addresses.append(f'198.18.{number >> 8}.{number & 255}')
            zone.add(name + '.', f'A {addresses[-1]}')
        if data.get('family') in ('v6', 'both'):
            addresses.append(f'2001:db8::{number:x}')
            zone.add(name + '.', f'AAAA {addresses[-1]}')
        self._address[name] = addresses[0] if addresses else None
        host = Host(name, presented, data.get('starttls', 'offered'), data.get('max_tls'), data.get('refuse'))
        self.sink.add(host, addresses)

    def _policy(self, case, zone, data):
        text = data.get('text')
        if text is None:
            patterns = [case.names.get(pattern, pattern) for pattern in data.get('mx', [])]
            lines = ['version: STSv1', f'mode: {data["mode"]}', *(f'mx: {pattern}' for pattern in patterns),
                     f'max_age: {data.get("max_age", 86400)}']
            text = '\n'.join(lines) + '\n'
        domain = f'{data["at"]}.{case.domain}' if 'at' in data else case.domain
        policy = Policy(domain, text, data.get('cert', 'right'), data.get('fault'),
                        data.get('content_type', 'text/plain'))
        self.policies.add(policy)
        host = f'mta-sts.{domain}.'
        if 'alias' in data:
            zone.add(host, f'CNAME {data["alias"]}')
            host = data['alias']
        if data.get('server') != 'unnamed':
            self.tree.zone_of(host).add(host, f'A {NOBODY if data.get("server") == "down" else POLICY_ADDRESS}')
        for text in data.get('txt', ['v=STSv1; id=1;']):
            zone.add(f'_mta-sts.{domain}.', f'TXT "{text}"')


def _full_name(short, host, case):
    if short == '@':
        return case.domain
    if host.get('in') in _SHARED:
        return f'{short}.{case.name}.{host["in"]}.test'
    if 'in' in host:
        return f'{short}.{host["in"]}.{case.domain}'
    return f'{short}.{case.domain}'


def _in_order(hosts):
    return [f'{preference} {host}' for preference, host in zip(itertools.count(10, 10), hosts)]


def _owner(text, zone):
    if text.endswith('.'):
        return text
    return zone.name if text == '@' else f'{text}.{zone.name}'


_DECISION_KEYS = ('action', 'reason', 'mechanism', 'mx_dnssec', 'others', 'implicit', 'floor', 'next_hop',
                  'complete')


def judge_decision(case, decision):
    """What is wrong with the decision, as a list of sentences."""
    faults = []
    hosts = {host['host']: host for host in decision.get('hosts', [])}
    for key, wanted in case.data['decide'].items():
        if key in _DECISION_KEYS:
            got = decision.get(key)
        elif key == 'sts':
            got = (decision.get('sts') or {}).get('state', 'none')
        elif key == 'order':
            got, wanted = [host['host'] for host in decision['hosts']], [case.names.get(name, name) for name in wanted]
        elif key in ('tlsa', 'names', 'addresses'):  # of the first host
            got = decision['hosts'][0][key]
            if isinstance(wanted, int):
                got = len(got)
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
