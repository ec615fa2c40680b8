"""OpenSMTPD with filter, table and relay: every case of cases.toml, and what breaks around it. A scenario is a function
(lab, machine) that returns what is wrong; its docstring is its title."""

import contextlib
import dataclasses
import os
import re
import signal
import socket
import threading
import time

from cases import Case, judge_delivery
from process import wait_until
from report import Check
from smtpd import SMTPD_CONF, port_of

SCENARIOS, SLOW = [], []
_MANY = [f'many{i}' for i in range(7)]
_OTHERS = [f'other{i}' for i in range(6)]
_STEPS = ['connect', 'EHLO', 'STARTTLS', 'tls', 'MAIL', 'RCPT', 'DATA', 'dot', 'taken']


def scenario(among=SCENARIOS, **options):
    """`among` SLOW: one of minutes, for the suite `relaying`."""
    def register(function):
        function.options = options
        among.append(function)
        return function
    return register


def world():
    """Domains that scenarios have for themselves."""
    plain = {'rule': 'used by scenarios of OpenSMTPD', 'zone': 'insecure', 'host': {'mx1': {'cert': 'self-signed'}}}
    names = [*_MANY, *_OTHERS, 'hangs', 'slow', 'killed', 'big', 'smuggled', 'stopped', 'reused',
             *(f'hostile-{name}' for name in _PLAYS)]
    for name in names:
        yield Case(name, plain, f'{name}.test')
    yield Case('loops', {
        'rule': 'RFC 5321 5.1: this machine is the best MX', 'zone': 'insecure', 'host': {'mx2': {}},
        'records': ['own A 192.0.2.53'], 'mx': ['10 own', '20 mx2']}, 'loops.test')


def deliveries(lab, made, release):
    """The cases, with Exim's outcomes: the same decision demands the same of every mail server."""
    def run(case):
        faulty = []
        ways = (('filter', False), ('local', True)) if case.data['exim'].startswith('bounced') else (('filter', False),)
        for way, local in ways:
            subject = f'{release} {case.name} {way}'
            outcome = made.send([case.recipient], subject, local)[case.recipient]
            faulty += [f'{way}: {fault}' for fault in judge_delivery(case, outcome, lab.sink, subject)]
        return faulty

    for case in lab.cases:
        if 'exim' not in case.data:
            continue
        if 'smtpd' in case.data:
            case = dataclasses.replace(case, data={**case.data, 'exim': case.data['smtpd']})
        yield Check(f'opensmtpd/{release}', case.name, case.rule, lambda case=case: run(case),
                    lambda folder, case=case: lab.evidence(folder, made, [case]))


def scenarios(lab, release):
    for function in SCENARIOS:
        yield _check(lab, release, function)


def slow(lab, release):
    for function in SLOW:
        yield _check(lab, release, function)


def _check(lab, release, function):
    name = function.__name__.replace('_', '-')
    kept = {}

    def run():
        place = contextlib.ExitStack()
        made = kept['machine'] = place.enter_context(lab.smtpd_machine(release, **function.options))
        with place:
            return function(lab, made.start())

    def evidence(folder):
        kept['machine'].root.exists() and lab.evidence(folder, kept['machine'], [], explain=False)

    return Check(f'opensmtpd/{release}', name, function.__doc__.splitlines()[0], run, evidence)


def _copies(lab, subject, recipient=None):
    return sum(1 for _, message in lab.sink.deliveries(subject) if recipient is None or recipient in message['to'])


def _hook(lab, name, hook):
    lab.sink.host(f'mx1.{name}.test').hook = hook


def _hold(lab, name, held, bound):
    """The server of that domain stops at this step, for `bound` seconds at most, until the event that is given back."""
    release = threading.Event()

    def hook(step, _line):
        if step == held:
            release.wait(bound)
    _hook(lab, name, hook)
    return release


# Recipients

