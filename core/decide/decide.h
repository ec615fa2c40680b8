// The rules. Pure: no I/O, no clock, no configuration beyond the evidence; same evidence, same outcome.
#pragma once

#include "core/decide/decision.h"
#include "core/decide/evidence.h"

namespace sealane {

struct Outcome {
  Decision decision;
  Wanted wanted;
};

// What follows from the evidence so far, and what else must be known. With incomplete evidence the decision is the one
// for a deadline that passes now: each unfinished input gets its own safe value. So the order of lookups is nowhere
// written down twice: gathering is "decide, look up what is wanted, decide again".
[[nodiscard]] Outcome decide(const Evidence& evidence);

inline constexpr std::size_t max_hosts = 50;
inline constexpr std::size_t max_addresses = 16;

}  // namespace sealane
