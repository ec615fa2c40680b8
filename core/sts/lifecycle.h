// RFC 8461 §3.3, §5.1, §10.2: the life of a policy over time, as pure functions of state and event.
//
// Two clocks. The wall clock is what people and other machines agree on, and it may step. Steady time advances with
// the monotonic clock while a process runs, and by what the wall clock says has passed between two processes where that
// is believable; it never goes back. A policy is in force while either says that max_age has not passed: no step of the
// wall clock ends a policy early, and none makes it eternal.
#pragma once

#include <optional>
#include <string>

#include "core/base/clock.h"
#include "core/sts/policy.h"

namespace sealane::sts {

// A policy as fetched. `body` is kept raw (RFC 8460 reports want it); it has been parsed once and parses again.
struct StoredPolicy {
  std::string id;  // of the TXT record that led to the fetch; empty if there was none
  std::string body;
  WallTime fetched;      // when the successful HTTPS fetch *started*
  WallTime txt_seen;     // when a TXT record with this id was last seen
  SteadyTime learned{};  // `fetched`, in steady time
};

// All that is kept of a policy domain, across restarts.
struct PolicyState {
  std::optional<StoredPolicy> policy;
  WallTime attempted;        // start of the last HTTPS fetch, good or bad; epoch: never
  std::string attempted_id;  // the TXT id that it was made for
  std::string error;         // why it failed; empty if it did not
  unsigned failures{};       // of fetches, in a row
  SteadyTime asked{};        // when mail last asked for it, to the day; epoch: never
  SteadyTime refresh{};      // when it is to be fetched without mail; epoch: it is not
};

struct FetchResult {
  WallTime started;
  std::string id;     // the TXT id that it was made for; may be empty
  std::string body;   // with success
  std::string error;  // why it failed; empty: success, and `body` parses
};

inline constexpr Seconds fetch_backoff{300};         // RFC 8461 §3.3: at least five minutes
inline constexpr Seconds shortest_refreshed{3600};   // a max_age below this is fetched on demand only
inline constexpr Seconds asked_lately{90 * 86400};   // or max_age, if that is longer
inline constexpr Seconds asked_interval{86400};      // how exactly `asked` is kept
inline constexpr Seconds longest_backoff{6 * 3600};  // between refreshes that fail
inline constexpr Seconds longest_gap{366 * 86400};   // between two processes; longer than any policy lives
inline constexpr Seconds longest_fetch{3600};        // https_timeout can be no longer

// ---- Time

struct Moment {
  WallTime wall;
  SteadyTime steady;
};

// Steady time when a process starts, `last` being the moment of the last entry in the store. A gap that is negative or
// longer than longest_gap is a step of the clock, or a machine that was off for longer than any policy lives: then
// nothing has passed that could be known of.
[[nodiscard]] SteadyTime resume(const Moment& last, WallTime wall);
// Where nothing is stored yet: the two agree.
[[nodiscard]] SteadyTime steady_start(WallTime wall);

// The state as the clocks have it at `now`: `fetched` is where the wall clock would have been at the fetch, had it not
// been stepped. The age is the lesser of what the two clocks say; `fetched` in the future counts for neither, and is
// due for refresh at once.
[[nodiscard]] PolicyState as_of(PolicyState state, const Moment& now);

// ---- Is it in force?

// now − fetched ≤ max_age. `fetched` in the future counts as now: no step of the clock drops a policy.
[[nodiscard]] bool in_force(const StoredPolicy& stored, const Policy& policy, WallTime now);
[[nodiscard]] WallTime expires(const StoredPolicy& stored, const Policy& policy, WallTime now);
// The policy of a state, parsed, where it is in force.
[[nodiscard]] std::optional<Policy> policy_in_force(const PolicyState& state, WallTime now);

// ---- Events that lead to a fetch

// A TXT record with `id` was seen: fetch? Yes unless the stored policy has this id and is in force, or a fetch for this
// same id failed less than five minutes ago.
[[nodiscard]] bool fetch_on_txt(const PolicyState& state, const std::string& id, WallTime now);
// A mismatch or a refused certificate: fetch? Yes unless any attempt was made less than five minutes ago.
[[nodiscard]] bool fetch_on_failure(const PolicyState& state, WallTime now);
// Without mail, and whatever TXT says: `state.refresh` has come, and no attempt was made less than five minutes ago.
[[nodiscard]] bool fetch_on_refresh(const PolicyState& state, const Moment& now);

// ---- What a fetch leaves behind

// What is kept after a fetch. A failure keeps the policy. A success replaces the whole policy, whatever its id, if it
// started later than the stored one; one that claims to have been fetched after `now` never bars it, or a clock that
// once ran ahead would freeze the policy until then.
[[nodiscard]] PolicyState after_fetch(PolicyState state, const FetchResult& result, WallTime now);
// A fetch that has just ended, and the state that it is laid over, made comparable: which of the two is later is for
// steady time to say, and where the two are as good as simultaneous it is the one that ends now. A fetch during which
// the clock was stepped counts as started now. Whoever looks at it with a clock of the last hour comes to the same with
// after_fetch(before, result, max(now, result.started)): nobody is answered by a policy that is not stored.
struct Landing {
  PolicyState before;
  FetchResult result;
};
[[nodiscard]] Landing land(PolicyState before, FetchResult result, const Moment& now);
// after_fetch, with what the store keeps besides: steady time, failures in a row, and the next refresh. `jitter`: 0
// to 1.
[[nodiscard]] PolicyState record_fetch(const Landing& landing, const Moment& now, double jitter);

// ---- What an administrator does

// Would `after` in the place of `before` ask less: an enforced policy in force is gone, not enforced, or ends earlier?
// Why; empty: it would not. Both as_of `now`.
[[nodiscard]] std::string weakens(const PolicyState& before, const PolicyState& after, const Moment& now);
// A policy that was exported, to be imported now: what it says of time is cut down to what can be.
[[nodiscard]] PolicyState as_imported(PolicyState state, const Moment& now, double jitter);

// ---- Refresh without mail

// min(24 h, max_age/2) after `fetched`.
[[nodiscard]] WallTime refresh_after(const StoredPolicy& stored, const Policy& policy);
// When to fetch without mail: three quarters to all of that interval after the fetch, doubling from five minutes after
// failures. Epoch: never, since there is no policy in force, it lives too short, or nobody has asked for it lately.
[[nodiscard]] SteadyTime next_refresh(const PolicyState& state, const Moment& now, double jitter);
// Mail asks for the domain, and what is kept is too old to say so: the state to be saved.
[[nodiscard]] std::optional<PolicyState> after_asked(const PolicyState& state, const Moment& now, double jitter);

}  // namespace sealane::sts
