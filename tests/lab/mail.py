"""Mail that Exim routes in more ways than one message to one domain. Part of the suite `exim`; a scenario is written as in
faults.py, and has a machine of its own."""

import concurrent.futures
import os
import re
import signal
import textwrap
import threading

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import machine as machines
import namespaces
import resolvers
from cases import Case
from datacases import exim_outcome
from faults import delivered, queued, scenario, send_all, taken
from pki import Presented
from process import Daemon

_SUITE = 'exim'
# Shares a host with dane-ee, so that Exim has reason to send both in one go.
_SHARED = ['dane-ee', 'dane-shared']


def world():
    """Domains that one scenario has for itself, or that are of no interest alone."""
    yield Case('dane-shared', {
        'rule': 'a second domain on the host of dane-ee', 'mx': ['10 mx1.dane-ee.test.']}, 'dane-shared.test')
    yield Case('sts-shared', {
        'rule': 'a second domain on the host of sts', 'zone': 'insecure', 'mx': ['10 mx1.sts.test.'],
        'policy': {'mode': 'enforce', 'mx': ['mx1.sts.test']}}, 'sts-shared.test')
    for backend in ('agent', 'fork'):
        yield Case(f'rolled-{backend}', {
            'rule': 'the key changes', 'host': {'mx1': {'cert': 'self-signed', 'tlsa': ['3 1 1 leaf']}}},
            f'rolled-{backend}.test')
        yield Case(f'renewed-{backend}', {
            'rule': 'the MX and the policy change', 'zone': 'insecure', 'host': {'mx1': {}, 'mx2': {}}, 'mx': ['10 mx1'],
            'policy': {'mode': 'enforce', 'mx': ['mx1']}}, f'renewed-{backend}.test')
    for name, host in (('right', {}), ('name', {'cert': 'other-name'})):
        yield Case(f'testing-{name}', {
            'rule': 'a policy in testing that would refuse', 'zone': 'insecure', 'host': {'mx1': host}, 'mx': ['10 mx1'],
            'policy': {'mode': 'testing', 'mx': ['mx1']}}, f'testing-{name}.test')
    for name, cert in (('right', 'right'), ('name', 'other-name')):
        yield Case(f'smart-{name}', {
            'rule': 'a smart host with a policy of its own', 'zone': 'insecure', 'host': {'mx1': {'cert': cert}},
            'policy': {'mode': 'enforce', 'mx': ['mx1'], 'at': 'mx1'}}, f'smart-{name}.test')
    yield from _bulk()
    yield Case('full', {
        'rule': 'a server that refuses the recipient', 'host':
        {'mx1': {'cert': 'self-signed', 'tlsa': ['3 1 1 leaf'], 'refuse': {'RCPT': '550 5.1.1 no such user'}}}}, 'full.test')


def _append(made, path, text):
    file = made.root / path
    file.write_text((file.read_text() if file.exists() else '') + text)


# How a domain comes to be asked about

@scenario(suite=_SUITE)
def mixed_case(lab, made):
    """A domain in mixed case is the same domain."""
    made.start()
    faults = []
    for recipient, kind in (('Someone@Dane-EE.Test', 'delivered'), ('Someone@STS.test', 'delivered'),
                            ('Someone@Dane-EE-Wrong.Test', 'queued')):
        outcome = made.send([recipient], f'{made.place.name} {recipient}')[recipient]
        sent = len(lab.sink.deliveries(f'{made.place.name} {recipient}'))
        if sent != (kind == 'delivered'):
            faults.append(f'{recipient} was delivered {sent} times: {outcome.log}')
    return faults


@scenario(suite=_SUITE)
def list_expansion(lab, made):
    """An alias of this machine that stands for members at many domains, and for a mailbox here."""
    members = [f'member@{name}.test' for name in ('dane-ee', 'dane-ee-wrong', 'sts', 'sts-other-name', 'plain',
                                                  'plain-clear', 'null-mx')]
    made.run('useradd', '--create-home', 'reader')
    _append(made, 'etc/aliases', f'members: {", ".join(members)}, reader\n')
    made.start()
    made.send(['members@client.test'], f'{made.place.name} list')
    reached = {recipient for record in lab.sink.records for message in record['messages'] for recipient in message['to']
               if message['subject'] == f'{made.place.name} list'}
    wanted = {f'member@{name}.test' for name in ('dane-ee', 'sts', 'plain', 'plain-clear')}
    faults = [] if reached == wanted else [f'reached: {sorted(reached)}\n{made.mainlog()}']
    if not (made.root / 'var/mail/reader').exists():
        faults.append(f'the mailbox is empty:\n{made.mainlog()}')
    return faults


