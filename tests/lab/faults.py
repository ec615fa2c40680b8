"""What breaks on a mail machine, and what must hold all the same: no message of a domain that demands TLS or
authentication leaves without it, and Exim's log says why it waits. Each scenario has a machine of its own.

A scenario is a function (lab, machine) that returns what is wrong, as a list of sentences; its decorator says which
back ends it concerns and how the machine differs from a sound one. The first line of its docstring is its title."""

import concurrent.futures
import contextlib
import os
import re
import shutil
import signal
import socket
import socketserver
import sqlite3
import subprocess
import threading

import machine as machines
import resolvers
from cases import Case
from process import wait_until
from report import Check

SCENARIOS = []
# A domain of each kind that has something to lose. All are deliverable on a sound machine but the second and the last.
PROTECTED = ['dane-ee', 'dane-ee-wrong', 'sts', 'sts-other-name']


def scenario(backends=('agent', 'fork'), suite='faults', dlfunc=False, **options):
    """`dlfunc`: only for an Exim that loads the object."""
    def register(function):
        function.backends, function.suite, function.dlfunc, function.options = backends, suite, dlfunc, options
        SCENARIOS.append(function)
        return function
    return register


def world():
    """Domains that one scenario has for itself, because it changes them or counts what is asked about them."""
    for name in ('durable-agent', 'durable-fork', 'counted', 'moved'):
        yield Case(name, {
            'rule': 'used by one scenario', 'zone': 'insecure', 'host': {'mx1': {}, 'evil': {}}, 'mx': ['10 mx1'],
            'policy': {'mode': 'enforce', 'mx': ['mx1']}}, f'{name}.test')
    for backend in ('agent', 'fork'):
        for name in (f'slow-{backend}', f'null-{backend}'):
            yield Case(name, {
                'rule': 'used by one scenario', 'zone': 'insecure', 'host': {'mx1': {}, 'evil': {}}, 'mx': ['10 mx1'],
                'policy': {'mode': 'enforce', 'mx': ['mx1']}}, f'{name}.test')
        yield Case(f'private-{backend}', {
            'rule': 'used by one scenario', 'zone': 'insecure', 'host': {'mx1': {}},
            'records': ['mta-sts A 10.0.0.1', 'mta-sts A 127.0.0.1', 'mta-sts AAAA fe80::1'],
            'policy': {'mode': 'enforce', 'mx': ['mx1'], 'server': 'unnamed'}}, f'private-{backend}.test')
        name = f'gone-{backend}'
        yield Case(name, {
            'rule': 'used by one scenario', 'zone': 'insecure', 'ask': 'sub', 'host': {'mx1': {}}, 'mx': ['10 mx1'],
            'records': [f'sub MX 10 mx1.{name}.test.'], 'policy': {'mode': 'enforce', 'mx': ['mx1'], 'at': 'sub'}},
            f'{name}.test')
    yield Case('encrypt-shared', {
        'rule': 'a weaker demand than sts-other-name has, on the same host', 'zone': 'insecure',
        'mx': ['10 mx1.sts-other-name.test.']}, 'encrypt-shared.test')
    yield Case('own-mx', {
        'rule': 'used by one scenario', 'zone': 'insecure', 'host': {'mx1': {}, 'mx2': {}}, 'records': ['own A 192.0.2.53'],
        'mx': ['10 own', '20 mx2'], 'policy': {'mode': 'enforce', 'mx': ['mx1', 'mx2']}}, 'own-mx.test')


def checks(lab, backend, suite='faults'):
    for function in SCENARIOS:
        if backend in function.backends and function.suite == suite and (lab.has_dlfunc or not function.dlfunc):
            yield _check(lab, backend, function)


def by_name(name):
    return next((function for function in SCENARIOS if name_of(function) == name), None)


def name_of(function):
    return function.__name__.replace('_', '-')


def _check(lab, backend, function):
    name = name_of(function)
    kept = {}

    def run():
        place = contextlib.ExitStack()
        made = kept['machine'] = place.enter_context(lab.machine(backend, **function.options))
        with place:
            return function(lab, made)

    def evidence(folder):
        involved = [*PROTECTED, 'plain', 'plain-shared', f'durable-{backend}']
        lab.evidence(folder, kept['machine'], [lab.by_name[one] for one in involved], explain=False)

    return Check(f'{function.suite}/{backend}', name, function.__doc__.splitlines()[0], run, evidence)


