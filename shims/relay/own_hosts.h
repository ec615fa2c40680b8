// Which MX hosts come into question, in which order (RFC 5321 §5.1).
#pragma once

#include <functional>
#include <random>
#include <string>
#include <vector>

#include "core/decide/decision.h"

namespace sealane::relay {

struct Candidates {
  std::vector<HostDecision> hosts;  // those that may be connected to, best first
  bool we_are_best = false;         // nobody but this machine, or hosts no better than it, takes mail for the domain
};

// `is_own`: whether a name or an address is this machine's. Hosts no better than one that is this machine are left out,
// or mail would loop; among equal ones the order is drawn.
[[nodiscard]] Candidates candidates(const Decision& decision, const std::function<bool(const std::string&)>& is_own,
                                    std::mt19937& random);

// The addresses of this machine's interfaces now, in text, and all of 127/8 and ::1.
[[nodiscard]] bool is_own_address(const std::string& address);

// Both families in turn, IPv6 first, each in the order given.
[[nodiscard]] std::vector<std::string> in_turn(const std::vector<std::string>& addresses);

}  // namespace sealane::relay
