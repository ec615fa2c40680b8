"""What the tests of the packages have in common: one line for each thing looked at, and a count at the end."""

import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent.parent
PACKAGES = ['libsealane0', 'libsealane-dev', 'sealane', 'sealane-exim']
OPENSMTPD_PACKAGES = ['sealane', 'opensmtpd/opensmtpd-filter-sealane']  # a machine has one mail server
_MOST_LINES = 30  # of what is shown of a failure


class Failed(Exception):
    """What follows has no sense without it."""


class Report:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, what, good, detail='', needed=False):
        print(f'{"ok" if good else "FAILED"}: {what}', flush=True)
        self.passed += bool(good)
        self.failed += not good
        if not good and detail:
            print(*('    ' + line for line in str(detail).strip().splitlines()[-_MOST_LINES:]), sep='\n', flush=True)
        if not good and needed:
            raise Failed(what)

    def runs(self, machine, what, *command, say='', status=0, needed=False, **options):
        """The output; complains unless it ends with `status` and says `say`."""
        done = machine.run(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, capture_output=False, **options)
        self.check(what, done.returncode == status and say in done.stdout, f'status {done.returncode}: {done.stdout[-3000:]}',
                   needed)
        return done.stdout

    def documented(self, machine, what, commands, status=0, needed=False, **options):
        got, output = machine.shell(commands, **options)
        self.check(what, got == status, f'{commands}\nstatus {got}: {output[-3000:]}', needed)
        return output

    def end(self):
        print(f'{self.passed} passed, {self.failed} failed', flush=True)
        return 1 if self.failed or not self.passed else 0


def packages(suite, folder=None, names=PACKAGES):
    """What `make deb` made."""
    folder = Path(folder or SOURCE / 'build/deb' / suite).resolve()
    found = [path for name in names for path in sorted(folder.glob(f'{name}_*.deb'))]
    if len(found) != len(names):
        sys.exit(f'{folder} does not hold one package each of {", ".join(names)}: make deb SUITES={suite}')
    if names == PACKAGES and set(found) != set(folder.glob('*.deb')):
        sys.exit(f'{folder} holds other packages, which README.md would install with them')
    return found


def hand_over(debs, place):
    """A copy of the packages inside a machine, laid out as `make deb` does it: their paths below `place`."""
    paths = [Path('opensmtpd' if deb.name.startswith('opensmtpd') else '.') / deb.name for deb in debs]
    for deb, path in zip(debs, paths):
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(deb, place / path)
    return paths
