// The functions that Exim calls by ${dlfunc{…}{NAME}{ARGUMENT}…}; the fragments beside this file call them.
//
// Exim's contract, which holds for all of them: at most seven arguments, strings that end in NUL. The answer is OK with
// a text that Exim copies, or FAIL with a text that Exim keeps a pointer to; any other status would fill the paniclog.
// A text is memory that Exim holds to be untainted, so it has a checked alphabet. One thread; state lives as long as
// the process, which is one delivery. Nothing throws into Exim.
#include <time.h>

#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "shims/exim/backend.h"
#include "shims/exim/base64.h"
#include "shims/exim/connection.h"
#include "shims/wire/codec.h"
#include "shims/wire/tls_words.h"

namespace sealane::exim {
namespace {

constexpr int exim_ok = 0;
constexpr int exim_fail = 2;

// The child of a fork and the agent both end by themselves first.
constexpr std::uint32_t route_wait_ms = 20000;
constexpr int route_timeout_ms = 25000;

// Longest arguments, in octets.
constexpr std::size_t a_word = 64, a_name = 1024, a_cipher = 256, a_backend = 4096;
constexpr std::size_t an_event_datum = 65536;
constexpr std::size_t a_route = 96 * std::size_t{1024};
constexpr std::size_t a_certificate = 65536 / 3 * 4 + 4;

constexpr std::string_view verified = "verified";
constexpr std::size_t most_detail = 400;

Connection connection;

// ---- Arguments and results ----

template <std::size_t count>
using Arguments = std::array<std::string_view, count>;

// Nothing: not as many as the function has, or one that is longer than its limit.
template <std::size_t count>
std::optional<Arguments<count>> take(int argc, unsigned char** argv, const std::array<std::size_t, count>& limits) {
  if (argc != static_cast<int>(count) || argv == nullptr) return std::nullopt;
  Arguments<count> arguments;
  for (std::size_t i = 0; i < count; ++i) {
    if (argv[i] == nullptr) return std::nullopt;
    const auto* text = reinterpret_cast<const char*>(argv[i]);
    const std::size_t length = ::strnlen(text, limits[i] + 1);
    if (length > limits[i]) return std::nullopt;
    arguments[i] = {text, length};
  }
  return arguments;
}

// 1 to 65535
std::optional<std::uint16_t> port_of(const unsigned char* text) {
  std::uint32_t port = 0;
  if (text == nullptr) return std::nullopt;
  for (int i = 0; text[i] != '\0'; ++i) {
    if (i == 5 || text[i] < '0' || text[i] > '9') return std::nullopt;
    port = port * 10 + (text[i] - unsigned{'0'});
  }
  if (port == 0 || port > 65535) return std::nullopt;
  return static_cast<std::uint16_t>(port);
}

constexpr std::string_view bad_call =
    "sealane: bad arguments: too many, too few or too long; the object and the configuration fragments must be of one "
    "version";

struct Result {
  int status = exim_fail;
  std::string text;
};

// The words of a refusal are harmless in a log line and in an expansion, whoever wrote them: a server's certificate
// may.
Result refusal(int status, std::string_view text) {
  return {status, text.empty() ? std::string() : wire::plain_text(wire::safe_text(text))};
}

// Runs `call` and hands its result to Exim. A bug becomes `otherwise`.
template <class Call>
int answer(unsigned char** yield, const Result& otherwise, Call call) noexcept {
  // Static: on failure Exim keeps the pointer.
  static std::array<char, a_route> buffer;
  int status = exim_fail;
  std::string_view text = "sealane: internal error";
  Result result;
  try {
    result = call();
    status = result.status;
    text = result.text;
  } catch (...) {
    status = otherwise.status;
    text = otherwise.text;
  }
  if (text.size() >= buffer.size()) {
    status = otherwise.status;
    text = otherwise.text;
  }
  text.copy(buffer.data(), text.size());
  buffer[text.size()] = '\0';
  if (yield != nullptr) *yield = reinterpret_cast<unsigned char*>(buffer.data());
  return status;
}

// ---- Route ----

std::string deferred(std::string_view domain, const std::string& why) {
  wire::RouteAnswer answer;
  answer.domain = domain;
  answer.action = "defer";
  answer.text = std::string(domain) + " deferred: " + why;
  return wire::write_route(answer);
}

std::string without_last_dot(std::string_view domain) {
  if (!domain.empty() && domain.back() == '.') domain.remove_suffix(1);
  return std::string(domain);
}

// A route, always: what is no answer is a deferral that says so.
// `hop_port`: the domain is a next hop set by the administrator, at this port; 0: it is one with MX records.
std::string ask_route(const Backend& backend, const std::string& domain, std::string_view id, bool fresh,
                      std::uint16_t hop_port) {
  wire::Request request;
  request.verb = wire::Verb::route;
  request.domain = domain;
  request.id = id;
  request.fresh = fresh;
  request.wait_ms = route_wait_ms;
  std::string error;
  if (hop_port != 0) {
    request.mx = false;
    request.port = hop_port;
  }
  const auto reply = ask(backend, request, route_timeout_ms, error);
  if (!reply) return deferred(domain, "no decision: " + error);
  if (reply->status != wire::Status::ok) return deferred(domain, "no decision: " + reply->token + ": " + reply->text);
  const auto route = wire::parse_route(reply->text);
  if (!route) return deferred(domain, "no decision: the answer is malformed");
  // In the spelling of an answer, or an odd but answered name would never be rejected.
  const auto asked = wire::parse_route(deferred(domain, ""));
  if (!asked || route->domain != asked->domain)
    return deferred(domain, "no decision: the answer is for another domain");
  return reply->text;
}

// Exim asks once for each recipient. Answers of one delivery are the same for all recipients of a domain, and a
// process that lives long (one that receives mail and verifies addresses) does not keep them.
class Routes {
 public:
  std::string find(std::string_view backend, std::string_view asked, std::string_view id, bool fresh,
                   std::uint16_t hop_port) {
    const std::string domain = without_last_dot(asked);
    std::string key =
        (fresh ? "again\n" : "first\n") + domain + '\n' + std::to_string(hop_port) + '\n' + std::string(backend);
    const time_t now = monotonic();
    if (const auto known = routes_.find(key); known != routes_.end() && now - known->second.when < seconds) {
      return known->second.route;
    }
    std::string error;
    const auto parsed = parse_backend(backend, error);
    std::string route = parsed ? ask_route(*parsed, domain, id, fresh, hop_port) : deferred(domain, error);
    if (routes_.size() >= most) routes_.clear();
    routes_[std::move(key)] = {route, now};
    return route;
  }

