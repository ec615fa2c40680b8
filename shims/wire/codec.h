// The agent's protocol (grammar.md): requests and replies to text and back.
//
// Pure, bounded, never throws but for std::bad_alloc; uses nothing but the C++ library, because it is part of the
// object that Exim loads. Lines are given and taken without their LF unless a function says otherwise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sealane::wire {

enum class Verb : std::uint8_t {
  none,
#define SEALANE_VERB(name, word, longest, needed, others) name,
#include "shims/wire/verbs.def"
#undef SEALANE_VERB
};

struct Request {
  Verb verb = Verb::none;
  std::string domain;
  std::uint16_t port = 25;  // host order
  bool mx = true;
  bool fresh = false;
  std::uint32_t wait_ms = 0;  // 0: the agent's own
  std::string id;             // of the MTA's message; may be empty
  bool as_text = false;       // QUERY: for people
  std::string demand;         // VERIFY, EVENT, GATE, REPORT: the token of a route
  std::string host;
  std::string address;               // EVENT, GATE: of the host
  bool connects = false;             // EVENT: tcp:connect; else tls:cert
  std::optional<std::size_t> depth;  // EVENT: of the certificate; 0 is the leaf
  std::string tls;                   // VERIFY, GATE: "none", or the MTA's words for version and cipher
  std::vector<std::string> certs;    // VERIFY: base64, leaf first; EVENT, GATE: one
  std::string outcome;               // REPORT: delivered, deferred, refused
  std::string reason;                // REPORT
  std::string detail;                // REPORT: in words; any octets
  bool tested = false;               // VERIFY: by a policy in `testing`, as if it were enforced
  bool force = false;                // PURGE, IMPORT: also where less is demanded then
  std::string record;                // IMPORT: a line of `sealane cache export`
};

inline constexpr std::size_t longest_reply = 1048576;  // octets, LF included
inline constexpr std::size_t most_certificates = 32;   // of one chain
inline constexpr std::uint32_t longest_wait_ms = 600000;

// One line, LF included. Only the keys of its verb are written.
[[nodiscard]] std::string write_request(const Request& request);
// Nothing: malformed, and `error` says what, printable, for an ERR reply.
[[nodiscard]] std::optional<Request> parse_request(std::string_view line, std::string& error);
// How long (LF included) a line that begins like this may become. `beginning` may be any part of it.
[[nodiscard]] std::size_t longest_request(std::string_view beginning);

enum class Status : std::uint8_t { err, temp, perm, ok };

struct Reply {
  Status status = Status::err;
  std::string token;  // TEMP, PERM
  std::string text;   // what follows; of OK: JSON, a route, a verdict, or nothing
};

// One line, LF included. A reply that would be too long, or that holds a line end or NUL, becomes an ERR.
[[nodiscard]] std::string write_reply(const Reply& reply);
[[nodiscard]] std::optional<Reply> parse_reply(std::string_view line);

// The answer to a QUERY with as=text.
struct TextAnswer {
  std::string action;  // deliver defer reject
  std::string reason;  // token of reasons.def
  std::string text;    // any octets, several lines
};
[[nodiscard]] std::string write_text_answer(const TextAnswer& answer);
[[nodiscard]] std::optional<TextAnswer> parse_text_answer(std::string_view text);

// What a decision says of one host; the words are those of decision.md. An unknown word is the strictest.
struct RouteHost {
  std::string name;
  std::string tls;  // dane pkix encrypt opportunistic skip
};

struct RouteAnswer {
  std::string domain;
  std::string action;  // deliver defer reject
  std::string others;  // opportunistic skip
  std::vector<RouteHost> hosts;
  std::string demand;  // token
  std::string text;    // why, in plain words
};

enum class Mode : std::uint8_t { defer, reject, gated, strict, open };
[[nodiscard]] std::string_view to_text(Mode mode);

struct Route {
  Mode mode = Mode::defer;
  std::string domain;
  std::vector<std::string> hosts;
  std::string demand;
  std::string text;  // still in the safe alphabet
};

// "mode=… end", for both the agent and the fork back end. Whatever it is given, the result parses: what does not fit
// the grammar becomes mode=defer with a text that says so.
[[nodiscard]] std::string write_route(const RouteAnswer& answer);
// Strict: the whole grammar, nothing before or after it.
[[nodiscard]] std::optional<Route> parse_route(std::string_view text);

struct VerdictAnswer {
  bool pass = false;
  std::string reason;
  std::string text;  // written: plain words; read: still in the safe alphabet
};
[[nodiscard]] std::string write_verdict(const VerdictAnswer& verdict);
[[nodiscard]] std::optional<VerdictAnswer> parse_verdict(std::string_view text);

// Words in the safe alphabet of grammar.md, `+` for a space, never empty, 500 octets at most.
[[nodiscard]] std::string safe_text(std::string_view words);
// `+` back to spaces.
[[nodiscard]] std::string plain_text(std::string_view safe);

}  // namespace sealane::wire
