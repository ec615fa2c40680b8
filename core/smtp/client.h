// One connection to an SMTP server, and STARTTLS on it (RFC 3207). Blocking, every call with a point of time at which
// it gives up. Certificates are not judged here: core/verify does that, by what chain() shows. The one user of OpenSSL
// for connections is client.cc.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/smtp/reply.h"

namespace sealane::smtp {

// Which versions of TLS are spoken. `any`: TLS 1.0 too, for where clear text would do as well, and for finding out.
enum class Versions : unsigned char { tls12, any };

// Shared by connections and threads; immutable. No anonymous and no NULL suite.
class TlsContext {
 public:
  explicit TlsContext(Versions versions);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

 private:
  friend class Client;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// What this machine calls itself in EHLO where nobody says otherwise.
[[nodiscard]] std::string machine_name();

// RFC 7672 §6, RFC 8461 §7.2: TLS 1.2 or later, where TLS is relied upon. `version`: as Client gives it.
[[nodiscard]] inline bool is_recent(std::string_view version) { return version == "TLSv1.2" || version == "TLSv1.3"; }

// Why there is no connection.
struct ConnectError {
  std::string what;
  bool no_route = false;  // this machine has no way to such addresses (no IPv6, say): nothing was tried
};

// For one thread. Closes when destroyed, without a word: send QUIT before. Raises no SIGPIPE.
class Client {
 public:
  // `address`: IPv4 or IPv6 in text; `port`: host order; `source`: an address of this machine, of the same family, to
  // connect from; empty: the kernel chooses. Null: `error` says why.
  [[nodiscard]] static std::unique_ptr<Client> connect(const std::string& address, std::uint16_t port, MonoTime until,
                                                       ConnectError& error, const std::string& source = {});
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  [[nodiscard]] Result<Reply> receive(MonoTime until);
  [[nodiscard]] Result<void> send(std::string_view octets, MonoTime until);
  // Sends `line` and CR LF, and gives the reply. `line` must hold neither.
  [[nodiscard]] Result<Reply> command(std::string_view line, MonoTime until);

  // The handshake, after the server's 220 to STARTTLS. What the server sent ahead in clear text is an error: someone
  // may have put it there (RFC 3207 §6, response injection). After an error the connection is of no more use.
  [[nodiscard]] Result<void> start_tls(const TlsContext& context, const std::string& sni, MonoTime until);

  // Nothing has come that was not asked for, and the server has not closed, as far as can be seen.
  [[nodiscard]] bool quiet() const;

  // Of TLS; empty without. The chain: DER, leaf first, as presented.
  [[nodiscard]] std::string version() const;  // "TLSv1.3"
  [[nodiscard]] std::string cipher() const;
  [[nodiscard]] std::vector<Bytes> chain() const;

 private:
  explicit Client(int fd);
  [[nodiscard]] Result<std::size_t> read_some(char* buffer, std::size_t size, MonoTime until);
  struct Tls;
  int fd_;
  ReplyReader reader_;
  std::string unread_;
  std::unique_ptr<Tls> tls_;
};

}  // namespace sealane::smtp
