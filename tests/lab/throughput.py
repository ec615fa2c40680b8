"""What the relay costs OpenSMTPD: a queue that drains through it, beside one that smtpd delivers by itself, in one run. The
sinks are tests/bench/sink; queue and journal lie in memory, so that no disk is measured."""

import concurrent.futures
import re
import smtplib
import threading
import time

from cases import Case
from process import Daemon, wait_until
from report import Check
from smtpd import LIMIT, PORT

MESSAGES, DOMAINS = 10000, [f'load{i}' for i in range(21)]
_A_SESSION = 100  # so many messages smtpd takes in one
_TEXT = ('x' * 76 + '\n') * (10 * 1024 // 77)
_BIG = 100 << 20
_BOUND = 120  # seconds, for a queue to drain
# smtpd's own limits on connections would be all that is measured; both ways get the same generous ones.
_DIRECT_LIMIT = LIMIT.replace('for domain 127.0.0.1 ', '').replace('session-keepalive 0 ', '')
_LISTEN = f'smtp max-message-size 200M\nlisten on socket\nlisten on 127.0.0.1 port {PORT}\n'
_RULE = 'match from local for any action "outbound"\n'
WAYS = {
    'direct': f'{_DIRECT_LIMIT}\n{_LISTEN}action "outbound" relay\n{_RULE}',
    'relay': f'{LIMIT}\ntable sealane sealane:/etc/sealane/sealane.conf\n{_LISTEN}action "outbound" relay domain <sealane>\n{_RULE}',
}


def world():
    for name in [*DOMAINS, 'warm']:
        yield Case(name, {'rule': 'used by benchmarks of OpenSMTPD', 'zone': 'insecure',
                          'host': {'mx1': {'cert': 'self-signed'}}}, f'{name}.test')


def checks(lab, release):
    for name, tls in ('clear', False), ('tls', True):
        kept = {}
        yield Check('bench', f'throughput-{name}-{release}', f'{MESSAGES} messages through the relay and without it, {name}',
                    lambda tls=tls, kept=kept: _compare(lab, release, tls, kept),
                    lambda folder, kept=kept: lab.evidence(folder, kept['machine'], [], explain=False))


def _compare(lab, release, tls, kept):
    faulty, seconds = [], {}
    for way, smtpd_conf in WAYS.items():
        with lab.smtpd_machine(release, smtpd_conf=smtpd_conf) as made:
            kept['machine'] = made
            made.start(relay=way == 'relay')
            memory = _Memory(made) if way == 'relay' else None
            seconds[way] = _measure(lab, made, tls, faulty)
            if memory:
                memory.judge(faulty)
    for index, what in enumerate((f'{MESSAGES} messages of 10 KiB', 'of these, from the first tenth to the ninth', 'one of 100 MiB')):
        direct, relay = seconds['direct'][index], seconds['relay'][index]
        print(f'# {release}, {"TLS" if tls else "clear text"}, {what}: {direct:.2f} s by smtpd, {relay:.2f} s through the relay: '
              f'{direct / relay:.0%}', flush=True)
    return faulty


def _measure(lab, made, tls, faulty):
    """Seconds that many small messages take, all of them and without beginning and end, and a large one."""
    hosts = [lab.sink.host(f'mx1.{name}.test') for name in DOMAINS]
    log = made.place / 'sink.log'
    sink = Daemon([lab.build / 'tests/bench/sink', lab.sink.certificate(hosts[0]) if tls else '-', MESSAGES,
                   *(lab.sink.address(host) for host in hosts)], log, ready='^ready')
    go_on = _keep_route(lab, made)
    try:
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            marks = [MESSAGES // 10, MESSAGES // 10 * 9, MESSAGES]
            first, ninth, small = _drain(made, log, marks, lambda: list(
                pool.map(_fill, (range(first, first + _A_SESSION) for first in range(0, MESSAGES, _A_SESSION)))))
        big, = _drain(made, log, [MESSAGES + 1], lambda: made.submit(
            [f'big@{DOMAINS[20]}.test'], 'big', ('x' * 76 + '\n') * (_BIG // 77)))
    finally:
        go_on.set()
        sink.stop()
    messages, connections = map(int, re.search(r'(\d+) messages, (\d+) connections', log.read_text()).groups())
    print(f'# {MESSAGES / small:.0f} messages a second, {connections} connections', flush=True)
    if messages != MESSAGES + 1:
        faulty.append(f'{messages} messages reached the sinks')
    return small, ninth - first, big


def _keep_route(lab, made):
    """One slow message, as there always is on a server that has something to do. Without a session to 127.0.0.1 smtpd opens
    one for the first domain, and those of all others five seconds later."""
    there, go_on = threading.Event(), threading.Event()

    def hook(step, _line):
        if step == 'dot':
            there.set()
            go_on.wait(_BOUND)
    lab.sink.host('mx1.warm.test').hook = hook
    made.submit(['a@warm.test'], 'warm')
    if not there.wait(_BOUND):
        raise RuntimeError('the first message never came')
    return go_on


def _drain(made, log, marks, fill):
    """Seconds from the moment that smtpd may send what `fill` puts into its queue until so many messages are taken."""
    made.ctl('pause', 'mta')
    fill()
    started = time.monotonic()
    made.ctl('resume', 'mta')
    took = []
    for mark in marks:
        wait_until(lambda mark=mark: f'{mark} taken' in log.read_text(), 'the queue drains', _BOUND)
        took.append(time.monotonic() - started)
    wait_until(lambda: len(made.ctl('show', 'queue').splitlines()) == 1, 'smtpd knows it')
    return took


def _fill(numbers):
    with smtplib.SMTP('127.0.0.1', PORT, timeout=60) as client:
        for number in numbers:
            client.sendmail('sender@sender.test', [f'a{number}@{DOMAINS[number % 20]}.test'],
                            f'Subject: {number}\n\n{_TEXT}')


class _Memory:
    def __init__(self, made):
        self._process = made.relay.process
        self._before = self._read('VmRSS')

    def _read(self, what):
        with open(f'/proc/{self._process.pid}/status') as status:
            return next(int(line.split()[1]) for line in status if line.startswith(what))

    def judge(self, faulty):
        most = self._read('VmHWM')
        print(f'# memory of the relay: {self._before} KiB before, {most} KiB at most', flush=True)
        if most - self._before > 20 * 1024:
            faulty.append(f'memory grew from {self._before} to {most} KiB')

