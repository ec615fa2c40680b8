#include "core/engine/refresher.h"

#include <utility>

namespace sealane {
namespace {

constexpr Seconds look_interval{30};  // how often the store is asked for what is due, where nothing was
constexpr Seconds busy_interval{2};   // … and while there is more
constexpr Seconds retry_interval{60};
constexpr Seconds put_off{600};

}  // namespace

struct Refresher::Impl : std::enable_shared_from_this<Refresher::Impl> {
  struct Job {
    FetchRequest request;
    int lookups = 0;
  };

  Impl(Loop& the_loop, const Clock& the_clock, PolicyKeeper& keeper, sts::RefreshLimits limits, Hooks the_hooks)
      : loop(the_loop),
        clock(the_clock),
        policies(keeper),
        hooks(std::move(the_hooks)),
        schedule(limits, the_clock.mono()) {}

  void look_soon(Seconds delay);
  void look();
  void retry_later();
  void turn();
  void begin(const Domain& domain);
  void look_up(const Domain& domain, const Domain& host, std::string id);
  void answered(const Domain& domain);
  void fetch(const Domain& domain);
  void ended(const Domain& domain);

  template <class Fn>
  auto guarded(Fn fn) {
    return [weak = weak_from_this(), fn = std::move(fn)](auto&&... arguments) {
      if (const auto self = weak.lock()) fn(*self, std::forward<decltype(arguments)>(arguments)...);
    };
  }

  Loop& loop;
  const Clock& clock;
  PolicyKeeper& policies;
  Hooks hooks;
  sts::RefreshSchedule schedule;
  std::map<Domain, Job> jobs;
  Loop::Timer look_timer, turn_timer, retry_timer;
};

void Refresher::Impl::look_soon(Seconds delay) {
  look_timer = loop.after(delay, guarded([](Impl& self) { self.look(); }));
}

void Refresher::Impl::look() {
  const std::size_t wanted = schedule.wanted();
  if (!hooks.resolver() || wanted == 0) return look_soon(look_interval);
  policies.due(wanted, guarded([wanted](Impl& self, const PolicyStore::Due& due) {
                 self.schedule.stored(due.stored);
                 for (const Domain& domain : due.domains) self.schedule.add(domain);
                 self.look_soon(due.domains.size() == wanted ? busy_interval : look_interval);
                 self.turn();
               }));
}

void Refresher::Impl::retry_later() {
  retry_timer = loop.after(retry_interval, guarded([](Impl& self) {
                             self.policies.retry();
                             self.retry_later();
                           }));
}

void Refresher::Impl::turn() {
  const auto begin_now = schedule.begin(clock.mono());
  for (const Domain& domain : begin_now.lookups) begin(domain);
  for (const Domain& domain : begin_now.fetches) fetch(domain);
  turn_timer.reset();
  const MonoTime now = clock.mono();
  if (const auto next = schedule.next(now)) {
    turn_timer = loop.after(std::chrono::ceil<Millis>(*next - now), guarded([](Impl& self) { self.turn(); }));
  }
}

// It may have been fetched, or have expired, since it was found to be due.
void Refresher::Impl::begin(const Domain& domain) {
  policies.load(domain, guarded([domain](Impl& self, const PolicyKeeper::Known& known) {
                  const auto host = domain.prefixed("mta-sts");
                  const bool due = !known.fault && known.state.policy && host &&
                                   sts::fetch_on_refresh(known.state, self.policies.now());
                  if (!due) return self.loop.soon(self.guarded([domain](Impl& later) { later.ended(domain); }));
                  self.look_up(domain, *host, known.state.policy->id);
                }));
}

void Refresher::Impl::look_up(const Domain& domain, const Domain& host, std::string id) {
  const auto resolver = hooks.resolver();
  if (!resolver) return ended(domain);
  Job& job = jobs[domain];
  job.request.id = std::move(id);
  for (const dns::RrType type : {dns::RrType::A, dns::RrType::AAAA}) {
    ++job.lookups;
    resolver->lookup(host, type, guarded([domain, host, type, resolver](Impl& self, const dns::Answer& answer) {
                       const auto found = self.jobs.find(domain);
                       if (found == self.jobs.end()) return;
                       found->second.request.add(host, type, answer);
                       if (--found->second.lookups == 0) self.answered(domain);
                     }));
  }
}

void Refresher::Impl::answered(const Domain& domain) {
  FetchRequest& request = jobs.at(domain).request;
  request.error += "the policy host has no address";  // for where it has none
  // What has no address shares one queue: its failure is to be stored all the same.
  const std::string address = request.addresses.empty() ? "" : request.addresses.front();
  if (!schedule.located(domain, address)) {
    jobs.erase(domain);
    policies.load(domain, guarded([domain](Impl& self, const PolicyKeeper::Known& known) {
                    if (known.fault || !known.state.policy) return;
                    sts::PolicyState state = known.state;
                    const double part = 1 + self.policies.jitter();
                    state.refresh = self.policies.now().steady +
                                    std::chrono::floor<Seconds>(
                                        std::chrono::duration<double>(part * static_cast<double>(put_off.count())));
                    self.policies.save(domain, state, [] {});
                  }));
  }
  turn();
}

void Refresher::Impl::fetch(const Domain& domain) {
  const auto found = jobs.find(domain);
  if (found == jobs.end()) return ended(domain);
  Job job = std::move(found->second);
  jobs.erase(found);
  const auto done = [weak = weak_from_this(), domain] {
    if (const auto self = weak.lock()) self->ended(domain);
  };
  hooks.fetch(domain, std::move(job.request), done);
}

void Refresher::Impl::ended(const Domain& domain) {
  jobs.erase(domain);
  schedule.ended(domain);
  turn();
}

Refresher::Refresher(Loop& loop, const Clock& clock, PolicyKeeper& policies, sts::RefreshLimits limits, Hooks hooks)
    : impl_(std::make_shared<Impl>(loop, clock, policies, limits, std::move(hooks))) {
  impl_->look_soon(Seconds{1});
  impl_->retry_later();
}

Refresher::~Refresher() = default;

}  // namespace sealane
