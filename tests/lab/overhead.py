"""What Sealane costs Exim, in one run: the whole exchange of a delivery process with the object (loading it, route, events,
gate), and whole deliveries by the same Exim with and without it."""

import base64
import ctypes
import os
import statistics
import time

from cryptography.hazmat.primitives import serialization

from report import Check

EXCHANGES, DELIVERIES = 300, 60


def checks(lab, backend):
    yield Check('bench', f'exchange-{backend}', 'load, route, events and gate in a fresh process', lambda: _exchange(lab, backend))
    yield Check('bench', f'delivery-{backend}', 'a delivery with Sealane and without', lambda: _delivery(lab, backend))


def _say(text):
    print(f'# {text}', flush=True)


def _exchange(lab, backend):
    with lab.machine(backend) as made:
        made.start()
        case = lab.by_name['sts']
        host = lab.sink.host(case.names['mx1'])
        chain = [base64.b64encode(one.certificate.public_bytes(serialization.Encoding.DER)).decode()
                 for one in host.presented.chain()]
        made.decide(case.domain)
        samples = [_in_a_child(made, case, chain) for _ in range(EXCHANGES if backend == 'agent' else 40)]
    if faults := {fault for _, fault in samples if fault}:
        return sorted(faults)
    parts = [[sample[index] for sample, _ in samples] for index in range(4)]
    total = sorted(sum(sample) for sample, _ in samples)
    _say(f'{backend}: median of {len(samples)} exchanges {statistics.median(total):.3f} ms '
         f'(least {total[0]:.3f}, 9 of 10 below {total[len(total) * 9 // 10]:.3f}); medians of load, route, events, gate: '
         + ', '.join(f'{statistics.median(part):.3f}' for part in parts) + ' ms')
    return []


def _in_a_child(made, case, chain):
    """(milliseconds of load, route, events, gate), and what went wrong."""
    reading, writing = os.pipe()
    path = made.object()  # as it is behind chroot
    if not (pid := os.fork()):
        try:
            os.chroot(made.root)
            os.chdir('/')
            text = repr((_exchange_here(made, path, case, chain), ''))
        except BaseException as error:  # noqa: B902
            text = repr(((0, 0, 0, 0), f'{type(error).__name__}: {error}'))
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as result:
        text = result.read()
    os.waitpid(pid, 0)
    return eval(text, {})  # our own repr


def _exchange_here(made, path, case, chain):
    def call(function, *arguments):
        result = ctypes.c_char_p()
        argv = (ctypes.c_char_p * len(arguments))(*(one.encode() for one in arguments))
        status = function(ctypes.byref(result), len(arguments), argv)
        return status, (result.value or b'').decode()

    host, address = case.names['mx1'], '198.18.0.1'
    times = [time.perf_counter()]
    library = ctypes.CDLL(path)
    route, event, gate = (getattr(library, f'sealane_exim_{name}') for name in ('route', 'event', 'gate'))
    times.append(time.perf_counter())
    _, data = call(route, made.backend, case.domain, '1abc', 'first')
    times.append(time.perf_counter())
    said = [call(event, made.backend, 'tcp:connect', address, data, host, address, '')]
    for depth in reversed(range(len(chain))):
        said.append(call(event, made.backend, 'tls:cert', str(depth), data, host, address, chain[depth]))
    times.append(time.perf_counter())
    said.append(call(gate, made.backend, case.domain, host, address, 'TLS1.3:ECDHE_X25519__RSA_PSS_RSAE_SHA256__AES_256_GCM:256',
                     chain[0], data))
    times.append(time.perf_counter())
    if wrong := [one for one in said if one != (0, '')]:
        raise AssertionError(f'{data[:100]}: {wrong}')
    return tuple((later - earlier) * 1000 for earlier, later in zip(times, times[1:]))


def _delivery(lab, backend):
    recipient = lab.by_name['sts'].recipient
    with lab.machine(backend) as made, lab.plain_machine() as plain:
        made.start()
        times = {made: [], plain: []}
        for number in range(DELIVERIES + 5):
            for machine in (made, plain) if number % 2 else (plain, made):  # taking turns: both meet the same machine
                started = time.perf_counter()
                state = machine.send([recipient], f'{backend} bench {number} {machine.place.name}')[recipient].state
                if number >= 5:
                    times[machine].append((time.perf_counter() - started) * 1000)
                if state != 'delivered':
                    return [f'message {number} is {state}']
    with_it, without = statistics.median(times[made]), statistics.median(times[plain])
    _say(f'{backend}: median of {DELIVERIES} deliveries {with_it:.1f} ms with, {without:.1f} ms without: '
         f'{with_it - without:+.1f} ms')
    return []
