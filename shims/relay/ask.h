// The agent's word on a domain.
#pragma once

#include <string>

#include "core/decide/decision.h"
#include "shims/relay/context.h"

namespace sealane::relay {

// An error: there is no decision now, and why.
[[nodiscard]] Result<Decision> ask_decision(const Context& context, const std::string& domain, const std::string& id,
                                            MonoTime until);

// Tells the agent that a host did not show what was demanded: its next answer for the domain comes from past all
// caches.
void tell_refused(const Context& context, const std::string& domain, const std::string& host, Reason reason,
                  const std::string& id);

}  // namespace sealane::relay
