"""A mail machine with OpenSMTPD: its filter, its table, the relay and the agent, configured as sealane-opensmtpd(7) says."""

import contextlib
import ctypes
import re
import shutil
import smtplib
import signal
import socket
import subprocess
import threading
import time

import machine
import namespaces
import resolvers
from process import Daemon, wait_until

PORT = 2525  # the laboratory's mail servers have 25 at every address
RELAY_PORTS = (20025, 20280)
_OUTCOMES = {'Ok': 'delivered', 'TempFail': 'queued', 'PermFail': 'bounced'}
_libc = ctypes.CDLL(None)

LIMIT = ('mta limit for domain 127.0.0.1 max-conn-per-host 1000 max-conn-per-route 1000 max-conn-per-source 1000 '
         'max-conn-per-domain 1000 conn-delay-route 0 conn-delay-relay 0 reconn-delay-route 1 session-keepalive 0 '
         'task-hiwat 500 task-lowat 300 task-release 100')
SMTPD_CONF = f'''{LIMIT}
filter "sealane" proc-exec "filter-sealane client.test"
table sealane sealane:/etc/sealane/sealane.conf
listen on socket
listen on 127.0.0.1 port {PORT} filter "sealane"
action "outbound" relay domain <sealane>
match from local for any action "outbound"
'''
PLAIN_CONF = f'''listen on 127.0.0.1 port {PORT}
listen on socket
action "outbound" relay
match from local for any action "outbound"
'''


def prepare(place, base, build, zones, libraries):
    """The layer that all machines share. `libraries`: a root of the release that the product was built on; what this
    one does not have is taken from there."""
    root = namespaces.overlay(place, base)
    subprocess.run(['meson', 'install', '--no-rebuild', '--quiet', '-C', build, '--destdir', root], check=True,
                   stdout=subprocess.DEVNULL)
    for library in libraries.glob('usr/lib/*/libfmt.so.9*'):
        if not (root / library.relative_to(libraries)).exists():
            shutil.copy(library, root / library.relative_to(libraries), follow_symlinks=False)

    def run(*command):
        subprocess.run(['chroot', root, *command], check=True, stdout=subprocess.DEVNULL)
    run('ldconfig')
    for user in 'sealane', 'sealane-relay':
        run('useradd', '--system', '--no-create-home', '--home-dir', '/nonexistent', user)
        run('install', '-d', '-o', user, '-g', user, '-m', '700', f'/var/lib/{user}')
    run('usermod', '-aG', 'opensmtpd', 'sealane-relay')
    run('install', '-d', '-o', 'sealane', '-g', 'opensmtpd', '-m', '2755', '/run/sealane')
    machine.furnish(root, zones)
    namespaces.unmount(root)
    return f'{place}/upper:{base}'


def port_of(domain):
    """As table-sealane does it."""
    value = 2166136261
    for octet in domain.lower().encode():
        value = (value ^ octet) * 16777619 & 0xffffffff
    return RELAY_PORTS[0] + value % (RELAY_PORTS[1] - RELAY_PORTS[0] + 1)


