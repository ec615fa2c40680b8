// RFC 8461 §10.2, refresh without mail: what the schedule allows, and a hundred thousand policies in simulated time.
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <queue>
#include <random>

#include "core/sts/lifecycle.h"
#include "core/sts/refresh_schedule.h"

using namespace sealane;
using namespace sealane::sts;

namespace {

MonoTime at(double seconds) {
  return MonoTime{std::chrono::duration_cast<MonoTime::duration>(std::chrono::duration<double>(seconds))};
}
Domain domain(int number) { return Domain::parse("d" + std::to_string(number) + ".example").value(); }

RefreshLimits simple() {
  RefreshLimits limits;
  limits.slowest = 1;
  limits.at_once = 4;
  limits.of_address = 2;
  limits.of_address_at_once = 2;
  limits.of_address_waiting = 2;
  limits.known = 10;
  return limits;
}

}  // namespace

TEST_CASE("one begins at a time, as the rate allows; idle time is not saved up") {
  RefreshSchedule schedule(simple(), at(0));
  for (int i = 0; i < 10; ++i) schedule.add(domain(i));
  CHECK(schedule.room() == 0);
  schedule.add(domain(11));  // nothing happens
  CHECK(schedule.begin(at(0)).lookups.size() == 1);
  CHECK(schedule.begin(at(0.5)).lookups.empty());
  CHECK(schedule.next(at(0.5)) == at(1));
  CHECK(schedule.begin(at(1)).lookups.size() == 1);
  CHECK(schedule.begin(at(1000)).lookups.size() <= 2);
}

TEST_CASE("no more than at_once are under way") {
  RefreshLimits limits = simple();
  limits.slowest = 1000;
  limits.fastest = 1000;
  RefreshSchedule schedule(limits, at(0));
  for (int i = 0; i < 10; ++i) schedule.add(domain(i));
  std::size_t begun = 0;
  for (double now = 0; now < 1; now += 0.01) begun += schedule.begin(at(now)).lookups.size();
  CHECK(begun == 4);
  CHECK_FALSE(schedule.next(at(1)));
  schedule.ended(domain(0));
  CHECK(schedule.begin(at(2)).lookups == std::vector<Domain>{domain(4)});
}

TEST_CASE("one address: so many at once, so many in a second, and a bounded queue") {
  RefreshLimits limits = simple();
  limits.slowest = limits.fastest = 1000;
  limits.at_once = 8;
  RefreshSchedule schedule(limits, at(0));
  for (int i = 0; i < 6; ++i) schedule.add(domain(i));
  std::vector<Domain> lookups;
  for (double now = 0; lookups.size() < 6; now += 0.01) {
    for (const Domain& one : schedule.begin(at(now)).lookups) lookups.push_back(one);
  }
  CHECK(schedule.located(lookups[0], "192.0.2.1"));
  CHECK(schedule.located(lookups[1], "192.0.2.1"));
  CHECK_FALSE(schedule.located(lookups[2], "192.0.2.1"));  // its queue is full: put off
  CHECK(schedule.located(lookups[3], "192.0.2.2"));        // another address does not care
  CHECK(schedule.begin(at(1)).fetches.size() == 2);        // one of each
  CHECK(schedule.begin(at(1.4)).fetches.empty());
  CHECK(schedule.next(at(1.4)) == at(1.5));
  CHECK(schedule.begin(at(1.5)).fetches == std::vector<Domain>{lookups[1]});
  CHECK(schedule.located(lookups[4], "192.0.2.1"));
  CHECK(schedule.begin(at(9)).fetches.empty());  // two are under way
  schedule.ended(lookups[0]);
  CHECK(schedule.begin(at(9)).fetches == std::vector<Domain>{lookups[4]});
  schedule.add(lookups[2]);  // may come again
  CHECK(schedule.begin(at(10)).lookups == std::vector<Domain>{lookups[2]});
}

