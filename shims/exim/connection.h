// What Exim's events told of the connection that this process has open, so that the gate can be held against it.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "shims/exim/backend.h"

namespace sealane::exim {

// What a connection has to be good for. The views are valid during one call from Exim.
struct Purpose {
  std::string_view demand;  // token of the route
  std::string_view host;    // as Exim knows it: after CNAME expansion
  std::string_view address;
};

class Connection {
 public:
  static constexpr std::size_t most_certificates = 32;

  // A new TCP connection. Exim tries one host after the other in one process, so that what was known is of another.
  void reset() { *this = Connection(); }

  // One certificate of the chain, DER; depth 0 is the leaf, and comes last.
  void certificate(std::size_t depth, std::string der);

  // Judges the chain for `purpose`, whose last certificate has come. Empty: it is as demanded; else why it is refused.
  [[nodiscard]] std::string judge(const Backend& backend, const Purpose& purpose);

  // The same where the policy is only tested: the back end is told, and nothing is refused.
  void try_out(const Backend& backend, const Purpose& purpose);

  // A chain was judged: whatever fails next fails because of that.
  [[nodiscard]] bool was_judged() const { return judged_; }

  // Whether the last judgement agreed, and was about this leaf (DER) and this purpose.
  [[nodiscard]] bool agreed_on(const Purpose& purpose, std::string_view leaf) const;

  // base64, leaf first
  [[nodiscard]] std::vector<std::string> chain() const;

 private:
  std::array<std::string, most_certificates> der_;
  bool agreed_ = false, judged_ = false;
  std::string demand_, host_, address_;
};

// The back end's verdict on a connection with this TLS (as Exim words it, or "none") and this chain (base64, leaf
// first). Empty: it is as demanded; else why not.
[[nodiscard]] std::string verdict(const Backend& backend, const Purpose& purpose, std::string_view tls,
                                  std::vector<std::string> chain);

}  // namespace sealane::exim