@scenario(suite=_SUITE)
def site_address_data(lab, made):
    """A router of the site that sets address_data before ours changes nothing."""
    (made.root / 'etc/exim4/conf.d/router/100_lab').write_text(
        'lab_first:\n  driver = redirect\n  domains = ! +local_domains\n'
        '  address_data = mode=open dom=$domain hosts=mx.evil.test demand=1 text=- end\n  data =\n')
    made.run('update-exim4.conf', check=True)
    made.start()
    return (delivered(lab, made, ['dane-ee', 'sts'])
            + queued(lab, made, 'sealane|TLS', ['dane-ee-wrong', 'sts-other-name'], 'wrong'))


@scenario(suite=_SUITE, backends=('agent',))
def local_without_agent(lab, made):
    """Mail for mailboxes here, and the verification of senders, need no agent."""
    made.run('useradd', '--create-home', 'reader')
    made.send(['reader@client.test'], f'{made.place.name} local')
    faults = [] if (made.root / 'var/mail/reader').exists() else [f'not in the mailbox:\n{made.mainlog()}']
    done = made.run('exim4', '-bvs', machines.SENDER, user='Debian-exim')
    if done.returncode:
        faults.append(f'exim -bvs: {done.stdout}{done.stderr}')
    return faults


@scenario(suite=_SUITE, backends=('agent',))
def verify_recipient(lab, made):
    """verify = recipient: by the decision, and without one for now not."""
    made.start()

    def verified(name):
        return made.run('exim4', '-bv', lab.by_name[name].recipient, user='Debian-exim').returncode
    faults = [f'{name}: {got}' for name, wanted in (('dane-ee', 0), ('sts', 0), ('plain', 0), ('null-mx', 2),
                                                    ('mx-bogus', 1)) if (got := verified(name)) != wanted]
    made.stop_agent()
    if verified('dane-ee') != 1:
        faults.append('without an agent a recipient is not deferred')
    return faults


# More than one of them

@scenario(suite=_SUITE)
def two_domains_one_host(lab, made):
    """One message to two domains with demands on one host: each has a transaction of its own."""
    made.start()
    recipients = [lab.by_name[name].recipient for name in _SHARED]
    subject = f'{made.place.name} two'
    outcomes = made.send(recipients, subject)
    sent = [message['to'] for _, message in lab.sink.deliveries(subject)]
    return [] if sorted(sent) == sorted([one] for one in recipients) else [f'sent: {sent}\n{outcomes[recipients[0]].log}']


def _of_manual(name):
    """A router or transport as sealane-opensmtpd(7) shows it."""
    text = (namespaces.SOURCE / 'packaging/man/sealane-opensmtpd.7.in').read_text()
    block = re.search(rf'^    {name}:\n(.*?)^\.fi', text, re.M | re.S)[0]
    return textwrap.dedent(block.removesuffix('.fi')).replace('\\-', '-')


@scenario(suite=_SUITE, backends=('agent',), config={'relay_users': 'Debian-exim'})
def through_the_relay(lab, made):
    """Exim hands all mail to the relay by LMTP, as the manual says, and its own object is not asked."""
    for folder, name in ('router', 'sealane_relay'), ('transport', 'sealane_lmtp'):
        (made.root / f'etc/exim4/conf.d/{folder}/01_lab').write_text(_of_manual(name))
    made.lose_object()
    made.run('update-exim4.conf', check=True)
    made.run('useradd', '--system', '--no-create-home', '--groups', 'Debian-exim', 'sealane-relay', check=True)
    made.run('install', '-d', '-o', 'sealane-relay', '-m', '700', '/var/lib/sealane-relay', check=True)
    made.start()
    groups = made.run('id', '-G', 'sealane-relay', check=True).stdout.strip().replace(' ', ',')
    relay = Daemon(['chroot', '--userspec=sealane-relay:sealane-relay', f'--groups={groups}', made.root, 'sealane', 'relay'],
                   made.place / 'relay.log', ready='the relay is ready')
    wanted = {'dane-ee': 'delivered', 'sts': 'delivered', 'plain-clear': 'delivered', 'dane-ee-wrong': 'queued',
              'sts-other-name': 'queued', 'null-mx': 'bounced'}
    recipients = {name: lab.by_name[name].recipient for name in wanted}
    subject = f'{made.place.name} through the relay'
    try:
        outcomes = made.send(list(recipients.values()), subject)
    finally:
        relay.stop()
    faults = [f'{name} is {outcomes[recipients[name]].state}: {outcomes[recipients[name]].log}'
              for name, state in wanted.items() if outcomes[recipients[name]].state != state]
    sent = lab.sink.deliveries(subject)
    reached = sorted(recipient for _, message in sent for recipient in message['to'])
    if reached != sorted(recipients[name] for name, state in wanted.items() if state == 'delivered'):
        faults.append(f'reached: {reached}')
    clear = [record['host'] for record, _ in sent if not record['tls']]
    return faults + ([] if clear == ['mx1.plain-clear.test'] else [f'in clear text: {clear}'])


