// The agent's protocol (shims/wire/grammar.md): every line of the input as a request and as each kind of reply; all
// lines together as what a route is made of.
#include <algorithm>

#include "shims/wire/codec.h"
#include "shims/wire/tls_words.h"
#include "tests/fuzz/fuzz.h"

using namespace sealane::wire;
using sealane::fuzz::must;

namespace {

bool is_printable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c < 0x7f; });
}

std::string_view without_line_end(std::string_view line) {
  must(!line.empty() && line.find('\n') == line.size() - 1, "what is written is one line");
  return line.substr(0, line.size() - 1);
}

void check_request(std::string_view line) {
  std::string error;
  const auto request = parse_request(line, error);
  const std::size_t longest = longest_request(line);
  if (!request) {
    must(!error.empty() && error.size() < 100 && is_printable(error), "an error is short and printable");
    return;
  }
  must(request->verb != Verb::none, "a request has a verb");
  must(line.size() < longest, "no request is longer than was said ahead");
  must(request->port != 0 && request->wait_ms <= longest_wait_ms, "numbers are in range");
  must(request->certs.size() <= 32, "certificates are bounded");

  const std::string written = write_request(*request);
  must(written.size() <= line.size() + 1, "a request is not written longer than it came");
  const auto again = parse_request(without_line_end(written), error);
  must(again && write_request(*again) == written, "what is written reads as it was");
  must(again->domain == request->domain && again->host == request->host && again->demand == request->demand &&
           again->tls == request->tls && again->certs == request->certs && again->port == request->port &&
           again->mx == request->mx && again->fresh == request->fresh && again->wait_ms == request->wait_ms &&
           again->id == request->id && again->outcome == request->outcome && again->reason == request->reason &&
           again->as_text == request->as_text && again->verb == request->verb,
       "a request keeps every value");
}

void check_reply(std::string_view line) {
  const auto reply = parse_reply(line);
  if (!reply) return;
  must(line.size() < longest_reply, "a reply is bounded");
  const std::string written = write_reply(*reply);
  const auto again = parse_reply(without_line_end(written));
  must(again.has_value(), "what is written reads");
  if (line.find('\0') != std::string_view::npos) {
    must(again->status == Status::err, "a NUL makes no reply");
    return;
  }
  must(again->status == reply->status && again->token == reply->token && again->text == reply->text,
       "what is written reads as it was");
  const auto text = parse_text_answer(reply->text);
  if (text) must(text->text.size() <= reply->text.size(), "text is decoded, and so shorter");
}

void check_route(std::string_view line) {
  const auto route = parse_route(line);
  if (!route) return;
  must(is_printable(line), "a route is printable");
  const bool deliverable = route->mode != Mode::defer && route->mode != Mode::reject;
  must(route->hosts.empty() != deliverable && route->demand.empty() != deliverable,
       "hosts and demand come with what can be delivered");
  must(route->hosts.size() <= 50 && !route->domain.empty() && !route->text.empty(), "no value is empty, all bounded");
  if (route->domain.find('%') != std::string::npos) return;  // would be escaped twice
  RouteAnswer answer;
  answer.domain = route->domain;
  answer.action = deliverable ? "deliver" : to_text(route->mode);
  answer.others = route->mode == Mode::open ? "opportunistic" : "skip";
  const std::string tls = route->mode == Mode::strict ? "pkix"
                          : route->mode == Mode::open ? "opportunistic"
                                                      : "encrypt";
  for (const std::string& host : route->hosts) answer.hosts.push_back({host, tls});
  answer.demand = route->demand;
  answer.text = plain_text(route->text);
  const auto again = parse_route(write_route(answer));
  must(again && again->mode == route->mode && again->hosts == route->hosts && again->demand == route->demand &&
           again->text == route->text,
       "what is written reads as it was");
}

void check_verdict(std::string_view line) {
  const auto verdict = parse_verdict(line);
  if (!verdict) return;
  must(verdict->pass == (line.substr(0, 5) == "pass "), "only pass passes");
  must(write_verdict({verdict->pass, verdict->reason, plain_text(verdict->text)}) == line,
       "what is written reads as it was");
}

// Whatever it is made of: domain, action, others, demand, text, and then "NAME TLS" a host.
void check_any_route(const std::vector<std::string_view>& lines) {
  const auto line = [&lines](std::size_t i) { return i < lines.size() ? std::string(lines[i]) : std::string(); };
  RouteAnswer answer{line(0), line(1), line(2), {}, line(3), line(4)};
  for (std::size_t i = 5; i < lines.size(); ++i) {
    const std::size_t space = std::min(lines[i].find(' '), lines[i].size());
    const std::size_t behind = std::min(space + 1, lines[i].size());
    answer.hosts.push_back({std::string(lines[i].substr(0, space)), std::string(lines[i].substr(behind))});
  }
  const auto route = parse_route(write_route(answer));
  must(route.has_value(), "whatever a route is made of, it can be read");
  const auto all_are = [&answer](std::string_view tls) {
    return std::all_of(answer.hosts.begin(), answer.hosts.end(),
                       [tls](const RouteHost& host) { return host.tls == tls; });
  };
  if (route->mode == Mode::open) {
    must(answer.others == "opportunistic" && all_are("opportunistic"), "open demands nothing of any host");
  }
  if (route->mode != Mode::defer && route->mode != Mode::reject) {
    must(answer.action == "deliver", "only what may be delivered has a route");
    must(route->demand == answer.demand, "the demand travels unchanged");
  }
  if (route->mode == Mode::reject) must(answer.action == "reject", "nothing is rejected that was not");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto lines = sealane::fuzz::lines_of(sealane::fuzz::text_of(data, size));
  for (const std::string_view line : lines) {
    check_request(line);
    check_reply(line);
    check_route(line);
    check_verdict(line);
    const TlsWords words = read_tls_words(line);
    must(words.tls || !(words.recent || words.encrypted || words.authenticated), "without TLS there is nothing else");
    const std::string safe = safe_text(line);
    must(!safe.empty() && safe.size() <= 500 && safe.find_first_of(" ;[]{}$\\\"") == std::string::npos,
         "safe text is short and harmless");
  }
  check_any_route(lines);
  return 0;
}