@scenario()
def mapping(lab, made):
    """60 recipients at 7 domains, some refused for now, some for good: each gets its own answer, none a second copy."""
    kinds = {'ok': None, 'later': '452 4.2.2 mailbox full', 'never': '550 5.1.1 no such user'}

    def hook(step, line):
        return next((reply for kind, reply in kinds.items() if step == 'RCPT' and f'<{kind}' in line), None)
    for name in _MANY:
        _hook(lab, name, hook)
    recipients = [f'{list(kinds)[i % 3]}{i}@{_MANY[i % 7]}.test' for i in range(60)]
    wanted = {'ok': 'Ok', 'later': 'TempFail', 'never': 'PermFail'}
    faulty = []
    for label, load in ('idle', False), ('loaded', True):
        subject = f'{made.place.name} mapping {label}'
        with _busy_cores() if load else contextlib.nullcontext():
            number, refused = made.submit(recipients, subject)
            results = made.wait_for(number, recipients)
        faulty += [f'{label}: the filter refused {recipient}' for recipient in refused]
        for recipient, (result, text) in results.items():
            kind = re.match('[a-z]+', recipient)[0]
            if result != wanted[kind]:
                faulty.append(f'{label}: {recipient}: {result} ({text})')
            if kinds[kind] and kinds[kind] not in text:
                faulty.append(f'{label}: {recipient}: the text is lost: {text}')
            copies = _copies(lab, subject, recipient)
            if copies != (kind == 'ok'):
                faulty.append(f'{label}: {recipient} has {copies} copies')
    if 'too much data' in made.smtpd_log():
        faulty.append('smtpd says "too much data"')
    _let_be(lab)
    return faulty


@contextlib.contextmanager
def _busy_cores():
    children = []
    for _ in range(os.cpu_count() or 1):
        pid = os.fork()
        if pid == 0:
            while True:
                pass
        children.append(pid)
    try:
        yield
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@scenario()
def one_hangs(lab, made):
    """One domain hangs: mail to all domains on other ports leaves within two seconds."""
    release = _hold(lab, 'hangs', 'connect', 60)
    others = [name for name in _OTHERS if port_of(f'{name}.test') != port_of('hangs.test')]
    # Known to the agent, and the PTR record that smtpd asks for is in its cache.
    for name in others:
        made.send([f'warm@{name}.test'], f'{made.place.name} warm {name}')
    for i in range(6):
        made.submit([f'a{i}@hangs.test'], f'{made.place.name} hangs {i}')
    host = lab.sink.host('mx1.hangs.test')
    wait_until(lambda: lab.sink.of({host.name}), 'the first of them hangs')
    faulty = []
    for name in others:
        subject = f'{made.place.name} beside {name}'
        started = time.monotonic()
        made.submit([f'a@{name}.test'], subject)
        wait_until(lambda subject=subject: _copies(lab, subject), f'{name} has its mail')
        took = time.monotonic() - started
        if took > 2:
            faulty.append(f'{name} waited {took:.1f} s')
    release.set()
    _hook(lab, 'hangs', None)
    return faulty


@scenario()
def doctor(lab, made):
    """`sealane doctor` finds nothing wrong with the documented set-up, and each thing that is."""
    path, faulty = made.root / 'etc/smtpd.conf', []

    def finding():
        return next(line for line in made.run('sealane', 'doctor').stdout.splitlines() if 'OpenSMTPD' in line)

    def demand(pattern, conf):
        path.write_text(conf)
        if not re.search(pattern, found := finding()):
            faulty.append(f'not {pattern}: {found}')
    local = 'action "local" maildir\nmatch from local for local action "local"\n'
    whole = SMTPD_CONF.replace('match from local', f'{local}match from local', 1)
    demand('the relay answers at ports', SMTPD_CONF)
    demand('the relay answers at ports', whole)
    demand('before the one for local mail', SMTPD_CONF + local)
    demand('reconn-delay-route is 0', SMTPD_CONF.replace('reconn-delay-route 1', 'reconn-delay-route 0'))
    demand('`mta limit for domain 127.0.0.1` is missing', SMTPD_CONF.partition('\n')[2])
    demand('does not lead mail to the relay', SMTPD_CONF.replace('relay domain <sealane>', 'relay'))
    demand('no rule uses the action', SMTPD_CONF.replace('match', '#match'))
    made.stop_relay()
    demand('nobody answers at 256 ports', SMTPD_CONF)
    made.start_relay()
    table = made.root / 'usr/libexec/opensmtpd/table-sealane'
    table.chmod(0o644)
    demand('table-sealane cannot be run', SMTPD_CONF)
    table.chmod(0o755)
    demand('the relay answers at ports', SMTPD_CONF)
    return faulty


