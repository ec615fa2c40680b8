#include "shims/wire/tls_words.h"

#include <string>

namespace sealane::wire {
namespace {

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool is_word(char c) { return (c >= 'A' && c <= 'Z') || is_digit(c); }

// "TLS1.2", "TLSv1.2" and later minor versions of TLS 1.
bool is_recent(std::string_view version) {
  if (version.substr(0, 3) != "TLS") return false;
  version.remove_prefix(3);
  if (!version.empty() && (version[0] == 'v' || version[0] == 'V')) version.remove_prefix(1);
  return version.size() == 3 && version.substr(0, 2) == "1." && is_digit(version[2]) && version[2] >= '2';
}

}  // namespace

TlsWords read_tls_words(std::string_view text) {
  TlsWords words;
  if (text.empty() || text == "none") return words;
  words.tls = true;
  const std::size_t colon = text.find(':');
  words.recent = is_recent(text.substr(0, colon));
  if (colon == std::string_view::npos) return words;
  std::string suite(text.substr(colon + 1));
  for (char& c : suite) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  words.encrypted = words.authenticated = !suite.empty() && suite[0] != ':';
  // RFC 9150: TLS 1.3 with integrity only.
  if (suite.find("TLS_SHA256_SHA256") != std::string::npos || suite.find("TLS_SHA384_SHA384") != std::string::npos) {
    words.encrypted = false;
  }
  for (std::size_t at = 0; at < suite.size();) {
    std::size_t end = at;
    while (end < suite.size() && is_word(suite[end])) ++end;
    const std::string_view word = std::string_view(suite).substr(at, end - at);
    if (word == "NULL" || word == "ENULL") words.encrypted = false;
    if (word == "ANON" || word == "ADH" || word == "AECDH" || word == "ANULL") words.authenticated = false;
    at = end + 1;
  }
  return words;
}

}  // namespace sealane::wire