 private:
  static constexpr std::size_t most = 256;
  static constexpr time_t seconds = 60;

  static time_t monotonic() {
    timespec t{};
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
  }

  struct Known {
    std::string route;
    time_t when = 0;
  };
  std::map<std::string, Known> routes_;
};

Routes routes;

// ---- The connection ----

// Runs `use` with the back end and the route that $address_data holds, or says why there is none.
template <class Use>
std::string with_route(std::string_view backend_text, std::string_view address_data, Use use) {
  std::string error;
  const auto backend = parse_backend(backend_text, error);
  if (!backend) return "sealane: " + error;
  const auto route = wire::parse_route(address_data);
  if (!route || route->demand.empty()) return "sealane: no decision came with this address, so no host may be used";
  return use(*backend, *route);
}

std::string refused(const wire::Route& route, std::string_view host, const std::string& why) {
  return "sealane: " + route.domain + ' ' + std::string(host) + " refused: " + why;
}

bool equal_names(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (lower(a[i]) != lower(b[i])) return false;
  }
  return true;
}

// How the connection ended, for who asks later why (RFC 8460 §4.3). Mail neither waits for it nor depends on it.
void report(const Backend& backend, const wire::Route& route, std::string_view host, std::string_view reason,
            std::string_view detail) {
  wire::Request request;
  request.verb = wire::Verb::report;
  request.domain = route.domain;
  request.host = host;
  request.outcome = reason == verified ? "delivered" : "refused";
  request.reason = reason;
  request.demand = route.demand;
  request.detail = detail.substr(0, most_detail);
  tell(backend, request);
}

// RFC 7672 §2.2, RFC 8461 §4.2: a host that cannot be authenticated is passed over, and the next one is tried. Empty:
// Exim goes on.
std::string event(const Arguments<7>& a) {
  const auto& [backend_text, name, datum, address_data, host, address, certificate] = a;
  if (name == "tcp:connect") connection.reset();
  if (name != "tls:cert") return {};

  std::size_t depth = 0;
  for (const char c : datum) {
    if (c < '0' || c > '9') return "sealane: a certificate of unknown depth";
    depth = depth * 10 + static_cast<std::size_t>(c - '0');
    if (depth >= Connection::most_certificates) return "sealane: the host presents more than 32 certificates";
  }
  auto der = base64_decoded(certificate);
  if (datum.empty() || !der || !is_der_sequence(*der))
    return "sealane: the host presents no certificate that can be read";
  connection.certificate(depth, std::move(*der));
  if (depth != 0) return {};
  const std::string_view to_host = host;
  const std::string_view to_address = address;
  return with_route(backend_text, address_data, [&](const Backend& backend, const wire::Route& route) -> std::string {
    const Purpose purpose{route.demand, to_host, to_address};
    if (route.mode == wire::Mode::open) {
      connection.try_out(backend, purpose);
      return {};
    }
    const std::string why = connection.judge(backend, purpose);
    return why.empty() ? why : refused(route, to_host, why);
  });
}

// The last word before MAIL. Empty: the connection is as the domain's demand wants it.
std::string gate(const Arguments<7>& a) {
  const std::string_view domain = a[1], cipher = a[4], leaf_text = a[5];
  return with_route(a[0], a[6], [&](const Backend& backend, const wire::Route& route) -> std::string {
    const Purpose purpose{route.demand, a[2], a[3]};
    if (!equal_names(domain, route.domain)) return refused(route, purpose.host, "this message is for another domain");
    const auto leaf = base64_decoded(leaf_text);
    const bool agreed = !cipher.empty() && leaf && connection.agreed_on(purpose, *leaf);
    const wire::TlsWords words = wire::read_tls_words(cipher);
    if (agreed && words.recent && words.encrypted && words.authenticated) {
      report(backend, route, purpose.host, verified, {});
      return {};
    }
    // An old version or a weak suite is judged for what it is; a chain that nobody agreed on counts as none.
    const std::string why =
        agreed ? verdict(backend, purpose, cipher, connection.chain()) : verdict(backend, purpose, "none", {});
    if (why.empty()) return {};
    if (!agreed && words.tls) return refused(route, purpose.host, wire::unseen_certificate);
    return refused(route, purpose.host, why);
  });
}

// The hosts that Exim must not go on with in clear text: `*`, or none where a connection without TLS is good enough.
std::string require_tls(const Arguments<3>& a) {
  const std::string why = with_route(a[0], a[1], [&](const Backend& backend, const wire::Route& route) {
    return verdict(backend, {route.demand, a[2], {}}, "none", {});
  });
  return why.empty() ? "" : "*";
}

}  // namespace
}  // namespace sealane::exim

