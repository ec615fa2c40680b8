// RFC 8461 §10.2: policies are fetched again without mail. This decides when, and holds no clock, no store and no
// network: which of the policies that are due may begin now, so that the load is spread, no provider is flooded (one
// may serve a hundred thousand domains) and an outage is not followed by a burst.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/domain/domain.h"

namespace sealane::sts {

struct RefreshLimits {
  double slowest = 1;        // begun in a second, where there is little to do
  double fastest = 20;       // … and where there is a lot
  Seconds spread{43200};     // between the two: all that is stored, in this time
  std::size_t at_once = 16;  // lookups and fetches under way
  double of_address = 4;     // fetches begun in a second, from one address of policy hosts
  std::size_t of_address_at_once = 2;
  std::size_t of_address_waiting = 64;
  std::size_t known = 512;  // domains that are handed in and have not ended
};

class RefreshSchedule {
 public:
  RefreshSchedule(RefreshLimits limits, MonoTime now) : limits_(limits), next_(now) {}

  // How many domains are stored, about.
  void stored(std::uint64_t domains) { stored_ = domains; }
  // How many to hand in at once: so many that some are not known yet. 0: there is still enough to do.
  [[nodiscard]] std::size_t wanted() const { return known_.size() > limits_.known / 2 ? 0 : limits_.known; }
  // How many more are taken.
  [[nodiscard]] std::size_t room() const { return limits_.known - std::min(known_.size(), limits_.known); }
  // Is due. Does nothing where it is known already.
  void add(const Domain& domain);

  struct Begin {
    std::vector<Domain> lookups;  // of the policy host's addresses
    std::vector<Domain> fetches;  // that located() was told of
  };
  [[nodiscard]] Begin begin(MonoTime now);
  // When begin() may give something again, if nothing is told before; nothing: not before something is told.
  [[nodiscard]] std::optional<MonoTime> next(MonoTime now) const;

  // The lookup has ended with this address. False: too many wait for that address; the domain is to be put off, and is
  // known no more.
  [[nodiscard]] bool located(const Domain& domain, const std::string& address);
  // The fetch has ended, or there was none.
  void ended(const Domain& domain);

 private:
  struct Host {
    std::deque<Domain> waiting;
    std::size_t under_way = 0;
    MonoTime next{};
  };
  [[nodiscard]] MonoTime::duration gap() const;
  void begin_fetches(MonoTime now, Begin& begin);

  RefreshLimits limits_;
  MonoTime next_;  // when the next one may begin
  std::uint64_t stored_ = 0;
  std::size_t under_way_ = 0;
  std::set<Domain> known_;
  std::deque<Domain> due_;
  std::map<Domain, std::string> address_;  // of those that are located
  std::map<std::string, Host> hosts_;      // with something waiting, under way, or begun lately
};

}  // namespace sealane::sts
