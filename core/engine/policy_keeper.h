// What is remembered of policy domains: the store, and in memory whatever is on its way there or was not taken. And the
// time by which policies age. Internal to core/engine.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "core/base/log.h"
#include "core/decide/evidence.h"
#include "core/store/store.h"

namespace sealane {

// TXT records are seen all the time; the store learns of it no more often than this.
inline constexpr Seconds txt_seen_interval{3600};

class PolicyKeeper {
 public:
  // `store` null: `fault` says why. The clock outlives the keeper.
  PolicyKeeper(std::unique_ptr<PolicyStore> store, std::optional<Fault> fault, const Clock& clock, LogSink log);

  struct Known {
    sts::PolicyState state;      // as of now
    std::optional<Fault> fault;  // what was learned before cannot be known
  };
  // `known` is called once, perhaps before this returns; not any more once the keeper is gone. Not before what is being
  // saved is durable: nobody is answered by what a crash would undo.
  void load(const Domain& domain, std::function<void(Known)> known);

  // `then` is called once the state is durable, or could not be made so; then it stays in memory, so that nothing that
  // was learned is weaker within this process, and is written again when the domain is next asked for, or by retry().
  void save(const Domain& domain, const sts::PolicyState& state, std::function<void()> then);

  // Forgets the domain. Saves under way must have ended: within the call of a load's `known` they have.
  void remove(const Domain& domain, std::function<void(Result<void>)> removed);

  // Mail asked for the domain, of which there is a policy; `txt`: and the TXT record with the id of that policy was
  // seen.
  void asked(const Domain& domain, bool txt);
  // What is due for refresh without mail, to `due`; nothing where the store cannot tell.
  void due(std::size_t limit, std::function<void(PolicyStore::Due)> due);
  void record(std::vector<TlsOutcome> outcomes);
  // Writes again, some of what could not be written.
  void retry();
  // What `before` could not write is kept from now on by this one: a reload forgets nothing.
  void take_over(const PolicyKeeper& before);

  [[nodiscard]] sts::Moment now() const;
  // From 0 to 1.
  [[nodiscard]] double jitter() { return std::uniform_real_distribution<double>(0, 1)(random_); }

  // What is wrong with the store, as of its last use.
  [[nodiscard]] std::optional<Fault> fault() const { return fault_; }

 private:
  // On its way to the store, or refused by it.
  struct Kept {
    sts::PolicyState state;
    unsigned under_way = 0;
    std::vector<std::function<void()>> waiting;  // for what is under way
    bool refused = false;
    bool enforced = false;  // holds a policy in `enforce` …
    WallTime expires{};     // … that is in force until then
  };
  void loaded(const Domain& domain, const Result<sts::PolicyState>& stored, const std::function<void(Known)>& known);
  // Gives what has waited for it.
  std::vector<std::function<void()>> saved(const Domain& domain, const Result<void>& result);
  void note_load(const std::string& error);
  void note_save(const std::string& error);
  void bound_memory();

  std::optional<Fault> fault_;
  const Clock& clock_;
  LogSink log_;
  sts::Moment start_;
  MonoTime start_mono_;
  std::string save_error_;    // of the last save; empty: it went well
  std::string record_error_;  // the same of outcomes
  std::map<Domain, Kept> kept_;
  std::size_t refused_ = 0;  // of kept_; bounded
  std::mt19937 random_{std::random_device{}()};
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
  std::unique_ptr<PolicyStore> store_;  // last: what it calls is still there
};

}  // namespace sealane