TEST_CASE("the more is stored, the faster, within bounds") {
  const auto gap = [](std::uint64_t stored) {
    RefreshSchedule schedule(RefreshLimits{}, at(0));
    schedule.stored(stored);
    schedule.add(domain(1));
    schedule.add(domain(2));
    CHECK(schedule.begin(at(0)).lookups.size() == 1);
    return std::chrono::duration<double>(schedule.next(at(0)).value() - at(0)).count();
  };
  CHECK(gap(10) == doctest::Approx(1));
  CHECK(gap(100000) == doctest::Approx(0.432));
  CHECK(gap(100000000) == doctest::Approx(0.05));
}

namespace {

// SEALANE_POLICIES: 100,000 in `make check-full`, without sanitizers.
const int policies = std::getenv("SEALANE_POLICIES") != nullptr ? std::atoi(std::getenv("SEALANE_POLICIES")) : 2000;
constexpr double day = 86400;

// The agent's refresh, without store and network: what is due is found as the store finds it, a lookup and a fetch take
// a while, and the process may be away. Nine of ten policies are served from one address.
class Simulation {
 public:
  explicit Simulation(unsigned seed) : random_(seed), states_(static_cast<std::size_t>(policies)) {}

  // All learned in the first hour, by mail; mail asks for them all the time.
  void learn() {
    for (int i = 0; i < policies; ++i) {
      now_ = 3600.0 * i / policies;
      record(i);
    }
    start();
  }
  void start() {
    schedule_.emplace(RefreshLimits{}, at(now_));
    events_ = {};
    look();
  }
  void run(double until) {
    while (!events_.empty() && events_.top().time <= until) {
      Event event = events_.top();
      events_.pop();
      now_ = event.time;
      event.act();
    }
    now_ = until;
  }
  // The process is gone, and with it what was under way.
  void away(double seconds) {
    events_ = {};
    now_ += seconds;
    start();
  }
  [[nodiscard]] std::vector<int> begun(double from, double to, double width) const {
    std::vector<int> counts(static_cast<std::size_t>((to - from) / width));
    for (const double time : fetched_) {
      if (time >= from && time < to) ++counts[static_cast<std::size_t>((time - from) / width)];
    }
    return counts;
  }
  [[nodiscard]] int not_in_force() {
    int count = 0;
    for (const PolicyState& state : states_) count += policy_in_force(state, moment().wall) ? 0 : 1;
    return count;
  }
  [[nodiscard]] std::size_t most_at_once() const { return most_at_once_; }

 private:
  struct Event {
    double time;
    std::function<void()> act;
    bool operator<(const Event& other) const { return time > other.time; }
  };
  [[nodiscard]] Moment moment() const {
    const WallTime wall{Seconds{1800000000 + static_cast<long>(now_)}};
    return {wall, steady_start(wall)};
  }
  double part() { return std::uniform_real_distribution<double>(0, 1)(random_); }
  void after(double delay, std::function<void()> act) { events_.push({now_ + delay, std::move(act)}); }

