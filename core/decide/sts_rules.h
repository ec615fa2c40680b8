// MTA-STS: which policy is in force, and what it asks of each host (RFC 8461 §3, §4.1, §5). Internal to core/decide.
#pragma once

#include "core/decide/decision.h"
#include "core/decide/inquiry.h"

namespace sealane {

struct StsFinding {
  std::optional<StsView> view;        // as Decision::sts
  std::optional<sts::Policy> policy;  // in force, mode enforce or testing
  std::string id;                     // of that policy
  bool fetch_pending = false;         // a fetch was asked for and has not ended

  [[nodiscard]] bool enforced() const { return policy && policy->mode == sts::Mode::enforce; }
};

// `domain` is the policy domain: as asked, never what it is an alias of (RFC 8461 §3.4 for a smart host).
[[nodiscard]] StsFinding find_policy(const Domain& domain, Inquiry& inquiry);

// What the store held before this question: an enforced policy in force?
[[nodiscard]] bool enforced_before(const Evidence& evidence);

// Adds the policy's demands to what DANE said of the host.
void apply_policy(HostDecision& host, const StsFinding& sts, dns::Security mx_dnssec);

}  // namespace sealane
