"""Name servers with one habit of the real world each, made as small forwarders. In front of the validating resolver:
what machines find in their resolv.conf. In front of the server of the zones: servers of a single zone. Every one counts
the questions that it gets."""

import socket
import socketserver
import struct
import threading
import time
from typing import NamedTuple

from servers import RESOLVER
from zones import TTL, ZONE_SERVER

GOOD, HIDES_AD, STRIPS, SILENT, SERVFAIL = '192.0.2.53', '192.0.2.54', '192.0.2.55', '192.0.2.56', '192.0.2.57'
_DNSSEC_TYPES = {43, 46, 47, 48, 50, 51, 59, 60}  # DS RRSIG NSEC DNSKEY NSEC3 NSEC3PARAM CDS CDNSKEY
_AD = 0x20
TYPES = {'A': 1, 'MX': 15, 'TXT': 16, 'AAAA': 28, 'TLSA': 52}
_RCODES = {'formerr': 1, 'servfail': 2, 'notimp': 4, 'refused': 5}


def _question_end(message):
    position = 12
    while message[position]:
        position += message[position] + 1
    return position + 5


def _question(message):
    labels, position = [], 12
    while length := message[position]:
        labels.append(message[position + 1:position + 1 + length].decode('latin-1').lower())
        position += length + 1
    return '.'.join(labels), struct.unpack('!H', message[position + 1:position + 3])[0]


def _with_flags(message, clear_second=0, rcode=None):
    flags = bytearray(message)
    flags[3] &= ~clear_second & 0xff
    if rcode is not None:
        flags[2] |= 0x80
        flags[3] = flags[3] & 0xf0 | rcode
    return bytes(flags)


def _bare(message, rcode=None):
    """The header and the question, nothing behind it: without EDNS nobody can ask for DNSSEC."""
    bare = bytearray(message[:_question_end(message)])
    bare[3] &= ~(_AD | 0x10) & 0xff
    bare[4:12] = struct.pack('!4H', 1, 0, 0, 0)
    return _with_flags(bytes(bare), rcode=rcode)


def _pass(query, ask):
    return ask(query)


def _hide_ad(query, ask):
    """Most resolvers behind a forwarder: all records pass, the promise that they were checked does not."""
    return _with_flags(ask(query), clear_second=_AD)


def _strip(query, ask):
    """A home router: it knows nothing of DNSSEC and says so of every such type."""
    if _question(query)[1] in _DNSSEC_TYPES:
        return _bare(query, rcode=0)
    return _with_flags(ask(_bare(query)), clear_second=_AD)


def _silent(query, ask):
    return None


def _servfail(query, ask):
    return _bare(query, rcode=2)


# Habits of the server of a zone

def spoils(rrtype, how):
    """Every question of one type, but for the root: `dropped`, or answered with an error code."""
    def habit(query, ask):
        if _question(query)[1] != TYPES[rrtype] or not _question(query)[0]:
            return ask(query)
        return None if how == 'dropped' else _bare(query, rcode=_RCODES[how])
    return habit


def delays(seconds):
    """As if the server were far away."""
    def habit(query, ask):
        threading.Event().wait(seconds)
        return ask(query)
    return habit


def adds(rrsets):
    """Signed RRsets that no zone file can hold: (name, type) -> (list of RDATA, RDATA of the RRSIG)."""
    def habit(query, ask):
        found = rrsets.get(_question(query))
        if not found:
            return ask(query)
        rdata, rrsig = found
        _, rrtype = _question(query)
        records = [(rrtype, one) for one in rdata] + ([(46, rrsig)] if rrsig else [])
        body = b''.join(b'\xc0\x0c' + struct.pack('!HHIH', kind, 1, TTL, len(one)) + one for kind, one in records)
        opt = b'\0' + struct.pack('!HHIH', 41, 1232, 0x8000, 0)
        head = query[:2] + b'\x84\0' + struct.pack('!4H', 1, len(records), 0, 1)
        return head + query[12:_question_end(query)] + body + opt
    return habit


_ADDRESSES = {HIDES_AD: _hide_ad, STRIPS: _strip, SILENT: _silent, SERVFAIL: _servfail}


def _exactly(connection, size):
    data = b''
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionError
        data += more
    return data


def _ask_udp(server, query):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upstream:
        upstream.settimeout(10)
        upstream.connect((server, 53))
        upstream.send(query)
        return upstream.recv(65535)


def _ask_tcp(server, query):
    with socket.create_connection((server, 53), 10) as upstream:
        upstream.sendall(struct.pack('!H', len(query)) + query)
        return _exactly(upstream, struct.unpack('!H', _exactly(upstream, 2))[0])


class Asked(NamedTuple):
    name: str
    rrtype: int
    at: float  # on the monotonic clock


class _Handler(socketserver.BaseRequestHandler):
    def answer(self, query, ask):
        self.server.questions.append(Asked(*_question(query), time.monotonic()))
        return self.server.habit(query, lambda changed: ask(self.server.upstream, changed))

    def handle(self):
        try:
            self.serve()
        except (OSError, IndexError, struct.error):
            pass  # a client that went away, or rubbish


class _Udp(_Handler):
    def serve(self):
        query, listener = self.request
        reply = self.answer(query, _ask_udp)
        if reply is not None:
            listener.sendto(reply, self.client_address)


class _Tcp(_Handler):
    def serve(self):
        self.request.settimeout(10)
        while True:
            query = _exactly(self.request, struct.unpack('!H', _exactly(self.request, 2))[0])
            reply = self.answer(query, _ask_tcp)
            if reply is not None:
                self.request.sendall(struct.pack('!H', len(reply)) + reply)


class _UdpServer(socketserver.ThreadingUDPServer):
    daemon_threads = True
    max_packet_size = 65535


class _TcpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64


class Resolvers:
    def __init__(self):
        self._spare = 64
        self.questions = {}
        for address, habit in _ADDRESSES.items():
            self._listen(address, habit)

    def serve_zone(self, address, habit):
        self._listen(address, habit, ZONE_SERVER)

    def _listen(self, address, habit, upstream=RESOLVER):
        self.questions[address] = []
        for server_class, handler in ((_UdpServer, _Udp), (_TcpServer, _Tcp)):
            server = server_class((address, 53), handler)
            server.habit, server.questions, server.upstream = habit, self.questions[address], upstream
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def counting(self, habit=_pass):
        """A new address that passes everything on, or has this habit, for a test that counts its own questions."""
        address = f'192.0.2.{self._spare}'
        self._spare += 1
        self._listen(address, habit)
        return address