  void record(int i) {
    static const std::string body = "version: STSv1\nmode: enforce\nmx: mx.example\nmax_age: 604800\n";
    PolicyState& state = states_[static_cast<std::size_t>(i)];
    due_.erase({state.refresh, i});
    state.asked = moment().steady;
    state = record_fetch(land(state, {moment().wall, "1", body, ""}, moment()), moment(), part());
    due_.insert({state.refresh, i});
  }
  void look() {
    schedule_->stored(static_cast<std::uint64_t>(policies));
    std::size_t wanted = schedule_->wanted();
    for (auto at = due_.begin(); at != due_.end() && wanted > 0 && at->first <= moment().steady; ++at, --wanted) {
      const Domain name = domain(at->second);
      numbers_[name] = at->second;
      schedule_->add(name);
    }
    after(wanted == 0 ? 2 : 30, [this] { look(); });
    turn();
  }
  void turn() {
    const auto begin = schedule_->begin(at(now_));
    for (const Domain& name : begin.lookups) {
      after(0.02 + part() * 0.2, [this, name] {
        // Two thousand other providers.
        const std::string address = part() < 0.9 ? "192.0.2.1" : "198.51.100." + std::to_string(numbers_[name] % 2000);
        if (!schedule_->located(name, address)) ++put_off_;
        turn();
      });
    }
    for (const Domain& name : begin.fetches) {
      fetched_.push_back(now_);
      most_at_once_ = std::max(most_at_once_, ++under_way_);
      after(0.1 + part() * 0.5, [this, name] {
        --under_way_;
        record(numbers_[name]);
        schedule_->ended(name);
        turn();
      });
    }
    if (const auto next = schedule_->next(at(now_))) {
      const double delay = std::chrono::duration<double>(*next - at(now_)).count();
      const double when = now_ + std::max(delay, 0.001);
      if (when < turn_at_ - 0.0005 || turn_at_ <= now_) {
        turn_at_ = when;
        events_.push({when, [this] { turn(); }});
      }
    }
  }

  std::mt19937 random_;
  std::vector<PolicyState> states_;
  std::set<std::pair<SteadyTime, int>> due_;
  std::map<Domain, int> numbers_;
  std::optional<RefreshSchedule> schedule_;
  std::priority_queue<Event> events_;
  double now_ = 0;
  double turn_at_ = 0;
  std::size_t under_way_ = 0;
  std::size_t most_at_once_ = 0;
  long put_off_ = 0;
  std::vector<double> fetched_;
};

int most(const std::vector<int>& counts) { return *std::max_element(counts.begin(), counts.end()); }

void histogram(const char* title, const std::vector<int>& hours) {
  std::printf("  %s, fetches begun in each hour:\n", title);
  for (std::size_t i = 0; i < hours.size(); ++i) {
    std::printf("    %2zu h %6d %s\n", i, hours[i],
                std::string(static_cast<std::size_t>(hours[i] * 500L / policies), '#').c_str());
  }
}

}  // namespace

TEST_CASE("100,000 policies, learned in one hour: spread over the day, no burst after a restart or a day's outage") {
  Simulation simulation(1);
  simulation.learn();
  simulation.run(4 * day);
  const auto steady = simulation.begun(3 * day, 4 * day, 3600);
  histogram("the fourth day", steady);
  CHECK(simulation.not_in_force() == 0);

  simulation.away(10);  // a restart
  simulation.run(4 * day + 10 + 3600);
  const int after_restart = most(simulation.begun(4 * day + 10, 4 * day + 10 + 600, 60));

  simulation.away(day);
  const double back = 5 * day + 10 + 3600;
  simulation.run(back + day);
  const auto after_outage = simulation.begun(back, back + day, 3600);
  histogram("the day after a day's outage", after_outage);
  const int most_in_minute = most(simulation.begun(back, back + day, 60));
  const int most_in_second = most(simulation.begun(back, back + day, 1));
  std::printf("  in a minute at most: after a restart %d, after the outage %d (in a second %d); at once %zu\n",
              after_restart, most_in_minute, most_in_second, simulation.most_at_once());
  simulation.run(back + 2 * day);
  const auto then = simulation.begun(back + day, back + 2 * day, 3600);
  histogram("the second day after it", then);
  CHECK(simulation.not_in_force() == 0);

  // A day's need is all of them once, or a third more; twice that is the bound, and one a second where that is more.
  const double bound = std::max(1.0, policies / 43200.0) * 1.04;
  for (const auto& hours : {steady, after_outage, then}) {
    CHECK(most(hours) <= bound * 3600);
    if (policies >= 100000) CHECK(most(hours) <= policies / 8);
  }
  CHECK(after_restart <= bound * 60 + 1);
  CHECK(most_in_minute <= bound * 60 + 1);
  CHECK(most_in_second <= bound + 2);
  CHECK(simulation.most_at_once() <= 16);
}
