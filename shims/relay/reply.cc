#include "shims/relay/reply.h"

#include "core/base/bytes.h"

namespace sealane::relay {
namespace {

constexpr std::size_t longest_text = 450;

// "5.1.1" at the front of `text`, of the class of `code` (RFC 3463 §2).
std::string enhanced_status(std::string_view text, int code) {
  const std::size_t end = text.find(' ');
  const std::string_view word = text.substr(0, end);
  int dots = 0;
  int digits = 0;
  for (const char c : word) {
    if (c == '.') {
      if (digits == 0) return {};
      ++dots;
      digits = 0;
    } else if (c >= '0' && c <= '9' && digits < 3) {
      ++digits;
    } else {
      return {};
    }
  }
  if (dots != 2 || digits == 0 || word[1] != '.' || word[0] != static_cast<char>('0' + code / 100)) return {};
  return std::string(word);
}

}  // namespace

std::string Reply::line() const {
  std::string shown = printable(text, longest_text);
  if (shown.size() > longest_text) shown.resize(longest_text);
  return std::to_string(code) + " " + status + " " + shown + "\r\n";
}

Reply later(std::string_view status, std::string text) { return {451, std::string(status), std::move(text)}; }

Reply mirrored(const smtp::Reply& reply, std::string_view host) {
  Reply out;
  if (reply.good()) {
    out.code = 250;
  } else if (reply.code >= 400 && reply.code < 600 && reply.code != 421) {
    out.code = reply.code;
  }
  const std::string first = reply.lines.empty() ? std::string() : reply.lines.front();
  out.status = enhanced_status(first, out.code);
  if (out.status.empty()) out.status = std::string(1, static_cast<char>('0' + out.code / 100)) + ".0.0";
  out.text = std::string(host) + " said: " + reply.text();
  return out;
}

Reply of_decision(const Decision& decision, std::string why) {
  if (decision.action != Action::reject) return later("4.7.5", std::move(why));
  // As the filter refuses (RFC 7505 §4.2, RFC 3463 §3).
  switch (decision.reason) {
    case Reason::null_mx:
      return {556, "5.1.10", std::move(why)};
    case Reason::domain_invalid:
      return {553, "5.1.3", std::move(why)};
    case Reason::nxdomain:
      return {550, "5.1.2", std::move(why)};
    default:
      return {550, "5.4.4", std::move(why)};
  }
}

}  // namespace sealane::relay
