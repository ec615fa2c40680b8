// All that a decision rests on. Whoever has the evidence can replay the decision, without network or store.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/decide/reason.h"
#include "core/dns/answer.h"
#include "core/domain/domain.h"
#include "core/domain/mx_pattern.h"
#include "core/sts/lifecycle.h"

namespace sealane {

struct Question {
  std::string text;              // as asked, as valid UTF-8
  std::optional<Domain> domain;  // nothing: `text` is no domain, or an address literal
  bool address_literal = false;
  std::uint16_t port = 25;  // host order
  bool mx = true;           // false: a next hop set by the administrator
  bool fresh = false;       // past all caches (RFC 8461 §5.1)

  // "example.org"; "[smart.example]" (no MX); "[192.0.2.1]", "[IPv6:2001:db8::1]", "192.0.2.1", "2001:db8::1" (address
  // literals). Never fails: what is no name makes a question whose decision is `reject`, domain-invalid.
  [[nodiscard]] static Question parse(std::string_view input, std::uint16_t port = 25, bool mx = true,
                                      bool fresh = false);
};

enum class OverrideKind : std::uint8_t { dane, pkix, encrypt, none };
[[nodiscard]] std::string_view to_text(OverrideKind kind);

struct Override {
  std::string rule;  // as configured, for logs: "example.org = pkix match=*.example.net"
  OverrideKind kind = OverrideKind::dane;
  std::vector<MxPattern> match;  // pkix only
};

// The settings that change a decision.
struct Rules {
  bool dane = true;
  bool mta_sts = true;
  bool dane_insecure_mx = true;
  std::optional<Override> override;  // the one that applies to the question's domain
};

struct Fault {
  Reason reason = Reason::trust_anchor;
  std::string text;  // for people, with the remedy
};

struct LookupKey {
  Domain name;
  dns::RrType type;
  friend auto operator<=>(const LookupKey&, const LookupKey&) = default;
};

struct Evidence {
  Question question;
  WallTime now{};
  Rules rules;
  std::optional<Fault> fault;  // of the environment: nothing can be decided (trust-anchor, resolver-no-dnssec, …)
  std::optional<Fault> store_fault;  // what was learned before cannot be read
  std::map<LookupKey, dns::Answer> answers;
  sts::PolicyState stored;                // of the policy domain, as the store had it when the question came
  std::optional<sts::FetchResult> fetch;  // of this question's own fetch, once it has ended
};

// What is still unknown. A lookup is wanted as soon as the rules come to need it.
struct Wanted {
  std::set<LookupKey> lookups;
  bool fetch = false;         // the policy should be fetched …
  std::string fetch_id;       // … for this TXT id
  bool fetch_needed = false;  // … and the decision waits for it
  [[nodiscard]] bool settled() const { return lookups.empty() && !fetch_needed; }
};

}  // namespace sealane
