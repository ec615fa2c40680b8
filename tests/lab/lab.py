"""The laboratory as a whole: everything that the tests of one run share."""

import concurrent.futures
import contextlib
import itertools
import json
import shutil
import threading
import time
from pathlib import Path

import cases
import checks
import datacases
import faults
import machine
import mail
import namespaces
import opensmtpd
import rounds
import smtpd
import throughput
from https import PolicyServer
from pki import Presented
from resolvers import TYPES, Resolvers
from servers import NameServers
from sink import Host, Sink
from zones import Tree


class Laboratory:
    """Made inside the private namespaces (`namespaces.enter`). `build` is None for a laboratory without the product;
    `exim` says which of namespaces.EXIMS the root has."""

    def __init__(self, base, state, build, exim='heavy', smtpd_roots=None):
        self.has_dlfunc = exim != 'light'
        # Exim with OpenSSL does not hear the event unless it verifies by itself too.
        self.refuses_early = exim != 'openssl'
        self.failures = Path(build or namespaces.SOURCE / 'build') / 'lab-failures'
        self._state, self._base, self.build, self._number = state, base, build, itertools.count(1)
        self._smtpd_roots, self._smtpd_layers, self._smtpd_lock = smtpd_roots or {}, {}, threading.Lock()
        started = time.monotonic()
        pki_folder = state / 'pki'
        pki_folder.mkdir()
        self.servers = NameServers(state / 'servers', base)
        self.tree = Tree(self.servers.lab / 'zones')
        self.tree.use_root(self.servers.root)
        self.policies = PolicyServer(pki_folder)
        self.sink = Sink(pki_folder)
        self.world = cases.World(self.tree, self.policies, self.sink)
        self.cases = cases.read()
        worlds = [faults, checks, rounds, mail, opensmtpd, throughput]
        self.by_name = {case.name: case for case in [*self.cases, *(case for one in worlds for case in one.world())]}
        for case in self.by_name.values():
            self.world.add(case)
        self._sender()
        self.tree.write_anchor()
        # Half the starting time is signing; it goes on while the mail machine's layer is installed.
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            installing = pool.submit(machine.prepare, state / 'product', base, build, self.tree.folder)
            self.tree.write()
            self.servers.start(self.tree)
            self.resolvers = Resolvers()
            for address, habit in self.world.habits.items():
                self.resolvers.serve_zone(address, habit)
            self._layer = installing.result()
        self.started_in = time.monotonic() - started

    def _sender(self):
        """Where bounces go."""
        zone = self.tree.zone('sender.test.')
        zone.add(zone.name, f'MX 10 mx.{zone.name}')
        zone.add(f'mx.{zone.name}', 'A 203.0.113.1')
        self.sink.add(Host('mx.sender.test', Presented('right', 'mx.sender.test', 'sender.test')), ['203.0.113.1'])

    @contextlib.contextmanager
    def machine(self, backend='agent', **options):
        """A new mail machine, not started."""
        place = self._state / f'machine-{next(self._number)}'
        made = machine.Machine(place, self._layer, backend, **options)
        try:
            yield made
        finally:
            made.stop()

    @contextlib.contextmanager
    def plain_machine(self):
        """A machine whose Exim does not know the product."""
        place = self._state / f'machine-{next(self._number)}'
        layer = machine.prepare(place.with_name(f'{place.name}-layer'), self._base, None, self.tree.folder)
        yield machine.Machine(place, layer, 'none')

    def asked(self, name, rrtype):
        """Whether the servers of any zone were asked this."""
        seen = [(one.name, one.rrtype) for address in self.world.habits for one in self.resolvers.questions[address]]
        return (name, rrtype) in self.servers.questions() or (name, TYPES[rrtype]) in seen

    def run_mutated(self, name, backend, mutate):
        """What the test of this name finds on a machine that `mutate` has changed; None: there is no such test."""
        place = contextlib.ExitStack()
        with place:
            if scenario := faults.by_name(name):
                made = place.enter_context(self.machine(backend, mutate=mutate, **scenario.options))
                return _without_cause(made) or scenario(self, made)
            if name not in {case.name for case in self.cases}:
                return None
            made = place.enter_context(self.machine(backend, override=self.overrides(), mutate=mutate))
            if broken := _without_cause(made):
                return broken
            return datacases.deliver(self, made.start(), self.by_name[name])

    def scratch(self):
        folder = self._state / f'scratch-{next(self._number)}'
        folder.mkdir()
        return folder

    @contextlib.contextmanager
    def smtpd_machine(self, release, **options):
        """A new machine with the OpenSMTPD of that Debian release, not started."""
        with self._smtpd_lock:
            if release not in self._smtpd_layers:
                self._smtpd_layers[release] = smtpd.prepare(
                    self._state / f'smtpd-{release}', self._smtpd_roots[release], self.build, self.tree.folder, self._base)
        place = self._state / f'machine-{next(self._number)}'
        made = smtpd.SmtpdMachine(place, self._smtpd_layers[release], **options)
        try:
            yield made
        finally:
            made.stop()

    def overrides(self):
        return {case.domain: case.data['override'] for case in self.cases if 'override' in case.data}

    def evidence(self, folder, made, involved, explain=True):
        """One folder with everything that explains a failure."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for case in involved:
            (folder / f'case-{case.name}.json').write_text(json.dumps(case.data, indent=1))
            for suffix in ('.plain', '.zone'):
                with contextlib.suppress(OSError):
                    shutil.copy(self.tree.folder / f'{case.domain}{suffix}', folder)
            policy_host = f'mta-sts.{case.domain}'
            if policy := self.policies.policies.get(policy_host):
                (folder / f'policy-{case.domain}.txt').write_text(policy.text)
                _lines(folder / f'https-{case.domain}.jsonl', self.policies.of(policy_host))
            _lines(folder / f'smtp-{case.domain}.jsonl', self.sink.of(set(case.names.values())))
        for log in ('named.log', 'unbound.log'):
            shutil.copy(self.servers.lab / log, folder)
        made.evidence(folder, [case.domain for case in involved] if explain else [])


def _without_cause(made):
    """A configuration that Exim does not read would turn every test red."""
    done = made.run('exim4', '-bV')
    if done.returncode or 'error' in done.stderr:
        raise AssertionError(f'Exim does not read its configuration: {done.stdout}{done.stderr}')


def _lines(path, records):
    path.write_text(''.join(json.dumps(record) + '\n' for record in records))
