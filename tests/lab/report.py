"""Runs checks side by side and says how they went, for people or as TAP (for meson)."""

import concurrent.futures
import sys
import time
import traceback
from dataclasses import dataclass
from typing import Callable


@dataclass
class Check:
    """`run` returns the list of what is wrong; an exception is a failure too. `evidence` fills a folder."""
    group: str
    name: str
    title: str
    run: Callable[[], list]
    evidence: Callable = None


class Report:
    def __init__(self, tap, failures, keep=False):
        self._tap, self._failures, self._keep = tap, failures, keep
        self.passed = self.failed = 0
        if tap:
            print('TAP version 13', flush=True)

    def run(self, checks, at_once):
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            for check, faults, seconds in pool.map(self._one, checks):
                self._print(check, faults, seconds)

    def _one(self, check):
        started = time.monotonic()
        try:
            faults = check.run()
        except Exception as error:  # a test that breaks has failed; the others go on
            faults = [f'{type(error).__name__}: {error}']
            if not isinstance(error, (AssertionError, RuntimeError)):
                faults += traceback.format_exc().splitlines()[-6:]
        if check.evidence and (faults or self._keep):
            folder = self._failures / f'{check.group}-{check.name}'.replace('/', '-')
            try:
                check.evidence(folder)
                (folder / 'faults.txt').write_text('\n'.join(faults) + '\n')
                if faults:
                    faults = [*faults, f'see {folder}']
            except Exception as error:
                faults = [*faults, f'no evidence: {type(error).__name__}: {error}']
        return check, faults, time.monotonic() - started

    def _print(self, check, faults, seconds):
        self.passed += not faults
        self.failed += bool(faults)
        number = self.passed + self.failed
        label = f'{check.group} {check.name}: {check.title}'
        if self._tap:
            print(f'{"not ok" if faults else "ok"} {number} - {label.replace("#", "")}')
            for fault in faults:
                print('\n'.join(f'# {line}' for line in fault.splitlines()))
        elif faults:
            print(f'FAIL  {label}  ({seconds:.1f} s)\n' + '\n'.join(f'      {fault}' for fault in faults))
        else:
            print(f'ok    {label}  ({seconds:.1f} s)')
        sys.stdout.flush()

    def end(self, seconds):
        if self._tap:
            print(f'1..{self.passed + self.failed}')
        print(f'{"# " if self._tap else ""}{self.passed} passed, {self.failed} failed, in {seconds:.0f} s', flush=True)
        return 1 if self.failed or not self.passed else 0