# What a scenario demands

def send_all(lab, made, names, label):
    """One message to each, at the same time: (name, outcome, what the servers took)."""
    def send(name):
        case, subject = lab.by_name[name], f'{made.place.name} {label} {name}'
        outcome = made.send([case.recipient], subject)[case.recipient]
        return name, outcome, lab.sink.deliveries(subject)
    with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        return list(pool.map(send, names))


def queued(lab, made, why, names=PROTECTED, label=''):
    """Messages to all of them stay in the queue, the log says `why`, and nothing reached a server."""
    faults = []
    for name, outcome, deliveries in send_all(lab, made, names, label):
        if outcome.state != 'queued':
            faults.append(f'{name} is {outcome.state}, not queued')
        if not re.search(why, outcome.log):
            faults.append(f'{name}: the log does not say {why}:\n{outcome.log}')
        faults += [f'{name} reached {record["host"]} over {record["tls"] or "clear text"}' for record, _ in deliveries]
    return faults


def delivered(lab, made, names, label=''):
    return [f'{name} is {outcome.state}, {len(deliveries)} deliveries\n{outcome.log}'
            for name, outcome, deliveries in send_all(lab, made, names, label)
            if outcome.state != 'delivered' or len(deliveries) != 1 or not deliveries[0][0]['tls']]


def _reason(made, reason, status=75, domain='dane-ee.test'):
    """The command, deciding by itself, gives the reason; where it cannot start, 78 and a line that says so."""
    done = made.sealane('query', '--json', '--local', domain)
    if done.returncode == 78 and reason in done.stderr + done.stdout:
        return []
    if f'"reason":"{reason}"' in done.stdout.replace(' ', '') and done.returncode == status:
        return []
    return [f'sealane query --local: exit {done.returncode}, not {reason}: {done.stdout}{done.stderr}']


def _no_weaker(made, names=PROTECTED):
    """No decision about these leaves a host to TLS without authentication, or to clear text."""
    faults = []
    for domain, decision in made.decide(*(f'{name}.test' for name in names)).items():
        demands = [host['tls'] for host in decision['hosts']]
        if set(demands) - {'skip', 'dane', 'pkix'} or decision['others'] != 'skip' or decision['action'] == 'reject':
            faults.append(f'{domain}: {decision["action"]}, {demands}, others {decision["others"]}')
    return faults


def _agent_refuses_to_start(made, why):
    done = made.sealane('agent', '--config', '/etc/sealane/sealane.conf', timeout=20)
    if done.returncode == 78 and re.search(why, done.stderr) and done.stderr.count('\n') == 1:
        return []
    return [f'sealane agent: exit {done.returncode}, not 78 with one line about {why}: {done.stderr}']


# The agent

@scenario(backends=('agent',))
def agent_dead(lab, made):
    """No agent: everything waits."""
    return queued(lab, made, 'agent', [*PROTECTED, 'plain'])


@scenario(backends=('agent',))
def agent_killed(lab, made):
    """An agent killed with SIGKILL: mail waits, and goes when it is back."""
    made.start()
    faults = delivered(lab, made, ['dane-ee', 'sts'], 'before')
    made.stop_agent(signal.SIGKILL)
    faults += queued(lab, made, 'agent', ['dane-ee', 'dane-ee-wrong', 'sts'], 'without')
    made.start_agent()
    for name in ('dane-ee', 'sts'):
        recipient, subject = lab.by_name[name].recipient, f'{made.place.name} without {name}'
        if made.retry_queue([recipient], subject)[recipient].state != 'delivered':
            faults.append(f'{name} is not delivered when the agent is back')
    return faults


@scenario(backends=('agent',))
def agent_hung(lab, made):
    """An agent that is stopped (SIGSTOP): mail waits, and Exim does not hang."""
    made.start()
    made.agent.process.send_signal(signal.SIGSTOP)
    return queued(lab, made, 'agent', ['dane-ee-wrong', 'sts-other-name'])


class _Impostor(socketserver.ThreadingUnixStreamServer):
    """Stands at the agent's place, asks the real agent, and spoils the answer."""
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass


