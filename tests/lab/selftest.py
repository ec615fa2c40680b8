"""The laboratory tests itself: every habit that the other tests rely on is there, product or not."""

import re
import socket
import ssl

import pki
import resolvers
from https import ADDRESS
from report import Check


_AD = r'flags:[^;]* ad[ ;]'


def checks(lab):
    def dig(server, *arguments):
        return lab.servers.dig(f'@{server}', '+dnssec', *arguments)

    def expect(text, *patterns):
        return [f'no {pattern} in:\n{text}' for pattern in patterns if not re.search(pattern, text)]

    def refute(text, *patterns):
        return [f'{pattern} in:\n{text}' for pattern in patterns if re.search(pattern, text)]

    def validates():
        return expect(dig(resolvers.GOOD, 'dane-ee.test', 'MX'), 'status: NOERROR', _AD, r'mx1\.dane-ee')

    def insecure():
        text = dig(resolvers.GOOD, 'plain.test', 'MX')
        return expect(text, 'status: NOERROR', r'mx1\.plain') + refute(text, _AD)

    def bogus():
        return (expect(dig(resolvers.GOOD, 'mx-bogus.test', 'MX'), 'status: SERVFAIL')
                + expect(dig(resolvers.GOOD, '_25._tcp.mx1.dane-bogus.test', 'TLSA'), 'status: SERVFAIL')
                + expect(dig(resolvers.GOOD, '+cd', '_25._tcp.mx1.dane-bogus.test', 'TLSA'), 'status: NOERROR', 'RRSIG')
                + expect(dig(resolvers.GOOD, 'mx1.dane-bogus.test', 'A'), _AD))

    def refuses():
        return expect(dig(resolvers.GOOD, '_25._tcp.mx1.dane-servfail.test', 'TLSA'), 'status: SERVFAIL')

    def absent():
        return expect(dig(resolvers.GOOD, 'nxdomain.test', 'MX'), 'status: NXDOMAIN', _AD)

    def hides_ad():
        text = dig(resolvers.HIDES_AD, 'dane-ee.test', 'MX')
        return expect(text, 'RRSIG') + refute(text, _AD)

    def strips():
        return (refute(dig(resolvers.STRIPS, 'dane-ee.test', 'MX'), 'RRSIG', _AD)
                + expect(dig(resolvers.STRIPS, '.', 'DNSKEY'), 'status: NOERROR', 'ANSWER: 0')
                + expect(dig(resolvers.STRIPS, 'plain.test', 'MX'), r'mx1\.plain'))

    def servfail():
        return expect(dig(resolvers.SERVFAIL, 'dane-ee.test', 'MX'), 'status: SERVFAIL')

    def silent():
        return expect(dig(resolvers.SILENT, '+time=1', '+tries=1', 'dane-ee.test', 'MX'), 'timed out')

    def counts():
        before = len(lab.servers.questions())
        dig('192.0.2.3', 'counted.dane-ee.test', 'TXT')
        counted = lab.servers.questions()[before:]
        return [] if ('counted.dane-ee.test', 'TXT') in counted else [f'not among the counted: {counted}']

    def policies():
        context = ssl.create_default_context(cadata=pki.trusted().root.pem().decode())
        name = 'mta-sts.sts.test'
        with context.wrap_socket(socket.create_connection((ADDRESS, 443), 5), server_hostname=name) as connection:
            connection.sendall(f'GET /.well-known/mta-sts.txt HTTP/1.0\r\nHost: {name}\r\n\r\n'.encode())
            text = b''.join(iter(lambda: connection.recv(4096), b'')).decode()
        return expect(text, '^HTTP/1.1 200', 'mode: enforce', r'mx: mx1\.sts\.test')

    yield Check('lab', 'validates', 'signed answers validate', validates)
    yield Check('lab', 'insecure', 'unsigned answers are insecure', insecure)
    yield Check('lab', 'bogus', 'bogus answers fail', bogus)
    yield Check('lab', 'refuses', 'a refusing server fails', refuses)
    yield Check('lab', 'absent', 'absence is proved', absent)
    yield Check('lab', 'hides_ad', 'a resolver hides AD', hides_ad)
    yield Check('lab', 'strips', 'a resolver strips DNSSEC', strips)
    yield Check('lab', 'servfail', 'a resolver only fails', servfail)
    yield Check('lab', 'silent', 'a resolver never answers', silent)
    yield Check('lab', 'counts', 'questions are counted', counts)
    yield Check('lab', 'policies', 'policies are served', policies)


def exim_checks(lab, plain):
    """`plain` is a machine whose Exim knows nothing of Sealane: what it does is what Sealane must prevent."""

    def delivered(name, tls):
        def run():
            case, subject = lab.by_name[name], f'plain {name}'
            outcome = plain.send([case.recipient], subject)[case.recipient]
            taken = lab.sink.deliveries(subject)
            if len(taken) != 1:
                return [f'{outcome.state}, {len(taken)} deliveries\n{outcome.log}']
            return [] if bool(taken[0][0]['tls']) == tls else [f'TLS: {taken[0][0]["tls"]}']
        return Check('lab', f'bare-{name}', 'Exim alone delivers there', run,
                     lambda folder: lab.evidence(folder, plain, [lab.by_name[name]]))

    yield delivered('plain', True)
    yield delivered('plain-clear', False)
    yield delivered('ipv6-only', True)
    yield delivered('dane-ee-wrong', True)
    yield delivered('sts-other-name', True)


