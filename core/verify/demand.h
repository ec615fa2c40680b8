// What a connection must show, carried between processes as one printable token.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/decide/decision.h"

namespace sealane {

struct Demand {
  std::string host;      // MX name
  std::string expanded;  // the name that an MTA may know the host by after CNAME expansion
  Tls tls = Tls::skip;
  std::vector<std::string> names;  // reference identifiers
  std::string sni;
  std::vector<dane::TlsaRecord> tlsa;
  std::optional<Tls>
      would{};  // `pkix` or `skip`: what a policy in `testing` would demand if it were enforced (RFC 8461 §5)

  friend bool operator==(const Demand&, const Demand&) = default;
};

struct Demands {
  std::string domain;
  Others others = Others::skip;
  std::vector<Demand> hosts;
};

[[nodiscard]] Demands demands_of(const Decision& decision);

inline constexpr std::size_t max_token_octets = 65536;

// Alphabet: A-Z a-z 0-9 . _ - : / , ; = + only (safe in Exim expansions, lists and log lines). Starts with a version.
// Left out are `skip` hosts, and hosts for which 50 hosts or 64 KiB leave no room. A host that is not listed falls
// under `others`, which is therefore written as `skip` if any host is left out.
[[nodiscard]] std::string write_token(const Demands& demands);
// Strict and bounded: only what write_token writes, to the last octet; 64 KiB, 50 hosts, 100 records a host. The caller
// refuses the connection on an error.
[[nodiscard]] Result<Demands> read_token(std::string_view token);

// What a policy that is only tested would demand of the host, as if it were enforced: `pkix` or `skip`. None: nothing
// is tested.
[[nodiscard]] std::vector<Demand> tested_for(const Demands& demands, std::string_view name);

// Every demand that applies to a host known as `name` (lower case or not, a trailing dot or not), by MX name or by
// expanded name. Two MX names may share one target: a connection must meet all of them. None listed: one demand made
// of `others`.
[[nodiscard]] std::vector<Demand> demands_for(const Demands& demands, std::string_view name);

}  // namespace sealane
