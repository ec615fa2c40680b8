// Domain names as mail uses them. A Domain exists only through its parsers; nothing downstream re-checks.
#pragma once

#include <compare>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"

namespace sealane {

// At least one label; labels of 1 to 63 octets out of a-z 0-9 - _; 253 octets in all; lower case; no trailing dot.
class Domain {
 public:
  // Text from people, configuration and MTAs (UTF-8). One trailing dot is dropped. All-ASCII input is not passed
  // through IDNA: libidn2 refuses domains that exist, such as "ab--cd.example". Other input: UTS 46, non-transitional.
  [[nodiscard]] static Result<Domain> parse(std::string_view utf8);
  // Labels off the wire, most specific first; nothing if a label holds any other octet (a dot, NUL, …).
  [[nodiscard]] static std::optional<Domain> from_labels(std::span<const std::string> labels);

  [[nodiscard]] const std::string& text() const { return text_; }
  [[nodiscard]] bool is_below(const Domain& ancestor) const;  // strictly below
  // "1.2.3.4": the last label is all digits, which no real TLD is; resolvers and MTAs take it for an address.
  [[nodiscard]] bool looks_like_address() const;
  // `labels` (such as "_25._tcp") in front; nothing if the name would be too long to exist in the DNS.
  [[nodiscard]] std::optional<Domain> prefixed(std::string_view labels) const;

  friend auto operator<=>(const Domain&, const Domain&) = default;

 private:
  explicit Domain(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

}  // namespace sealane
