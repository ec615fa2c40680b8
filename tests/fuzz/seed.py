#!/usr/bin/python3
"""seed.py: writes the seeds of the corpora, from the vectors and from what is listed here.

What fuzzing found to be interesting stands beside them, named by its hash. The seeds of evidence/ are the golden cases.
"""

import json
import pathlib
import struct

HERE = pathlib.Path(__file__).resolve().parent
CORPUS = HERE / 'corpus'
VECTORS = json.loads((HERE.parent / 'vectors/vectors.json').read_text())['vectors']
LONGEST = 4096


def write(target, name, data):
    octets = data if isinstance(data, bytes) else data.encode()
    if len(octets) <= LONGEST:
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(octets)


def of_kind(kind):
    return [vector for vector in VECTORS if vector['kind'] == kind]


# ---- DNS

A, CNAME, SOA, MX, TXT, AAAA, RRSIG, TLSA = 1, 5, 6, 15, 16, 28, 46, 52


def name(text):
    return b''.join(bytes([len(label)]) + label.encode('latin-1') for label in text.split('.') if label) + b'\0'


def record(owner, rr_type, rdata, ttl=300, rr_class=1):
    return (owner if isinstance(owner, bytes) else name(owner)) + struct.pack('>HHIH', rr_type, rr_class, ttl, len(rdata)) + rdata


def packet(asked, rr_type, answers=(), authorities=(), flags=0x8180, questions=1):
    return (struct.pack('>HHHHHH', 0, flags, questions, len(answers), len(authorities), 0) + name(asked) +
            struct.pack('>HH', rr_type, 1) + b''.join(answers) + b''.join(authorities))


def mx(preference, host):
    return struct.pack('>H', preference) + (host if isinstance(host, bytes) else name(host))


def soa(ttl=300, minimum=300):
    return record('example.org', SOA, name('ns.example.org') + name('root.example.org') + struct.pack('>IIIII', 1, 2, 3, 4, minimum), ttl)


