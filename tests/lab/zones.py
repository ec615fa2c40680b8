"""Zones of the private name space: a signed root, a signed `test.`, and below it zones that are signed, insecure
(no DS) or bogus. Everything is signed off-line with one key pair, so that starting takes seconds."""

import base64
import concurrent.futures
import hashlib
import os
import re
import struct
import subprocess
import time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

ROOT_SERVER, TEST_SERVER, ZONE_SERVER, REFUSING_SERVER, CHILD_SERVER = (
    '192.0.2.1', '192.0.2.2', '192.0.2.3', '192.0.2.4', '192.0.2.5')
TTL = 300
# Without signatures. Of the second and third the parent says that they are signed, in a way that nobody can check,
# which is as good as unsigned (RFC 4035 5.2).
_UNSIGNED = ('insecure', 'unknown-algorithm', 'unknown-digest')
_NSEC3 = {'nsec3': ['-3', '-', '-H', '0'], 'opt-out': ['-3', '-', '-H', '0', '-A']}


def wire_name(name):
    return b''.join(bytes([len(label)]) + label.encode() for label in name.split('.') if label) + b'\0'


class Key:
    """One ECDSAP256SHA256 key signs all zones: making one for each would be most of the starting time."""

    def __init__(self):
        key = ec.generate_private_key(ec.SECP256R1())
        point = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        self._key = key
        self.public = base64.b64encode(point[1:]).decode()
        self._rdata = bytes([1, 1, 3, 13]) + point[1:]  # flags 257, protocol 3, algorithm 13 (RFC 4034 2.1)
        self._private = base64.b64encode(key.private_numbers().private_value.to_bytes(32, 'big')).decode()

    def dnskey(self, zone):
        return f'{zone} {TTL} IN DNSKEY 257 3 13 {self.public}'

    def tag(self):
        total = sum(byte << 8 if index % 2 == 0 else byte for index, byte in enumerate(self._rdata))  # RFC 4034 B
        return (total + (total >> 16)) & 0xffff

    def ds(self, zone, kind):
        digest = hashlib.sha256(wire_name(zone) + self._rdata if kind != 'bogus' else b'another key').hexdigest()
        algorithm, digest_type = 200 if kind == 'unknown-algorithm' else 13, 200 if kind == 'unknown-digest' else 2
        return f'{zone} {TTL} IN DS {self.tag()} {algorithm} {digest_type} {digest}'

    def rrsig(self, zone, owner, rrtype, rdata):
        """RDATA of the RRSIG of an RRset, all in wire format (RFC 4034 3.1)."""
        now = int(time.time())
        head = struct.pack('!HBBIIIH', rrtype, 13, owner.count('.'), TTL, now + 86400, now - 3600, self.tag())
        head += wire_name(zone)
        fixed = wire_name(owner) + struct.pack('!HHI', rrtype, 1, TTL)
        signed = head + b''.join(fixed + struct.pack('!H', len(one)) + one for one in sorted(rdata))
        r, s = utils.decode_dss_signature(self._key.sign(signed, ec.ECDSA(hashes.SHA256())))
        return head + r.to_bytes(32, 'big') + s.to_bytes(32, 'big')

    def write(self, folder, zone):
        base = folder / f'K{zone}+013+{self.tag():05}'
        base.with_name(base.name + '.key').write_text(self.dnskey(zone) + '\n')
        base.with_name(base.name + '.private').write_text(
            f'Private-key-format: v1.3\nAlgorithm: 13 (ECDSAP256SHA256)\nPrivateKey: {self._private}\n')
        return base.name


class Zone:
    def __init__(self, name, kind='signed', server=ZONE_SERVER, server_name='zones.test.'):
        self.name, self.kind, self.server, self.server_name = name, kind, server, server_name
        self.records = []
        self.broken = set()  # (owner, type) whose signatures are damaged
        self.serial = 1

    def add(self, owner, text):
        self.records.append(f'{owner} {TTL} IN {text}')

    def break_signature(self, owner, rrtype):
        self.broken.add((owner.lower(), rrtype))

    def text(self):
        # MINIMUM is short: what a test has changed must not stay unseen for long.
        head = [f'{self.name} {TTL} IN SOA {self.server_name} hostmaster.test. {self.serial} 3600 600 86400 60',
                f'{self.name} {TTL} IN NS {self.server_name}']
        return '\n'.join(head + self.records) + '\n'


