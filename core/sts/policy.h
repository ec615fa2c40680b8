// RFC 8461 §3.2: the policy.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "core/domain/mx_pattern.h"

namespace sealane::sts {

enum class Mode : unsigned char { enforce, testing, none };
[[nodiscard]] std::string to_text(Mode mode);

inline constexpr std::uint32_t max_max_age = 31557600;   // seconds, RFC 8461 §3.2
inline constexpr std::size_t max_policy_octets = 65536;  // RFC 8461 §3.3 suggests 64 KiB

struct Policy {
  Mode mode = Mode::enforce;
  std::uint32_t max_age = 0;  // seconds, capped at max_max_age
  std::vector<MxPattern> mx;

  [[nodiscard]] bool allows(const Domain& host) const;  // RFC 8461 §4.1
};

struct PolicyError {
  int line = 0;  // from 1; 0: the whole
  std::string what;
};

// A body as design: the ABNF, and blank lines, white space around a line, a missing last line end, LF. Nothing else.
[[nodiscard]] tl::expected<Policy, PolicyError> parse_policy(std::string_view body);

// `Content-Type` names text/plain (parameters allowed) (RFC 8461 §3.2).
[[nodiscard]] bool is_policy_media_type(std::string_view content_type);

}  // namespace sealane::sts