class _Spoil(socketserver.StreamRequestHandler):
    def handle(self):
        while request := self.rfile.readline(1 << 20):
            with socket.socket(socket.AF_UNIX) as real:
                real.settimeout(machines.SEND_BOUND)
                real.connect(self.server.real)
                real.sendall(self.server.question(request))
                reply = real.makefile('rb').readline()
            if self.server.spares not in request:
                self.server.spoil(self.wfile, reply)
                return
            self.wfile.write(reply)


@contextlib.contextmanager
def _impostor(made, spoil, question, spares):
    real = '/run/sealane/real.sock'
    made.configure({**machines.CONFIG, 'socket': real}, {})
    made.start_agent(real)
    server = _Impostor(str(made.socket), _Spoil)
    os.chmod(made.socket, 0o666)
    server.real, server.spoil, server.question, server.spares = str(made.root / real[1:]), spoil, question, spares
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def _spoiled(name, title, spoil, question=lambda request: request, spares=b'no request'):
    """`question` may change what the real agent is asked; requests that contain `spares` are answered truly."""
    def run(lab, made):
        with _impostor(made, spoil, question, spares):
            return queued(lab, made, 'sealane')
    run.__name__, run.__doc__ = f'agent_{name}', title
    scenario(backends=('agent',))(run)


def _drip(stream, reply):
    """A byte a second: the answer would be complete long after anybody waits for it."""
    pause = threading.Event()
    for byte in reply:
        stream.write(bytes([byte]))
        pause.wait(1)


_spoiled('closes', 'An agent that closes at once.', lambda stream, reply: None)
_spoiled('rubbish', 'An agent that answers rubbish.',
         lambda stream, reply: stream.write(bytes(range(256)) * 16 + b'\n'))
