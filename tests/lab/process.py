"""Daemons of the laboratory: started, waited for by an event, logged to a file, ended."""

import os
import re
import select
import signal
import socket
import subprocess
import threading
import time

BOUND = 20  # seconds: how long anything may take to get ready before that is a failure of the laboratory


class Daemon:
    """`ready` is a pattern in the output; without it the daemon counts as started at once."""

    def __init__(self, command, log, ready=None, **options):
        self.log = log
        self._ready = threading.Event()
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, errors='replace', **options)
        self._reader = threading.Thread(target=self._copy, args=(ready,), daemon=True)
        self._reader.start()
        if ready is not None:
            self._ready.wait(BOUND)
            if self.process.poll() is not None or not self._ready.is_set():
                raise RuntimeError(f'{command}: not ready, see {log}:\n{log.read_text()[-2000:]}')

    def _copy(self, ready):
        with self.log.open('a') as log:
            for line in self.process.stdout:
                log.write(line)
                log.flush()
                if ready is not None and re.search(ready, line):
                    self._ready.set()
        self._ready.set()

    def wait_for_socket(self, path):
        """Until something accepts on the Unix socket. The pause between attempts ends early if the daemon ends."""
        deadline = time.monotonic() + BOUND
        poll = select.poll()
        pidfd = os.pidfd_open(self.process.pid)
        poll.register(pidfd, select.POLLIN)
        try:
            while time.monotonic() < deadline:
                with socket.socket(socket.AF_UNIX) as attempt:
                    try:
                        attempt.connect(str(path))
                        return
                    except OSError:
                        pass
                if poll.poll(5):
                    self._reader.join()
                    raise RuntimeError(f'ended before it listened, see {self.log}:\n{self.log.read_text()[-2000:]}')
            raise RuntimeError(f'nothing accepts on {path}')
        finally:
            os.close(pidfd)

    def stop(self, number=signal.SIGTERM):
        """The exit status. A daemon that a test has stopped (SIGSTOP) ends too."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.send_signal(signal.SIGCONT)
        try:
            status = self.process.wait(BOUND)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self._reader.join(BOUND)
        return status


def wait_until(condition, what, bound=BOUND):
    """Polls a condition that no file descriptor announces, within the bound."""
    deadline = time.monotonic() + bound
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f'never happened: {what}')
        pause.wait(0.005)
