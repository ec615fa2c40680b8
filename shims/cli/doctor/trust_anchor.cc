#include "shims/agent/agent.h"
#include "shims/cli/doctor/doctor.h"

namespace sealane::doctor {

Finding check_trust_anchor(const Config& config) {
  const auto anchor = agent::check_trust_anchor(config.trust_anchor);
  return anchor ? good(config.trust_anchor) : bad(anchor.error());
}

}  // namespace sealane::doctor