@scenario(suite=_SUITE)
def queue_run(lab, made):
    """Many waiting messages for one host, sent by a queue run in two stages: each by a connection that was verified."""
    made.start()
    recipient = lab.by_name['dane-ee'].recipient
    for number in range(6):
        made.send([recipient], f'{made.place.name} run {number}', '-odqs')
    made.run('exim4', '-qqff')
    made.run('exim4', '-qff')  # a message that two processes of the first run wanted at once may have waited
    faults = []
    for number in range(6):
        if len(found := lab.sink.deliveries(f'{made.place.name} run {number}')) != 1:
            faults.append(f'message {number} was delivered {len(found)} times\n{made.mainlog()}')
    # A connection handed on to another message is one that was not verified for it.
    return faults + ([made.mainlog()] if ' refused: ' in made.mainlog() else [])


@scenario(suite=_SUITE)
def bounce(lab, made):
    """A bounce goes to the sender's domain by that domain's demands."""
    made.start()
    recipient = lab.by_name['full'].recipient
    faults = []
    for sender, arrives in (('bounced@dane-ee.test', True), ('bounced@dane-ee-wrong.test', False)):
        made.run('exim4', '-odf', '-oi', '-f', sender, recipient, input=f'Subject: {sender}\n\nA message.\n')
        made.run('exim4', '-q')
        if bool(taken(lab, [sender])) != arrives:
            faults.append(f'the bounce to {sender} {"did not arrive" if arrives else "arrived"}:\n{made.mainlog()}')
    return faults


@scenario(suite=_SUITE, backends=('agent',))
def many_recipients(lab, made):
    """One message to 200 recipients at 50 domains, right and wrong ones."""
    cases = [case for case in lab.cases if 'override' not in case.data and 'exim' in case.data
             and not case.data['exim'].startswith('bounced')][:50]
    made.start()
    recipients = [f'{number}@{case.domain}' for case in cases for number in range(4)]
    subject = f'{made.place.name} many'
    log = made.send(recipients, subject)[recipients[0]].log
    got = {}
    for record, message in lab.sink.deliveries(subject):
        for recipient in message['to']:
            got.setdefault(recipient, []).append((record['host'], bool(record['tls'])))
    faults = []
    for case in cases:
        short, _, tls = exim_outcome(lab, case).partition(' ')
        wanted = [] if short == 'queued:' else [(case.names.get(short, short), tls == 'TLS')]
        for number in range(4):
            found = got.get(f'{number}@{case.domain}', [])
            if found != wanted:
                lines = '\n'.join(line for line in log.splitlines() if case.domain in line)
                faults.append(f'{number}@{case.domain}: {found}, not {wanted}\n{lines}')
    return faults


# What changes meanwhile

@scenario(suite=_SUITE)
def rollover(lab, made):
    """The key changes after the decision: refused by what was known, then asked afresh and delivered."""
    made.start()
    case = lab.by_name[f'rolled-{made.backend}']
    made.decide(case.domain)
    zone, name = lab.tree.zones[f'{case.domain}.'], case.names['mx1']
    presented = Presented('self-signed', name, case.domain)
    zone.records = [record for record in zone.records if ' TYPE52 ' not in record]
    rdata, = presented.tlsa('3 1 1 leaf')
    zone.add(f'_25._tcp.{name}.', f'TYPE52 \\# {len(rdata) // 2} {rdata}')
    lab.servers.replace(zone)
    lab.sink.host(name).present(presented)
    recipient, subject = case.recipient, f'{made.place.name} rolled'
    first = made.send([recipient], subject)[recipient]
    if made.backend == 'agent' and (first.state != 'queued' or 'tlsa-mismatch' not in first.log):
        return [f'{first.state} at first: {first.log}']
    again = made.retry_queue([recipient], subject)[recipient]
    return [] if again.state == 'delivered' else [f'then {again.state}: {again.log}']


