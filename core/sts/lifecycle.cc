#include "core/sts/lifecycle.h"

#include <algorithm>

namespace sealane::sts {
namespace {

// An attempt in the future says that the clock has been set back, not that it was recent: it must not bar fetches
// until the clock has caught up.
bool tried_recently(const PolicyState& state, WallTime now) {
  return state.attempted <= now && state.attempted > now - fetch_backoff;
}

// RFC 8461 §3.3: "a suggested refresh frequency is once per day".
Seconds refresh_interval(const Policy& policy) {
  return std::min<Seconds>(std::chrono::hours{24}, Seconds{policy.max_age / 2});
}

Seconds part_of(Seconds whole, double part) {
  return Seconds{static_cast<Seconds::rep>(static_cast<double>(whole.count()) * std::clamp(part, 0.0, 1.0))};
}

// Five minutes, ten, twenty …, but never longer than a refresh would take anyway.
Seconds refresh_backoff(unsigned failures, Seconds interval) {
  const unsigned doublings = std::min(failures - 1, 10U);
  return std::max(fetch_backoff, std::min({fetch_backoff * (1 << doublings), longest_backoff, interval}));
}

// Both clocks are read in whole seconds, which begin at different times.
constexpr Seconds clock_error{2};

SteadyTime learned_at(const FetchResult& result, const Moment& now) { return now.steady - (now.wall - result.started); }

}  // namespace

SteadyTime steady_start(WallTime wall) { return SteadyTime{wall.time_since_epoch()}; }

SteadyTime resume(const Moment& last, WallTime wall) {
  const Seconds gap = wall - last.wall;
  return gap < Seconds{0} || gap > longest_gap ? last.steady : last.steady + gap;
}

PolicyState as_of(PolicyState state, const Moment& now) {
  if (!state.policy) return state;
  StoredPolicy& policy = *state.policy;
  const bool from_the_future = policy.fetched > now.wall;
  Seconds age = std::max(Seconds{0}, now.steady - policy.learned);
  if (!from_the_future) age = std::min(age, now.wall - policy.fetched);
  if (from_the_future && state.refresh != SteadyTime{}) state.refresh = std::min(state.refresh, now.steady);
  policy.fetched = now.wall - age;
  policy.txt_seen = std::min(policy.txt_seen, now.wall);
  return state;
}

WallTime expires(const StoredPolicy& stored, const Policy& policy, WallTime now) {
  return std::min(stored.fetched, now) + Seconds{policy.max_age};
}

bool in_force(const StoredPolicy& stored, const Policy& policy, WallTime now) {
  // RFC 8461 §5.1: "time-since-fetch has not exceeded its max_age": the last second counts.
  return now <= expires(stored, policy, now);
}

std::optional<Policy> policy_in_force(const PolicyState& state, WallTime now) {
  if (!state.policy) return std::nullopt;
  auto policy = parse_policy(state.policy->body);
  if (!policy || !in_force(*state.policy, *policy, now)) return std::nullopt;
  return std::move(*policy);
}

bool fetch_on_txt(const PolicyState& state, const std::string& id, WallTime now) {
  if (state.policy && state.policy->id == id && policy_in_force(state, now)) return false;
  // RFC 8461 §3.3: after a failed GET, five minutes or longer per id.
  const bool failed = !state.error.empty() && state.attempted_id == id;
  return !(failed && tried_recently(state, now));
}

bool fetch_on_failure(const PolicyState& state, WallTime now) { return !tried_recently(state, now); }

bool fetch_on_refresh(const PolicyState& state, const Moment& now) {
  return state.refresh != SteadyTime{} && state.refresh <= now.steady && !tried_recently(state, now.wall);
}

PolicyState after_fetch(PolicyState state, const FetchResult& result, WallTime now) {
  state.attempted = result.started;
  state.attempted_id = result.id;
  state.error = result.error;
  if (!result.error.empty()) return state;

  if (state.policy && result.started <= state.policy->fetched && state.policy->fetched <= now) return state;
  const bool same_id = state.policy && state.policy->id == result.id;
  const WallTime txt_seen = same_id ? state.policy->txt_seen : (result.id.empty() ? WallTime{} : result.started);
  state.policy = StoredPolicy{result.id, result.body, result.started, txt_seen};
  return state;
}

Landing land(PolicyState before, FetchResult result, const Moment& now) {
  if (now.wall - result.started > longest_fetch || result.started > now.wall) result.started = now.wall;
  before = as_of(std::move(before), now);
  if (before.policy && result.error.empty()) {
    const bool later = learned_at(result, now) + clock_error >= before.policy->learned;
    WallTime& fetched = before.policy->fetched;
    fetched = later ? std::min(fetched, result.started - Seconds{1}) : result.started;
  }
  return {std::move(before), std::move(result)};
}

PolicyState record_fetch(const Landing& landing, const Moment& now, double jitter) {
  const auto& [before, result] = landing;
  PolicyState state = after_fetch(before, result, now.wall);
  const bool replaced = result.error.empty() && (!before.policy || result.started > before.policy->fetched);
  if (replaced) {
    // Never earlier than what it replaces: the store takes none that was.
    const SteadyTime least = before.policy ? before.policy->learned : SteadyTime{};
    state.policy->learned = std::max(learned_at(result, now), least);
  }
  state.failures = result.error.empty() ? 0 : std::min(state.failures, 1000U) + 1;
  state.refresh = next_refresh(state, now, jitter);
  return state;
}

std::string weakens(const PolicyState& before, const PolicyState& after, const Moment& now) {
  const auto had = policy_in_force(before, now.wall);
  if (!had || had->mode != Mode::enforce) return {};
  const WallTime until = expires(*before.policy, *had, now.wall);
  const auto gets = policy_in_force(after, now.wall);
  if (gets && gets->mode == Mode::enforce && expires(*after.policy, *gets, now.wall) >= until) return {};
  return "its policy is enforced until " + rfc3339(until);
}

PolicyState as_imported(PolicyState state, const Moment& now, double jitter) {
  state.attempted = std::min(state.attempted, now.wall);
  state.failures = 0;
  state.asked = now.steady;
  state.refresh = {};
  if (!state.policy) return state;
  state.policy->fetched = std::min(state.policy->fetched, now.wall);
  state.policy->txt_seen = std::min(state.policy->txt_seen, now.wall);
  state.policy->learned = now.steady - (now.wall - state.policy->fetched);
  if (state.policy->learned < SteadyTime{}) state.policy->learned = {};
  // Soon: nobody knows how old the news is.
  if (next_refresh(state, now, jitter) != SteadyTime{}) state.refresh = now.steady + part_of(Seconds{86400}, jitter);
  return state;
}

WallTime refresh_after(const StoredPolicy& stored, const Policy& policy) {
  return stored.fetched + refresh_interval(policy);
}

SteadyTime next_refresh(const PolicyState& state, const Moment& now, double jitter) {
  const auto policy = policy_in_force(state, now.wall);
  if (!policy || Seconds{policy->max_age} < shortest_refreshed) return {};
  if (now.steady - state.asked > std::max(asked_lately, Seconds{policy->max_age})) return {};
  const Seconds interval = refresh_interval(*policy);
  if (state.failures == 0) {
    // Shorter by up to a quarter, so that what was learned in one burst is not refreshed in one.
    const WallTime due = state.policy->fetched + interval - part_of(interval / 4, jitter);
    return now.steady + std::max(Seconds{0}, due - now.wall);
  }
  const Seconds wait = refresh_backoff(state.failures, interval);
  return now.steady + wait + part_of(wait / 2, jitter);
}

std::optional<PolicyState> after_asked(const PolicyState& state, const Moment& now, double jitter) {
  if (!state.policy) return std::nullopt;
  if (state.asked <= now.steady && now.steady - state.asked < asked_interval) return std::nullopt;
  PolicyState asked = state;
  asked.asked = now.steady;
  if (asked.refresh == SteadyTime{}) asked.refresh = next_refresh(asked, now, jitter);
  return asked;
}

}  // namespace sealane::sts
