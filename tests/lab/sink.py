"""Receiving mail servers: one listener for every address, which plays the host that the address belongs to and keeps
a record of each connection: how it was secured and what it handed over."""

import email
import re
import socket
import socketserver
import ssl
import threading
import time

_PATH = re.compile(r'(?:FROM|TO):\s*<([^>]*)>(.*)', re.I)


class Host:
    """`starttls`: offered, absent, refused (454 to the command) or broken (rubbish for a handshake).
    `refuse`: a verb and the reply it gets, such as {'RCPT': '550 5.1.1 no such user'}.
    A test may set `hook`, called with each step (connect, a verb, `tls`, `dot` when a message has come whole, `taken`
    when that was told) and the client's line: what it returns is the reply; None: the usual one. Or it may set `play`,
    which is given the connection, and has it for itself."""

    hook = play = None

    def __init__(self, name, presented, starttls='offered', max_tls=None, refuse=None):
        self.name, self.starttls, self.refuse = name, starttls, refuse or {}
        self.presented = presented
        self.max_tls = max_tls
        self._context = None

    def load(self, folder):
        self._folder = folder
        chain = self.presented.write(folder, self.name)
        # One context for all connections, so that sessions can be resumed.
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self.max_tls:
            self._context.set_ciphers('ALL:@SECLEVEL=0')
            self._context.minimum_version = ssl.TLSVersion.TLSv1
            self._context.maximum_version = getattr(ssl.TLSVersion, 'TLSv' + self.max_tls.replace('.', '_'))
        self._context.load_cert_chain(chain)
        self._context.sni_callback = lambda connection, name, _context: connection.record.update(sni=name)

    def present(self, presented):
        """Shows another certificate from now on."""
        self.presented = presented
        self.load(self._folder)

    def secure(self, connection, record):
        secured = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        secured.record = record
        secured.do_handshake()
        return secured


class _Session(socketserver.BaseRequestHandler):
    def handle(self):
        address = self.request.getsockname()[0].removeprefix('::ffff:')
        host = self.server.hosts.get(address)
        self.record = {'time': time.time(), 'address': address, 'host': host and host.name, 'helo': None, 'tls': None,
                       'cipher': None, 'resumed': False, 'sni': None, 'messages': [], 'error': None}
        self.server.records.append(self.record)
        if host is None:
            return
        self.request.settimeout(30)
        try:
            self._converse(host)
        except (OSError, ValueError) as error:
            self.record['error'] = f'{type(error).__name__}: {error}'
        finally:
            self.record['closed'] = True

    def _say(self, text):
        self._connection.sendall(text.encode() + b'\r\n')

    def _converse(self, host):
        self._connection = self.request
        self._lines = self._connection.makefile('rb')
        self._host = host
        if host.play:
            host.play(self.request)
            return
        self._say(self._step('connect') or f'220 {host.name} ESMTP')
        sender, recipients = None, []
        while line := self._lines.readline(4096):
            line = line.decode('latin-1').strip()
            verb = line.split(' ')[0].upper()
            if reply := self._step(verb, line) or host.refuse.get(verb):
                self._say(reply)
                if verb == 'RCPT' and reply.startswith('2'):
                    recipients.append(_path(line))
            elif verb in ('EHLO', 'HELO'):
                self.record['helo'] = line[5:]
                offers = ['8BITMIME', 'PIPELINING', 'SIZE 10000000', 'AUTH PLAIN']
                if host.starttls != 'absent' and not self.record['tls']:
                    offers.append('STARTTLS')
                for offer in [host.name, *offers[:-1]]:
                    self._say(f'250-{offer}')
                self._say(f'250 {offers[-1]}')
            elif verb == 'STARTTLS' and host.starttls != 'absent' and not self.record['tls']:
                if not self._start_tls(host):
                    return
            elif verb == 'MAIL':
                sender, recipients = line, []
                self._say('250 OK')
            elif verb == 'RCPT':
                recipients.append(_path(line))
                self._say('250 OK')
            elif verb == 'DATA':
                self._say('354 go ahead')
                message = self._message(sender, recipients)
                if message is None:
                    return
                self.record['messages'].append(message)
                reply = self._step('dot')
                if reply and not reply.startswith('2'):
                    self.record['messages'].remove(message)
                self._say(reply or '250 OK taken')
                self._step('taken')
            elif verb == 'QUIT':
                self._say('221 bye')
                if self.record['tls']:
                    self._connection.unwrap()
                return
            elif verb in ('RSET', 'NOOP'):
                self._say('250 OK')
            else:
                self._say('502 what?')

    def _step(self, name, line=''):
        return self._host.hook(name, line) if self._host.hook else None

    def _start_tls(self, host):
        if host.starttls == 'refused':
            self._say('454 4.7.0 TLS not available')
            return True
        self._say('220 go ahead')
        if host.starttls == 'broken':
            self._connection.sendall(b'this is no handshake\r\n' * 4)
            return False
        self._connection = host.secure(self.request, self.record)
        self.record['tls'] = self._connection.version()
        self.record['cipher'] = self._connection.cipher()[0]
        self.record['resumed'] = self._connection.session_reused
        self._lines = self._connection.makefile('rb')
        self._step('tls')
        return True

    def _message(self, sender, recipients):
        text = b''
        while (line := self._lines.readline()) != b'.\r\n':
            if not line:
                return None
            text += line[1:] if line.startswith(b'..') else line
        headers = email.message_from_bytes(text)
        return {'from': _path(sender or ''), 'auth': 'AUTH=' in (sender or '').upper(), 'to': recipients,
                'subject': headers['Subject'], 'id': headers['Message-Id'], 'headers': dict(headers.items()),
                'text': text.decode('latin-1') if len(text) < 100000 else ''}


def _path(line):
    match = _PATH.search(line)
    return match[1] if match else line


class _Listener(socketserver.ThreadingTCPServer):
    daemon_threads = True
    address_family = socket.AF_INET6  # with IPv4 in its mapped form
    allow_reuse_address = True
    allow_reuse_port = True  # another server may have the port at one address (tests/bench/sink)
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass  # the record holds it


class Sink:
    def __init__(self, folder):
        self._folder = folder
        self._listener = _Listener(('::', 25), _Session)
        self._listener.hosts, self._listener.records = {}, []
        self.records = self._listener.records
        threading.Thread(target=self._listener.serve_forever, daemon=True).start()

    def add(self, host, addresses):
        host.load(self._folder)
        for address in addresses:
            self._listener.hosts[address] = host

    def host(self, name):
        """The host of that name, to set its hook or play."""
        return next(host for host in self._listener.hosts.values() if host.name == name)

    def address(self, host):
        return next(address for address, one in self._listener.hosts.items() if one is host)

    def certificate(self, host):
        """Its file: the chain and the key."""
        return self._folder / f'{host.name}.pem'

    def deliveries(self, subject):
        """(connection, message) of everything that was taken with this subject."""
        return [(record, message) for record in self.records for message in record['messages']
                if message['subject'] == subject]

    def of(self, host_names):
        return [record for record in self.records if record['host'] in host_names]