@scenario(suite=_SUITE)
def policy_renewed(lab, made):
    """RFC 8461 5.1: the policy is looked at again before mail under `enforce` may fail for good."""
    made.start()
    case = lab.by_name[f'renewed-{made.backend}']
    faults = delivered(lab, made, [case.name], 'before')
    zone = lab.tree.zones[f'{case.domain}.']
    zone.records = [record for record in zone.records if ' MX ' not in record]
    zone.add(zone.name, f'MX 10 {case.names["mx2"]}.')
    lab.servers.replace(zone)
    made.stop()
    made.start()  # forgets what DNS said, but not the policy
    faults += queued(lab, made, 'sts-mismatch', [case.name], 'moved')
    policy = lab.policies.policies[f'mta-sts.{case.domain}']
    policy.text = policy.text.replace(case.names['mx1'], case.names['mx2'])
    zone.records = [record.replace('id=1;', 'id=2;') for record in zone.records]
    lab.servers.replace(zone)
    recipient = case.recipient
    again = made.retry_queue([recipient], f'{made.place.name} moved {case.name}')[recipient]
    return faults + ([] if again.state == 'delivered' else [f'then {again.state}: {again.log}'])


@scenario(suite=_SUITE)
def resumption(lab, made):
    """A site that turns TLS resumption on: a resumed session shows no certificate, and carries no mail."""
    (made.root / 'lab/site').write_text('.ifdef _HAVE_TLS_RESUME\n  tls_resumption_hosts = *\n.endif\n')
    _append(made, 'etc/exim4/conf.d/main/000_lab', 'SEALANE_SITE = /lab/site\n')
    made.run('update-exim4.conf', check=True)
    made.start()
    faults = []
    for name in ('dane-ee', 'sts'):
        case = lab.by_name[name]
        begun = len(lab.sink.records)
        for number in range(4):
            subject = f'{made.place.name} resumes {name} {number}'
            outcome = made.send([case.recipient], subject)[case.recipient]
            resumed = [record for record, _ in lab.sink.deliveries(subject) if record['resumed']]
            if resumed or (outcome.state != 'delivered' and 'a session that is not resumed' not in outcome.log):
                faults.append(f'{name} {number} is {outcome.state}, over {len(resumed)} resumed sessions: {outcome.log}')
        offered = [record for record in lab.sink.records[begun:] if record['host'] == case.names['mx1']]
        if 'TLS_resume' in made.run('exim4', '-bV').stdout and not any(record['resumed'] for record in offered):
            faults.append(f'{name}: nothing was resumed, so that nothing was tested')
    return faults


# What is known afterwards

def _outcomes(lab, made, wanted):
    """What `sealane cache show` says of the domains, each of which got one message: {name: (mechanism, result)}."""
    if not lab.refuses_early:  # OpenSSL ends the handshake of the first by itself, and shows half the chain of the others
        wanted = {name: what for name, what in wanted.items()
                  if name not in ('sts-other-name', 'testing-right', 'testing-name')}
    made.stop_agent()  # which writes what it has counted
    faults = []
    for name, (mechanism, result) in wanted.items():
        case = lab.by_name[name]
        shown = made.sealane('cache', 'show', case.domain).stdout
        # Attempts 1: each session counts once.
        line = rf'(?m)^  \d{{4}}-\d\d-\d\d  {mechanism}  {re.escape(case.names["mx1"])}  {result}  1  last .*, told by uid \d+'
        if not re.search(line, shown) or shown.count(', told by uid') != 1:
            faults.append(f'{name}: no line {mechanism} {result} in:\n{shown}')
    return faults


@scenario(suite=_SUITE, backends=('agent',))
def outcomes(lab, made):
    """RFC 8460 4.3: how each connection ended is counted, once, by domain, mechanism and host."""
    made.start()
    faults = delivered(lab, made, ['dane-ee', 'sts'])
    faults += queued(lab, made, 'sealane|TLS', ['dane-ee-wrong', 'sts-other-name', 'dane-no-starttls', 'dane-broken-tls'], 'wrong')
    return faults + _outcomes(lab, made, {
        'dane-ee': ('dane', 'verified'), 'sts': ('sts', 'verified'),
        'dane-ee-wrong': ('dane', r'tlsa-mismatch \(validation-failure\)'),
        'sts-other-name': ('sts', r'cert-name \(certificate-host-mismatch\)'),
        'dane-no-starttls': ('dane', r'starttls-missing \(starttls-not-supported\)'),
        'dane-broken-tls': ('dane', r'tls-failed \(validation-failure\)')})


