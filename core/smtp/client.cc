#include "core/smtp/client.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "core/base/socket.h"
#include "core/domain/domain.h"

namespace sealane::smtp {

namespace {

constexpr std::size_t buffer_octets = 16384;

// Nothing: not an address.
socklen_t read_address(const std::string& text, std::uint16_t port, sockaddr_storage& out) {
  auto* v4 = reinterpret_cast<sockaddr_in*>(&out);
  if (::inet_pton(AF_INET, text.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    return sizeof *v4;
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&out);
  if (::inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    return sizeof *v6;
  }
  return 0;
}

bool means_no_route(int error) {
  return error == ENETUNREACH || error == EAFNOSUPPORT || error == EADDRNOTAVAIL || error == EHOSTUNREACH;
}

// The first error of OpenSSL's queue, which is empty afterwards.
std::string openssl_error() {
  const unsigned long code = ERR_peek_error();
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return reason == nullptr ? "the server closed the connection" : reason;
}

}  // namespace

struct TlsContext::Impl {
  SSL_CTX* context = nullptr;
};

TlsContext::TlsContext(Versions versions) : impl_(std::make_unique<Impl>()) {
  impl_->context = SSL_CTX_new(TLS_client_method());
  if (impl_->context == nullptr) throw std::bad_alloc();
  SSL_CTX_set_min_proto_version(impl_->context, versions == Versions::any ? TLS1_VERSION : TLS1_2_VERSION);
  // Level 0 admits what old servers have: whoever asks for `any` would take clear text too.
  SSL_CTX_set_cipher_list(impl_->context,
                          versions == Versions::any ? "DEFAULT:!aNULL:!eNULL:@SECLEVEL=0" : "DEFAULT:!aNULL:!eNULL");
  SSL_CTX_set_verify(impl_->context, SSL_VERIFY_NONE, nullptr);        // core/verify judges, by the chain
  SSL_CTX_set_session_cache_mode(impl_->context, SSL_SESS_CACHE_OFF);  // each connection shows its certificate
  SSL_CTX_set_options(impl_->context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_mode(impl_->context,
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
}

TlsContext::~TlsContext() { SSL_CTX_free(impl_->context); }

// Over a BIO pair in memory, so that our own calls, which raise no SIGPIPE, move the octets.
struct Client::Tls {
  SSL* ssl = nullptr;
  BIO* network = nullptr;

  explicit Tls(SSL_CTX* context) : ssl(SSL_new(context)) {
    BIO* internal = nullptr;
    if (ssl == nullptr || BIO_new_bio_pair(&internal, 0, &network, 0) != 1) {
      SSL_free(ssl);
      throw std::bad_alloc();
    }
    SSL_set_bio(ssl, internal, internal);
  }
  ~Tls() {
    SSL_free(ssl);
    BIO_free(network);
    ERR_clear_error();
  }
  Tls(const Tls&) = delete;
  Tls& operator=(const Tls&) = delete;

  // What OpenSSL has written goes to the socket.
  [[nodiscard]] Result<void> flush(int fd, MonoTime until) const {
    char buffer[buffer_octets];
    for (;;) {
      const int n = BIO_read(network, buffer, sizeof buffer);
      if (n <= 0) return {};
      auto sent = send_all(fd, {buffer, static_cast<std::size_t>(n)}, until);
      if (!sent) return sent;
    }
  }

  // More from the socket for OpenSSL to read.
  [[nodiscard]] Result<void> fill(int fd, MonoTime until) const {
    char buffer[buffer_octets];
    const std::size_t room = std::min(sizeof buffer, BIO_ctrl_get_write_guarantee(network));
    for (;;) {
      if (!wait_for(fd, POLLIN, until)) return failure("the server does not answer in time");
      const ssize_t n = ::recv(fd, buffer, room, 0);
      if (n > 0) {
        BIO_write(network, buffer, static_cast<int>(n));
        return {};
      }
      if (n == 0) return failure("the server closed the connection");
      if (errno != EINTR && errno != EAGAIN) return failure(std::string("cannot read: ") + std::strerror(errno));
    }
  }

  // Repeats `step` (an SSL_ call) until it is done, moving octets as it asks. Gives its result, which is positive; 0:
  // the server has ended TLS in order.
  template <class Step>
  [[nodiscard]] Result<int> run(Step step, int fd, MonoTime until) const {
    for (;;) {
      ERR_clear_error();
      const int n = step();
      const int error = n > 0 ? SSL_ERROR_NONE : SSL_get_error(ssl, n);
      const std::string why = error == SSL_ERROR_SSL || error == SSL_ERROR_SYSCALL ? openssl_error() : std::string();
      const auto sent = flush(fd, until);  // also an alert that says why
      if (error == SSL_ERROR_NONE) {
        if (!sent) return tl::make_unexpected(sent.error());
        return n;
      }
      if (error == SSL_ERROR_ZERO_RETURN) return 0;
      if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) return failure("TLS: " + why);
      if (!sent) return tl::make_unexpected(sent.error());
      if (error == SSL_ERROR_WANT_READ) {
        const auto filled = fill(fd, until);
        if (!filled) return tl::make_unexpected(filled.error());
      }
    }
  }
};

Client::Client(int fd) : fd_(fd) {}

Client::~Client() { ::close(fd_); }

std::unique_ptr<Client> Client::connect(const std::string& address, std::uint16_t port, MonoTime until,
                                        ConnectError& error, const std::string& source) {
  sockaddr_storage there{};
  const socklen_t length = read_address(address, port, there);
  if (length == 0) {
    error = {"not an address: " + printable(address), false};
    return nullptr;
  }
  const int fd = ::socket(there.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) {
    error = {std::string("cannot make a socket: ") + std::strerror(errno), errno == EAFNOSUPPORT};
    return nullptr;
  }
  std::unique_ptr<Client> client(new Client(fd));
  // Or the final dot waits for the server's delayed acknowledgement of the text before it.
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  int failed = 0;
  sockaddr_storage here{};
  if (!source.empty()) {
    const socklen_t size = read_address(source, 0, here);
    if (size == 0 || ::bind(fd, reinterpret_cast<const sockaddr*>(&here), size) != 0) {
      error = {"cannot connect from " + printable(source) + ": " + std::strerror(errno), false};
      return nullptr;
    }
  }
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&there), length) != 0 && errno != EINPROGRESS) {
    error = {std::strerror(errno), means_no_route(errno)};
    return nullptr;
  }
  if (!wait_for(fd, POLLOUT, until)) {
    error = {"no connection in time", false};
    return nullptr;
  }
  socklen_t size = sizeof failed;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &size) != 0) failed = errno;
  if (failed != 0) {
    error = {std::strerror(failed), false};
    return nullptr;
  }
  return client;
}

