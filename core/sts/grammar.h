// What the grammars of the TXT record and of the policy have in common (RFC 8461 §3.1, §3.2). Private to core/sts.
#pragma once

#include <algorithm>
#include <string_view>

namespace sealane::sts {

inline constexpr std::string_view wsp = " \t";

inline bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// sts-ext-name and sts-policy-ext-name, of which the names we know are examples:
// (ALPHA / DIGIT) *31(ALPHA / DIGIT / "_" / "-" / ".")
inline bool is_field_name(std::string_view text) {
  return !text.empty() && text.size() <= 32 && is_alphanumeric(text.front()) &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return is_alphanumeric(c) || c == '_' || c == '-' || c == '.'; });
}

inline std::string_view without_outer_wsp(std::string_view text) {
  const std::size_t first = text.find_first_not_of(wsp);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(wsp) - first + 1);
}

}  // namespace sealane::sts
