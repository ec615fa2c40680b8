// Did this connection show what was demanded? OpenSSL's own DANE and X.509 code does the work, off the connection.
// The one user of OpenSSL for verification is openssl_verifier.cc.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "core/base/bytes.h"
#include "core/verify/demand.h"

namespace sealane {

struct Verdict {
  bool ok = false;
  Reason reason = Reason::tls_failed;
  std::string text;  // for the log, printable: which name, which record, what OpenSSL said
};

inline constexpr std::size_t max_chain = 32;                  // certificates
inline constexpr std::size_t max_certificate_octets = 65536;  // each

class Verifier {
 public:
  virtual ~Verifier() = default;
  // `chain`: DER, leaf first, as the server presented it; empty: the connection has no TLS. `now`: for dates.
  // Not looked at: the TLS version and cipher, which the chain does not show. Thread-safe; not for use after fork().
  [[nodiscard]] virtual Verdict verify(const Demand& demand, std::span<const Bytes> chain, WallTime now) const = 0;
};

// `ca_file`: PEM; nothing: the system's bundle. Fails (of: the file) where it loads no certificate.
[[nodiscard]] Result<std::unique_ptr<Verifier>> make_openssl_verifier(const std::optional<std::string>& ca_file);
// The same without any trusted CA, for where no demand is `pkix`: loading a bundle costs 30 ms of CPU. Refuses `pkix`
// (ca-file).
[[nodiscard]] std::unique_ptr<Verifier> make_dane_verifier();

// All demands of `host` (demands_for) against one chain: the first that is not met, else `verified`.
[[nodiscard]] Verdict verify_all(const Verifier& verifier, const Demands& demands, std::string_view host,
                                 std::span<const Bytes> chain, WallTime now);

}  // namespace sealane