def dns_messages():
    org = 'example.org'
    pointer = b'\xc0\x0c'
    chain = [record(f'a{i}.{org}' if i else org, CNAME, name(f'a{i + 1}.{org}')) for i in range(9)]
    yield 'mx-two-hosts', packet(org, MX, [record(pointer, MX, mx(10, f'mx1.{org}')), record(pointer, MX, mx(20, b'\3mx2' + pointer))])
    yield 'mx-null', packet(org, MX, [record(pointer, MX, mx(0, '.'))])
    yield 'mx-with-signature', packet(org, MX, [record(org, MX, mx(10, f'mx.{org}')), record(org, RRSIG, b'\0' * 18 + name(org) + b'x' * 16)])
    yield 'mx-odd-octets', packet(org, MX, [record(org, MX, mx(10, b'\4a.b\n\0'))])
    yield 'mx-rdata-too-long', packet(org, MX, [record(org, MX, mx(10, 'a') + b'\0')])
    yield 'a', packet(org, A, [record(org, A, b'\xc0\0\2\1')])
    yield 'aaaa', packet(org, AAAA, [record(org, AAAA, bytes(range(16)))])
    yield 'alias', packet(org, A, [record(org, CNAME, name('web.example')), record('web.example', A, b'\xc0\0\2\1', 60)])
    yield 'alias-asked-for', packet(org, CNAME, [record(org, CNAME, name('web.example'))])
    yield 'alias-dangling', packet(org, A, [record(org, CNAME, name('web.example'))], [soa()])
    yield 'alias-loop', packet(org, A, [record(org, CNAME, name('b.example')), record('b.example', CNAME, pointer)])
    yield 'alias-with-other-data', packet(org, A, [record(org, CNAME, name('b.example')), record(org, A, b'\xc0\0\2\1')])
    yield 'alias-two-targets', packet(org, A, [record(org, CNAME, name('b.example')), record(org, CNAME, name('c.example'))])
    yield 'alias-of-odd-octets', packet(org, A, [record(org, CNAME, b'\2a.\3\0\xff@\0')])
    yield 'aliases-eight', packet(org, A, chain[:8] + [record(f'a8.{org}', A, b'\xc0\0\2\1')])
    yield 'aliases-nine', packet(org, A, chain)
    yield 'txt-strings', packet(f'_mta-sts.{org}', TXT, [record(f'_mta-sts.{org}', TXT, b'\x08v=STSv1;\x06 id=1;')])
    yield 'tlsa', packet(f'_25._tcp.{org}', TLSA, [record(pointer, TLSA, b'\3\1\1' + b'a' * 32)])
    yield 'nodata', packet(org, MX, [], [soa(600, 60)])
    yield 'nodata-without-soa', packet(org, MX)
    yield 'nodata-soa-of-another-zone', packet('other.example', MX, [], [soa()])
    yield 'nxdomain', packet(org, MX, [], [soa()], flags=0x8183)
    yield 'nxdomain-with-data', packet(org, A, [record(org, A, b'\xc0\0\2\1')], flags=0x8183)
    yield 'servfail', packet(org, MX, flags=0x8182)
    yield 'refused', packet(org, MX, flags=0x8185)
    yield 'truncated-flag', packet(org, MX, [record(org, MX, mx(10, f'mx.{org}'))], flags=0x8380)
    yield 'a-query', packet(org, MX, flags=0x0100)
    yield 'two-questions', packet(org, MX, questions=2)
    yield 'no-question', packet(org, MX, questions=0)
    yield 'other-class', packet(org, A, [record(org, A, b'\xc0\0\2\1', rr_class=3)])
    yield 'ttl-with-top-bit', packet(org, A, [record(org, A, b'\xc0\0\2\1', ttl=0xffffffff)])
    yield 'pointer-to-itself', packet(org, A, [record(b'\xc0\x1d', A, b'\xc0\0\2\1')])
    yield 'pointer-forwards', packet(org, A, [record(b'\xc0\xff', A, b'\xc0\0\2\1')])
    yield 'pointer-into-pointer', packet(org, A, [record(pointer, A, b'\xc0\0\2\1'), record(b'\xc0\x1d', A, b'\xc0\0\2\2')])
    yield 'label-type-01', packet(org, A, [record(b'\x40a\0', A, b'\xc0\0\2\1')])
    yield 'name-of-255-octets', packet('.'.join(['a' * 63] * 3 + ['a' * 61]), A, [record(pointer, A, b'\xc0\0\2\1')])
    yield 'name-of-256-octets', packet('.'.join(['a' * 63] * 3 + ['a' * 62]), A, [record(pointer, A, b'\xc0\0\2\1')])
    yield 'upper-case', packet('EXAMPLE.ORG', MX, [record('eXample.orG', MX, mx(10, 'MX.example.ORG'))])
    yield 'rdata-longer-than-packet', packet(org, A, [record(org, A, b'\xc0\0\2\1')[:-2]])
    yield 'header-alone', struct.pack('>HHHHHH', 0, 0x8180, 1, 0, 0, 0)
    yield 'empty', b''


def mx_rdata():
    yield 'host', mx(10, 'mx.example.org')
    yield 'host-upper-case', mx(10, 'MX.Example.ORG')
    yield 'null', mx(0, '.')
    yield 'single-label', mx(1, 'mx')
    yield 'underscore', mx(65535, '_mx.example')
    yield 'numeric', mx(10, '192.0.2.1')
    yield 'dot-in-label', mx(10, b'\4a.b\n\0')
    yield 'nul-in-label', mx(10, b'\3a\0b\3org\0')
    yield 'high-octets', mx(10, b'\2\xc3\xa9\3org\0')
    yield 'backslash', mx(10, b'\x04\\046\0')
    yield 'pointer', mx(10, b'\xc0\0')
    yield 'label-type-10', mx(10, b'\x80\0')
    yield 'no-end', mx(10, b'\3org')
    yield 'octet-left-over', mx(10, 'mx') + b'\0'
    yield 'preference-alone', b'\0\x0a'
    yield 'label-of-63', mx(10, 'a' * 63 + '.org')
    yield 'name-of-255-octets', mx(10, '.'.join(['a' * 63] * 3 + ['a' * 61]))
    yield 'name-of-256-octets', mx(10, '.'.join(['a' * 63] * 3 + ['a' * 62]))
    yield 'many-labels', mx(10, '.'.join('a' * 127))
    yield 'address-4', b'\xc0\0\2\1'
    yield 'address-16', bytes.fromhex('20010db8000000000000000000000001')
    yield 'empty', b''


