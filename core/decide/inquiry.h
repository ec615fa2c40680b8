// How the rules ask for what they need: an answer that is there is used, and bounds how long the decision may be kept;
// one that is not there yet is wanted. Internal to core/decide.
#pragma once

#include <algorithm>

#include "core/decide/evidence.h"

namespace sealane {

// RFC 2308 §7.1, §7.2: failures are kept for a short time only; we say a minute.
inline constexpr Seconds failure_ttl{60};
inline constexpr Seconds longest_ttl{86400};

class Inquiry {
 public:
  Inquiry(const Evidence& evidence, Wanted& wanted)
      : evidence_(evidence), wanted_(wanted), expires_(evidence.now + longest_ttl) {}

  // The answer, or nothing yet: then it is wanted from now on.
  const dns::Answer* look(const Domain& name, dns::RrType type) {
    const LookupKey key{name, type};
    const auto found = evidence_.answers.find(key);
    if (found == evidence_.answers.end()) {
      wanted_.lookups.insert(key);
      return nullptr;
    }
    const dns::Answer& answer = found->second;
    const Seconds ttl{answer.ttl};
    limit(evidence_.now + (answer.answered() ? ttl : std::min(ttl == Seconds{0} ? failure_ttl : ttl, failure_ttl)));
    return &answer;
  }

  void limit(WallTime until) { expires_ = std::min(expires_, std::max(until, evidence_.now)); }
  [[nodiscard]] WallTime expires() const { return expires_; }
  [[nodiscard]] const Evidence& evidence() const { return evidence_; }
  [[nodiscard]] Wanted& wanted() { return wanted_; }

 private:
  const Evidence& evidence_;
  Wanted& wanted_;
  WallTime expires_;
};

// "NAME TYPE: timeout: CAUSE", for people.
[[nodiscard]] inline std::string failure_text(const std::string& name, dns::RrType type, const dns::Answer& answer) {
  std::string text = name + " " + dns::to_text(type) + ": " + dns::to_text(answer.failure);
  if (!answer.cause.empty()) text += ": " + answer.cause;
  return text;
}

}  // namespace sealane
