"""The name servers and the validating resolver, in a Debian root of their own."""

import base64
import re
import secrets
import subprocess

import namespaces
from process import Daemon, wait_until
from zones import CHILD_SERVER, REFUSING_SERVER, ROOT_SERVER, TEST_SERVER, ZONE_SERVER

RESOLVER = '192.0.2.53'
_AUTHORITATIVE = (ROOT_SERVER, TEST_SERVER, ZONE_SERVER, REFUSING_SERVER, CHILD_SERVER)

_NAMED = '''
options {{
    directory "/lab"; pid-file none; session-keyfile none; {no_lock}
    recursion no; dnssec-validation no; notify no; minimal-responses yes; empty-zones-enable no;
    listen-on {{ {addresses} }}; listen-on-v6 {{ none; }};
    querylog yes;
    // Some zones hold what a careful operator would not publish.
    check-names primary ignore; check-mx ignore; check-integrity no;
    max-records-per-type 0;
}};
key rndc {{ algorithm hmac-sha256; secret "{secret}"; }};
controls {{ inet 127.0.0.1 port 953 allow {{ 127.0.0.1; }} keys {{ rndc; }}; }};
logging {{
    channel questions {{ file "/lab/questions.log"; buffered no; }};
    category default {{ default_stderr; }};
    category queries {{ questions; }};
}};
{views}
'''

_UNBOUND = '''
server:
    interface: {address}
    access-control: 0.0.0.0/0 allow
    chroot: ""
    username: ""
    pidfile: ""
    directory: "/lab"
    use-syslog: no
    logfile: ""
    log-queries: yes
    val-log-level: 2
    do-ip6: no
    num-threads: 1
    root-hints: "/lab/zones/root.hints"
    trust-anchor-file: "/lab/zones/root.key"
    # Unbound answers for these itself unless told otherwise.
    local-zone: "test." nodefault
    # A name server that gives no answer must not occupy it for longer than a test waits.
    infra-host-ttl: 1
    unwanted-reply-threshold: 0
remote-control:
    control-enable: yes
    control-interface: /lab/unbound.control
    control-use-cert: no
'''


class NameServers:
    def __init__(self, place, base):
        self.root = namespaces.overlay(place, base)
        namespaces.furnish(self.root)
        self.lab = self.root / 'lab'
        self.lab.mkdir()
        self._daemons = []

    def start(self, tree):
        """Each level of the name space has an address of its own, as in the world: a server that holds both sides of
        a zone cut answers differently."""
        self._tree = tree
        views = []
        for address in _AUTHORITATIVE:
            zones = ''.join(f'    zone "{zone.name}" {{ type primary; file "{tree.inside(tree.file(zone))}"; }};\n'
                            for zone in tree.zones.values() if zone.server == address)
            views.append(f'view "{address}" {{\n    match-destinations {{ {address}; }};\n{zones}}};')
        addresses = ' '.join(f'{one};' for one in _AUTHORITATIVE)
        version = subprocess.run(['chroot', self.root, 'named', '-v'], capture_output=True, text=True).stdout
        no_lock = 'lock-file none;' if version.startswith('BIND 9.18') else ''  # later ones have no such file
        secret = base64.b64encode(secrets.token_bytes(32)).decode()
        (self.lab / 'named.conf').write_text(
            _NAMED.format(no_lock=no_lock, addresses=addresses, secret=secret, views='\n'.join(views)))
        (self.lab / 'rndc.conf').write_text(
            f'key rndc {{ algorithm hmac-sha256; secret "{secret}"; }};\n'
            'options { default-key rndc; default-server 127.0.0.1; };\n')
        (self.lab / 'unbound.conf').write_text(_UNBOUND.format(address=RESOLVER))
        self._daemons = [
            Daemon(['chroot', self.root, 'named', '-f', '-n', '2', '-c', '/lab/named.conf'], self.lab / 'named.log',
                   ready=r' running$'),
            Daemon(['chroot', self.root, 'unbound', '-d', '-p', '-c', '/lab/unbound.conf'], self.lab / 'unbound.log',
                   ready=r'start of service')]
        if unloaded := re.findall(r'zone .*: not loaded.*', (self.lab / 'named.log').read_text()):
            raise RuntimeError('\n'.join(unloaded))

    def dig(self, *arguments):
        return subprocess.run(['chroot', self.root, 'dig', '+time=2', '+tries=2', *arguments], capture_output=True,
                              text=True).stdout

    def questions(self):
        """(name, type) of every question that reached the authoritative servers, in order."""
        log = self.lab / 'questions.log'
        text = log.read_text() if log.exists() else ''
        return [(name.lower(), rrtype) for name, rrtype in re.findall(r' query: (\S+) IN (\S+) ', text)]

    def replace(self, zone):
        """Publishes a changed zone, and makes the resolver forget the old one."""
        zone.serial += 1
        self._tree.write_zone(zone)
        self._rndc('reload', zone.name, 'IN', zone.server)
        wait_until(lambda: self.dig('+short', f'@{zone.server}', zone.name, 'SOA').split()[2:3] == [str(zone.serial)],
                   f'{zone.name} with serial {zone.serial}')
        self._run('unbound-control', '-c', '/lab/unbound.conf', 'flush_zone', zone.name)

    def _rndc(self, *arguments):
        self._run('rndc', '-c', '/lab/rndc.conf', *arguments)

    def _run(self, *command):
        subprocess.run(['chroot', self.root, *command], check=True, stdout=subprocess.DEVNULL)