#define SEALANE_EXIM_API extern "C" __attribute__((visibility("default")))

using namespace sealane::exim;

// BACKEND, domain, message id, `first` or `again` (the attempt; again asks past all caches, RFC 8461 §5.1), and, of a
// smart host, which has no MX records, its port (RFC 7672 §2.2, RFC 8461 §3.4)
// -> the route (grammar.md). FAIL defers, in a router's address_data.
SEALANE_EXIM_API int sealane_exim_route(unsigned char** yield, int argc, unsigned char** argv) {
  const Result failed{exim_fail, "sealane: out of memory"};
  return answer(yield, failed, [&] {
    const auto a = take<4>(argc == 5 ? 4 : argc, argv, {a_backend, a_name, a_name, a_word});
    const auto port = argc == 5 ? port_of(argv[4]) : std::optional<std::uint16_t>(0);
    if (!a || (*a)[1].empty() || !port) return refusal(exim_fail, bad_call);
    return Result{exim_ok, routes.find((*a)[0], (*a)[1], (*a)[2], (*a)[3] == "again", *port)};
  });
}

// BACKEND, $event_name, $event_data, $address_data, $host, $host_address, base64 of the certificate
// -> empty, or why this host is refused. Never FAIL: a failing event_action lets the connection go on.
SEALANE_EXIM_API int sealane_exim_event(unsigned char** yield, int argc, unsigned char** argv) {
  const Result failed{exim_ok, "sealane: out of memory"};
  return answer(yield, failed, [&] {
    const auto a = take<7>(argc, argv, {a_backend, a_word, an_event_datum, a_route, a_name, a_word, a_certificate});
    return refusal(exim_ok, a ? event(*a) : std::string(bad_call));
  });
}

// BACKEND, $domain, $host, $host_address, $tls_out_cipher, base64 of the leaf, $address_data
// -> empty (no AUTH= is sent), or FAIL with the reason: the message is deferred.
SEALANE_EXIM_API int sealane_exim_gate(unsigned char** yield, int argc, unsigned char** argv) {
  const Result failed{exim_fail, "sealane: out of memory"};
  return answer(yield, failed, [&] {
    const auto a = take<7>(argc, argv, {a_backend, a_name, a_name, a_word, a_cipher, a_certificate, a_route});
    const std::string why = a ? gate(*a) : std::string(bad_call);
    return why.empty() ? Result{exim_ok, ""} : refusal(exim_fail, why);
  });
}

// BACKEND, $address_data, $host, why TLS was not to be had (a token of reasons.def), Exim's words -> empty, always: a
// text would refuse the host.
SEALANE_EXIM_API int sealane_exim_report(unsigned char** yield, int argc, unsigned char** argv) {
  return answer(yield, {exim_ok, ""}, [&] {
    const auto a = take<5>(argc, argv, {a_backend, a_route, a_name, a_word, an_event_datum});
    if (!a || connection.was_judged()) return Result{exim_ok, ""};
    (void)with_route((*a)[0], (*a)[1], [&](const Backend& backend, const sealane::wire::Route& route) {
      report(backend, route, (*a)[2], (*a)[3], (*a)[4]);
      return std::string();
    });
    return Result{exim_ok, ""};
  });
}

// BACKEND, $address_data, $host -> the value of hosts_require_tls. Never FAIL, which would mean "no host".
SEALANE_EXIM_API int sealane_exim_require_tls(unsigned char** yield, int argc, unsigned char** argv) {
  const Result failed{exim_ok, "*"};
  return answer(yield, failed, [&] {
    const auto a = take<3>(argc, argv, {a_backend, a_route, a_name});
    return Result{exim_ok, a ? require_tls(*a) : "*"};
  });
}
