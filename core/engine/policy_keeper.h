// What is remembered of policy domains: the store, and in memory whatever the store would not take. Internal to
// core/engine.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

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
    sts::PolicyState state;
    std::optional<Fault> fault;  // what was learned before cannot be known
  };
  [[nodiscard]] Known load(const Domain& domain);

  // `then` is called once the state is durable, or could not be made so; then it stays in memory, so that nothing that
  // was learned is weaker within this process, and is written again when the domain is next asked for.
  void save(const Domain& domain, const sts::PolicyState& state, std::function<void()> then);

  // The TXT record with the id of the stored policy was seen now.
  void saw_txt(const Domain& domain);

  // What is wrong with the store, as of its last use.
  [[nodiscard]] std::optional<Fault> fault() const { return fault_; }

 private:
  void note_load(const std::string& error);
  void note_save(const std::string& error);
  void keep_in_memory(const Domain& domain, const sts::PolicyState& state);

  std::unique_ptr<PolicyStore> store_;
  std::optional<Fault> fault_;
  const Clock& clock_;
  LogSink log_;
  std::string save_error_;  // of the last save; empty: it went well
  struct Unsaved {
    sts::PolicyState state;
    bool enforced;     // holds a policy in `enforce` …
    WallTime expires;  // … that is in force until then
  };
  std::map<Domain, Unsaved> unsaved_;  // bounded
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace sealane
