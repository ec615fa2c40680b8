#include "core/domain/mx_pattern.h"

#include <algorithm>

namespace sealane {
namespace {

// RFC 5321 §4.1.2: sub-domain = Let-dig [Ldh-str], so no label begins or ends with a hyphen. The DNS, and so Domain,
// allows that.
bool has_outer_hyphen(const std::string& name) {
  return name.front() == '-' || name.back() == '-' || name.find(".-") != std::string::npos ||
         name.find("-.") != std::string::npos;
}

}  // namespace

std::optional<MxPattern> MxPattern::parse(std::string_view text) {
  // RFC 8461 §3.2: an internationalised name must be given as A-labels; do not let Domain convert it.
  if (std::any_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; })) {
    return std::nullopt;
  }
  const bool wildcard = text.starts_with("*.");
  if (wildcard) text.remove_prefix(2);
  auto domain = Domain::parse(text);
  if (!domain || has_outer_hyphen(domain->text())) return std::nullopt;
  return MxPattern(*std::move(domain), wildcard);
}

bool MxPattern::matches(const Domain& host) const {
  if (!can_match()) return false;
  if (!wildcard_) return host == domain_;
  // RFC 8461 §4.1: "*.example.com" matches neither "example.com" nor "foo.bar.example.com".
  return host.is_below(domain_) && host.text().find('.') == host.text().size() - domain_.text().size() - 1;
}

bool MxPattern::can_match() const { return !domain_.looks_like_address(); }

std::string MxPattern::text() const { return wildcard_ ? "*." + domain_.text() : domain_.text(); }

}  // namespace sealane