@scenario(suite=_SUITE, backends=('agent',))
def testing_recorded(lab, made):
    """RFC 8461 5: mail under `testing` is delivered, and what would have failed is recorded."""
    made.start()
    faults = delivered(lab, made, ['sts-testing', 'testing-right', 'testing-name'])
    for name, outcome, deliveries in send_all(lab, made, ['sts-testing-match'], ''):
        if outcome.state != 'delivered' or len(deliveries) != 1:
            faults.append(f'{name} is {outcome.state}: {outcome.log}')
    return faults + _outcomes(lab, made, {
        'sts-testing': ('sts-testing', r'sts-mismatch \(validation-failure\)'),
        'testing-right': ('sts-testing', 'verified'),
        'testing-name': ('sts-testing', r'cert-name \(certificate-host-mismatch\)'),
        'sts-testing-match': ('sts-testing', r'starttls-missing \(starttls-not-supported\)')})


# A smart host

def _smart(made, hop, kind='smarthost'):
    """All mail for other hosts goes to `hop`."""
    config = made.root / 'etc/exim4/update-exim4.conf.conf'
    text = re.sub('configtype=.*', f"configtype='{kind}'", config.read_text())
    config.write_text(re.sub('dc_smarthost=.*', f"dc_smarthost='{hop}'", text))
    made.run('update-exim4.conf', check=True)


@scenario(suite=_SUITE)
def smart_host(lab, made):
    """RFC 8461 3.4, RFC 7672 2.2: mail for a smart host goes by what that host demands, at its port, whatever its domain does."""
    made.start()
    faults = []
    # Domains that would bounce, wait and be delivered: none of that counts.
    recipients = ['a@null-mx.test', 'b@dane-ee-wrong.test', 'c@plain.test', 'd@[192.0.2.1]']
    for name, port, arrives in (('dane-ee', '', True), ('dane-ee-wrong', '', False), ('smart-right', '::25', True),
                                ('smart-name', '::25', False), ('dane-ee-wrong', '::26', None)):
        host = lab.by_name[name].names['mx1']
        _smart(made, host + port, 'satellite' if name == 'dane-ee' else 'smarthost')
        subject = f'{made.place.name} smart {name} {port}'
        outcomes = made.send(recipients, subject)
        found = lab.sink.deliveries(subject)
        got = sorted(recipient for record, message in found for recipient in message['to'] if record['tls'])
        if arrives and (got != recipients or len(found) != 1 or found[0][0]['host'] != host):
            faults.append(f'{host}: {len(found)} transactions to {got}: {outcomes[recipients[0]].log}')
        if not arrives and (found or any(one.state != 'queued' for one in outcomes.values())):
            faults.append(f'{host} got {got}: {outcomes[recipients[0]].log}')
        if arrives is False and 'refused: ' not in outcomes[recipients[0]].log and 'TLS' not in outcomes[recipients[0]].log:
            faults.append(f'{host}: the log does not say why: {outcomes[recipients[0]].log}')
        # No TLSA record is for another port, so that nothing is refused there: nobody listens.
        if arrives is None and 'refused: ' in outcomes[recipients[0]].log:
            faults.append(f'{host}{port}: {outcomes[recipients[0]].log}')
    _smart(made, 'mx1.plain.test : mx1.sts.test')
    outcomes = made.send(recipients, f'{made.place.name} two')
    faults += [f'{one} is {outcome.state}: {outcome.log}' for one, outcome in outcomes.items()
               if outcome.state != 'queued' or 'must be one name' not in outcome.log]
    return faults


@scenario(suite=_SUITE, backends=('agent',))
def setup_smart_host(lab, made):
    """`sealane setup exim` and doctor where mail goes to a smart host; a list of them is refused."""
    made.start()
    faults = _bare(made)
    _smart(made, 'mx1.dane-ee.test')
    for call in (['setup', 'exim'], ['doctor']):
        done = made.run('sealane', *call)
        if call[0] == 'setup' and done.returncode or 'router sealane_' not in done.stdout and call[0] == 'doctor':
            faults.append(f'{call}: exit {done.returncode}: {done.stdout}{done.stderr}')
    outcome = made.send(['a@null-mx.test'], f'{made.place.name} one')['a@null-mx.test']
    if outcome.state != 'delivered':
        faults.append(f'{outcome.state}: {outcome.log}')
    faults += _bare(made)
    _smart(made, 'mx1.plain.test : mx1.sts.test')
    done = made.run('sealane', 'setup', 'exim')
    if done.returncode != 78 or 'dc_smarthost' not in done.stderr:
        faults.append(f'a list: exit {done.returncode}: {done.stdout}{done.stderr}')
    return faults


# What the site sets

def _dkim_key(made):
    """Exim signs with RSA or Ed25519, not with the laboratory's ECDSA keys."""
    key = rsa.generate_private_key(65537, 2048)
    file = made.root / 'lab/dkim.pem'
    file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL,
                                       serialization.NoEncryption()))
    file.chmod(0o644)


