// RFC 8461 §3.2, §4.1: the "mx" patterns of a policy.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/domain/domain.h"

namespace sealane {

class MxPattern {
 public:
  // A Domain, or "*." before one. One trailing dot is dropped (one policy in a hundred has it). Nothing for anything
  // else. Internationalised names must already be A-labels (RFC 8461 §3.2), so non-ASCII is refused.
  [[nodiscard]] static std::optional<MxPattern> parse(std::string_view text);

  // `*` stands for exactly one leftmost label (RFC 8461 §4.1).
  [[nodiscard]] bool matches(const Domain& host) const;
  // False for a pattern that looks like an address: it is kept but matches nothing.
  [[nodiscard]] bool can_match() const;
  [[nodiscard]] std::string text() const;

 private:
  MxPattern(Domain domain, bool wildcard) : domain_(std::move(domain)), wildcard_(wildcard) {}
  Domain domain_;
  bool wildcard_;
};

}  // namespace sealane
