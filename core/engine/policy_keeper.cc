#include "core/engine/policy_keeper.h"

#include <algorithm>
#include <tuple>
#include <utility>
#include <vector>

#include "core/sts/policy.h"

namespace sealane {

namespace {

constexpr std::size_t max_refused = 1000;  // at 64 KiB each at worst
constexpr std::size_t retried_at_once = 50;

}  // namespace

PolicyKeeper::PolicyKeeper(std::unique_ptr<PolicyStore> store, std::optional<Fault> fault, const Clock& clock,
                           LogSink log)
    : fault_(std::move(fault)),
      clock_(clock),
      log_(std::move(log)),
      start_{clock.wall(), sts::steady_start(clock.wall())},
      start_mono_(clock.mono()),
      store_(std::move(store)) {
  if (!store_ && !fault_) fault_ = Fault{Reason::store, "there is no policy store"};
  if (fault_) log_(Level::error, "store: " + fault_->text);
  const auto last = store_ ? store_->last_entry() : std::nullopt;
  if (!last) return;
  start_.steady = sts::resume(*last, start_.wall);
  if (start_.steady == last->steady && start_.wall != last->wall) {
    log_(Level::warning, "the clock says " + rfc3339(start_.wall) + ", and said " + rfc3339(last->wall) +
                             " when the store was last written: policies age from then on as if no time had passed");
  }
}

sts::Moment PolicyKeeper::now() const {
  return {clock_.wall(), start_.steady + std::chrono::floor<Seconds>(clock_.mono() - start_mono_)};
}

void PolicyKeeper::load(const Domain& domain, std::function<void(Known)> known) {
  if (!store_) return known({{}, fault_});
  store_->load(domain, [this, alive = std::weak_ptr<int>(alive_), domain,
                        known = std::move(known)](const Result<sts::PolicyState>& stored) {
    if (!alive.expired()) loaded(domain, stored, known);
  });
}

void PolicyKeeper::loaded(const Domain& domain, const Result<sts::PolicyState>& stored,
                          const std::function<void(Known)>& known) {
  note_load(stored ? "" : stored.error().text());
  if (!stored) return known({{}, fault_});
  const auto found = kept_.find(domain);
  if (found == kept_.end()) return known({sts::as_of(*stored, now()), std::nullopt});
  Kept& kept = found->second;
  if (kept.under_way > 0) {
    kept.waiting.emplace_back([this, domain, known] { load(domain, known); });
    return;
  }
  const sts::PolicyState state = kept.state;  // newer than what the store has
  save(domain, state, [] {});
  known({sts::as_of(state, now()), std::nullopt});
}

void PolicyKeeper::save(const Domain& domain, const sts::PolicyState& state, std::function<void()> then) {
  if (!store_) {  // without what was stored before, a state is only half known: nothing rests on it
    then();
    return;
  }
  Kept& kept = kept_[domain];
  kept.state = state;
  ++kept.under_way;
  store_->save(domain, state, now(),
               [this, alive = std::weak_ptr<int>(alive_), domain, then = std::move(then)](const Result<void>& result) {
                 if (alive.expired()) return;
                 const auto waiting = saved(domain, result);
                 then();
                 for (const auto& load : waiting) {
                   if (!alive.expired()) load();
                 }
               });
}

std::vector<std::function<void()>> PolicyKeeper::saved(const Domain& domain, const Result<void>& result) {
  note_save(result ? "" : result.error().text());
  const auto found = kept_.find(domain);
  if (found == kept_.end()) return {};
  Kept& kept = found->second;
  if (--kept.under_way > 0) return {};  // a later one is on its way, and says how it ends
  if (kept.refused) --refused_;
  auto waiting = std::exchange(kept.waiting, {});
  if (result) {
    kept_.erase(found);
    return waiting;
  }
  kept.refused = true;
  ++refused_;
  kept.enforced = false;
  kept.expires = clock_.wall();
  if (kept.state.policy) {
    if (const auto policy = sts::parse_policy(kept.state.policy->body)) {
      kept.enforced = policy->mode == sts::Mode::enforce;
      kept.expires = sts::expires(*kept.state.policy, *policy, clock_.wall());
    }
  }
  bound_memory();
  return waiting;
}

void PolicyKeeper::remove(const Domain& domain, std::function<void(Result<void>)> removed) {
  if (!store_) return removed(failure(fault_ ? fault_->text : "there is no policy store"));
  if (const auto kept = kept_.find(domain); kept != kept_.end() && kept->second.under_way == 0) {
    if (kept->second.refused) --refused_;
    kept_.erase(kept);
  }
  store_->remove(domain, [alive = std::weak_ptr<int>(alive_), removed = std::move(removed)](Result<void> done) {
    if (!alive.expired()) removed(std::move(done));
  });
}

void PolicyKeeper::asked(const Domain& domain, bool txt) {
  load(domain, [this, domain, txt](const Known& known) {
    if (known.fault || !known.state.policy) return;
    const sts::Moment moment = now();
    sts::PolicyState state = known.state;
    bool changed = false;
    if (txt && moment.wall - state.policy->txt_seen >= txt_seen_interval) {
      state.policy->txt_seen = moment.wall;
      changed = true;
    }
    if (auto asked = sts::after_asked(state, moment, jitter())) {
      state = std::move(*asked);
      changed = true;
    }
    if (changed) save(domain, state, [] {});
  });
}

void PolicyKeeper::due(std::size_t limit, std::function<void(PolicyStore::Due)> due) {
  if (!store_) return due({});
  store_->due(now().steady, limit,
              [this, alive = std::weak_ptr<int>(alive_), due = std::move(due)](Result<PolicyStore::Due> found) {
                if (alive.expired()) return;
                note_load(found ? "" : found.error().text());
                due(found ? std::move(*found) : PolicyStore::Due{});
              });
}

void PolicyKeeper::record(std::vector<TlsOutcome> outcomes) {
  if (!store_ || outcomes.empty()) return;
  store_->record(std::move(outcomes), [this, alive = std::weak_ptr<int>(alive_)](const Result<void>& done) {
    if (alive.expired()) return;
    const std::string error = done ? "" : done.error().text();
    if (!error.empty() && error != record_error_) {
      log_(Level::warning, "store: outcomes of connections are not kept: " + error);
    }
    record_error_ = error;
  });
}

void PolicyKeeper::retry() {
  std::vector<std::pair<Domain, sts::PolicyState>> again;
  for (const auto& [domain, kept] : kept_) {
    if (again.size() == retried_at_once) break;
    if (kept.refused && kept.under_way == 0) again.emplace_back(domain, kept.state);
  }
  for (const auto& [domain, state] : again) save(domain, state, [] {});
}

void PolicyKeeper::take_over(const PolicyKeeper& before) {
  for (const auto& [domain, kept] : before.kept_) save(domain, kept.state, [] {});
}

// Once per change, not once per question.
void PolicyKeeper::note_load(const std::string& error) {
  if (error.empty() && fault_) log_(Level::notice, "store: can be read again");
  if (!error.empty() && (!fault_ || fault_->text != error)) log_(Level::error, "store: " + error);
  fault_ = error.empty() ? std::nullopt : std::optional(Fault{Reason::store, error});
}

void PolicyKeeper::note_save(const std::string& error) {
  if (error == save_error_) return;
  if (error.empty()) {
    log_(Level::notice, "store: can be written again");
  } else {
    log_(Level::error, "store: " + error + "; policies learned from now on are kept in memory only");
  }
  save_error_ = error;
}

// Housekeeping is never a downgrade: an enforced policy in force goes last, and not silently.
void PolicyKeeper::bound_memory() {
  if (refused_ <= max_refused) return;
  const WallTime now = clock_.wall();
  // Expired before in force, other modes before `enforce`, the one that ends soonest first.
  const auto rank = [now](const Kept& kept) { return std::tuple(kept.expires > now, kept.enforced, kept.expires); };
  auto least = kept_.end();
  for (auto at = kept_.begin(); at != kept_.end(); ++at) {
    if (!at->second.refused || at->second.under_way > 0) continue;
    if (least == kept_.end() || rank(at->second) < rank(least->second)) least = at;
  }
  if (least == kept_.end()) return;
  if (least->second.enforced && least->second.expires > now) {
    log_(Level::warning, least->first.text() + ": its enforced policy could not be stored and is forgotten: too many");
  }
  kept_.erase(least);
  --refused_;
}

}  // namespace sealane
