"""A mail machine: a Debian root with Exim and the installed product, its configuration, and an agent if wanted.
Machines are overlays on one prepared layer, so that a test that breaks something breaks only its own."""

import contextlib
import json
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass

import namespaces
import pki
import resolvers
from process import Daemon

SOCKET = '/run/sealane/agent.sock'
CLIENT = 'client.test'
SENDER = 'sender@sender.test'
SEND_BOUND = 150  # seconds; every time-out of Exim's and ours lies well below

_UPDATE_EXIM = f'''dc_eximconfig_configtype='internet'
dc_other_hostnames='{CLIENT}'
dc_local_interfaces='127.0.0.1'
dc_readhost=''
dc_relay_domains=''
dc_minimaldns='false'
dc_relay_nets=''
dc_smarthost=''
CFILEMODE='644'
dc_use_split_config='true'
dc_hide_mailname=''
dc_mailname_in_oh='true'
dc_localdelivery='mail_spool'
'''

# How a test sees what TLS did.
_MACROS = {'MAIN_LOG_SELECTOR': '+tls_cipher +tls_certificate_verified +tls_peerdn +tls_sni'}

CONFIG = {
    'store': '/var/lib/sealane/sealane.db', 'trust_anchor': '/lab/root.key', 'root_hints': '/lab/root.hints',
    'resolver': resolvers.GOOD, 'ca_file': '/lab/ca.pem', 'socket': SOCKET, 'https_private': 'yes',
}


def prepare(place, base, build, zones):
    """The layer that all machines share. `build`: a configured and built tree of the product, or None for a machine
    without it."""
    root = namespaces.overlay(place, base)
    if build:
        subprocess.run(['meson', 'install', '--no-rebuild', '--quiet', '-C', build, '--destdir', root], check=True,
                       stdout=subprocess.DEVNULL)
        # As their README tells an administrator.
        for folder in root.glob('usr/**/share/sealane/exim/*/'):
            shutil.copytree(folder, root / 'etc/exim4/conf.d' / folder.name, dirs_exist_ok=True)
        _libraries(root, build)
        _chroot(root, 'ldconfig')
    _chroot(root, 'useradd', '--system', '--no-create-home', '--home-dir', '/var/lib/sealane', 'sealane')
    _chroot(root, 'install', '-d', '-o', 'sealane', '-g', 'sealane', '-m', '700', '/var/lib/sealane')
    _chroot(root, 'install', '-d', '-o', 'sealane', '-g', 'Debian-exim', '-m', '2750', '/run/sealane')
    (root / 'etc/exim4/update-exim4.conf.conf').write_text(_UPDATE_EXIM)
    furnish(root, zones)
    namespaces.unmount(root)
    return f'{place}/upper:{base}'


def furnish(root, zones):
    """Its names, and what it trusts."""
    (root / 'etc/sealane').mkdir(exist_ok=True)
    (root / 'etc/mailname').write_text(CLIENT + '\n')
    (root / 'etc/hosts').write_text(f'127.0.0.1 localhost\n192.0.2.250 {CLIENT}\n')
    lab = root / 'lab'
    lab.mkdir()
    shutil.copy(zones / 'root.key', lab)
    shutil.copy(zones / 'root.hints', lab)
    (lab / 'ca.pem').write_bytes(pki.trusted().root.pem())


def _libraries(root, build):
    """The product is built on this machine. Where the root is of another Debian release, it lacks the libraries whose
    names have changed."""
    for program in ('shims/cli/sealane', 'plugin/libsealane.so.0'):
        printed = subprocess.run(['ldd', build / program], check=True, capture_output=True, text=True).stdout
        for name, path in re.findall(r'(\S+) => (/\S+)', printed):
            if not any((root / 'usr/lib').rglob(name)):
                shutil.copy(path, root / 'usr/local/lib')


def _chroot(root, *command):
    subprocess.run(['chroot', root, *command], check=True, stdout=subprocess.DEVNULL)


def _mark(subject):
    """The Message-ID by which a message is found again in Exim's log."""
    return re.sub(r'[^a-z0-9-]', '.', subject.lower()) + '@lab.test'