# ---- TLSA: each RDATA after its length

SPKI = bytes.fromhex(next(v['input'] for v in of_kind('tlsa_usable') if v['input'].startswith('2 1 0 30')).split()[3])


def rrset(*rdata):
    return b''.join((bytes([len(one)]) if len(one) < 255 else b'\xff' + struct.pack('>H', len(one))) + one for one in rdata)


def tlsa():
    ee, ee2, ee512 = b'\3\1\1' + b'a' * 32, b'\3\1\1' + b'b' * 32, b'\3\1\2' + b'c' * 64
    yield 'one', rrset(ee)
    yield 'rollover', rrset(ee, ee2)
    yield 'agility', rrset(ee, ee512)
    yield 'agility-other-selector', rrset(b'\3\0\1' + b'a' * 32, ee512)
    yield 'agility-strong-is-malformed', rrset(ee, b'\3\1\2' + b'c' * 63)
    yield 'full-beside-digests', rrset(b'\2\1\0' + SPKI, b'\2\1\1' + b'd' * 32, b'\2\1\2' + b'd' * 64)
    yield 'full-octet-left-over', rrset(b'\3\1\0' + SPKI + b'\0')
    yield 'full-cut-short', rrset(b'\3\1\0' + SPKI[:-1])
    yield 'duplicates', rrset(ee, ee, ee512, ee512)
    yield 'pkix-usages', rrset(b'\0\0\1' + b'a' * 32, b'\1\1\1' + b'a' * 32)
    yield 'all-unusable', rrset(b'\3\1\x09' + b'a' * 32, b'\3\x09\1' + b'a' * 32, b'\x04\1\1' + b'a' * 32)
    yield 'usable-after-unusable', rrset(b'\3\1\x09' + b'a' * 32, b'\1\1\1' + b'a' * 32, b'\3', ee)
    yield 'usable-after-a-hundred-unusable', rrset(*[b'\0\0\0'] * 101, ee)
    yield 'too-short', rrset(b'', b'\3', b'\3\1', b'\3\1\1')
    yield 'many', rrset(*(b'\3\1\1' + bytes([i]) * 32 for i in range(110)))
    yield 'long', rrset(b'\3\0\0' + b'\x30\x82\x01\x00' + b'\0' * 256)
    for vector in of_kind('tlsa_usable'):
        write('tlsa', 'text-' + vector['id'], vector['input'])
        fields = vector['input'].split()
        if fields[0].isdigit():
            yield vector['id'], rrset(bytes(int(field) for field in fields[:3]) + bytes.fromhex(''.join(fields[3:])))


# ---- Text

def domains():
    yield from {
        'plain': 'example.org', 'trailing-dot': 'example.org.', 'two-dots': 'example.org..', 'root': '.', 'empty': '',
        'upper-case': 'EXAMPLE.Org', 'single-label': 'localhost', 'underscore': '_mta-sts.example.org',
        'third-hyphen': 'ab--cd.example', 'a-label': 'xn--bcher-kva.example', 'u-label': 'bücher.example',
        'sharp-s': 'straße.example', 'ideographic-stop': 'example。org', 'full-width': 'ｅｘａｍｐｌｅ.org',
        'soft-hyphen': 'exa\u00admple.org', 'joiner': 'क्\u200dष.example', 'right-to-left': 'אבג.example',
        'emoji': '😀.example', 'combining-first': '\u0301a.example', 'space': 'exam ple.org', 'nul': 'example.org\0.evil.test',
        'line-end': 'example.org\n', 'label-63': 'a' * 63 + '.org', 'label-64': 'a' * 64 + '.org',
        'name-253': '.'.join(['a' * 63] * 3 + ['a' * 61]), 'name-254': '.'.join(['a' * 63] * 3 + ['a' * 62]),
        'over-long': 'a.' * 600, 'u-label-long': 'ü' * 60 + '.example', 'address': '192.0.2.1', 'address-6': '2001:db8::1',
        'literal': '[192.0.2.1]', 'literal-6': '[IPv6:2001:db8::1]', 'literal-6-bare': '[2001:db8::1]',
        'literal-nul': '[192.0.2.1\0]', 'brackets': '[smart.example]', 'brackets-empty': '[]', 'numeric': '1.2.3',
        'wildcard': '*.example.org', 'wildcard-alone': '*.', 'wildcard-two': '*.*.example.org', 'wildcard-inside': 'a.*.org',
        'outer-hyphen': '-a.example', 'at': 'user@example.org', 'shell': '${run{/bin/id}}',
    }.items()
    yield 'not-utf8', b'b\xfccher.example'
    yield 'surrogate', b'\xed\xa0\x80.example'
    for vector in of_kind('mx_match'):
        yield vector['id'], vector['input']


