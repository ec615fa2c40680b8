"""The web server that holds every domain's MTA-STS policy, and records who asked."""

import http.server
import ssl
import threading
import time

from pki import Presented

ADDRESS, NOBODY = '198.51.100.10', '198.51.100.11'  # nothing listens on the second


class Policy:
    """`text` may be replaced while the server runs. `fault`: none, 404, redirect, reset, or oversized."""

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
        if policy is None or self.path != '/.well-known/mta-sts.txt' or policy.fault == '404':
            self._reply(404, b'not here\n')
        elif policy.fault == 'redirect':
            self._reply(301, b'', Location=f'https://{host}/elsewhere')
        elif policy.fault == 'reset':
            self.close_connection = True
        elif policy.fault == 'oversized':
            self._reply(200, policy.text.encode() + b'x: ' + b'y' * 70000 + b'\n')
        else:
            self._reply(200, policy.text.encode(), content_type=policy.content_type)

    def _reply(self, status, body, content_type='text/plain', **headers):
        self.send_response(status)
        self.send_header('Content-Type', content_type)
        self.send_header('Content-Length', str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

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
