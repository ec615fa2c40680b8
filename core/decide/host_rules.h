// One host: addresses and DANE (RFC 7672 §2.2.2, §2.2.3, §3.2.2). Internal to core/decide.
#pragma once

#include "core/decide/decision.h"
#include "core/decide/inquiry.h"

namespace sealane {

// What is known of the domain when its hosts are looked at.
struct MxContext {
  const Domain& domain;  // as asked
  std::string next_hop;  // fully expanded
  dns::Security dnssec;  // of the MX answer
  std::uint16_t port;    // host order
  bool dane;             // TLSA records are looked up at all
};

// Fills in all of `host` but what MTA-STS and overrides add. In: `name` and `preference`.
void judge_host(HostDecision& host, const MxContext& mx, Inquiry& inquiry);

// Marks a host as not to be used. `transient`: a later attempt may go better, or security forbids it, so that the
// domain must not be given up.
void skip(HostDecision& host, Reason reason, std::string detail, bool transient);

}  // namespace sealane
