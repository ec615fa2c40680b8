// What the relay tells its client of one recipient (RFC 2033 §4.2, with enhanced codes of RFC 3463). Pure.
#pragma once

#include <string>
#include <string_view>

#include "core/decide/decision.h"
#include "core/smtp/reply.h"

namespace sealane::relay {

// The zero value is the safe one: try again later.
struct Reply {
  int code = 451;
  std::string status = "4.0.0";
  std::string text = "no result";

  // "451 4.7.5 text" and CR LF; one line, printable, 500 octets at most.
  [[nodiscard]] std::string line() const;
  [[nodiscard]] bool good() const { return code == 250; }
  [[nodiscard]] bool permanent() const { return code >= 500; }
};

[[nodiscard]] Reply later(std::string_view status, std::string text);

// What a server said, re-encoded: 250, 5xx as it is, and everything else 4xx. A 421, which would end the session with
// our client, becomes 451. `host`: who said it.
[[nodiscard]] Reply mirrored(const smtp::Reply& reply, std::string_view host);

// Of a decision that allows no delivery: why.
[[nodiscard]] Reply of_decision(const Decision& decision, std::string why);

}  // namespace sealane::relay