class SmtpdMachine(machine.Machine):
    def __init__(self, place, layer, config=None, override=None, smtpd_conf=SMTPD_CONF):
        self.place, self.backend, self.agent, self.relay, self.smtpd = place, 'agent', None, None, None
        self._place_of_mail = threading.Lock()
        self.root = namespaces.overlay(place, layer)
        namespaces.furnish(self.root)
        (self.root / 'etc/resolv.conf').write_text(f'nameserver {resolvers.HIDES_AD}\n')
        self.configure({**machine.CONFIG, **(config or {})}, override or {})
        (self.root / 'etc/smtpd.conf').write_text(smtpd_conf)
        self.uid = int(self.run('id', '-u', 'opensmtpd', check=True).stdout)

    # Its programs

    def start(self, relay=True):
        self.start_agent()
        if relay:
            self.start_relay()
        self.start_smtpd()
        return self

    def start_relay(self):
        # The groups of the user, one of which may ask the agent.
        groups = self.run('id', '-G', 'sealane-relay', check=True).stdout.strip().replace(' ', ',')
        self.relay = Daemon(['chroot', '--userspec=sealane-relay:sealane-relay', f'--groups={groups}', self.root, 'sealane',
                             'relay'], self.place / 'relay.log', ready='the relay is ready', env=self._environment())

    def stop_relay(self, number=signal.SIGTERM):
        relay, self.relay = self.relay, None
        return relay.stop(number)

    def start_smtpd(self):
        self.smtpd = Daemon(['chroot', self.root, 'smtpd', '-d', '-f', '/etc/smtpd.conf'], self.place / 'smtpd.log',
                            env=self._environment())

        def listens():
            if self.smtpd.process.poll() is not None:
                raise RuntimeError(f'smtpd ended: {self.smtpd_log()[-2000:]}')
            with contextlib.suppress(OSError), smtplib.SMTP('127.0.0.1', PORT, timeout=5) as client:
                return client.noop()[0] == 250
        wait_until(listens, 'smtpd listens')

    def stop(self):
        if self.smtpd:
            self.smtpd.stop()
            self.smtpd = None
        if self.relay:
            self.stop_relay(signal.SIGKILL)
        if self.agent:
            self.stop_agent()

    def smtpd_log(self):
        log = self.place / 'smtpd.log'
        return log.read_text(errors='replace') if log.exists() else ''

    def relay_log(self):
        log = self.place / 'relay.log'
        return log.read_text(errors='replace') if log.exists() else ''

    def ctl(self, *arguments):
        return self.run('smtpctl', *arguments).stdout

    # Messages

    def submit(self, recipients, subject, text='A message of the laboratory.\n', sender=machine.SENDER):
        """By SMTP, through the filter: (the number of the message or None, recipient -> what the filter refused it with)."""
        with smtplib.SMTP('127.0.0.1', PORT, timeout=600) as client:  # of a whole message, too
            client.ehlo('client.test')
            client.mail(sender)
            refused = {}
            for recipient in recipients:
                code, reply = client.rcpt(recipient)
                if code != 250:
                    refused[recipient] = f'{code} {reply.decode()}'
            if len(refused) == len(recipients):
                return None, refused
            code, reply = client.data(f'From: <{sender}>\nTo: undisclosed\nSubject: {subject}\n\n{text}')
            if code != 250:
                raise RuntimeError(f'smtpd did not take the message: {code} {reply.decode()}')
            return re.search(rb'([0-9a-f]{8}) Message accepted', reply)[1].decode(), refused

    def submit_locally(self, recipient, subject):
        """By sendmail(8), past the filter: the number of the message."""
        known = set(self._envelopes(recipient))
        self.run('sendmail', '-f', machine.SENDER, recipient, check=True,
                 input=f'From: <{machine.SENDER}>\nSubject: {subject}\n\nA message of the laboratory.\n')
        new = []
        wait_until(lambda: new.extend(set(self._envelopes(recipient)) - known) or new, 'the message is in the queue')
        return new[0]

    def _envelopes(self, recipient):
        return re.findall(rf'smtp envelope evpid=([0-9a-f]{{8}})[0-9a-f]{{8}} .*to=<{re.escape(recipient)}>', self.smtpd_log())

    def attempts(self, number, recipient):
        """(result, text) of each attempt so far."""
        return re.findall(rf'mta delivery evpid={number}[0-9a-f]{{8}} .*?to=<{re.escape(recipient)}> .*?result="?(\w+)"? '
                          rf'stat="(.*)"', self.smtpd_log())

    def wait_for(self, number, recipients, attempt=1, bound=90):
        """recipient -> (result, text) of that attempt."""
        deadline = time.monotonic() + bound
        pause = threading.Event()
        while True:
            found = {recipient: self.attempts(number, recipient) for recipient in recipients}
            if all(len(one) >= attempt for one in found.values()):
                return {recipient: one[attempt - 1] for recipient, one in found.items()}
            if time.monotonic() > deadline or self.smtpd.process.poll() is not None:
                missing = [recipient for recipient, one in found.items() if len(one) < attempt]
                raise RuntimeError(f'no attempt {attempt} for {missing[:3]}')
            pause.wait(0.02)

    def queue(self, number):
        return [line for line in self.ctl('show', 'queue').splitlines() if line.startswith(number)]

    def retry(self):
        """All that waits is tried now, as the manual says."""
        for line in self.ctl('show', 'routes').splitlines():
            if route := re.match(r'\s*(\d+)\.', line):
                self.ctl('resume', 'route', route[1])
        self.ctl('schedule', 'all')

    def send(self, recipients, subject, local=False):
        """recipient -> Outcome of its first attempt. What is said of a message that waits is what the administrator sees
        in `smtpctl show queue`."""
        number, refused = (self.submit_locally(recipients[0], subject), {}) if local else self.submit(recipients, subject)
        outcomes = {recipient: machine.Outcome('bounced', log=text) for recipient, text in refused.items()}
        rest = [recipient for recipient in recipients if recipient not in refused]
        for recipient, (result, text) in self.wait_for(number, rest).items() if rest else ():
            state = _OUTCOMES.get(result, result)
            if state == 'queued':
                wait_until(lambda: any(recipient in line and '|pending|' in line for line in self.queue(number)),
                           f'{recipient} is back in the queue')
                text = '\n'.join(line for line in self.queue(number) if recipient in line)
            outcomes[recipient] = machine.Outcome(state, log=text)
        return outcomes

    # The relay's other clients

    def connect(self, port, uid=None):
        """A connection of another user's (of smtpd's, if not said otherwise) to the relay."""
        _libc.setfsuid(self.uid if uid is None else uid)  # of this thread alone; a socket keeps it
        try:
            client = socket.socket()
        finally:
            _libc.setfsuid(0)
        client.settimeout(60)
        client.connect(('127.0.0.1', port))
        return client

    def evidence(self, folder, domains):
        folder.mkdir(parents=True, exist_ok=True)
        for log in 'smtpd.log', 'relay.log', 'agent.log':
            with contextlib.suppress(OSError):
                shutil.copy(self.place / log, folder)
        for path in 'etc/smtpd.conf', 'etc/sealane/sealane.conf':
            shutil.copy(self.root / path, folder)
        (folder / 'queue.txt').write_text(self.ctl('show', 'queue'))
        for domain in domains:
            with contextlib.suppress(subprocess.TimeoutExpired, OSError):
                (folder / f'explain-{domain}.txt').write_text(self.sealane('explain', domain, timeout=30).stdout)
