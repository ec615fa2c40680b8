// One connection to one address of a host: as secure as was decided, or not at all.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/decide/decision.h"
#include "shims/relay/context.h"

namespace sealane::relay {

// Why a host was not used.
struct HostFailure {
  Reason reason = Reason::tls_failed;
  bool security = false;  // it did not show what was demanded
  bool no_route = false;  // this machine has no way there: nothing was tried
  std::string text;
};

// The demand of this very host; `skip` where there is none, which is never connected to.
[[nodiscard]] Demand demand_of(const Decision& decision, const HostDecision& host);

// Clear text, where `demand.tls` is `opportunistic` and STARTTLS is not offered, or fails (RFC 7672 §2.2: on a new
// connection then). `until` bounds each of the connections made.
[[nodiscard]] std::optional<Open> open_connection(const Context& context, const Demand& demand,
                                                  const std::string& address, MonoTime until, HostFailure& failure);

}  // namespace sealane::relay
