"""Certificates of the laboratory: a certificate authority that clients trust, one that they do not, and hosts whose
certificates are wrong in one chosen way. Also TLSA data for any of them."""

import datetime
import functools
import hashlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_NOW = datetime.datetime.utcnow().replace(microsecond=0)
_DAY = datetime.timedelta(days=1)


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])] if text else [])


class Identity:
    """A certificate and its key, able to issue others if it is an authority."""

    def __init__(self, subject, issuer=None, names=(), authority=False, days=365):
        self.key = ec.generate_private_key(ec.SECP256R1())
        signer = issuer or self
        end = _NOW + days * _DAY
        builder = (x509.CertificateBuilder()
                   .subject_name(_name(subject)).issuer_name(issuer.certificate.subject if issuer else _name(subject))
                   .public_key(self.key.public_key()).serial_number(x509.random_serial_number())
                   .not_valid_before(_NOW - 30 * _DAY).not_valid_after(end)
                   .add_extension(x509.BasicConstraints(authority, None), critical=True)
                   .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
                   .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()),
                                  critical=False))
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]),
                                            critical=False)
        self.certificate = builder.sign(signer.key, hashes.SHA256())

    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self):
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                      serialization.NoEncryption())

    def data(self, selector):
        """What a TLSA record is computed from: the certificate, or its SubjectPublicKeyInfo (RFC 6698 2.1.2)."""
        if selector == 0:
            return self.certificate.public_bytes(serialization.Encoding.DER)
        return self.key.public_key().public_bytes(serialization.Encoding.DER,
                                                  serialization.PublicFormat.SubjectPublicKeyInfo)


class Authority:
    def __init__(self, name):
        self.root = Identity(f'{name} Root', authority=True)
        self.intermediate = Identity(f'{name} Intermediate', self.root, authority=True)


@functools.cache
def trusted():
    return Authority('Laboratory')


@functools.cache
def unknown():
    return Authority('Unknown')


# kind of certificate -> (host name, recipient domain) -> Identity
_KINDS = {
    'right': lambda host, domain: Identity(host, trusted().intermediate, [host]),
    'right-domain': lambda host, domain: Identity(domain, trusted().intermediate, [domain]),
    'wildcard': lambda host, domain: Identity('', trusted().intermediate, ['*.' + host.partition('.')[2]]),
    'other-name': lambda host, domain: Identity('other.example', trusted().intermediate, ['other.example']),
    'cn-only': lambda host, domain: Identity(host, trusted().intermediate),
    'expired': lambda host, domain: Identity(host, trusted().intermediate, [host], days=-1),
    'soon': lambda host, domain: Identity(host, trusted().intermediate, [host], days=10),
    'unknown-ca': lambda host, domain: Identity(host, unknown().intermediate, [host]),
    'self-signed': lambda host, domain: Identity(host, names=[host]),
    'self-signed-stale': lambda host, domain: Identity('other.example', names=['other.example'], days=-1),
}


class Presented:
    """What a server shows: `sends` lists the parts of the chain that go over the wire."""

    def __init__(self, kind, host, domain, sends=('leaf', 'intermediate')):
        self.leaf = _KINDS[kind](host, domain)
        self.parts = {'leaf': self.leaf}
        if not kind.startswith('self-signed'):
            authority = unknown() if kind == 'unknown-ca' else trusted()
            self.parts.update(intermediate=authority.intermediate, root=authority.root)
        self._chain = [self.parts[part] for part in sends if part in self.parts]

    def chain(self):
        """What goes over the wire, leaf first."""
        return list(self._chain)

    def write(self, folder, name):
        """A PEM file for ssl.SSLContext.load_cert_chain."""
        path = folder / f'{name}.pem'
        path.write_bytes(self.leaf.key_pem() + b''.join(one.pem() for one in self._chain))
        return path

    def tlsa(self, text):
        """'3 1 1 leaf' -> list of RDATA in hexadecimal. The subject: leaf, intermediate, root, or `other` for data of a
        certificate that nobody has; `other*30` for thirty such records. Behind it, a change to the data: `+OCTETS` in
        hexadecimal at its end, or `-COUNT` octets less. '\\# OCTETS': RDATA as it stands."""
        if text.startswith('\\# '):
            return [text[3:]]
        usage, selector, matching, subject, *change = text.split()
        subject, _, count = subject.partition('*')
        rdata = []
        for _ in range(int(count or 1)):
            source = Identity('nobody') if subject == 'other' else self.parts[subject]
            data = source.data(int(selector) & 1)
            digest = {'1': hashlib.sha256, '2': hashlib.sha512}.get(matching)
            data = digest(data).digest() if digest else data
            for one in change:
                data = data + bytes.fromhex(one[1:]) if one[0] == '+' else data[:-int(one[1:])]
            rdata.append(bytes([int(usage), int(selector), int(matching)]).hex() + data.hex())
        return rdata
