"""A Debian machine of its own whose process 1 is systemd: units, sockets, sandboxes and package scripts are the real
ones. It is joined to the laboratory by a wire, so that its ports are its own and all the world is behind one route."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(SOURCE / 'tests/lab'))
import machine  # noqa: E402
import namespaces  # noqa: E402
import pki  # noqa: E402
import resolvers  # noqa: E402
from process import wait_until  # noqa: E402

_PREFIX = 'sealane-machine-'
_HERE, _THERE, _HERE6, _THERE6 = '100.64.0.1', '100.64.0.2', 'fd00::1', 'fd00::2'
_COMMAND_BOUND = 300  # seconds

# In namespaces of its own, with the root as the argument. The first line read says that the wire is there.
_START = r'''
set -eu
mount --make-rprivate /
cd "$1"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
for device in null zero full random urandom tty; do
    touch dev/$device
    mount --bind /dev/$device dev/$device
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
hostname client.test
ip link set lo up
echo made
read -r wire
mkdir -p .old
pivot_root . .old
umount -l /.old
rmdir /.old
exec env -i container=sealane PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-target=journal </dev/null
'''


def _cgroup2():
    """Where version 2 is mounted, and our place in it."""
    mounts = [line.split() for line in Path('/proc/self/mounts').read_text().splitlines()]
    found = [Path(fields[1]) for fields in mounts if fields[2] == 'cgroup2']
    if not found:
        sys.exit('booted: systemd needs cgroup version 2, which is not mounted here')
    own = next(line for line in Path('/proc/self/cgroup').read_text().splitlines() if line.startswith('0::'))
    return found[0] / own[3:].strip().lstrip('/')


def _empty(group):
    return 'populated 0' in (group / 'cgroup.events').read_text()


def _remove_group(group):
    """A control group in which no process is left, with those below it."""
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


class Booted(machine.Machine):
    """Shares with the laboratory's machines how mail is sent and followed; has no configuration but what its own
    packages and commands made."""

    def __init__(self, place, base, resolver=resolvers.HIDES_AD):
        self.place, self.backend, self.agent = place, 'agent', None
        self.root = namespaces.overlay(place, base)
        self._process = self._first = None
        (self.root / 'etc/resolv.conf').unlink(missing_ok=True)
        (self.root / 'etc/resolv.conf').write_text(f'nameserver {resolver}\n')
        (self.root / 'etc/hosts').write_text(f'127.0.0.1 localhost\n{_THERE} {machine.CLIENT}\n')
        (self.root / 'etc/hostname').write_text(machine.CLIENT + '\n')
        (self.root / 'etc/machine-id').write_text('')
        # Nobody is here to answer.
        (self.root / 'etc/apt/apt.conf.d/90yes').write_text('APT::Get::Assume-Yes "true";\n')

    def believe(self, tree):
        """The laboratory's root zone and certificate authority are those of the world: where Debian's packages bring
        the real ones, these lie already."""
        folder = self.root / 'usr/share/dns'
        folder.mkdir(exist_ok=True)
        for name in ('root.key', 'root.hints'):
            subprocess.run(['chroot', self.root, 'dpkg-divert', '--local', '--add', '--no-rename', f'/usr/share/dns/{name}'],
                           check=True, stdout=subprocess.DEVNULL)
            (folder / name).write_bytes((tree.folder / name).read_bytes())
        authorities = self.root / 'usr/local/share/ca-certificates'
        authorities.mkdir(parents=True, exist_ok=True)
        (authorities / 'lab.crt').write_bytes(pki.trusted().root.pem())

    def boot(self):
        own = _cgroup2()
        for group in own.glob(_PREFIX + '*'):  # of a run that was killed; not one that has just been made
            with contextlib.suppress(OSError):
                if _empty(group) and group.stat().st_mtime < time.time() - 60:
                    _remove_group(group)
        self._group = own / f'{_PREFIX}{os.urandom(4).hex()}'
        self._group.mkdir()
        enter = f'echo 0 >{self._group}/cgroup.procs && exec "$@"'
        self._process = subprocess.Popen(
            ['sh', '-c', enter, 'sh', 'unshare', '--mount', '--pid', '--net', '--uts', '--ipc', '--cgroup', '--fork',
             '--kill-child', 'sh', '-c', _START, 'sh', self.root],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._process.stdout.readline() != 'made\n':
            raise RuntimeError('the machine cannot be furnished')
        self._wire(self._process.pid)
        self._process.stdin.write('wire\n')
        self._process.stdin.close()
        children = Path(f'/proc/{self._process.pid}/task/{self._process.pid}/children').read_text().split()
        self._first = children[0]
        wait_until(lambda: self.run('systemctl', 'is-system-running').stdout.strip() in ('running', 'degraded'),
                   'systemd has started everything', _COMMAND_BOUND)
        return self

    @staticmethod
    def _wire(pid):
        there = ['nsenter', f'--target={pid}', '--net']
        subprocess.run(['ip', 'link', 'add', 'machine', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', str(pid)],
                       check=True)
        for prefix, interface, addresses in (([], 'machine', (_HERE, _HERE6)), (there, 'eth0', (_THERE, _THERE6))):
            subprocess.run([*prefix, 'ip', '-batch', '-'], text=True, check=True, input='\n'.join([
                f'addr add {addresses[0]}/30 dev {interface}', f'addr add {addresses[1]}/64 dev {interface} nodad',
                f'link set {interface} up']))
        subprocess.run([*there, 'ip', 'route', 'add', 'default', 'via', _HERE], check=True)
        subprocess.run([*there, 'ip', '-6', 'route', 'add', 'default', 'via', _HERE6], check=True)

    def stop(self):
        """As when the power fails."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None
            wait_until(lambda: _empty(self._group), 'no process is left', _COMMAND_BOUND)
            _remove_group(self._group)
            # The kernel takes the wire away a moment after the last process; the next machine's has the same name.
            wait_until(lambda: subprocess.run(['ip', 'link', 'show', 'machine'], capture_output=True).returncode,
                       'the wire is gone', _COMMAND_BOUND)

    def run(self, *command, user=None, **options):
        options = {'capture_output': True, 'text': True, 'errors': 'replace', 'timeout': _COMMAND_BOUND, **options}
        if 'input' not in options:
            options.setdefault('stdin', subprocess.DEVNULL)
        as_user = ['setpriv', f'--reuid={user}', f'--regid={user}', '--init-groups'] if user else []
        environment = {**self._environment(), 'DEBIAN_FRONTEND': 'noninteractive', 'HOME': '/root'}
        return subprocess.run(['nsenter', f'--target={self._first}', '--mount', '--uts', '--ipc', '--net', '--pid',
                               '--cgroup', '--root', '--wdns=/', *as_user, *command], env=environment, **options)

    def shell(self, text, **options):
        """(status, everything said) of a piece of documentation, run by root's shell, which stops at the first failure."""
        done = self.run('bash', '-euc', text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, capture_output=False,
                        **options)
        return done.returncode, done.stdout

    def journal(self, unit='sealane-agent'):
        return self.run('journalctl', '--no-pager', '--output=cat', f'--unit={unit}').stdout

    def sealane(self, *arguments, **options):
        return self.run('sealane', *arguments, **options)