@scenario(suite=_SUITE, macros={'REMOTE_SMTP_HELO_DATA': 'mail.client.test', 'DKIM_DOMAIN': 'client.test',
                                'DKIM_SELECTOR': 'lab', 'DKIM_PRIVATE_KEY': '/lab/dkim.pem',
                                'REMOTE_SMTP_HEADERS_REWRITE': '*@sender.test written@sender.test f'})
def site_settings(lab, made):
    """HELO name, DKIM and rewriting of the site's remote_smtp hold in every transport of ours."""
    _dkim_key(made)
    made.start()
    faults = []
    for name in ('dane-ee', 'sts', 'plain'):
        subject = f'{made.place.name} {name}'
        log = made.send([lab.by_name[name].recipient], subject)[lab.by_name[name].recipient].log
        for record, message in lab.sink.deliveries(subject) or [({'helo': None}, {'headers': {}})]:
            if record['helo'] != 'mail.client.test':
                faults.append(f'{name}: HELO {record["helo"]}: {log}')
            if 'DKIM-Signature' not in message['headers']:
                faults.append(f'{name}: no DKIM signature: {log}')
            if 'written@' not in str(message['headers'].get('From')):
                faults.append(f'{name}: not rewritten: {log}')
    return faults


@scenario(suite=_SUITE, macros={'REMOTE_SMTP_HOSTS_AVOID_TLS': '*'})
def site_avoids_tls(lab, made):
    """hosts_avoid_tls of the site counts where nothing is demanded, and nowhere else."""
    made.start()
    faults = delivered(lab, made, ['dane-ee', 'dane-unusable', 'sts'])
    for name, outcome, deliveries in send_all(lab, made, ['plain'], 'plain'):
        if not deliveries or deliveries[0][0]['tls']:
            faults.append(f'{name} is {outcome.state}: {outcome.log}')
    return faults


@scenario(suite=_SUITE, resolver=resolvers.GOOD, override={'opt-out.test': 'none'})
def native_dane(lab, made):
    """Exim's own DANE, where it could work, does not come into it."""
    resolv = made.root / 'etc/resolv.conf'
    resolv.write_text(resolv.read_text() + 'options trust-ad\n')
    made.start()
    return delivered(lab, made, ['opt-out', 'dane-unusable', 'dane-ee-rollover'])


@scenario(suite=_SUITE)
def retry_key(lab, made):
    """A host that one domain's demands refuse is not held back from a domain without demands."""
    made.start()
    return (queued(lab, made, 'cert-name|TLS', ['sts-other-name'])
            + delivered(lab, made, ['plain-shared'], 'plain'))


@scenario(suite=_SUITE)
def defaults(lab, made):
    """What our transports leave to Exim's defaults is as they need it in this Exim."""
    wanted = {'hosts_avoid_tls': '', 'hosts_verify_avoid_tls': '', 'hosts_pipe_connect': '', 'hosts_require_dane': '',
              'tls_resumption_hosts': '', 'tls_try_verify_hosts': '*', 'tls_verify_cert_hostnames': '*'}
    faults = []
    for transport in ('sealane_strict', 'sealane_gated', 'sealane_verify'):
        printed = made.run('exim4', '-bP', 'transport', transport).stdout.splitlines()
        got = {name.strip(): value.strip() for name, _, value in (line.partition('=') for line in printed)}
        faults += [f'{transport}: {name} = {got.get(name)}' for name, value in wanted.items()
                   if name in got and got[name] != value]
        if len(set(wanted) & set(got)) < 5:
            faults.append(f'{transport}: {printed}')
    return faults


@scenario(suite=_SUITE, dlfunc=True)
def thin_object(lab, made):
    """The object brings nothing but itself into Exim's process."""
    made.start()
    call = (f'${{dlfunc{{{made.object()}}}{{sealane_exim_route}}{{{made.backend}}}{{dane-ee.test}}{{}}{{first}}}}')
    maps = '${readfile{/proc/self/maps}}'
    done = made.run('exim4', '-be', f'{maps}\n=====\n{call}\n=====\n{maps}')
    before, answer, after = (part.split('\n') for part in done.stdout.split('=====\n'))

    def files(lines):
        return {line.split()[-1] for line in lines if '/' in line}
    new = files(after) - files(before)
    faults = [] if new == {made.object()} else [f'new in the process: {sorted(new)}']
    return faults + ([] if answer[0].startswith('mode=gated dom=dane-ee.test') else [f'no answer: {done.stdout}{done.stderr}'])


