// RFC 8461 §3.3, §5.1, §10.2: the life of a policy over time, as pure functions of state and event. Wall-clock times.
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
  WallTime fetched;   // when the successful HTTPS fetch *started*
  WallTime txt_seen;  // when a TXT record with this id was last seen
};

// All that is kept of a policy domain, across restarts.
struct PolicyState {
  std::optional<StoredPolicy> policy;
  WallTime attempted;        // start of the last HTTPS fetch, good or bad; epoch: never
  std::string attempted_id;  // the TXT id that it was made for
  std::string error;         // why it failed; empty if it did not
};

struct FetchResult {
  WallTime started;
  std::string id;     // the TXT id that it was made for; may be empty
  std::string body;   // with success
  std::string error;  // why it failed; empty: success, and `body` parses
};

inline constexpr Seconds fetch_backoff{300};  // RFC 8461 §3.3: at least five minutes

// now − fetched ≤ max_age. `fetched` in the future counts as now: no step of the clock drops a policy or makes it
// eternal.
[[nodiscard]] bool in_force(const StoredPolicy& stored, const Policy& policy, WallTime now);
[[nodiscard]] WallTime expires(const StoredPolicy& stored, const Policy& policy, WallTime now);
// min(24 h, max_age/2) after `fetched`.
[[nodiscard]] WallTime refresh_after(const StoredPolicy& stored, const Policy& policy);

// A TXT record with `id` was seen: fetch? Yes unless the stored policy has this id and is in force, or a fetch for this
// same id failed less than five minutes ago.
[[nodiscard]] bool fetch_on_txt(const PolicyState& state, const std::string& id, WallTime now);
// A mismatch or a refused certificate: fetch? Yes unless any attempt was made less than five minutes ago.
[[nodiscard]] bool fetch_on_failure(const PolicyState& state, WallTime now);

// What is kept after a fetch. A failure keeps the policy. A success replaces the whole policy, whatever its id, if it
// started later than the stored one; one that claims to have been fetched after `now` never bars it, or a clock that
// once ran ahead would freeze the policy until then.
[[nodiscard]] PolicyState after_fetch(PolicyState state, const FetchResult& result, WallTime now);

}  // namespace sealane::sts