_spoiled('flood', 'An agent that never ends its line.', lambda stream, reply: stream.write(b'OK ' + b'a' * (4 << 20)))
_spoiled('half', 'An agent that sends half an answer.', lambda stream, reply: stream.write(reply[:len(reply) // 2]))
_spoiled('unended', 'An agent whose answer lacks the line end.', lambda stream, reply: stream.write(reply[:-1]))
_spoiled('cut', 'An agent whose answer lacks the last word.',
         lambda stream, reply: stream.write(reply.rstrip().rpartition(b' ')[0] + b'\n'))
_spoiled('slow', 'An agent that sends a byte a second.', _drip)
_spoiled('confused', 'An agent that answers for another domain.', lambda stream, reply: stream.write(reply),
         question=lambda request: re.sub(rb'(dane-ee|dane-ee-wrong|sts|sts-other-name)\.test', b'plain-clear.test',
                                         request))
_spoiled('lost_after_routing', 'An agent that is gone when the certificate is to be verified.',
         lambda stream, reply: None, spares=b' ROUTE ')
_spoiled('rubbish_after_routing', 'An agent that answers rubbish about the certificate.',
         lambda stream, reply: stream.write(b'OK passed\n'), spares=b' ROUTE ')


# The object and the library

@scenario(dlfunc=True)
def object_missing(lab, made):
    """The object that Exim loads is gone: mail waits at routing."""
    made.start()
    made.lose_object()
    return queued(lab, made, 'sealane', [*PROTECTED, 'plain'])


@scenario(dlfunc=True)
def object_missing_at_transport(lab, made):
    """The object is gone only when the transport asks: the gate holds the mail."""
    made.start()
    made.lose_object('transport')
    return queued(lab, made, 'sealane')


@scenario(backends=('fork',))
def library_missing(lab, made):
    """Without libsealane the fork back end decides nothing."""
    for library in made.root.glob('usr/**/libsealane.so*'):
        library.unlink()
    return queued(lab, made, 'sealane')


@scenario(backends=('fork',))
def state_owned_by_root(lab, made):
    """The fork back end never works as root, so a state directory of root's holds the mail."""
    shutil.chown(made.root / 'var/lib/sealane', 0, 0)
    return queued(lab, made, 'sealane')


# Store, trust, time

@scenario()
def store_unreadable(lab, made):
    """A store that cannot be read: only DANE over a secure MX goes on."""
    store = made.root / 'var/lib/sealane/sealane.db'
    store.mkdir()
    made.start()
    return _no_weaker(made) + queued(lab, made, 'store', ['sts', 'sts-other-name', 'plain']) + delivered(lab, made, ['dane-ee'])


@scenario()
def store_corrupt(lab, made):
    """A store that is no database: only DANE over a secure MX goes on."""
    store = made.root / 'var/lib/sealane/sealane.db'
    store.write_bytes(b'this was a database once\n' * 4096)
    shutil.copystat(made.root / 'var/lib/sealane', store)
    owner = (made.root / 'var/lib/sealane').stat()
    os.chown(store, owner.st_uid, owner.st_gid)
    made.start()
    return (_no_weaker(made) + queued(lab, made, 'store', ['sts', 'sts-other-name', 'plain'])
            + delivered(lab, made, ['dane-ee']))


@scenario()
def store_newer(lab, made):
    """A store of a later release's schema: only DANE over a secure MX goes on, and the store stays as it is."""
    made.start()
    made.decide('dane-ee.test')  # makes the store
    made.stop()
    store = made.root / 'var/lib/sealane/sealane.db'
    with contextlib.closing(sqlite3.connect(store)) as db:
        db.execute('PRAGMA user_version = 1000')
    made.start()
    faults = _no_weaker(made) + queued(lab, made, 'store', ['sts', 'sts-other-name', 'plain'])
    with contextlib.closing(sqlite3.connect(store)) as db:
        if db.execute('PRAGMA user_version').fetchone() != (1000,):
            faults.append('the store was changed')
    return faults + delivered(lab, made, ['dane-ee'])


def _said(made, domain):
    """What the back end tells its administrator while it decides."""
    decided = made.sealane('query', '--json', *(['--local'] if made.backend == 'fork' else []), domain)
    return decided.stdout, decided.stderr + (made.agent.log.read_text() if made.agent else '')


def _decides_from_memory(lab, made, why):
    """What is learned now cannot be kept on disk, but holds, and that is said."""
    decision, said = _said(made, 'sts-not-listed.test')
    faults = [] if '"reason":"sts-mismatch"' in decision else [f'no decision by the new policy: {decision}']
    if made.agent:  # whose store has a thread of its own, which may speak after the answer
        wait_until(lambda: re.search(why, made.agent.log.read_text()), f'the log says {why}')
    elif not re.search(why, said):
        faults.append(f'the log does not say {why}: {said}')
    return (faults + _no_weaker(made) + queued(lab, made, 'cert-name|TLS', ['sts-other-name'])
            + delivered(lab, made, ['dane-ee', 'sts']))


def _on_own_disk(made):
    """A small file system for the store, which is made there."""
    folder = made.root / 'var/lib/sealane'
    owner = folder.stat()
    subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size=256k,mode=700,uid={owner.st_uid},gid={owner.st_gid}', 'store',
                    folder], check=True)
    made.start()
    made.decide('dane-ee.test')
    return folder


@scenario(backends=('agent',))
def store_full(lab, made):
    """No space left for the store of a running agent: decided from memory."""
    folder = _on_own_disk(made)
    with contextlib.suppress(OSError), (folder / 'filler').open('wb', buffering=0) as filler:
        while True:
            filler.write(b'x' * 512)
    return _decides_from_memory(lab, made, 'store: .*(full|space).*memory only')


@scenario()
def store_read_only(lab, made):
    """A store on a read-only file system, which cannot be opened: only DANE over a secure MX goes on."""
    folder = _on_own_disk(made)
    made.stop()
    subprocess.run(['mount', '-o', 'remount,ro', folder], check=True)
    made.start()
    return (_no_weaker(made) + queued(lab, made, 'store', ['sts', 'sts-other-name', 'plain'])
            + delivered(lab, made, ['dane-ee']))


@scenario(config={'trust_anchor': '/lab/missing.key'})
def trust_anchor_missing(lab, made):
    """No trust anchor: no start, no decision, no delivery."""
    return _cannot_start(lab, made, 'trust.anchor', 'trust-anchor')


@scenario(config={'ca_file': '/lab/empty.pem'})
def ca_file_empty(lab, made):
    """A CA file without a certificate: no start, no decision, no delivery."""
    (made.root / 'lab/empty.pem').write_text('')
    return _cannot_start(lab, made, 'ca.file', 'ca-file')


@scenario(config={'unheard_of': '1'})
def configuration_broken(lab, made):
    """An unknown key: no start, no decision, no delivery."""
    return _cannot_start(lab, made, 'unheard_of', 'unheard_of')


@scenario(backends=('agent',))
def ca_file_lost(lab, made):
    """A CA file without a certificate when the agent is told to reload: the old one stays, and that is said."""
    made.start()
    made.decide('plain.test')  # a signal that comes while the agent is still starting has nothing to reload
    (made.root / 'lab/ca.pem').write_text('')
    made.agent.process.send_signal(signal.SIGHUP)
    wait_until(lambda: re.search('not reloaded, the old configuration stays: .*CA', made.agent.log.read_text()),
               'the agent says that it does not reload')
    # The decision lists the host; that the policy could be fetched shows that the old authorities are known.
    decision = made.decide('sts.test')['sts.test']
    faults = [] if decision['reason'] == 'sts-match' else [f'no policy by the old CA file: {decision}']
    return faults + _no_weaker(made) + _reason(made, 'ca-file')


def _cannot_start(lab, made, why, reason):
    faults = _agent_refuses_to_start(made, why) + _reason(made, reason)
    # Exim with the agent back end sees a dead agent; the other one asks the library itself.
    return faults + queued(lab, made, 'agent' if made.backend == 'agent' else why)


@scenario()
def trust_anchor_wrong(lab, made):
    """The trust anchor of another root: no decision."""
    anchor = made.root / 'lab/root.key'
    anchor.write_text(re.sub(r'(13 )(\S{8})', r'\1AAAAAAAA', anchor.read_text(), 1))
    faults = _reason(made, 'trust-anchor')
    if made.backend == 'fork':
        return faults + queued(lab, made, 'trust.anchor', [*PROTECTED, 'plain'])
    try:
        made.start_agent()
        faults += _no_weaker(made)
    except (RuntimeError, AssertionError):
        if made.agent.process.wait(60) == 0:  # refusing to start is right too, before a question or after it
            raise
    return faults + queued(lab, made, 'trust.anchor|agent', [*PROTECTED, 'plain'])


@scenario(clock='1970-01-02 00:00:00')
def clock_1970(lab, made):
    """A clock in 1970: no decision."""
    made.start()
    return _reason(made, 'clock') + _no_weaker(made) + queued(lab, made, 'clock')


@scenario(config={'https_private': 'no'})
def policy_host_private(lab, made):
    """A policy host at addresses that are not of the Internet: it is not connected to, and there is no policy."""
    made.start()
    domain = f'private-{made.backend}.test'
    decision = made.decide(domain)[domain]
    got = decision['action'], decision['sts']['state'], 'https_private' in (decision['sts']['error'] or '')
    return [] if got == ('deliver', 'unavailable', True) else [f'{got}: {decision}']


# Resolvers

@scenario(config={'resolver': 'auto'}, resolver=resolvers.STRIPS)
def resolver_strips(lab, made):
    """A resolver that strips DNSSEC is overcome by recursion."""
    made.start()
    return delivered(lab, made, ['dane-ee', 'sts']) + queued(lab, made, 'tlsa-mismatch', ['dane-ee-wrong'])


@scenario(config={'resolver': resolvers.STRIPS})
def resolver_strips_by_configuration(lab, made):
    """A resolver that strips DNSSEC, set by the administrator: no decision, and the reason."""
    made.start()
    return _reason(made, 'resolver-no-dnssec') + _no_weaker(made) + queued(lab, made, 'resolver-no-dnssec')


@scenario(config={'resolver': 'auto', 'root_hints': '/lab/nobody.hints', 'dns_timeout': '2s'}, resolver=resolvers.STRIPS)
def resolver_strips_no_recursion(lab, made):
    """A resolver that strips DNSSEC, and no way to the root's name servers: no decision, and the reason."""
    (made.root / 'lab/nobody.hints').write_text(f'. 3600000 NS a.root.\na.root. 3600000 A {resolvers.SILENT}\n')
    made.start()
    return _reason(made, 'resolver-no-dnssec') + _no_weaker(made) + queued(lab, made, 'resolver-no-dnssec')


@scenario(config={'resolver': resolvers.SILENT})
def resolver_silent(lab, made):
    """A resolver that never answers: mail waits."""
    made.start()
    return _no_weaker(made) + queued(lab, made, 'sealane', ['dane-ee', 'sts-other-name'])


@scenario(config={'resolver': resolvers.SERVFAIL})
def resolver_fails(lab, made):
    """A resolver that only fails: mail waits."""
    made.start()
    return queued(lab, made, 'sealane', ['dane-ee', 'sts-other-name'])


# Memory

@scenario()
def policy_survives(lab, made):
    """A policy outlives a restart, its TXT record and its web server; a redirected MX is still refused."""
    made.start()
    name = f'durable-{made.backend}'
    case = lab.by_name[name]
    faults = delivered(lab, made, [name], 'before')
    zone = lab.tree.zones[f'{name}.test.']
    zone.records = [record for record in zone.records if ' TXT ' not in record and ' MX ' not in record]
    zone.add(zone.name, f'MX 10 {case.names["evil"]}.')
    lab.servers.replace(zone)
    del lab.policies.policies[f'mta-sts.{name}.test']
    made.stop()
    made.start()
    decision = made.decide(case.domain)[case.domain]
    if (decision['action'], (decision['sts'] or {}).get('state')) != ('defer', 'cached'):
        faults.append(f'not deferred by the cached policy: {decision}')
    return faults + queued(lab, made, 'sts-mismatch', [name], 'after')


def _keeps_policy(lab, made, kind, changed, spoiled=None, options=()):
    """A machine that has learned an enforced policy, restarted after the zone has `changed`: its decision then."""
    made.start()
    case = lab.by_name[f'{kind}-{made.backend}']
    before = made.decide(case.asked)[case.asked]
    if before['reason'] != 'sts-match':
        raise AssertionError(f'no policy was learned: {before}')
    zone = lab.tree.zones[f'{case.domain}.']
    zone.records = changed(zone.records)
    lab.servers.replace(zone)
    if spoiled:
        lab.policies.policies[f'mta-sts.{case.asked}'].fault = spoiled
    made.stop()
    made.start()
    return case, made.decide(case.asked, options=options)[case.asked]


def _contradicts(lab, made, case, decision):
    got = decision['action'], decision['reason'], decision['mx_dnssec'], decision['others']
    wanted = 'defer', 'mx-contradicts-policy', 'insecure', 'skip'
    return ([] if got == wanted else [f'{got}, not {wanted}']) + queued(lab, made, 'mx-contradicts-policy', [case.name])


@scenario(backends=('agent',))
def deadline(lab, made):
    """The deadline passes: each lookup that is missing has its own value, and none makes a signed domain look plain."""
    def ask(rrtype, *names):
        """The deadline lies before libunbound gives up a lookup, which takes it a second or more."""
        resolver = lab.resolvers.counting(resolvers.spoils(rrtype, 'dropped'))
        with lab.machine('agent', config={'resolver': resolver}) as own:
            own.start()
            own.decide('nxdomain.test')  # now it is ready, and has the keys of the root and of `test.`
            return [f'{name} without {rrtype}: {got}' for name in names for got in _late(own, f'{name}.test', rrtype)]

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(ask, rrtype, *names) for rrtype, names in (
            ('MX', ['dane-ee', 'plain']), ('A', ['dane-ee', 'plain']), ('TLSA', ['dane-ee']), ('TXT', ['sts', 'sts-signed']))]
        return [fault for job in jobs for fault in job.result()]