class Tree:
    """All zones, their delegations, and the files that a name server needs."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True)
        self.key = Key()
        self.zones = {}
        root = self._new('.', server=ROOT_SERVER, server_name='a.root.')
        root.add('a.root.', f'A {ROOT_SERVER}')
        test = self._new('test.', server=TEST_SERVER, server_name='ns.test.')
        test.add('ns.test.', f'A {TEST_SERVER}')
        test.add('zones.test.', f'A {ZONE_SERVER}')
        test.add('refuses.test.', f'A {REFUSING_SERVER}')
        test.add('children.test.', f'A {CHILD_SERVER}')
        root.add('ns.test.', f'A {TEST_SERVER}')
        self._delegate(root, test)

    def _new(self, name, *arguments, **options):
        self.zones[name] = Zone(name, *arguments, **options)
        return self.zones[name]

    def _delegate(self, parent, child):
        parent.add(child.name, f'NS {child.server_name}')
        if child.kind != 'insecure':
            parent.records.append(self.key.ds(child.name, child.kind))

    def zone(self, name, kind='signed', habit=None):
        """A new zone directly below `test.` `habit`: the address of the server that the world is told to ask, if that
        is another than the one that holds the zone."""
        zone = self._new(name, kind)
        if habit:
            zone.server_name = f'ns.{name.partition(".")[0]}.habits.test.'
            self.zones['test.'].add(zone.server_name, f'A {habit}')
        self._delegate(self.zones['test.'], zone)
        return zone

    def child(self, parent, name, kind):
        """A new zone below another one, on a server of its own."""
        zone = self._new(name, kind, server=CHILD_SERVER, server_name='children.test.')
        self._delegate(parent, zone)
        return zone

    def zone_of(self, name):
        """The zone that a name with its final dot belongs to."""
        while name not in self.zones:
            name = name.partition('.')[2]
        return self.zones[name]

    def file(self, zone):
        return self.folder / (('root' if zone.name == '.' else zone.name) + 'zone')

    def write(self):
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() + 1) as pool:
            list(pool.map(self.write_zone, self.zones.values()))

    def write_anchor(self):
        (self.folder / 'root.key').write_text(self.key.dnskey('.') + '\n')
        (self.folder / 'root.hints').write_text(f'. 3600000 NS a.root.\na.root. 3600000 A {ROOT_SERVER}\n')

    def write_zone(self, zone):
        plain, final = self.file(zone).with_suffix('.plain'), self.file(zone)
        if zone.kind in _UNSIGNED:
            final.write_text(zone.text())
            return
        name = self.key.write(self.folder, zone.name)
        plain.write_text(zone.text() + self.key.dnskey(zone.name) + '\n')
        # -z: the one key signs everything; -P: zones with deliberate faults must not be refused.
        options = _NSEC3.get(zone.kind, [])
        if zone.kind == 'expired':
            options = ['-s', _days_ago(30), '-e', _days_ago(1)]
        signed = subprocess.run(['chroot', self._root, 'dnssec-signzone', '-q', '-z', '-P', '-O', 'full', '-f', '-',
                                 *options, '-o', zone.name, self.inside(plain), self.inside(self.folder / name)],
                                capture_output=True, text=True)
        if signed.returncode:
            raise RuntimeError(f'{zone.name} cannot be signed: {signed.stderr}\n{plain.read_text()}')
        final.write_text('\n'.join(_damage(line) if self._is_broken(zone, line) else line
                                   for line in signed.stdout.splitlines()) + '\n')

    def use_root(self, root):
        """The Debian root that holds the signing program; the folder of the zones must lie inside."""
        self._root = root

    def inside(self, path):
        return '/' + str(path.relative_to(self._root))

    @staticmethod
    def _is_broken(zone, line):
        parts = line.split()
        owners = parts and (parts[0].lower(), f'any.{zone.name}')
        return len(parts) > 4 and parts[3] == 'RRSIG' and any((owner, parts[4]) in zone.broken for owner in owners)


def _days_ago(days):
    return time.strftime('%Y%m%d%H%M%S', time.gmtime(time.time() - days * 86400))


def _damage(line):
    """Another signature of the right form."""
    head, signature = re.fullmatch(r'(.*\s)(\S+)', line.strip()).groups()
    raw = bytearray(base64.b64decode(signature))
    raw[10] ^= 0xff
    return head + base64.b64encode(raw).decode()