@scenario()
def own_mx(lab, made):
    """Mail for a domain whose best MX is this machine is returned, not sent round (RFC 5321 5.1)."""
    outcome = made.send(['a@loops.test'], f'{made.place.name} loops')['a@loops.test']
    if outcome.state != 'bounced' or 'loop' not in outcome.log:
        return [f'{outcome.state}: {outcome.log}']
    return []


@scenario()
def reused(lab, made):
    """A connection takes the next message of the same domain; one that its server gave up meanwhile costs nothing."""
    host, steps, faulty = lab.sink.host('mx1.reused.test'), [], []

    def hook(step, _line):
        steps.append(step)
        if step == 'MAIL' and steps.count('MAIL') == 4:
            return '421 4.4.2 idle for too long'
    before = len(lab.sink.of({host.name}))
    host.hook = hook
    # Not smtpd, which sends the next message when it likes to; a connection is kept for two seconds.
    with made.connect(port_of('reused.test')) as client:
        lines = [b'LHLO x']
        # The fourth is refused with 421 at first, then goes over a new connection.
        for number, connections in enumerate((1, 1, 1, 2)):
            subject = f'{made.place.name} reused {number}'
            reply = _talk(client, *lines, b'MAIL FROM:<a@sender.test>', b'RCPT TO:<a@reused.test>', b'DATA',
                          b'Subject: ' + subject.encode() + b'\r\n\r\nx\r\n.', greeted=number > 0)
            lines = []
            if reply[:3] != b'250' or _copies(lab, subject) != 1:
                faulty.append(f'message {number}: {reply}, {_copies(lab, subject)} copies')
            if (opened := len(lab.sink.of({host.name})) - before) != connections:
                faulty.append(f'message {number} is sent with connection number {opened}, not {connections}')
    wait_until(lambda: all(record.get('closed') for record in lab.sink.of({host.name})), 'kept connections end')
    if steps[-1] != 'QUIT':
        faulty.append(f'the last thing said is {steps[-1]}')
    host.hook = None
    return faulty


# What is handed over once

@scenario(config={'relay_timeout': '3s'})
def slow_after_dot(lab, made):
    """A server that is slow after the final dot: the mail waits in time, and arrives once."""
    answer, asked = threading.Event(), threading.Event()

    def hook(step, _line):
        if step == 'dot':
            asked.set()
            answer.wait(60)
    _hook(lab, 'slow', hook)
    subject = f'{made.place.name} slow'
    started = time.monotonic()
    number, _ = made.submit(['a@slow.test'], subject)
    first = made.wait_for(number, ['a@slow.test'])['a@slow.test']
    took = time.monotonic() - started
    faulty = []
    if first[0] != 'TempFail' or took > 8:
        faulty.append(f'the first attempt: {first} after {took:.1f} s')
    made.retry()
    second = made.wait_for(number, ['a@slow.test'], 2)['a@slow.test']
    if second[0] != 'TempFail' or 'earlier attempt' not in second[1]:
        faulty.append(f'an attempt beside the first: {second}')
    answer.set()
    wait_until(lambda: 'slow.test delivered to' in made.relay_log(), 'the late answer is written down')
    made.retry()
    third = made.wait_for(number, ['a@slow.test'], 3)['a@slow.test']
    if third[0] != 'Ok' or 'delivered before' not in third[1]:
        faulty.append(f'the last attempt: {third}')
    if _copies(lab, subject) != 1:
        faulty.append(f'{_copies(lab, subject)} copies')
    _hook(lab, 'slow', None)
    return faulty


