#include "core/engine/policy_keeper.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "core/sts/policy.h"

namespace sealane {

namespace {

constexpr std::size_t max_unsaved = 1000;  // at 64 KiB each at worst

}  // namespace

PolicyKeeper::PolicyKeeper(std::unique_ptr<PolicyStore> store, std::optional<Fault> fault, const Clock& clock,
                           LogSink log)
    : store_(std::move(store)), fault_(std::move(fault)), clock_(clock), log_(std::move(log)) {
  if (!store_ && !fault_) fault_ = Fault{Reason::store, "there is no policy store"};
  if (fault_) log_(Level::error, "store: " + fault_->text);
}

PolicyKeeper::Known PolicyKeeper::load(const Domain& domain) {
  if (!store_) return {{}, fault_};
  auto stored = store_->load(domain);
  note_load(stored ? "" : stored.error().text());
  if (!stored) return {{}, fault_};
  const auto unsaved = unsaved_.find(domain);
  if (unsaved == unsaved_.end()) return {std::move(*stored), std::nullopt};
  sts::PolicyState state = unsaved->second.state;  // newer than what the store has
  save(domain, state, [] {});
  return {std::move(state), std::nullopt};
}

void PolicyKeeper::save(const Domain& domain, const sts::PolicyState& state, std::function<void()> then) {
  if (!store_) {  // without what was stored before, a state is only half known: nothing rests on it
    then();
    return;
  }
  store_->save(domain, state,
               [this, alive = std::weak_ptr<int>(alive_), domain, state, then = std::move(then)](Result<void> saved) {
                 if (alive.expired()) return;
                 note_save(saved ? "" : saved.error().text());
                 if (saved) {
                   unsaved_.erase(domain);
                 } else {
                   keep_in_memory(domain, state);
                 }
                 then();
               });
}

void PolicyKeeper::saw_txt(const Domain& domain) {
  Known known = load(domain);
  if (known.fault || !known.state.policy) return;
  const WallTime now = clock_.wall();
  if (now - known.state.policy->txt_seen < txt_seen_interval) return;
  known.state.policy->txt_seen = now;
  save(domain, known.state, [] {});
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
void PolicyKeeper::keep_in_memory(const Domain& domain, const sts::PolicyState& state) {
  const WallTime now = clock_.wall();
  Unsaved entry{state, false, now};
  if (state.policy) {
    if (const auto policy = sts::parse_policy(state.policy->body)) {
      entry.enforced = policy->mode == sts::Mode::enforce;
      entry.expires = sts::expires(*state.policy, *policy, now);
    }
  }
  unsaved_.insert_or_assign(domain, std::move(entry));
  if (unsaved_.size() <= max_unsaved) return;
  // Expired before in force, other modes before `enforce`, the one that ends soonest first.
  const auto rank = [now](const Unsaved& unsaved) {
    return std::tuple(unsaved.expires > now, unsaved.enforced, unsaved.expires);
  };
  const auto least = std::min_element(unsaved_.begin(), unsaved_.end(), [&rank](const auto& a, const auto& b) {
    return rank(a.second) < rank(b.second);
  });
  if (least->second.enforced && least->second.expires > now) {
    log_(Level::warning, least->first.text() + ": its enforced policy could not be stored and is forgotten: too many");
  }
  unsaved_.erase(least);
}

}  // namespace sealane