def txt_records():
    for vector in of_kind('sts_txt'):
        yield vector['id'], vector['input']
    for vector in of_kind('sts_txt_rrset'):
        yield vector['id'], '\n'.join(one if isinstance(one, str) else ''.join(one) for one in vector['input'])
    yield 'rdata', b'\x08v=STSv1;\x06 id=1;'
    yield 'rdata-cut-short', b'\x08v=STSv1;\xff id=1;'
    yield 'id-of-32', 'v=STSv1; id=' + 'a' * 32
    yield 'white-space', 'v=STSv1;\t \tid=1 \t ; \t a.b-c_d=x:y \t;\t '


def policies():
    for vector in of_kind('sts_policy') + of_kind('media'):
        if '...(+' not in vector['input']:
            yield vector['id'], vector['input']
    yield 'crlf', 'version: STSv1\r\nmode: enforce\r\nmx: *.example.org\r\nmx: mx.example.net.\r\nmax_age: 604800\r\n'
    yield 'cr-alone', 'version: STSv1\rmode: enforce\rmx: mx.example.org\rmax_age: 1\r'
    yield 'max-age-capped', 'version: STSv1\nmode: testing\nmx: mx.example.org\nmax_age: 9999999999'
    yield 'address-beside-host', 'version: STSv1\nmode: enforce\nmx: 192.0.2.1\nmx: *.example.org\nmax_age: 1\n'
    yield 'control-character', b'version: STSv1\nmode: none\nmax_age: 1\nx: a\x01b\n'
    yield 'not-utf8', b'version: STSv1\nmode: none\nmax_age: 1\nx: \xff\n'


TOKENS = {
    'dane': '1;example.org;skip;mx.example.org,,dane,mx.example.org,mx.example.org:example.org,3.1.1.' + 'YWFh' * 10 + 'YWE=',
    'pkix': '1;example.org;skip;mx.example.org,,pkix,mx.example.org,mx.example.org,',
    'encrypt': '1;example.org;skip;mx.example.org,,encrypt,mx.example.org,,',
    'open': '1;example.org;opportunistic;mx.example.org,,opportunistic,mx.example.org,,',
    'alias': '1;example.org;skip;mx.example.org,host.example.net,opportunistic,mx.example.org,,',
    'two-hosts': '1;example.org;skip;a.example.org,x.example,encrypt,a.example.org,,;b.example.org,x.example,pkix,b.example.org,b.example.org,',
    'literal': '1;=5b192.0.2.1=5d;opportunistic;=5b192.0.2.1=5d,,opportunistic,,,',
    'no-host': '1;example.org;skip',
    'escape-in-upper-case': '1;=5B192.0.2.1=5D;skip',
    'escape-of-a-letter': '1;=61.example;skip',
    'dane-without-records': '1;example.org;skip;mx.example.org,,dane,mx.example.org,mx.example.org,',
    'pkix-without-names': '1;example.org;skip;mx.example.org,,pkix,mx.example.org,,',
    'skip-host': '1;example.org;skip;mx.example.org,,skip,mx.example.org,,',
    'host-cut-short': '1;example.org;skip;mx.example.org,,pkix,mx.exa',
    'record-usage-1': '1;example.org;skip;mx.example.org,,dane,mx.example.org,mx.example.org,1.1.1.' + 'YWFh' * 10 + 'YWE=',
    'base64-not-canonical': '1;example.org;skip;mx.example.org,,dane,mx.example.org,mx.example.org,3.1.1.' + 'YWFh' * 10 + 'YWF=',
    'version-2': '2;example.org;skip',
    'separator-at-end': '1;example.org;skip;',
    'hosts-51': '1;example.org;skip' + ''.join(f';h{i}.example.org,,encrypt,h{i}.example.org,,' for i in range(51)),
    'names-101': '1;example.org;skip;mx.example.org,,pkix,mx.example.org,' + ':'.join(f'n{i}.example' for i in range(101)) + ',',
    'empty': '',
}


