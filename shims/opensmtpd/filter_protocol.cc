#include "shims/opensmtpd/filter_protocol.h"

#include <algorithm>
#include <array>

#include "core/base/bytes.h"
#include "core/decide/reason.h"

namespace sealane::opensmtpd {
namespace {

constexpr std::size_t most_domain_octets = 255;

// What stands before the next `|`; `text` becomes what stands behind it. Nothing: there is no further `|`.
std::optional<std::string_view> field(std::string_view& text) {
  const std::size_t end = text.find('|');
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view found = text.substr(0, end);
  text.remove_prefix(end + 1);
  return found;
}

// smtpd takes an answer with any other word for a bug, and ends.
bool is_id(std::string_view text) {
  return !text.empty() && text.size() <= 16 &&
         text.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
}

// "0.5" and later minors: session before token. Before 0.5 it was the other way round.
bool is_known_version(std::string_view text) {
  if (text.substr(0, 2) != "0.") return false;
  const std::string_view minor = text.substr(2);
  if (minor.empty() || minor.size() > 3 || minor.find_first_not_of("0123456789") != std::string_view::npos)
    return false;
  return minor.size() > 1 || minor[0] >= '5';
}

// "filter|0.6|1576146008.006099|smtp-in|rcpt-to|SESSION|TOKEN|ADDRESS"; the address may hold a `|`.
std::optional<RcptTo> read_question(std::string_view line) {
  if (field(line) != "filter") return std::nullopt;
  const auto version = field(line);
  if (!version || !is_known_version(*version)) return std::nullopt;
  if (!field(line)) return std::nullopt;  // the time
  if (field(line) != "smtp-in" || field(line) != "rcpt-to") return std::nullopt;
  const auto session = field(line);
  const auto token = field(line);
  if (!session || !token || !is_id(*session) || !is_id(*token)) return std::nullopt;
  const std::size_t at = line.rfind('@');
  const std::string_view domain = at == std::string_view::npos ? std::string_view() : line.substr(at + 1);
  return RcptTo{std::string(*session), std::string(*token), std::string(domain.substr(0, most_domain_octets + 1))};
}

struct Code {
  Reason reason;
  std::string_view code;
};

// RFC 7505 §4.2 for a null MX; RFC 3463 §3.2 and §3.5 for the rest.
constexpr std::array codes = {
    Code{Reason::null_mx, "556 5.1.10"},       Code{Reason::nxdomain, "550 5.1.2"},
    Code{Reason::no_address, "550 5.4.4"},     Code{Reason::mx_numeric, "550 5.4.4"},
    Code{Reason::domain_invalid, "553 5.1.3"},
};

std::string answer(const RcptTo& question, std::string_view what) {
  return "filter-result|" + question.session + "|" + question.token + "|" + std::string(what) + "\n";
}

}  // namespace

FilterInput::Taken FilterInput::take(std::string_view octets) {
  Taken taken;
  while (!octets.empty()) {
    const std::size_t end = octets.find('\n');
    const std::string_view part = octets.substr(0, end);
    if (line_.size() + part.size() > longest_line) too_long_ = true;
    if (too_long_) {
      line_.clear();
    } else {
      line_ += part;
    }
    if (end == std::string_view::npos) break;
    octets.remove_prefix(end + 1);
    if (!too_long_) take_line(taken);
    line_.clear();
    too_long_ = false;
  }
  return taken;
}

void FilterInput::take_line(Taken& taken) {
  if (line_ == "config|ready") {
    taken.handshake = taken.handshake || !registered_;
    registered_ = true;
    return;
  }
  if (!registered_) return;  // an answer ahead of the registration would end smtpd
  if (auto question = read_question(line_)) taken.questions.push_back(std::move(*question));
}

std::string_view registration() { return "register|filter|smtp-in|rcpt-to\nregister|ready\n"; }

std::string proceed(const RcptTo& question) { return answer(question, "proceed"); }

std::string reject(const RcptTo& question, std::string_view reply) {
  return answer(question, "reject|" + std::string(reply));
}

std::optional<std::string> refusal(std::string_view action, std::string_view reason, std::string_view domain) {
  if (action != "reject") return std::nullopt;
  for (const Code& code : codes) {
    if (to_text(code.reason) != reason) continue;
    return std::string(code.code) + " " + printable(domain, 60).substr(0, 80) + ": " + std::string(reason) + ": " +
           std::string(describe(code.reason).sentence).substr(0, 80);
  }
  return std::nullopt;
}

}  // namespace sealane::opensmtpd
