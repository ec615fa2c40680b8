#include "shims/wire/codec.h"

#include <algorithm>
#include <array>
#include <utility>

namespace sealane::wire {
namespace {

struct VerbRule {
  Verb verb;
  std::string_view word;
  std::size_t longest;
  std::string_view needed, others;
};

constexpr VerbRule verb_rules[] = {
#define SEALANE_VERB(name, word, longest, needed, others) {Verb::name, word, longest, needed, others},
#include "shims/wire/verbs.def"
#undef SEALANE_VERB
};

constexpr std::size_t longest_short_request = 4096;
constexpr std::size_t longest_token = 65536;
constexpr std::size_t longest_text = 500;
constexpr std::size_t longest_name = 255;
constexpr std::size_t most_hosts = 50;

const VerbRule* rule_of(Verb verb) {
  for (const VerbRule& rule : verb_rules) {
    if (rule.verb == verb) return &rule;
  }
  return nullptr;
}

const VerbRule* rule_of(std::string_view word) {
  for (const VerbRule& rule : verb_rules) {
    if (rule.word == word) return &rule;
  }
  return nullptr;
}

// std::isalnum and friends ask the locale; an MTA may have set one.
constexpr bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool is_alnum(char c) { return is_lower(c) || (c >= 'A' && c <= 'Z') || is_digit(c); }
constexpr bool is_one_of(char c, std::string_view set) { return set.find(c) != std::string_view::npos; }

constexpr char to_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// Takes the first token off `rest`. Two spaces in a row make an empty token, which nobody accepts.
std::string_view next_token(std::string_view& rest) {
  const std::size_t space = rest.find(' ');
  const std::string_view token = rest.substr(0, space);
  rest = space == std::string_view::npos ? std::string_view{} : rest.substr(space + 1);
  return token;
}

bool lists(std::string_view words, std::string_view word) {
  while (!words.empty()) {
    if (next_token(words) == word) return true;
  }
  return false;
}

int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  c = to_lower(c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

template <class Plain>
std::string percent_encoded(std::string_view value, Plain plain) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  std::string out;
  for (const char c : value) {
    if (plain(c)) {
      out += c;
    } else {
      const auto octet = static_cast<unsigned char>(c);
      out += '%';
      out += digits[octet >> 4U];
      out += digits[octet & 15U];
    }
  }
  return out;
}

std::string encoded(std::string_view value) {
  return percent_encoded(value, [](char c) { return c > ' ' && c < 0x7f && c != '%'; });
}

std::optional<std::string> decoded(std::string_view value) {
  std::string out;
  for (std::size_t i = 0; i < value.size(); ++i) {
    const char c = value[i];
    if (c <= ' ' || c >= 0x7f) return std::nullopt;
    if (c != '%') {
      out += c;
      continue;
    }
    if (value.size() - i < 3) return std::nullopt;
    const int high = hex_digit(value[i + 1]);
    const int low = hex_digit(value[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(static_cast<unsigned char>(high * 16 + low));
    i += 2;
  }
  return out;
}

std::optional<std::uint32_t> number(std::string_view text, std::uint32_t least, std::uint32_t most) {
  if (text.empty() || text.size() > 9) return std::nullopt;
  std::uint32_t value = 0;
  for (const char c : text) {
    if (!is_digit(c)) return std::nullopt;
    value = value * 10 + static_cast<std::uint32_t>(c - '0');
  }
  if (value < least || value > most) return std::nullopt;
  return value;
}

std::optional<bool> yes_or_no(std::string_view text) {
  if (text == "yes") return true;
  if (text == "no") return false;
  return std::nullopt;
}

// "1", or "1.N" for a newer minor.
bool is_our_version(std::string_view token, bool& newer) {
  newer = token.size() > 2 && token.substr(0, 2) == "1." && number(token.substr(2), 1, 999999).has_value();
  return token == "1" || newer;
}

// False: `value` is not one that `key` may have.
bool set_key(Request& request, std::string_view key, const std::string& value) {
  if (key == "domain") request.domain = value;
  if (key == "host") request.host = value;
  if (key == "id") request.id = value;
  if (key == "demand") request.demand = value;
  if (key == "tls") request.tls = value;
  if (key == "address") request.address = value;
  if (key == "reason") request.reason = value;
  if (key == "detail") request.detail = value;
  if (key == "cert") {
    if (request.certs.size() == most_certificates) return false;
    request.certs.push_back(value);
  }
  if (key == "event") {
    if (value != "tcp:connect" && value != "tls:cert") return false;
    request.connects = value == "tcp:connect";
  }
  if (key == "depth") {
    const auto depth = number(value, 0, most_certificates - 1);
    if (!depth) return false;
    request.depth = *depth;
  }
  if (key == "as") {
    if (value != "json" && value != "text") return false;
    request.as_text = value == "text";
  }
  if (key == "outcome") {
    if (value != "delivered" && value != "deferred" && value != "refused") return false;
    request.outcome = value;
  }
  if (key == "port") {
    const auto port = number(value, 1, 65535);
    if (!port) return false;
    request.port = static_cast<std::uint16_t>(*port);
  }
  if (key == "wait") {
    const auto wait = number(value, 1, longest_wait_ms);
    if (!wait) return false;
    request.wait_ms = *wait;
  }
  if (key == "record") request.record = value;
  for (const auto& [name, place] : {std::pair{"mx", &request.mx},
                                    {"fresh", &request.fresh},
                                    {"force", &request.force},
                                    {"tested", &request.tested}}) {
    if (key != name) continue;
    const auto flag = yes_or_no(value);
    if (!flag) return false;
    *place = *flag;
  }
  return true;
}

// A dotted name that an MTA can mean nothing else by: no address, pattern, port or option (grammar.md, hosts).
bool is_route_host(std::string_view name) {
  if (name.size() > longest_name) return false;
  const std::size_t last_dot = name.rfind('.');
  if (last_dot == std::string_view::npos) return false;
  const std::string_view last = name.substr(last_dot + 1);
  if (last.empty() || !is_lower(last[0])) return false;
  for (const char c : last) {
    if (!is_lower(c) && !is_digit(c) && c != '-') return false;
  }
  char before = '.';
  for (const char c : name) {
    if (!is_lower(c) && !is_digit(c) && c != '-' && c != '_' && c != '.') return false;
    if (c == '.' && before == '.') return false;
    before = c;
  }
  return true;
}

bool is_token(std::string_view text) {
  return !text.empty() && text.size() <= longest_token &&
         std::all_of(text.begin(), text.end(), [](char c) { return is_alnum(c) || is_one_of(c, "._-:/,;=+"); });
}

bool is_safe_text(std::string_view text) {
  return !text.empty() && text.size() <= longest_text &&
         std::all_of(text.begin(), text.end(), [](char c) { return is_alnum(c) || is_one_of(c, ".,:_-/()+"); });
}

bool is_dom_octet(char c) { return is_lower(c) || is_digit(c) || is_one_of(c, "._-[]:"); }

bool is_dom(std::string_view text) {
  return !text.empty() && text.size() <= longest_name * 3 &&
         std::all_of(text.begin(), text.end(), [](char c) { return is_dom_octet(c) || is_alnum(c) || c == '%'; });
}

bool is_reason(std::string_view text) {
  return !text.empty() && text.size() <= 64 &&
         std::all_of(text.begin(), text.end(), [](char c) { return is_lower(c) || c == '-'; });
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = to_lower(c);
  return out;
}

// "key=value" -> value; nothing for another key.
std::optional<std::string_view> value_of(std::string_view token, std::string_view key) {
  if (token.size() <= key.size() || token.substr(0, key.size()) != key || token[key.size()] != '=') return std::nullopt;
  return token.substr(key.size() + 1);
}

std::string not_deliverable(std::string_view mode, const std::string& dom, std::string_view why) {
  return "mode=" + std::string(mode) + " dom=" + dom + " text=" + safe_text(why) + " end";
}

std::string status_word(Status status) {
  switch (status) {
    case Status::ok:
      return "OK";
    case Status::temp:
      return "TEMP";
    case Status::perm:
      return "PERM";
    case Status::err:
      break;
  }
  return "ERR";
}

}  // namespace

std::string write_request(const Request& request) {
  const VerbRule* rule = rule_of(request.verb);
  std::string line = "1 ";
  line += rule == nullptr ? "NONE" : rule->word;
  const auto add = [&](std::string_view key, std::string_view value) {
    if (rule == nullptr || (!lists(rule->needed, key) && !lists(rule->others, key))) return;
    line += ' ';
    line += key;
    line += '=';
    line += encoded(value);
  };
  const auto add_unless_empty = [&](std::string_view key, std::string_view value) {
    if (!value.empty()) add(key, value);
  };
  add_unless_empty("domain", request.domain);
  if (request.port != 25) add("port", std::to_string(request.port));
  if (!request.mx) add("mx", "no");
  if (request.fresh) add("fresh", "yes");
  if (request.wait_ms != 0) add("wait", std::to_string(request.wait_ms));
  add_unless_empty("id", request.id);
  if (request.as_text) add("as", "text");
  add_unless_empty("demand", request.demand);
  if (request.verb == Verb::event) add("event", request.connects ? "tcp:connect" : "tls:cert");
  add_unless_empty("host", request.host);
  add_unless_empty("address", request.address);
  if (request.depth) add("depth", std::to_string(*request.depth));
  add_unless_empty("tls", request.tls);
  for (const std::string& cert : request.certs) add("cert", cert);
  add_unless_empty("outcome", request.outcome);
  add_unless_empty("reason", request.reason);
  add_unless_empty("detail", request.detail);
  if (request.tested) add("tested", "yes");
  if (request.force) add("force", "yes");
  add_unless_empty("record", request.record);
  line += '\n';
  return line;
}

std::optional<Request> parse_request(std::string_view line, std::string& error) {
  const auto malformed = [&](std::string_view what) {
    error = what;
    return std::nullopt;
  };
  std::string_view rest = line;
  bool newer = false;
  if (!is_our_version(next_token(rest), newer)) return malformed("unknown version, 1 is spoken here");
  const VerbRule* rule = rule_of(next_token(rest));
  if (rule == nullptr) return malformed("unknown verb");
  if (line.size() >= rule->longest) return malformed("request too long");

  Request request;
  request.verb = rule->verb;
  std::vector<std::string_view> seen;
  if (!line.empty() && line.back() == ' ') return malformed("space at the end");
  while (!rest.empty()) {
    const std::string_view token = next_token(rest);
    const std::size_t equals = token.find('=');
    if (equals == std::string_view::npos || equals == 0) return malformed("not key=value");
    const std::string_view key = token.substr(0, equals);
    if (!lists(rule->needed, key) && !lists(rule->others, key)) {
      if (newer) continue;
      return malformed("unknown key for this verb");
    }
    if (key != "cert") {
      if (std::find(seen.begin(), seen.end(), key) != seen.end()) return malformed("a key twice");
      seen.push_back(key);
    }
    const auto value = decoded(token.substr(equals + 1));
    if (!value || value->empty() || !set_key(request, key, *value)) {
      return malformed("bad value of " + std::string(key));
    }
  }
  for (std::string_view needed = rule->needed; !needed.empty();) {
    const std::string_view key = next_token(needed);
    if (std::find(seen.begin(), seen.end(), key) == seen.end()) return malformed("no " + std::string(key));
  }
  return request;
}

std::size_t longest_request(std::string_view beginning) {
  std::string_view rest = beginning;
  bool newer = false;
  if (!is_our_version(next_token(rest), newer)) return longest_short_request;
  const VerbRule* rule = rule_of(next_token(rest));
  return rule == nullptr ? longest_short_request : rule->longest;
}

std::string write_reply(const Reply& reply) {
  std::string line = status_word(reply.status);
  if (reply.status == Status::temp || reply.status == Status::perm) line += ' ' + reply.token;
  if (!reply.text.empty()) line += ' ' + reply.text;
  if (line.find('\n') != std::string::npos || line.find('\0') != std::string::npos || line.size() >= longest_reply) {
    return "ERR the answer does not fit a line\n";
  }
  line += '\n';
  return line;
}

std::optional<Reply> parse_reply(std::string_view line) {
  if (line.size() >= longest_reply || line.find('\n') != std::string_view::npos) return std::nullopt;
  Reply reply;
  std::string_view rest = line;
  const std::string_view word = next_token(rest);
  if (word == "OK") {
    reply.status = Status::ok;
  } else if (word == "TEMP" || word == "PERM") {
    reply.status = word == "TEMP" ? Status::temp : Status::perm;
    reply.token = next_token(rest);
    if (reply.token.empty()) return std::nullopt;
  } else if (word != "ERR") {
    return std::nullopt;
  }
  reply.text = rest;
  return reply;
}

std::string write_text_answer(const TextAnswer& answer) {
  return answer.action + ' ' + answer.reason + ' ' + encoded(answer.text);
}

std::optional<TextAnswer> parse_text_answer(std::string_view text) {
  TextAnswer answer;
  answer.action = next_token(text);
  answer.reason = next_token(text);
  auto plain = decoded(text);
  if (!plain) return std::nullopt;
  answer.text = std::move(*plain);
  return answer;
}

std::string_view to_text(Mode mode) {
  switch (mode) {
    case Mode::reject:
      return "reject";
    case Mode::gated:
      return "gated";
    case Mode::strict:
      return "strict";
    case Mode::open:
      return "open";
    case Mode::defer:
      break;
  }
  return "defer";
}

std::string write_route(const RouteAnswer& answer) {
  std::string dom = percent_encoded(lower(answer.domain), is_dom_octet);
  if (!is_dom(dom)) return not_deliverable("defer", "-", "the domain has no form that can be written");
  if (answer.action == "reject") return not_deliverable("reject", dom, answer.text);
  if (answer.action != "deliver") return not_deliverable("defer", dom, answer.text);
  if (!is_token(answer.demand)) return not_deliverable("defer", dom, "the demands cannot be written");

  // Nothing counts as open or strict by default: each must hold for every host.
  bool strict = true;
  bool open = answer.others == "opportunistic";
  std::string hosts;
  std::size_t count = 0;
  for (const RouteHost& host : answer.hosts) {
    if (host.tls != "opportunistic") open = false;
    const bool usable =
        host.tls == "dane" || host.tls == "pkix" || host.tls == "encrypt" || host.tls == "opportunistic";
    const std::string name = lower(host.name);
    if (!usable || !is_route_host(name) || count == most_hosts) continue;
    if (host.tls != "pkix") strict = false;
    if (count++ != 0) hosts += ':';
    hosts += name;
  }
  if (count == 0) return not_deliverable("defer", dom, "no host has a name that can be handed on; " + answer.text);
  std::string out = "mode=";
  out += to_text(strict ? Mode::strict : open ? Mode::open : Mode::gated);
  out += " dom=" + dom + " hosts=" + hosts + " demand=" + answer.demand + " text=" + safe_text(answer.text) + " end";
  return out;
}

std::optional<Route> parse_route(std::string_view text) {
  std::string_view rest = text;
  Route route;
  const auto mode = value_of(next_token(rest), "mode");
  bool known = false;
  for (const Mode m : {Mode::defer, Mode::reject, Mode::gated, Mode::strict, Mode::open}) {
    if (mode != to_text(m)) continue;
    route.mode = m;
    known = true;
  }
  if (!known) return std::nullopt;
  const auto dom = value_of(next_token(rest), "dom");
  if (!dom || !is_dom(*dom)) return std::nullopt;
  route.domain = *dom;
  if (route.mode != Mode::defer && route.mode != Mode::reject) {
    auto hosts = value_of(next_token(rest), "hosts");
    if (!hosts || hosts->empty() || hosts->back() == ':') return std::nullopt;
    while (!hosts->empty()) {
      const std::string_view host = hosts->substr(0, hosts->find(':'));
      hosts->remove_prefix(std::min(host.size() + 1, hosts->size()));
      if (!is_route_host(host) || route.hosts.size() == most_hosts) return std::nullopt;
      route.hosts.emplace_back(host);
    }
    const auto demand = value_of(next_token(rest), "demand");
    if (!demand || !is_token(*demand)) return std::nullopt;
    route.demand = *demand;
  }
  const auto why = value_of(next_token(rest), "text");
  if (!why || !is_safe_text(*why)) return std::nullopt;
  route.text = *why;
  if (rest != "end") return std::nullopt;
  return route;
}

std::string write_verdict(const VerdictAnswer& verdict) {
  const bool good = is_reason(verdict.reason);
  std::string out = verdict.pass && good ? "pass" : "refuse";
  out += " reason=" + (good ? verdict.reason : "tls-failed") + " text=" + safe_text(verdict.text);
  return out;
}

std::optional<VerdictAnswer> parse_verdict(std::string_view text) {
  std::string_view rest = text;
  VerdictAnswer verdict;
  const std::string_view word = next_token(rest);
  if (word != "pass" && word != "refuse") return std::nullopt;
  verdict.pass = word == "pass";
  const auto reason = value_of(next_token(rest), "reason");
  const auto why = value_of(rest, "text");
  if (!reason || !is_reason(*reason) || !why || !is_safe_text(*why)) return std::nullopt;
  verdict.reason = *reason;
  verdict.text = *why;
  return verdict;
}

std::string safe_text(std::string_view words) {
  // What an Exim expansion, list or `:defer:` could take for syntax gets a likeness that it cannot.
  std::string out;
  for (const char c : words.substr(0, longest_text)) {
    if (is_alnum(c) || is_one_of(c, ".,:_-/()")) {
      out += c;
    } else if (c == ' ') {
      out += '+';
    } else if (c == '[') {
      out += '(';
    } else if (c == ']') {
      out += ')';
    } else if (c == ';') {
      out += ',';
    } else {
      out += '-';
    }
  }
  return out.empty() ? "-" : out;
}

std::string plain_text(std::string_view safe) {
  std::string out(safe);
  std::replace(out.begin(), out.end(), '+', ' ');
  return out;
}

}  // namespace sealane::wire
