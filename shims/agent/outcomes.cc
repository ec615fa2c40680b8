#include "shims/agent/outcomes.h"

#include <utility>

namespace sealane::agent {

void Outcomes::note(TlsOutcome outcome) {
  const Key key{outcome.domain, outcome.mechanism, outcome.host,
                outcome.result, outcome.teller,    outcome.last.time_since_epoch().count() / 86400};
  if (const auto known = counted_.find(key); known != counted_.end()) {
    outcome.attempts += known->second.attempts;
    known->second = std::move(outcome);
  } else if (counted_.size() < most) {
    counted_.emplace(key, std::move(outcome));
  }
}

std::vector<TlsOutcome> Outcomes::take() {
  std::vector<TlsOutcome> out;
  out.reserve(counted_.size());
  for (auto& [key, outcome] : std::exchange(counted_, {})) out.push_back(std::move(outcome));
  return out;
}

}  // namespace sealane::agent