@scenario(suite=_SUITE, backends=('agent',))
def doctor(lab, made):
    """`sealane doctor` finds what keeps Exim from asking, or undoes the protection, each with its remedy."""
    faults = []

    def examined(what, pattern, finding=True):
        done = made.run('sealane', 'doctor')
        text = done.stdout[done.stdout.find('Exim: '):].partition('OpenSMTPD: ')[0]
        if not re.search(pattern, text) or text.startswith('Exim: FAULT') != finding or ('remedy: ' in text) != finding:
            faults.append(f'{what}: exit {done.returncode}: {done.stdout}{done.stderr}')
        if (done.returncode != 0) != finding:
            faults.append(f'{what}: exit {done.returncode}')

    def changed(path, text, what, pattern, finding=True):
        """With `text` in the file `path`, and without it again."""
        file = made.root / path
        before = file.read_text() if file.exists() else None
        file.write_text((before or '') + text)
        made.run('update-exim4.conf', check=True)
        examined(what, pattern, finding)
        file.unlink() if before is None else file.write_text(before)
        made.run('update-exim4.conf', check=True)

    examined('no agent', 'none runs')
    made.start()
    examined('sound', r'Exim \d\.\d+.*: router sealane_\w+ comes before every router', False)
    os.chmod(made.socket, 0o600)
    examined('a socket of another', 'may not connect')
    os.chmod(made.socket, 0o660)
    (made.root / 'lab/site').write_text('  hosts_avoid_tls = *\n')
    changed('etc/exim4/conf.d/main/000_lab', 'SEALANE_SITE = /lab/site\n', 'no TLS', r'sealane_strict: hosts_avoid_tls is not')
    changed('etc/exim4/conf.d/router/150_lab', 'lab_first:\n  driver = dnslookup\n  transport = remote_smtp\n',
            'a router before ours', 'router lab_first comes before ours')
    config = 'etc/exim4/update-exim4.conf.conf'
    changed(config, "dc_relay_domains='backed-up.test'\n", 'a backup MX', r'\(backup MX\): backed-up\.test', False)
    faults += _bare(made)
    examined('without fragments', "sealane's routers are not part of its configuration")
    return faults


# Kinds of configuration

def _bare(made):
    """Exim as it was before Sealane."""
    done = made.run('sealane', 'setup', 'exim', '--undo')
    return [] if done.returncode == 0 and 'sealane' not in made.run('exim4', '-bP', 'routers').stdout else [
        f'--undo of the split configuration: exit {done.returncode}: {done.stdout}{done.stderr}']


def _set_up(lab, made, file):
    """Dry, done, done again; mail; undone: the file is what it was."""
    before = file.read_bytes()
    dry = made.run('sealane', 'setup', 'exim', '--dry-run')
    faults = [] if dry.returncode == 0 and dry.stdout and file.read_bytes() == before else [f'--dry-run: {dry.stdout}{dry.stderr}']
    done = made.run('sealane', 'setup', 'exim')
    if done.returncode:
        return [*faults, f'exit {done.returncode}: {done.stdout}{done.stderr}']
    again = made.run('sealane', 'setup', 'exim')
    if 'nothing to change' not in again.stdout:
        faults.append(f'a second time: {again.stdout}{again.stderr}')
    made.start()
    faults += delivered(lab, made, ['dane-ee', 'sts', 'plain', *(['first-wrong'] if lab.refuses_early else [])])
    faults += queued(lab, made, 'sealane|TLS', ['dane-ee-wrong', 'sts-other-name', 'sts-not-listed'], 'wrong')
    undone = made.run('sealane', 'setup', 'exim', '--undo')
    if undone.returncode or file.read_bytes() != before:
        faults.append(f'--undo: exit {undone.returncode}: {undone.stdout}{undone.stderr}')
    return faults


@scenario(suite=_SUITE, backends=('agent',))
def setup_unsplit(lab, made):
    """`sealane setup exim` in Debian's exim4.conf.template."""
    faults = _bare(made)
    config = made.root / 'etc/exim4/update-exim4.conf.conf'
    config.write_text(config.read_text().replace("dc_use_split_config='true'", "dc_use_split_config='false'"))
    template = made.root / 'etc/exim4/exim4.conf.template'
    macros = (made.root / 'etc/exim4/conf.d/main/000_lab').read_text()
    template.write_text(macros + template.read_text())
    made.run('update-exim4.conf', check=True)
    return faults + _set_up(lab, made, template)