def _late(made, domain, rrtype):
    decision = made.decide(domain, options=['--wait=700ms'])[domain]
    demands = {host['tls'] for host in decision['hosts']}
    waits = (decision['action'], decision['reason']) == ('defer', 'deadline') and demands <= {'skip'}
    # RFC 8461 §10.2: a policy that was never known holds up no mail.
    goes = rrtype == 'TXT' and (decision['action'], decision['sts']['state']) == ('deliver', 'pending')
    return [] if (waits or goes) and not decision['complete'] else [decision]


@scenario()
def policy_against_null_mx(lab, made):
    """An unsigned null MX of a domain whose policy is in force bounces nothing."""
    return _contradicts(lab, made, *_keeps_policy(lab, made, 'null', lambda records: [
        re.sub(' MX .*', ' MX 0 .', record) for record in records]))


@scenario()
def policy_against_nxdomain(lab, made):
    """An unsigned NXDOMAIN of a domain whose policy is in force bounces nothing."""
    return _contradicts(lab, made, *_keeps_policy(lab, made, 'gone', lambda records: [
        record for record in records if 'sub.' not in record.split()[0]]))


@scenario(config={'https_timeout': '30s'})
def policy_at_deadline(lab, made):
    """A new id whose policy does not come before the deadline: the old policy holds, and a redirected MX is refused."""
    def changed(records):
        evil = [re.sub(r' MX 10 mx1', ' MX 10 evil', record).replace('id=1', 'id=2') for record in records]
        return evil
    _, decision = _keeps_policy(lab, made, 'slow', changed, 'silent', ['--wait=8s'])
    got = decision['complete'], decision['sts'] and decision['sts']['state'], decision['reason'], decision['others']
    return [] if got == (False, 'cached', 'sts-mismatch', 'skip') else [f'{got}: {decision}']


