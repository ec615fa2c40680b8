// RFC 8461 §10.2: fetches policies without mail, as sts::RefreshSchedule allows. Internal to core/engine.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/base/loop.h"
#include "core/dns/resolver.h"
#include "core/engine/policy_keeper.h"
#include "core/gather/gather.h"
#include "core/sts/refresh_schedule.h"

namespace sealane {

class Refresher {
 public:
  struct Hooks {
    // The resolver to ask now; null: nothing may be looked up now.
    std::function<std::shared_ptr<dns::Resolver>()> resolver;
    // Fetches, and stores the result. `ended` is called once that is done, never from within the call; also where a
    // fetch for the domain is under way already.
    std::function<void(const Domain& domain, FetchRequest request, std::function<void()> ended)> fetch;
  };

  // All that is borrowed outlives this.
  Refresher(Loop& loop, const Clock& clock, PolicyKeeper& policies, sts::RefreshLimits limits, Hooks hooks);
  ~Refresher();
  Refresher(const Refresher&) = delete;
  Refresher& operator=(const Refresher&) = delete;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace sealane