@scenario(SLOW)
def hangs_after_dot(lab, made):
    """With the default time-outs, a server that says nothing for 400 s after the final dot: 451 in time, one copy in the end."""
    release = _hold(lab, 'slow', 'dot', 400)
    subject, recipient = f'{made.place.name} hangs after the dot', 'a@slow.test'
    started = time.monotonic()
    number, _ = made.submit([recipient], subject)
    result, text = made.wait_for(number, [recipient], bound=300)[recipient]
    took = time.monotonic() - started
    faulty = []
    if result != 'TempFail' or not 200 < took < 300:
        faulty.append(f'the first attempt: {result} ({text}) after {took:.0f} s')
    wait_until(lambda: 'slow.test delivered to' in made.relay_log(), 'the late answer is written down', 300)
    answered = time.monotonic() - started
    print(f'      451 after {took:.1f} s, the server answered after {answered:.1f} s', flush=True)
    made.retry()
    seen = len(made.attempts(number, recipient))
    wait_until(lambda: any(one == 'Ok' for one, _ in made.attempts(number, recipient)), 'smtpd hears of it', 60)
    if answered < 400:
        faulty.append(f'the server answered after {answered:.0f} s already')
    if _copies(lab, subject) != 1:
        faulty.append(f'{_copies(lab, subject)} copies after {seen} attempts')
    release.set()
    _hook(lab, 'slow', None)
    return faulty


@scenario()
def lost_reply(lab, made):
    """The reply to the mail server is lost, and the relay killed: the next attempt finds the journal, and sends nothing."""
    reached, go_on = threading.Event(), threading.Event()

    def hook(step, _line):
        if step == 'dot' and not go_on.is_set():
            reached.set()
            go_on.wait(60)
    _hook(lab, 'killed', hook)
    subject = f'{made.place.name} lost'
    body = b'Subject: ' + subject.encode() + b'\r\n\r\nx\r\n.\r\n'
    envelope = *_ENVELOPE[:2], b'RCPT TO:<a@killed.test>', b'RCPT TO:<b@killed.test>', b'DATA'
    with made.connect(port_of('killed.test')) as client:
        _talk(client, *envelope)
        client.sendall(body)
        if not reached.wait(60):
            return ['the final dot never came']
    go_on.set()
    wait_until(lambda: 'killed.test delivered to' in made.relay_log(), 'it is written down')
    made.stop_relay(signal.SIGKILL)
    made.start_relay()
    with made.connect(port_of('killed.test')) as client:
        _talk(client, *envelope)
        client.sendall(body)
        replies = client.makefile('rb')
        faulty = [f'answered {reply}' for reply in (replies.readline(), replies.readline())
                  if not reply.startswith(b'250 2.0.0 delivered before')]
    _hook(lab, 'killed', None)
    return faulty + ([] if _copies(lab, subject) == 1 else [f'{_copies(lab, subject)} copies'])


@scenario(config={'relay_reuse': 'off'})  # each step of a new connection
def killed(lab, made):
    """The relay is killed at each step of the dialog: never no copy, and one wherever that can be known."""
    faulty = []
    for step in _STEPS:
        reached, go_on = threading.Event(), threading.Event()

        def hook(now, _line, step=step, reached=reached, go_on=go_on):
            if now == step and not go_on.is_set():
                reached.set()
                go_on.wait(60)
        _hook(lab, 'killed', hook)
        subject = f'{made.place.name} killed {step}'
        written = made.relay_log().count('killed.test delivered to')
        number, _ = made.submit([f'{step}@killed.test'], subject)
        if not reached.wait(60):
            faulty.append(f'{step}: never reached')
            continue
        if step == 'taken':  # the reply is on its way: the next thing that is certain is the journal
            wait_until(lambda written=written: made.relay_log().count('killed.test delivered to') > written,
                       'the journal has it')
        made.stop_relay(signal.SIGKILL)
        go_on.set()
        made.start_relay()
        deadline = time.monotonic() + 60
        while not any(result == 'Ok' for result, _ in made.attempts(number, f'{step}@killed.test')):
            if time.monotonic() > deadline:
                faulty.append(f'{step}: never delivered: {made.attempts(number, f"{step}@killed.test")}')
                break
            made.retry()
            threading.Event().wait(0.3)
        copies = _copies(lab, subject)
        wanted = {1, 2} if step == 'dot' else {1}
        if copies not in wanted:
            faulty.append(f'{step}: {copies} copies')
        if step == 'dot' and 'a second copy may arrive' not in made.relay_log():
            faulty.append('dot: the log does not name the message')
    _hook(lab, 'killed', None)
    return faulty