Result<std::size_t> Client::read_some(char* buffer, std::size_t size, MonoTime until) {
  if (tls_) {
    const auto n = tls_->run([&] { return SSL_read(tls_->ssl, buffer, static_cast<int>(size)); }, fd_, until);
    if (!n) return tl::make_unexpected(n.error());
    return static_cast<std::size_t>(*n);
  }
  for (;;) {
    if (!wait_for(fd_, POLLIN, until)) return failure("the server does not answer in time");
    const ssize_t n = ::recv(fd_, buffer, size, 0);
    if (n >= 0) return static_cast<std::size_t>(n);
    if (errno != EINTR && errno != EAGAIN) return failure(std::string("cannot read: ") + std::strerror(errno));
  }
}

Result<Reply> Client::receive(MonoTime until) {
  for (;;) {
    auto reply = reader_.take(unread_);
    if (!reply) return tl::make_unexpected(reply.error());
    if (*reply) return std::move(**reply);
    char buffer[buffer_octets];
    const auto n = read_some(buffer, sizeof buffer, until);
    if (!n) return tl::make_unexpected(n.error());
    if (*n == 0) return failure("the server closed the connection");
    unread_.append(buffer, *n);
  }
}

Result<void> Client::send(std::string_view octets, MonoTime until) {
  if (!tls_) return send_all(fd_, octets, until);
  while (!octets.empty()) {
    const int size = static_cast<int>(std::min(octets.size(), buffer_octets));
    const auto n = tls_->run([&] { return SSL_write(tls_->ssl, octets.data(), size); }, fd_, until);
    if (!n) return tl::make_unexpected(n.error());
    if (*n == 0) return failure("the server closed the connection");
    octets.remove_prefix(static_cast<std::size_t>(*n));
  }
  return {};
}

Result<Reply> Client::command(std::string_view line, MonoTime until) {
  const auto sent = send(std::string(line) + "\r\n", until);
  if (!sent) return tl::make_unexpected(sent.error());
  return receive(until);
}

bool Client::quiet() const {
  char octet = 0;
  const ssize_t n = ::recv(fd_, &octet, 1, MSG_PEEK | MSG_DONTWAIT);
  return n < 0 && errno == EAGAIN && unread_.empty() && (!tls_ || SSL_has_pending(tls_->ssl) == 0);
}

Result<void> Client::start_tls(const TlsContext& context, const std::string& sni, MonoTime until) {
  if (!unread_.empty()) return failure("the server sent more in clear text than its answer to STARTTLS");
  auto tls = std::make_unique<Tls>(context.impl_->context);
  if (!sni.empty() && SSL_set_tlsext_host_name(tls->ssl, sni.c_str()) != 1) {
    return failure("no possible name for SNI: " + printable(sni));
  }
  const auto done = tls->run([&] { return SSL_connect(tls->ssl); }, fd_, until);
  if (!done) return tl::make_unexpected(done.error());
  if (*done == 0) return failure("the server closed the connection");
  tls_ = std::move(tls);
  return {};
}

std::string machine_name() {
  utsname system{};
  if (::uname(&system) != 0) return "localhost";
  const auto name = Domain::parse(system.nodename);
  return name ? name->text() : "localhost";
}

std::string Client::version() const { return tls_ ? SSL_get_version(tls_->ssl) : ""; }

std::string Client::cipher() const {
  const char* name = tls_ ? SSL_get_cipher_name(tls_->ssl) : nullptr;
  return name == nullptr ? "" : name;
}

std::vector<Bytes> Client::chain() const {
  std::vector<Bytes> all;
  const STACK_OF(X509)* certificates = tls_ ? SSL_get_peer_cert_chain(tls_->ssl) : nullptr;
  for (int i = 0; i < sk_X509_num(certificates); ++i) {
    unsigned char* der = nullptr;
    const int length = i2d_X509(sk_X509_value(certificates, i), &der);
    if (length < 0) throw std::bad_alloc();
    all.emplace_back(der, der + length);
    OPENSSL_free(der);
  }
  return all;
}

}  // namespace sealane::smtp