@dataclass
class Outcome:
    """What Exim did with one recipient of one message."""
    state: str  # delivered, queued, bounced, or lost: neither of these
    host: str = ''
    tls: str = ''
    log: str = ''


class Machine:
    def __init__(self, place, layer, backend='agent', config=None, override=None, macros=None,
                 resolver=resolvers.HIDES_AD, clock=None, mutate=None):
        """`mutate` changes its files before Exim's configuration is put together."""
        self.place = place
        self.backend = backend
        self.agent = None
        self.root = namespaces.overlay(place, layer)
        namespaces.furnish(self.root)
        (self.root / 'etc/resolv.conf').write_text(f'nameserver {resolver}\n')
        self.configure({**CONFIG, **(config or {})}, override or {})
        macros = {**_MACROS, 'SEALANE_BACKEND': backend, 'SEALANE_CA_FILE': CONFIG['ca_file'], **(macros or {})}
        if clock:
            self._fake_clock(clock)
        # `000`: before the fragments, whose own values are defaults (.ifndef).
        (self.root / 'etc/exim4/conf.d/main/000_lab').write_text(
            ''.join(f'{name} = {value}\n' for name, value in macros.items()))
        if mutate:
            mutate(self)
        self.run('update-exim4.conf', check=True)

    def configure(self, config, override):
        lines = [f'{key} = {value}' for key, value in config.items() if value is not None]
        if override:
            lines += ['[override]', *(f'{domain} = {value}' for domain, value in override.items())]
        (self.root / 'etc/sealane/sealane.conf').write_text('\n'.join(lines) + '\n')

    def _environment(self):
        return {'PATH': '/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin:/usr/local/sbin', 'LC_ALL': 'C.UTF-8'}

    def _fake_clock(self, clock):
        """For every process of the machine. By files, because Exim is setuid, and LD_PRELOAD is ignored then."""
        library = next((self.root / 'usr/lib').glob('*/faketime/libfaketime.so.1'))
        (self.root / 'etc/ld.so.preload').write_text(f'/{library.relative_to(self.root)}\n')
        (self.root / 'etc/faketimerc').write_text(f'@{clock}\n')

    def run(self, *command, user=None, **options):
        options = {'capture_output': True, 'text': True, 'errors': 'replace', 'timeout': SEND_BOUND, **options}
        as_user = [f'--userspec={user}'] if user else []
        return subprocess.run(['chroot', *as_user, self.root, *command], env=self._environment(), **options)

    # The agent

    @property
    def socket(self):
        return self.root / SOCKET.lstrip('/')

    def start_agent(self, socket=SOCKET):
        self.agent = Daemon(['chroot', '--userspec=sealane:sealane', self.root, 'sealane', 'agent', '--config',
                             '/etc/sealane/sealane.conf'], self.place / 'agent.log', env=self._environment())
        self.agent.wait_for_socket(self.root / socket.lstrip('/'))

    def stop_agent(self, number=signal.SIGTERM):
        agent, self.agent = self.agent, None
        return agent.stop(number)

    def start(self):
        """Ready to send, with whatever the back end needs."""
        if self.backend == 'agent':
            self.start_agent()
        return self

    def stop(self):
        if self.agent:
            self.stop_agent()

    # The command

    def sealane(self, *arguments, **options):
        return self.run('sealane', *arguments, user='sealane:sealane', **options)

    def decide(self, *domains, local=None, options=()):
        """domain -> decision; through the agent where there is one."""
        local = self.backend == 'fork' if local is None else local
        done = self.sealane('query', '--json', *(['--local'] if local else []), *options, *domains)
        decisions = [json.loads(line) for line in done.stdout.splitlines()]
        if len(decisions) != len(domains):
            raise AssertionError(f'sealane query: {len(decisions)} decisions for {len(domains)} domains, '
                                 f'exit {done.returncode}: {done.stderr.strip()}')
        return dict(zip(domains, decisions))

    # Exim

    def send(self, recipients, subject, how='-odf'):
        """Hands Exim a message and waits for its first attempt to end: recipient -> Outcome."""
        message = (f'From: <{SENDER}>\nTo: undisclosed\nSubject: {subject}\nMessage-Id: <{_mark(subject)}>\n\n'
                   'A message of the laboratory.\n')
        done = self.run('exim4', how, '-oi', '-f', SENDER, *recipients, input=message)
        return self.outcomes(recipients, subject, done.stdout + done.stderr)

    def retry_queue(self, recipients, subject):
        """One forced run of the whole queue."""
        done = self.run('exim4', '-qff')
        return self.outcomes(recipients, subject, done.stdout + done.stderr)

    def lose_object(self, section=None):
        """Exim looks for the product's object where there is none: everywhere, or in one section only, by redefining
        there every macro that holds the path."""
        if section is None:
            for file in self.root.glob('usr/**/sealane-exim.so'):
                file.unlink()
            return
        macros = self.run('exim4', '-bP', 'macros', check=True).stdout
        changed = [re.sub('^(\\w+) ?= ?', r'\1 == ', line.replace('sealane-exim.so', 'gone.so'))
                   for line in macros.splitlines() if 'sealane-exim.so' in line]
        folder = self.root / 'etc/exim4/conf.d' / section
        for file in folder.iterdir():
            file.write_text(file.read_text().replace('sealane-exim.so', 'gone.so'))
        (folder / '01_lab').write_text('\n'.join(changed) + '\n')
        self.run('update-exim4.conf', check=True)

    def object(self):
        """The path of the object, as Exim has it."""
        return '/' + str(next(self.root.glob('usr/**/sealane-exim.so')).relative_to(self.root))

    def queue(self):
        """The Message-IDs of what waits."""
        return set(re.findall(r'Message-Id: <([^>]*)>', '\n'.join(
            file.read_text(errors='replace') for file in (self.root / 'var/spool/exim4/input').rglob('*-H'))))

    def mainlog(self):
        log = self.root / 'var/log/exim4/mainlog'
        return log.read_text(errors='replace') if log.exists() else ''

    def outcomes(self, recipients, subject, printed=''):
        log = self.mainlog()
        arrival = re.search(rf'^\S+ \S+ (\S+) <= .* id={re.escape(_mark(subject))}( |$)', log, re.M)
        if not arrival:
            return {recipient: Outcome('lost', log=f'Exim did not take the message: {printed}') for recipient in
                    recipients}
        lines = [line for line in log.splitlines() if f' {arrival[1]} ' in f'{line} ']
        queued = any((self.root / 'var/spool/exim4/input').rglob(f'{arrival[1]}-H'))
        return {recipient: self._outcome(recipient, lines, queued) for recipient in recipients}

    @staticmethod
    def _outcome(recipient, lines, queued):
        text = '\n'.join(lines)
        for line in lines:
            if match := re.search(rf' (=>|->) {re.escape(recipient)} .*?H=(\S+)', line):
                tls = re.search(r' X=(\S+)', line)
                return Outcome('delivered', match[2], tls[1] if tls else '', text)
            if f' ** {recipient} ' in line or f' ** {recipient}:' in line:
                return Outcome('bounced', log=text)
        return Outcome('queued' if queued else 'lost', log=text)

    # What a failure leaves

    def evidence(self, folder, domains):
        folder.mkdir(parents=True, exist_ok=True)
        for path in ['var/log/exim4/mainlog', 'var/log/exim4/rejectlog', 'var/log/exim4/paniclog',
                     'var/lib/exim4/config.autogenerated', 'etc/sealane/sealane.conf']:
            with contextlib.suppress(OSError):
                shutil.copy(self.root / path, folder)
        with contextlib.suppress(OSError):
            shutil.copy(self.place / 'agent.log', folder)
        for domain in domains:
            with contextlib.suppress(subprocess.TimeoutExpired, OSError):
                for arguments, name in [(['--json'], 'json'), ([], 'txt')]:
                    explained = self.sealane('explain', *arguments, domain, timeout=30)
                    (folder / f'explain-{domain}.{name}').write_text(explained.stdout + explained.stderr)
        with contextlib.suppress(subprocess.TimeoutExpired, OSError):
            (folder / 'exim-config.txt').write_text(self.run('exim4', '-bP', 'config', timeout=10).stdout)