@scenario()
def relay_stopped(lab, made):
    """Without the relay nothing reaches any server; when it is back the queue drains."""
    made.stop_relay()
    subjects = [f'{made.place.name} stopped {i}' for i in range(5)]
    numbers = [made.submit([f'a{i}@stopped.test'], subject)[0] for i, subject in enumerate(subjects)]
    for i, number in enumerate(numbers):
        wait_until(lambda i=i, number=number: made.attempts(number, f'a{i}@stopped.test') or
                   any('|pending|' in line for line in made.queue(number)), 'the mail waits')
    faulty = [f'{subject} was delivered without the relay' for subject in subjects if _copies(lab, subject)]
    made.start_relay()
    deadline = time.monotonic() + 60
    while any(not _copies(lab, subject) for subject in subjects) and time.monotonic() < deadline:
        made.retry()
        threading.Event().wait(0.3)
    faulty += [f'{subject}: {_copies(lab, subject)} copies' for subject in subjects if _copies(lab, subject) != 1]
    return faulty


def _connects():
    """Connection attempts of this private machine so far."""
    names, values = [line.split() for line in open('/proc/net/snmp') if line.startswith('Tcp:')]
    return int(values[names.index('ActiveOpens')])


def _keep_busy(lab, made, sessions):
    """At least so many sessions with servers that hold them; gives (number, recipient) of each message, and the event
    that lets them all go on."""
    servers = {f'mx1.{name}.test' for name in _MANY}
    go_on = threading.Event()
    for name in _MANY:
        _hook(lab, name, lambda step, _line: go_on.wait(120) and None if step == 'dot' else None)
    before = len(lab.sink.of(servers))
    # smtpd opens up to twenty for a domain, and one more only while more than twice as many messages wait as it has
    # sessions, busy ones too.
    recipients = [f'a{i}@{_MANY[i % 7]}.test' for i in range(3 * sessions + 21)]
    sent = [(made.submit([one], f'{made.place.name} busy {one}')[0], one) for one in recipients]
    wait_until(lambda: len(lab.sink.of(servers)) >= before + sessions, f'{sessions} sessions')
    return sent, go_on


def _let_be(lab):
    for name in _MANY:
        _hook(lab, name, None)


@scenario()
def killed_busy(lab, made):
    """Killed with a hundred sessions at work, the relay is not knocked at without end: fewer than ten attempts a second."""
    _, go_on = _keep_busy(lab, made, 100)
    made.stop_relay(signal.SIGKILL)
    opened, started = _connects(), time.monotonic()
    threading.Event().wait(5)  # what is measured is a rate
    rate = (_connects() - opened) / (time.monotonic() - started)
    go_on.set()
    _let_be(lab)
    print(f'      killed with 100 busy sessions: {rate:.1f} connection attempts a second', flush=True)
    return [] if rate < 10 else [f'{rate:.1f} connection attempts a second']


def _take_big(connection):
    """A server that counts octets and keeps none."""
    connection.sendall(b'220 x\r\n')
    unread = b''
    while True:
        while b'\r\n' not in unread:
            unread += connection.recv(65536)
        line, unread = unread.split(b'\r\n', 1)
        if line == b'QUIT':
            connection.sendall(b'221 bye\r\n')
            return
        connection.sendall(b'354 go on\r\n' if line == b'DATA' else b'250 OK\r\n')
        if line != b'DATA':
            continue
        end, size = b'', 0
        while not end.endswith(b'\r\n.\r\n'):
            block = connection.recv(1 << 20)
            size += len(block)
            end = (end + block)[-5:]
        connection.sendall(f'250 {size} octets\r\n'.encode())


def _resident(process):
    """KiB of memory that a chrooted program uses; `chroot` becomes it, so that it is the process itself."""
    with open(f'/proc/{process.pid}/status') as status:
        return next(int(line.split()[1]) for line in status if line.startswith('VmRSS:'))


