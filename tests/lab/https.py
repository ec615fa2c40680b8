"""The web server that holds every domain's MTA-STS policy, and records who asked."""

import gzip
import http.server
import ssl
import threading
import time

from pki import Presented

ADDRESS, NOBODY = '198.51.100.10', '198.51.100.11'  # nothing listens on the second


class Policy:
    """`text` may be replaced while the server runs. `fault`: none; a status; "size N" for a valid policy of N octets;
    redirect, reset, gzip, cut (half of the body), drip (a body that never ends), headers (that never end), silent."""

    def __init__(self, domain, text, certificate='right', fault=None, content_type='text/plain'):
        self.host = f'mta-sts.{domain}'
        self.text, self.fault, self.content_type = text, fault, content_type
        self.presented = Presented(certificate, self.host, domain)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        host = self.headers.get('Host', '')
        self.server.site.requests.append({'time': time.time(), 'host': host, 'path': self.path,
                                          'sni': getattr(self.connection, 'name', None)})
        policy = self.server.site.policies.get(host.lower())
        fault, _, argument = (policy and policy.fault or '').partition(' ')
        if policy is None or self.path != '/.well-known/mta-sts.txt':
            self._reply(404, b'not here\n')
            return
        body = policy.text.encode()
        if fault.isdigit():
            self._reply(int(fault), body)
        elif fault == 'redirect':
            self._reply(301, b'', Location=f'https://{host}/elsewhere')
        elif fault == 'reset':
            self.close_connection = True
        elif fault == 'size':
            self._reply(200, body + b'x: ' + b'y' * (int(argument) - len(body) - 4) + b'\n')
        elif fault == 'gzip':
            self._reply(200, gzip.compress(body), **{'Content-Encoding': 'gzip'})
        elif fault == 'cut':
            self._reply(200, body, length=2 * len(body))
            self.close_connection = True
        elif fault == 'drip':
            self._reply(200, body, length=60000)
            self._without_end(b'#')
        elif fault == 'headers':
            self.send_response(200)
            self.flush_headers()
            self._without_end(b'x-nothing: y\r\n')
        elif fault == 'silent':
            self.connection.recv(1)  # until the client has enough
        else:
            self._reply(200, body, content_type=policy.content_type)

    def _reply(self, status, body, content_type='text/plain', length=None, **headers):
        self.send_response(status)
        self.send_header('Content-Type', content_type)
        self.send_header('Content-Length', str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _without_end(self, octets):
        """Until the client closes, which ends the thread by an exception."""
        pause = threading.Event()
        while True:
            self.wfile.write(octets)
            pause.wait(0.02)

    def log_message(self, *arguments):
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def finish_request(self, request, client_address):
        # In the connection's own thread: a client that stalls its handshake holds up nobody else.
        request.settimeout(20)
        try:
            with self.site.default.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)
        except OSError as error:
            self.site.requests.append({'time': time.time(), 'error': str(error)})


class PolicyServer:
    def __init__(self, folder):
        self._folder = folder
        self.policies = {}
        self.requests = []
        self._contexts = {}
        self._server = None
        self.default = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.default.load_cert_chain(Presented('right', 'default.test', 'default.test').write(folder, 'https-default'))
        self.default.sni_callback = self._choose
        self.start()

    def add(self, policy):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(policy.presented.write(self._folder, policy.host))
        self._contexts[policy.host] = context
        self.policies[policy.host] = policy

    def _choose(self, connection, name, context):
        connection.name = name
        if name in self._contexts:
            connection.context = self._contexts[name]

    def start(self):
        self._server = _Server((ADDRESS, 443), _Handler)
        self._server.site = self
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def count(self, host):
        return sum(request.get('host') == host for request in self.requests)

    def of(self, host):
        return [request for request in self.requests if request.get('host') == host or 'error' in request]