@scenario(backends=('agent',))
def second_question(lab, made):
    """A second question within the TTL asks neither DNS nor HTTPS."""
    counter = lab.resolvers.counting()
    made.configure({**machines.CONFIG, 'resolver': counter}, {})
    made.start()
    faults = []
    for name in ('dane-ee', 'counted'):
        domain = lab.by_name[name].domain
        first = made.decide(domain)[domain]
        asked = len(lab.resolvers.questions[counter])
        second = made.decide(domain)[domain]
        if second['hosts'] != first['hosts'] or not asked:
            faults.append(f'{domain}: {asked} questions, then {second["hosts"]} instead of {first["hosts"]}')
        if more := lab.resolvers.questions[counter][asked:]:
            faults.append(f'{domain}: asked again: {more}')
    if (fetched := lab.policies.count('mta-sts.counted.test')) != 1:
        faults.append(f'the policy was fetched {fetched} times')
    return faults


# Attacks on a connection

@scenario()
def shared_host(lab, made):
    """One message to an enforced and a plain domain on one host: only the plain one is delivered."""
    made.start()
    enforced, plain = lab.by_name['sts-other-name'], lab.by_name['plain-shared']
    subject = f'{made.place.name} shared'
    outcomes = made.send([enforced.recipient, plain.recipient], subject)
    got = {recipient: outcome.state for recipient, outcome in outcomes.items()}
    faults = [] if got == {enforced.recipient: 'queued', plain.recipient: 'delivered'} else [f'{got}']
    taken = [recipient for _, message in lab.sink.deliveries(subject) for recipient in message['to']]
    return faults + ([] if taken == [plain.recipient] else [f'reached the server: {taken}'])