def agent_lines():
    route = 'hosts=mx1.example.org:mx2.example.org demand={} text=because end'
    yield from {
        'query': '1 QUERY domain=example.org', 'query-all': '1 QUERY domain=example.org port=587 mx=no fresh=yes wait=9000 id=1abc-2 as=text',
        'query-newer': '1.7 QUERY domain=example.org colour=red', 'query-unknown-key': '1 QUERY domain=example.org colour=red',
        'query-escaped': '1 QUERY domain=b%C3%BCcher.example', 'query-bad-escape': '1 QUERY domain=a%4', 'query-nul': '1 QUERY domain=a%00b',
        'query-twice': '1 QUERY domain=a domain=b', 'query-no-domain': '1 QUERY port=25', 'query-port-0': '1 QUERY domain=a port=0',
        'query-wait-long': '1 QUERY domain=a wait=600001', 'space-at-end': '1 QUERY domain=a ', 'two-spaces': '1  QUERY domain=a',
        'version-2': '2 QUERY domain=a', 'verb-unknown': '1 PURGE domain=a', 'empty': '', 'too-long': '1 QUERY domain=' + 'a' * 4080,
        'route': '1 ROUTE domain=example.org wait=1000', 'report': '1 REPORT domain=example.org host=mx.example.org outcome=refused reason=cert-name',
        'verify': '1 VERIFY demand=' + TOKENS['dane'] + ' host=mx.example.org tls=TLS1.3:ECDHE_X25519__RSA_PSS_RSAE_SHA256__AES_256_GCM:256 cert=MAA= cert=MAA=',
        'verify-no-tls': '1 VERIFY demand=1;a;skip host=mx.example.org tls=none', 'verify-33-certs': '1 VERIFY demand=1 host=a tls=b' + ' cert=MAA=' * 33,
        'ok-route-gated': 'OK mode=gated dom=example.org ' + route.format(TOKENS['dane']),
        'route-gated': 'mode=gated dom=example.org ' + route.format(TOKENS['dane']),
        'route-strict': 'mode=strict dom=example.org ' + route.format(TOKENS['pkix']),
        'route-open': 'mode=open dom=example.org ' + route.format(TOKENS['open']),
        'route-defer': 'mode=defer dom=example.org text=sts-mismatch:+mx.evil.test+matches+no+mx end',
        'route-reject': 'mode=reject dom=example.org text=nxdomain end', 'route-half': 'mode=strict dom=example.org hosts=mx1.exa',
        'route-no-end': 'mode=defer dom=example.org text=why', 'route-host-address': 'mode=open dom=a.b hosts=192.0.2.1 demand=1 text=x end',
        'route-host-pattern': 'mode=open dom=a.b hosts=*.b demand=1 text=x end', 'route-literal': 'mode=open dom=[192.0.2.1] hosts=a.b demand=1 text=x end',
        'route-of-decision': 'example.org\ndeliver\nskip\n' + TOKENS['dane'] + '\ntlsa-usable\nmx1.example.org dane\nmx2.example.org skip',
        'route-of-open-decision': 'example.org\ndeliver\nopportunistic\n' + TOKENS['open'] + '\nplain\nmx1.example.org opportunistic',
        'route-of-open-beside-encrypt': 'example.org\ndeliver\nopportunistic\n1\nplain\nmx1.example.org opportunistic\nmx2.example.org encrypt',
        'route-of-open-beside-skip': 'example.org\ndeliver\nopportunistic\n1\nplain\nmx1.example.org opportunistic\nmx2.example.org skip',
        'route-of-unknown-beside-open': 'example.org\ndeliver\nopportunistic\n1\nplain\nmx1.example.org opportunistic\nmx2.example.org better',
        'route-of-strict-decision': 'example.org\ndeliver\nskip\n' + TOKENS['pkix'] + '\nsts-match\nmx1.example.org pkix',
        'route-of-reject': 'example.org\nreject\nskip\n\n${run{/bin/id}}; [x]', 'route-of-unknown-tls': 'a.b\ndeliver\nopportunistic\n1\nx\nmx.a.b better',
        'verdict-pass': 'pass reason=verified text=verified+by+3+1+1', 'verdict-refuse': 'refuse reason=cert-name text=mx.example.org+is+not+there',
        'verdict-no-text': 'pass reason=verified text=', 'temp': 'TEMP deadline no decision yet', 'perm': 'PERM domain-invalid never', 'err': 'ERR unknown verb',
        'temp-no-token': 'TEMP', 'ok-text': 'OK deliver plain example.org%20deliver%0A', 'ok-json': 'OK {"schema":1,"action":"deliver"}', 'two-lines': 'OK\nOK',
        'tls-exim-openssl': 'TLS1.2:ECDHE-RSA-AES256-GCM-SHA384:256', 'tls-null': 'TLS1.2:NULL-SHA:0', 'tls-anonymous': 'TLS1.2:ADH-AES256-SHA:256',
        'tls-old': 'TLSv1:AES128-SHA:128', 'tls-integrity-only': 'TLS1.3:TLS_SHA256_SHA256:0',
    }.items()


