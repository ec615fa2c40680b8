"""`sealane check` against live domains: what it finds, and that it finds nothing where nothing is wrong. One machine."""

import re

from cases import Case
from report import Check


def world():
    """Domains whose administrators made the mistakes that this command is for."""
    yield Case('check-id', {
        'rule': 'the policy changes, its id does not', 'zone': 'insecure', 'host': {'mx1': {}},
        'policy': {'mode': 'enforce', 'mx': ['mx1']}}, 'check-id.test')
    yield Case('check-parent', {
        'rule': 'a subdomain without a policy of its own', 'zone': 'insecure', 'host': {'mx1': {}},
        'records': ['sub MX 10 mx1'], 'policy': {'mode': 'enforce', 'mx': ['mx1']}}, 'check-parent.test')
    yield Case('check-soon', {
        'rule': 'a certificate that soon ends, and no TLSA record for the next key',
        'host': {'mx1': {'cert': 'soon', 'tlsa': ['3 1 1 leaf']}}}, 'check-soon.test')
    yield Case('check-next', {
        'rule': 'the same, with the next record published', 'host':
        {'mx1': {'cert': 'soon', 'tlsa': ['3 1 1 leaf', '3 1 1 other']}}}, 'check-next.test')
    yield Case('check-both', {
        'rule': 'DANE for senders that know it, and a certificate that others refuse',
        'host': {'mx1': {'cert': 'self-signed', 'tlsa': ['3 1 1 leaf']}},
        'policy': {'mode': 'enforce', 'mx': ['mx1']}}, 'check-both.test')
    yield Case('check-silent', {
        'rule': 'an MX host at which nobody listens', 'zone': 'insecure', 'host': {'mx1': {}},
        'records': ['mx2 A 198.51.100.11'], 'mx': ['10 mx1', '20 mx2.check-silent.test.']}, 'check-silent.test')


# domain: exit status, what a finding must say, one pattern each
_WANTED = {
    'sts.test': (0, []),
    'dane-ee.test': (0, []),
    'dane-ta.test': (0, []),
    'check-next.test': (0, []),
    'dane-ee-wrong.test': (1, [r'mx1\.dane-ee-wrong\.test \[.*\]: the certificate matches no TLSA record.*RFC 7672']),
    'dane-no-starttls.test': (1, [r'did not offer STARTTLS']),
    'dane-broken-tls.test': (1, [r'the TLS handshake failed']),
    'dane-old-tls.test': (1, [r'no TLS 1\.2 or later.*it speaks TLSv1\.1']),
    'dane-unusable.test': (1, [r'none is usable', r'TLSA record 1 1 1 .* is not used', r'TLSA record 3 1 9 .* is not used']),
    'sts-other-name.test': (1, [r'the certificate is not for this host.*RFC 8461 4\.2']),
    'sts-not-listed.test': (75, [r'does not list: senders do not deliver.*add "mx: ']),
    'check-parent.test': (0, []),
    'sub.check-parent.test': (1, [r'has no MTA-STS policy, and that of check-parent\.test is not for it.*RFC 8461 3\.4']),
    'check-soon.test': (1, [r'the certificate ends in 9 days, and there is no TLSA record for a next key']),
    'check-both.test': (1, [r'senders that go by the MTA-STS policy alone refuse it.*RFC 8461 4\.2']),
    'check-silent.test': (1, [r'mx2\.check-silent\.test \[198\.51\.100\.11\]: takes no mail: the server closed the connection']),
    'nxdomain.test': (68, [r'the domain does not exist']),
}


def checks(lab, made):
    for domain in _WANTED:
        yield Check('check', domain, 'what `sealane check` says of it', lambda domain=domain: _judge(made, domain),
                    lambda folder: lab.evidence(folder, made, [], explain=False))
    yield Check('check', 'id-kept', 'a policy that changed under its old id is told', lambda: _id_kept(lab, made),
                lambda folder: lab.evidence(folder, made, [], explain=False))


def _findings(done):
    return [line for line in done.stdout.splitlines() if line.startswith('finding: ')]


def _judge(made, domain):
    status, patterns = _WANTED[domain]
    done = made.sealane('check', domain)
    found = _findings(done)
    faults = [] if done.returncode == status else [f'exit {done.returncode}, not {status}: {done.stderr}']
    faults += [f'no finding says {pattern}' for pattern in patterns
               if not any(re.search(pattern, line) for line in found)]
    if len(found) != len(patterns):
        faults.append(f'{len(found)} findings, not {len(patterns)}')
    return [fault + '\n' + done.stdout for fault in faults]


def _id_kept(lab, made):
    case = lab.by_name['check-id']
    made.decide(case.domain)  # what a sender learns first
    before = made.sealane('check', case.domain)
    lab.policies.policies['mta-sts.check-id.test'].text += 'mx: *.check-id.test\n'
    after = made.sealane('check', case.domain)
    faults = [f'found before: {before.stdout}'] if _findings(before) else []
    if not any('the policy has changed, but its id has not' in line for line in _findings(after)):
        faults.append(f'not found: {after.stdout}{after.stderr}')
    return faults