_PLAIN = """primary_hostname = client.test
domainlist local_domains = client.test
log_selector = +tls_cipher
acl_smtp_rcpt = accept
begin acl
begin routers
remote:
  driver = dnslookup
  domains = ! +local_domains
  transport = remote_smtp
  no_more
local:
  driver = accept
  transport = local_delivery
begin transports
remote_smtp:
  driver = smtp
  helo_data = mail.client.test
  dkim_domain = client.test
  dkim_selector = lab
  dkim_private_key = /lab/dkim.pem
local_delivery:
  driver = appendfile
  file = /var/mail/$local_part_data
begin retry
* * F,2h,15m
"""


@scenario(suite=_SUITE, backends=('agent',))
def setup_plain(lab, made):
    """`sealane setup exim` in a plain exim.conf, with the settings of its remote_smtp kept."""
    faults = _bare(made)
    _dkim_key(made)
    macros = (made.root / 'etc/exim4/conf.d/main/000_lab').read_text()
    config = made.root / 'etc/exim4/exim4.conf'
    config.write_text('\n'.join(line for line in macros.splitlines() if line.startswith('SEALANE')) + '\n' + _PLAIN)
    faults += _set_up(lab, made, config)
    for name in ('dane-ee', 'sts', 'plain'):
        for record, message in lab.sink.deliveries(f'{made.place.name}  {name}'):
            if record['helo'] != 'mail.client.test' or 'DKIM-Signature' not in message['headers']:
                faults.append(f'{name}: HELO {record["helo"]}, {message["headers"].keys()}')
    config.write_text(config.read_text().replace('begin routers', '.include /lab/more\nbegin routers'))
    (made.root / 'lab/more').write_text('')
    before = config.read_bytes()
    refused = made.run('sealane', 'setup', 'exim')
    if refused.returncode != 78 or config.read_bytes() != before:
        faults.append(f'not refused: {refused.stdout}{refused.stderr}')
    return faults


# Endurance: a suite of its own

_BULK = 30


def _bulk():
    for number in range(_BULK):
        host = ('mx1.sts.test.', 'mx1.plain.test.', 'mx1.plain-clear.test.')[number % 3]
        yield Case(f'bulk-{number}', {
            'rule': 'one of many', 'zone': 'insecure', 'mx': [f'10 {host}'],
            'exim': f'{host[:-1]} {"clear" if "clear" in host else "TLS"}'}, f'bulk-{number}.test')


@scenario(suite='endure', backends=('agent',))
def restarts(lab, made):
    """1,000 messages to 100 domains, the agent restarted ten times on the way: none lost, none twice, none less than demanded."""
    cases = [case for case in lab.cases if 'override' not in case.data and 'exim' in case.data
             and not case.data['exim'].startswith('bounced')][:100 - _BULK] + list(_bulk())
    made.start()
    total, agent = 10 * len(cases), threading.Lock()
    restart_at = {total * part // 11 for part in range(1, 11)}
    restarted = []

    def send(number):
        if number in restart_at:
            with agent:
                made.stop_agent(signal.SIGKILL if number % 2 else signal.SIGTERM)
                made.start_agent()
                restarted.append(number)
        case = cases[number % len(cases)]
        recipient, subject = case.recipient, f'{made.place.name} endures {number}'
        made.run('exim4', '-odf', '-oi', '-f', machines.SENDER, recipient, input=(
            f'From: <{machines.SENDER}>\nSubject: {subject}\nMessage-Id: <{number}@lab.test>\n\nOne of many.\n'))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(total)))
    waited = len(made.queue())
    for _ in range(2):  # what waited for the agent, and what a host was remembered for
        made.run('exim4', '-qff', timeout=1200)
    waiting = made.queue()
    counts = {}
    by_subject = {}
    for record in lab.sink.records:
        for message in record['messages']:
            by_subject.setdefault(message['subject'], []).append((record['host'], bool(record['tls'])))
    faults = []
    for number in range(total):
        case = cases[number % len(cases)]
        short, _, tls = case.data['exim'].partition(' ')
        wanted = [] if short == 'queued:' else [(case.names.get(short, short), tls == 'TLS')]
        found = by_subject.get(f'{made.place.name} endures {number}', [])
        if found != wanted or (not found and f'{number}@lab.test' not in waiting):
            faults.append(f'message {number} to {case.domain}: {found}, not {wanted}; '
                          f'{"waits" if f"{number}@lab.test" in waiting else "is not in the queue"}')
        kind = 'waiting' if not found else 'over TLS' if found[0][1] else 'in clear, as published'
        counts[kind] = counts.get(kind, 0) + 1
    print(f'# {total} messages to {len(cases)} domains, the agent restarted {len(restarted)} times; {waited} waited before '
          f'the queue run; in the end {counts}', flush=True)
    return faults[:20] + ([] if len(restarted) == 10 else [f'restarted {len(restarted)} times'])
