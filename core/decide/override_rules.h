// What the administrator demands beyond what is published. Internal to core/decide.
#pragma once

#include "core/decide/decision.h"
#include "core/decide/evidence.h"

namespace sealane {

// No override beats a failed lookup: hosts that are `skip` stay so.
void apply_override(HostDecision& host, const Override& rule, const Domain& domain, dns::Security mx_dnssec);

}  // namespace sealane