def configurations():
    yield from {
        'empty': '', 'comments': '# a\n  # b\nstore = /a#b # c\n',
        'all-keys': 'store = /a\ntrust_anchor = /b\nroot_hints = /c\nresolver = 192.0.2.1, 2001:db8::1@5353,fe80::1%eth0\ninsecure = corp.example\n'
                    'insecure = home.arpa.\nca_file = /d\nsocket = /e\nadmin_socket = /f\ntimeout = 9s\ndns_timeout = 500ms\nhttps_timeout = 2m\ndane = off\n'
                    'mta_sts = off\ndane_insecure_mx = opportunistic\nhttps_private = yes\ncache_entries = 5\ncache_bytes = 3M\nstore_bytes = 7G\n'
                    '[override]\nexample.org = none\n.example.org = encrypt\na.example = dane\nb.example = pkix\nc.example = pkix match=*.d.example,e.example\n',
        'crlf': 'dane = on\r\n[override]\r\nexample.org = dane\r\n', 'resolver-auto': 'resolver = auto', 'resolver-system': 'resolver=system',
        'resolver-recursive': 'resolver = recursive', 'resolver-bad': 'resolver = 192.0.2.1;rm', 'resolver-many': 'resolver = ' + ','.join(['192.0.2.1'] * 17),
        'unknown-key': 'dnae = off', 'no-value': 'store =', 'relative-path': 'store = a', 'twice': 'dane = on\ndane = off', 'no-unit': 'timeout = 5',
        'time-too-long': 'timeout = 61m', 'size-zero': 'cache_entries = 0', 'size-large': 'store_bytes = 4294967295G', 'size-larger': 'store_bytes = 4294967296',
        'unknown-section': '[overrides]', 'override-twice': '[override]\nA.example = dane\na.example. = none', 'override-unknown': '[override]\na.example = maybe',
        'override-option': '[override]\na.example = dane match=b.example', 'override-no-pattern': '[override]\na.example = pkix match=,',
        'override-u-label': '[override]\nbücher.example = encrypt\n', 'override-root': '[override]\n. = dane', 'control-character': 'store = /a\x01',
        'line-too-long': 'store = /' + 'a' * 4087, 'socket-too-long': 'socket = /' + 'a' * 108, 'neither': 'dane', 'ca-file': 'ca_file = /a b/c.pem',
    }.items()
    yield 'not-utf8', b'store = /\xff'


def main():
    for target, seeds in (('dns_message', dns_messages), ('mx_rdata', mx_rdata), ('tlsa', tlsa), ('domain', domains),
                          ('txt_record', txt_records), ('policy', policies), ('agent_line', agent_lines),
                          ('demand', TOKENS.items), ('configuration', configurations)):
        for seed, data in seeds():
            write(target, seed, data)


if __name__ == '__main__':
    main()