@scenario(smtpd_conf='smtp max-message-size 200M\n' + SMTPD_CONF)
def memory(lab, made):
    """A message of 100 MiB, and fifty slow sessions at once, cost the relay less than 20 MiB."""
    lab.sink.host('mx1.big.test').play = _take_big
    made.send(['warm@other0.test'], f'{made.place.name} warm memory')
    before = _resident(made.relay.process)
    text = ('x' * 76 + '\n') * (100 * (1 << 20) // 77)
    number, _ = made.submit(['a@big.test'], f'{made.place.name} big', text)
    result, reply = made.wait_for(number, ['a@big.test'], bound=180)['a@big.test']
    size = re.search(r'(\d+) octets', reply)
    faulty = [] if result == 'Ok' and size and int(size[1]) > 100 * (1 << 20) else [f'{result}: {reply}']
    after_big = _resident(made.relay.process)
    sent, go_on = _keep_busy(lab, made, 50)
    after_many = _resident(made.relay.process)
    go_on.set()
    for number, recipient in sent:
        result, reply = made.wait_for(number, [recipient])[recipient]
        if result != 'Ok':
            faulty.append(f'{result}: {reply}')
    _let_be(lab)
    lab.sink.host('mx1.big.test').play = None
    print(f'      memory of the relay: {before} KiB, after 100 MiB {after_big} KiB, with 50 sessions {after_many} KiB',
          flush=True)
    if max(after_big, after_many) - before > 20 * 1024:
        faulty.append(f'memory grew from {before} to {after_big} and {after_many} KiB')
    return faulty


# The other side is hostile

def _banner(connection):
    while True:
        connection.sendall(b'220-' + b'x' * 500 + b'\r\n')


def _endless_line(connection):
    connection.sendall(b'220 ' + b'x' * (1 << 20))
    connection.recv(1)


def _nuls(connection):
    connection.sendall(b'220 \0\0\0\r\n\0\0\0\0\r\n')
    connection.recv(1)


def _ahead(connection):
    _until_starttls(connection)
    connection.sendall(b'220 go ahead\r\n250 injected\r\n')
    connection.recv(1)


def _until_starttls(connection):
    connection.sendall(b'220 x\r\n')
    lines = connection.makefile('rb')
    lines.readline()
    connection.sendall(b'250-x\r\n250 STARTTLS\r\n')
    lines.readline()


def _half_close(connection):
    connection.sendall(b'220 x\r\n')
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1000)
    connection.recv(1000)


def _drip(connection):
    for octet in b'220 ' + b'x' * 1000:
        connection.sendall(bytes([octet]))
        threading.Event().wait(1)


def _tls_never_ends(connection):
    _until_starttls(connection)
    connection.sendall(b'220 go ahead\r\n')
    while connection.recv(1000):
        pass


def _silence(connection):
    connection.recv(1)


def _no_reply(connection):
    connection.sendall(b'hello there\r\n999 what\r\n')
    connection.recv(1)


_PLAYS = {'banner': _banner, 'line': _endless_line, 'nuls': _nuls, 'ahead': _ahead, 'half': _half_close, 'drip': _drip,
          'tls': _tls_never_ends, 'silence': _silence, 'rubbish': _no_reply}


@scenario(config={'relay_connect_timeout': '5s', 'relay_timeout': '15s'})
def hostile_servers(lab, made):
    """A hostile server costs its own mail its time-out, and nothing else."""
    for name, play in _PLAYS.items():
        lab.sink.host(f'mx1.hostile-{name}.test').play = play
    made.send(['warm@other0.test'], f'{made.place.name} warm hostile')
    numbers = {name: made.submit([f'a@hostile-{name}.test'], f'{made.place.name} {name}')[0] for name in _PLAYS}
    started = time.monotonic()
    subject = f'{made.place.name} beside them'
    made.submit(['a@other1.test'], subject)
    wait_until(lambda: _copies(lab, subject) == 1, 'mail to others leaves')
    faulty = []
    if time.monotonic() - started > 5:
        faulty.append(f'mail to others took {time.monotonic() - started:.1f} s')
    for name, number in numbers.items():
        result, text = made.wait_for(number, [f'a@hostile-{name}.test'])[f'a@hostile-{name}.test']
        if result != 'TempFail':
            faulty.append(f'{name}: {result} {text}')
    if time.monotonic() - started > 40:
        faulty.append(f'it took {time.monotonic() - started:.0f} s until all had failed')
    if made.relay.process.poll() is not None or made.smtpd.process.poll() is not None:
        faulty.append('a program has ended')
    for name in _PLAYS:
        lab.sink.host(f'mx1.hostile-{name}.test').play = None
    return faulty