# The host of sts-other-name is good enough for this domain, so that what was let through for it can be abused.
_ENCRYPT_SHARED = {'encrypt-shared.test': 'encrypt'}


def taken(lab, recipients):
    """Who of them reached a server, and over what."""
    return [f'{recipient} reached {record["host"]} over {record["tls"] or "clear text"}'
            for record in lab.sink.records for message in record['messages'] for recipient in message['to']
            if recipient in recipients]


def _smtp(made, condition, recipients):
    acl = made.root / 'etc/exim4/conf.d/acl/30_exim4-config_check_rcpt'
    acl.write_text(acl.read_text().replace('acl_check_rcpt:', f'acl_check_rcpt:\n{condition}', 1))
    made.run('update-exim4.conf', check=True)
    made.start()
    commands = ['EHLO client.test', f'MAIL FROM:<{machines.SENDER}>', *(f'RCPT TO:<{one}>' for one in recipients),
                'DATA', 'Subject: by SMTP', '', 'A message.', '.', 'QUIT', '']
    done = made.run('exim4', '-odf', '-bs', input='\r\n'.join(commands))
    made.run('exim4', '-q')  # a held connection that is of no use leaves the mail to the next queue run
    return done


def _by_smtp(lab, made, condition, sender):
    """A message handed in by SMTP, under an ACL that makes Exim connect while the sender waits."""
    enforced, weaker = f'{sender}@sts-other-name.test', f'{sender}@encrypt-shared.test'
    done = _smtp(made, condition, [weaker, enforced])
    faults = taken(lab, [enforced])
    if not taken(lab, [weaker]):
        faults.append(f'{weaker} is not delivered: {done.stdout}{made.mainlog()}')
    return faults


@scenario(backends=('agent',), override=_ENCRYPT_SHARED)
def cutthrough(lab, made):
    """cutthrough_delivery does not add an enforced domain's recipient to another domain's connection."""
    return _by_smtp(lab, made, '  warn control = cutthrough_delivery\n  accept verify = recipient\n', 'cutthrough')


