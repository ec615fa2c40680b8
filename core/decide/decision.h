// The answer: what must hold for a connection to each host of a domain. The zero value of every field is the safe one.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/dane/tlsa.h"
#include "core/decide/reason.h"
#include "core/dns/answer.h"
#include "core/domain/domain.h"
#include "core/sts/policy.h"

namespace sealane {

enum class Action : std::uint8_t { defer, reject, deliver };
enum class Mechanism : std::uint8_t { none, sts, dane };  // a label for people, never a requirement
enum class Others : std::uint8_t { skip, opportunistic };
// What a connection to a host must do, weakest last but for `skip`, which forbids the connection.
enum class Tls : std::uint8_t { skip, dane, pkix, encrypt, opportunistic };

[[nodiscard]] std::string_view to_text(Action action);
[[nodiscard]] std::string_view to_text(Mechanism mechanism);
[[nodiscard]] std::string_view to_text(Others others);
[[nodiscard]] std::string_view to_text(Tls tls);
[[nodiscard]] std::optional<Tls> tls_from_text(std::string_view text);

struct HostDecision {
  std::string host;            // MX name before CNAME expansion; of a name that is no Domain: its escaped form
  std::optional<Domain> name;  // `host`, where it is a Domain
  std::string expanded;        // end of the CNAME chain of its addresses; `host` where there is none
  std::uint16_t preference = 0;
  Tls tls = Tls::skip;
  std::optional<Tls> would;  // under `testing`: pkix or skip
  Reason reason = Reason::deadline;
  std::string detail;              // in words: which pattern, which record, which server said what; may be empty
  std::string sni;                 // TLSA base under DANE, else the MX host name
  std::vector<std::string> names;  // reference identifiers: RFC 7672 §3.2.2 under DANE; the MX name under pkix
  std::string tlsa_base;           // empty where DANE does not apply
  std::vector<dane::TlsaRecord> tlsa;
  std::vector<dane::UnusedRecord> tlsa_unused;
  std::vector<std::string> addresses;
  dns::Security address_dnssec = dns::Security::bogus;
  std::vector<std::string> failed;  // lookups that failed and were not fatal: "AAAA: timeout"
  WallTime expires{};
  bool transient = false;  // of `skip`: another attempt may go better, or security forbids it; makes the action `defer`
};

enum class StsState : std::uint8_t { unavailable, invalid, pending, cached, valid };
[[nodiscard]] std::string_view to_text(StsState state);

struct StsView {
  StsState state = StsState::unavailable;
  std::string id;
  std::optional<sts::Policy> policy;  // in force
  std::optional<WallTime> fetched, txt_seen, expires, refresh_after;
  std::string error;
};

struct Decision {
  std::string domain;  // A-label; of an invalid name: the input, as valid UTF-8
  std::uint16_t port = 25;
  Action action = Action::defer;
  Reason reason = Reason::deadline;
  std::string detail;
  Mechanism mechanism = Mechanism::none;
  Tls floor = Tls::skip;  // the weakest demand that is not skip
  dns::Security mx_dnssec = dns::Security::bogus;
  bool implicit = false;  // implicit MX (RFC 5321 §5.1)
  std::string next_hop;   // the domain fully expanded where it is an alias, else the domain
  Others others = Others::skip;
  std::string override_rule;  // the override that applied, as configured ("example.org = encrypt"); empty: none
  bool complete = false;      // every input was known
  WallTime decided{};
  WallTime expires{};
  std::vector<HostDecision> hosts;
  std::optional<StsView> sts;
};

}  // namespace sealane
