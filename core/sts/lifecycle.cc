#include "core/sts/lifecycle.h"

#include <algorithm>

namespace sealane::sts {
namespace {

// An attempt in the future says that the clock has been set back, not that it was recent: it must not bar fetches
// until the clock has caught up.
bool tried_recently(const PolicyState& state, WallTime now) {
  return state.attempted <= now && state.attempted > now - fetch_backoff;
}

}  // namespace

WallTime expires(const StoredPolicy& stored, const Policy& policy, WallTime now) {
  return std::min(stored.fetched, now) + Seconds{policy.max_age};
}

bool in_force(const StoredPolicy& stored, const Policy& policy, WallTime now) {
  // RFC 8461 §5.1: "time-since-fetch has not exceeded its max_age": the last second counts.
  return now <= expires(stored, policy, now);
}

WallTime refresh_after(const StoredPolicy& stored, const Policy& policy) {
  // RFC 8461 §3.3: "a suggested refresh frequency is once per day".
  return stored.fetched + std::min<Seconds>(std::chrono::hours{24}, Seconds{policy.max_age / 2});
}

bool fetch_on_txt(const PolicyState& state, const std::string& id, WallTime now) {
  if (state.policy && state.policy->id == id) {
    const auto policy = parse_policy(state.policy->body);
    if (policy && in_force(*state.policy, *policy, now)) return false;
  }
  // RFC 8461 §3.3: after a failed GET, five minutes or longer per id.
  const bool failed = !state.error.empty() && state.attempted_id == id;
  return !(failed && tried_recently(state, now));
}

bool fetch_on_failure(const PolicyState& state, WallTime now) { return !tried_recently(state, now); }

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

}  // namespace sealane::sts