@scenario(backends=('agent',), override=_ENCRYPT_SHARED)
def callout_hold(lab, made):
    """A connection kept by callout `hold` carries no mail."""
    return _by_smtp(lab, made, '  accept verify = recipient/callout=use_sender,hold\n', 'hold')


@scenario(backends=('agent',))
def cutthrough_strict(lab, made):
    """cutthrough_delivery does not put two domains into one transaction, though one connection would do for both."""
    return _cut_through(lab, made, ['cut@sts.test', 'cut@sts-shared.test'])


@scenario(backends=('agent',))
def cutthrough_gated(lab, made):
    """Nor two that DANE protects."""
    return _cut_through(lab, made, ['cut@dane-ee.test', 'cut@dane-shared.test'])


def _cut_through(lab, made, recipients):
    _smtp(made, '  warn control = cutthrough_delivery\n  accept verify = recipient\n', recipients)
    sent = [message['to'] for record in lab.sink.records for message in record['messages']
            if set(message['to']) & set(recipients)]
    return [] if sorted(sent) == sorted([one] for one in recipients) else [f'sent: {sent}\n{made.mainlog()}']


@scenario(backends=('fork',))
def fork_verify(lab, made):
    """The fork back end verifies recipients without a decision, and connects to nobody for that."""
    done = made.run('exim4', '-bv', lab.by_name['dane-ee'].recipient, user='Debian-exim')
    faults = [] if done.returncode == 0 else [f'exim -bv: {done.stdout}{done.stderr}']
    done = made.run('exim4', '-bv', lab.by_name['nxdomain'].recipient, user='Debian-exim')
    return faults + ([] if done.returncode == 2 else [f'exim -bv: {done.stdout}{done.stderr}'])


@scenario()
def inherited_answer(lab, made):
    """A router of the site that hands the answer for a plain domain on to an enforced one."""
    # As Exim has it after `redirect_router`, which passes the routers that would ask.
    call = next(line.partition('=')[2].strip() for line in made.run('exim4', '-bP', 'router', 'sealane_ask').stdout
                .splitlines() if line.startswith('address_data'))
    routers = ''
    for place in ('refuse', 'strict', 'gated', 'open', 'stop'):
        routers += (f'lab_{place}:\n  driver = redirect\n  local_parts = {place}\n  domains = plain-clear.test\n'
                    f'  address_data = {call}\n  data = {place}@sts-not-listed.test\n'
                    f'  redirect_router = sealane_{place}\n')
    (made.root / 'etc/exim4/conf.d/router/189_lab').write_text(routers)
    made.run('update-exim4.conf', check=True)
    made.start()
    faults = []
    for place in ('refuse', 'strict', 'gated', 'open', 'stop'):
        outcome = made.send([f'{place}@plain-clear.test'], f'{made.place.name} {place}')[f'{place}@plain-clear.test']
        if outcome.state != 'queued' or 'another domain' not in outcome.log:
            faults.append(f'{place} is {outcome.state}: {outcome.log}')
        faults += taken(lab, [f'{place}@sts-not-listed.test'])
    return faults


@scenario(backends=('agent',))
def all_filtered(lab, made):
    """Exim finds another host than the decision names: mail waits, and the site's routers do not get it."""
    made.start()
    case = lab.by_name['moved']
    made.decide(case.domain)
    zone = lab.tree.zones['moved.test.']
    zone.records = [record for record in zone.records if ' MX ' not in record]
    zone.add(zone.name, f'MX 10 {case.names["evil"]}.')
    lab.servers.replace(zone)
    return queued(lab, made, 'none of the hosts that may be used', ['moved'])


@scenario()
def own_mx(lab, made):
    """Mail does not pass this machine's own MX record on to a worse one, though the policy does not list it."""
    config = made.root / 'etc/exim4/update-exim4.conf.conf'
    config.write_text(config.read_text().replace("dc_local_interfaces='127.0.0.1'", "dc_local_interfaces=''"))
    made.run('update-exim4.conf', check=True)
    made.start()
    recipient = lab.by_name['own-mx'].recipient
    log = made.send([recipient], f'{made.place.name} own')[recipient].log
    return taken(lab, [recipient]) + ([] if 'points to local host' in log else [f'the log does not say why: {log}'])