# This side is hostile

def _talk(connection, *lines, greeted=False):
    """Sends each, and gives the last reply line."""
    reply = b''
    reader = connection.makefile('rb')
    if not greeted:
        reader.readline()
    for line in lines:
        connection.sendall(line + b'\r\n')
        while (reply := reader.readline())[3:4] == b'-':
            pass
    return reply


_ENVELOPE = b'LHLO x', b'MAIL FROM:<a@sender.test>', b'RCPT TO:<a@smuggled.test>', b'DATA'


@scenario()
def strangers(lab, made):
    """Who is not the mail server is refused, also one that has gone before it can be asked; what is not LMTP sends nothing."""
    port, faulty = port_of('smuggled.test'), []
    with made.connect(port, uid=65534) as client:
        if not client.recv(1000).startswith(b'421'):
            faulty.append('another user is served')
    whole = b'\r\n'.join([*_ENVELOPE, b'Subject: stranger', b'', b'x', b'.', b'QUIT', b''])
    for uid in 65534, 0:
        for _ in range(50):
            client = made.connect(port, uid=uid)
            client.sendall(whole)
            client.close()
    wait_until(lambda: made.relay_log().count('is refused') >= 101, 'all of them are refused')
    for text in b'GET / HTTP/1.1\r\nHost: x\r\n\r\n', b'POST / HTTP/1.1\r\n\r\n' + whole, b'EHLO x\r\n' + whole:
        with made.connect(port) as client:
            client.sendall(text)
            while client.recv(1000):
                pass
    for bad in (b'RCPT TO:<a@smuggled.test>\rDATA', b'RCPT TO:<a@smuggled.test\n>', b'RCPT TO:<a\0@smuggled.test>',
                b'RCPT TO:<a@smuggled.test>\nDATA'):
        with made.connect(port) as client:
            reply = _talk(client, *_ENVELOPE[:2], bad)
            if reply[:1] != b'5':
                faulty.append(f'{bad} is answered {reply}')
    with made.connect(port) as client:  # half a message, and gone
        _talk(client, *_ENVELOPE)
        client.sendall(b'Subject: stranger\r\n\r\nhalf\r\n.')
    made.send(['last@smuggled.test'], f'{made.place.name} after strangers')
    if _copies(lab, 'stranger'):
        faulty.append('a stranger could send')
    return faulty


@scenario()
def smuggling(lab, made):
    """No line end but CR LF around the dot ends a message, on either side of the relay; bare CR and LF never leave."""
    ends = {'lf-lf': b'\n.\n', 'lf-crlf': b'\n.\r\n', 'cr-cr': b'\r.\r', 'cr-crlf': b'\r.\r\n', 'crlf-lf': b'\r\n.\n',
            'crlf-cr': b'\r\n.\r', 'crcrlf': b'\r\r\n.\r\r\n'}
    port, faulty = port_of('smuggled.test'), []
    inner = b'MAIL FROM:<evil@sender.test>\r\nRCPT TO:<victim@smuggled.test>\r\nDATA\r\nSubject: inner\r\n\r\nx\r\n'
    for name, end in ends.items():
        subject = f'{made.place.name} {name}'
        with made.connect(port) as client:
            _talk(client, *_ENVELOPE)
            for part in (b'Subject: ' + subject.encode() + b'\r\n\r\nbefore', *(bytes([octet]) for octet in end), inner, b'.\r\n'):
                client.sendall(part)
            client.recv(1000)
        found = lab.sink.deliveries(subject)
        if len(found) != 1:
            faulty.append(f'{name}: {len(found)} copies')
            continue
        text = found[0][1]['text']
        if 'victim@' not in text or re.search(r'(?<!\r)\n|\r(?!\n)', text):
            faulty.append(f'{name}: {text!r}')
    if _copies(lab, 'inner'):
        faulty.append('a message within a message was delivered')
    return faulty
