"""A private machine inside this one: network, mounts, processes, host name, IPC. The kernel removes all of it when the
runner dies, however it dies; nothing here relies on a clean-up of our own."""

import ctypes
import fcntl
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent.parent

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWIPC, _CLONE_NEWPID, _CLONE_NEWNET = (
    0x00020000, 0x04000000, 0x08000000, 0x20000000, 0x40000000)
_PR_SET_PDEATHSIG = 1

# Documentation and benchmarking addresses (RFC 5737, 2544, 3849): the laboratory is every host that has one.
NETWORKS = ['192.0.2.0/24', '198.51.100.0/24', '203.0.113.0/24', '198.18.0.0/15']
NETWORK6 = '2001:db8::/32'
# named binds to interface addresses only, so its own must exist; everything else is covered by the routes.
NAME_SERVERS = ['192.0.2.1', '192.0.2.2', '192.0.2.3', '192.0.2.4', '192.0.2.5', '192.0.2.53']


# Heavy is what packaging/root brings; the others are made by packaging/exim-root.
EXIMS = ('heavy', 'light', 'backports', 'openssl')


def debian_root(suite='bookworm', kind='lab'):
    """The cached root, and a lock that keeps it from being replaced while this process lives."""
    command = ['exim-root', kind.removeprefix('lab-'), suite] if kind.startswith('lab-') else ['root', kind, suite]
    made = subprocess.run([SOURCE / 'packaging' / command[0], *command[1:]], stdout=subprocess.PIPE, text=True, check=True)
    root = Path(made.stdout.strip())
    lock = os.open(root.parent / f'.{root.name}.lock', os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_SH)
    return root


def enter(state):
    """Returns in a process that is alone on a private machine, with a tmpfs on `state`; the caller's process waits for
    it and exits with its status."""
    if os.geteuid() != 0:
        sys.exit('lab: namespaces and overlays need root')
    flags = _CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWIPC | _CLONE_NEWPID | _CLONE_NEWNET
    if _libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), 'unshare')
    sys.stdout.flush()
    alive, lifeline = os.pipe()
    if init := os.fork():
        _follow(init)
    # Process 1: its death ends every process of the machine, so it must not outlive the runner.
    os.close(lifeline)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if select.select([alive], [], [], 0)[0]:  # the runner died before the line above
        os._exit(1)
    if worker := os.fork():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while True:  # also reaps whatever daemons leave behind
            pid, status = os.wait()
            if pid == worker:
                os._exit(_exit_code(status))
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing to clean up: end at once
    _mounts(state)
    _network()


def _follow(child):
    """Ends with the child, and also with the process that started us: a runner whose starter (meson, make, a CI job)
    was killed has nobody to report to. Not by PR_SET_PDEATHSIG, which fires when a mere thread of the starter ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child gets it too, and its end is ours
    poll = select.poll()
    poll.register(os.pidfd_open(child), select.POLLIN)
    try:
        poll.register(os.pidfd_open(os.getppid()), select.POLLIN)
    except OSError:
        pass  # the starter is in a namespace that we cannot see
    poll.poll()
    pid, status = os.waitpid(child, os.WNOHANG)
    os._exit(_exit_code(status) if pid else 128 + signal.SIGHUP)


def _exit_code(status):
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _mount(*arguments):
    subprocess.run(['mount', *map(str, arguments)], check=True)


def _mounts(state):
    _mount('--make-rprivate', '/')
    _mount('-t', 'proc', 'proc', '/proc')
    state.mkdir(parents=True, exist_ok=True)
    _mount('-t', 'tmpfs', '-o', 'mode=755', 'lab', state)


def _network():
    commands = ['link set lo up']
    commands += [f'addr add {address}/32 dev lo' for address in NAME_SERVERS]
    commands += [f'route add local {network} dev lo' for network in NETWORKS]
    subprocess.run(['ip', '-batch', '-'], input='\n'.join(commands), text=True, check=True)
    subprocess.run(['ip', '-6', 'route', 'add', 'local', NETWORK6, 'dev', 'lo'], check=True)
    subprocess.run(['hostname', 'client.test'], check=True)


def overlay(place, *lower):
    """A writable root at place/root whose changes stay in place/upper."""
    for part in ('root', 'upper', 'work'):
        (place / part).mkdir(parents=True)
    layers = ':'.join(map(str, lower))
    _mount('-t', 'overlay', '-o', f'lowerdir={layers},upperdir={place}/upper,workdir={place}/work', 'overlay',
           place / 'root')
    return place / 'root'


def furnish(root):
    """The least that programs expect of /proc and /dev."""
    _mount('-t', 'proc', 'proc', root / 'proc')
    _mount('-t', 'tmpfs', '-o', 'mode=755', 'dev', root / 'dev')
    for device in ('null', 'zero', 'full', 'random', 'urandom'):
        (root / 'dev' / device).touch()
        _mount('--bind', f'/dev/{device}', root / 'dev' / device)


def unmount(root):
    subprocess.run(['umount', '--recursive', root], check=True)
