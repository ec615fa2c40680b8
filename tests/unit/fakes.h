// Fakes of the engine's seams: a zone in a map with a DNSSEC status per name, policy hosts, a settable clock, a store
// in memory. They note what they are asked, and can hold their answers back until told otherwise.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/base/loop.h"
#include "core/engine/engine.h"

namespace sealane::fakes {

inline Domain domain(const std::string& text) { return Domain::parse(text).value(); }

// RDATA, as Answer holds it.
inline Bytes mx(std::uint16_t preference, const std::string& host) {
  Bytes rdata{static_cast<std::uint8_t>(preference >> 8U), static_cast<std::uint8_t>(preference & 0xffU)};
  std::string label;
  for (const char c : host + ".") {
    if (c != '.') {
      label += c;
      continue;
    }
    rdata.push_back(static_cast<std::uint8_t>(label.size()));
    rdata.insert(rdata.end(), label.begin(), label.end());
    label.clear();
  }
  if (rdata.back() != 0 || rdata.size() == 2) rdata.push_back(0);
  return rdata;
}
inline Bytes txt(const std::string& text) {
  Bytes rdata(1 + text.size());  // not grown: at -O2, g++ 12 sees an overrun that is none
  rdata[0] = static_cast<std::uint8_t>(text.size());
  std::copy(text.begin(), text.end(), rdata.begin() + 1);
  return rdata;
}
inline Bytes a(std::uint8_t last) { return {192, 0, 2, last}; }
inline Bytes tlsa_3_1_1(std::uint8_t fill) {
  Bytes rdata{3, 1, 1};
  rdata.insert(rdata.end(), 32, fill);
  return rdata;
}

class FakeClock final : public Clock {
 public:
  [[nodiscard]] WallTime wall() const override { return wall_; }
  [[nodiscard]] MonoTime mono() const override { return mono_; }
  void pass(Seconds time) {
    wall_ += time;
    mono_ += time;
  }
  void set_wall(WallTime time) { wall_ = time; }

 private:
  WallTime wall_ = parse_rfc3339("2027-01-02T03:00:00Z").value();
  MonoTime mono_{std::chrono::hours{1}};
};

// What all resolvers of a test see.
class FakeZone {
 public:
  explicit FakeZone(Loop& loop) : loop_(&loop) {}

  void add(const std::string& name, dns::RrType type, dns::Security security, std::vector<Bytes> rdata,
           std::uint32_t ttl = 300) {
    dns::Answer answer;
    answer.outcome = dns::Outcome::data;
    answer.security = security;
    answer.failure = dns::Failure::none;
    answer.rdata = std::move(rdata);
    answer.ttl = ttl;
    answers_[{domain(name), type}] = answer;
  }
  void fail(const std::string& name, dns::RrType type, dns::Failure failure) {
    answers_[{domain(name), type}] = dns::failed(failure, "");
  }

  // From now on answers wait for release().
  void hold() { held_ = true; }
  void hold(const std::string& name, dns::RrType type) { held_keys_.insert({domain(name), type}); }
  // What is held waits on; what is asked from now on does not.
  void hold_no_more() {
    held_ = false;
    held_keys_.clear();
  }
  void release() {
    hold_no_more();
    for (auto& answer : std::exchange(waiting_, {})) answer();
  }
  [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }

  std::vector<LookupKey> asked;
  dns::Health health = dns::Health::ok;
  int resolvers = 0;  // made so far

  [[nodiscard]] long times_asked(const std::string& name, dns::RrType type) const {
    return std::count(asked.begin(), asked.end(), LookupKey{domain(name), type});
  }

  [[nodiscard]] std::unique_ptr<dns::Resolver> make_resolver();

 private:
  friend class FakeResolver;
  void answer(const LookupKey& key, std::function<void(dns::Answer)> done) {
    asked.push_back(key);
    auto give = [this, key, done = std::move(done)] {
      const auto found = answers_.find(key);
      dns::Answer nothing;  // what the zone does not hold is provably not there
      nothing.outcome = dns::Outcome::nodata;
      nothing.security = dns::Security::secure;
      nothing.failure = dns::Failure::none;
      nothing.ttl = 300;
      done(found == answers_.end() ? nothing : found->second);
    };
    if (held_ || held_keys_.count(key) != 0) {
      waiting_.emplace_back(std::move(give));
    } else {
      loop_->soon(std::move(give));
    }
  }

  Loop* loop_;
  std::map<LookupKey, dns::Answer> answers_;
  bool held_ = false;
  std::set<LookupKey> held_keys_;
  std::vector<std::function<void()>> waiting_;
};

class FakeResolver final : public dns::Resolver {
 public:
  FakeResolver(FakeZone& zone, Loop& loop) : zone_(zone), loop_(loop) {}
  void lookup(const Domain& name, dns::RrType type, Done done) override {
    zone_.answer({name, type}, [alive = std::weak_ptr<int>(alive_), done = std::move(done)](dns::Answer answer) {
      if (!alive.expired()) done(std::move(answer));
    });
  }
  void when_ready(std::function<void()> ready) override {
    loop_.soon([alive = std::weak_ptr<int>(alive_), ready = std::move(ready)] {
      if (!alive.expired()) ready();
    });
  }
  [[nodiscard]] dns::Health health() const override { return zone_.health; }
  [[nodiscard]] std::string health_text() const override { return "the resolver of the test"; }

 private:
  FakeZone& zone_;
  Loop& loop_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

inline std::unique_ptr<dns::Resolver> FakeZone::make_resolver() {
  ++resolvers;
  return std::make_unique<FakeResolver>(*this, *loop_);
}

// The policy hosts of a test; outlives the fetcher that the engine owns.
class FakePolicyHosts {
 public:
  FakePolicyHosts(Loop& loop, const Clock& clock) : loop_(&loop), clock_(&clock) {}

  std::map<std::string, std::string> bodies;  // by policy domain; none: the fetch fails
  std::vector<std::string> asked;             // policy domains
  std::vector<std::string> addresses;         // of the last fetch

  void hold() { held_ = true; }
  void release() {
    held_ = false;
    for (auto& answer : std::exchange(waiting_, {})) answer();
  }
  [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }
  [[nodiscard]] std::unique_ptr<sts::PolicyFetcher> make_fetcher();

 private:
  friend class FakeFetcher;
  void answer(const std::string& policy_domain, std::string id, std::function<void(sts::FetchResult)> done) {
    asked.push_back(policy_domain);
    sts::FetchResult result{clock_->wall(), std::move(id), {}, {}};
    if (const auto found = bodies.find(policy_domain); found != bodies.end()) {
      result.body = found->second;
    } else {
      result.error = "HTTP status 404";
    }
    auto give = [result = std::move(result), done = std::move(done)] { done(result); };
    if (held_) {
      waiting_.emplace_back(std::move(give));
    } else {
      loop_->soon(std::move(give));
    }
  }

  Loop* loop_;
  const Clock* clock_;
  bool held_ = false;
  std::vector<std::function<void()>> waiting_;
};

class FakeFetcher final : public sts::PolicyFetcher {
 public:
  explicit FakeFetcher(FakePolicyHosts& hosts) : hosts_(hosts) {}
  void fetch(const Domain& policy_domain, const std::vector<std::string>& addresses, std::string id,
             Done done) override {
    hosts_.addresses = addresses;
    hosts_.answer(policy_domain.text(), std::move(id),
                  [alive = std::weak_ptr<int>(alive_), done = std::move(done)](sts::FetchResult result) {
                    if (!alive.expired()) done(std::move(result));
                  });
  }

 private:
  FakePolicyHosts& hosts_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

inline std::unique_ptr<sts::PolicyFetcher> FakePolicyHosts::make_fetcher() {
  return std::make_unique<FakeFetcher>(*this);
}

// What a disk would hold; outlives the stores that engines own, so that a test can restart.
struct FakeDisk {
  std::map<Domain, sts::PolicyState> states;
  std::string load_error, save_error;  // not empty: every call fails so
  bool hold_saves = false;             // saves wait for release()
  bool hold_loads = false;             // so do loads
  std::optional<sts::Moment> last;     // entry
  std::vector<std::function<void()>> waiting;
  std::vector<TlsOutcome> outcomes;
  int saves = 0;

  void release() {
    hold_saves = hold_loads = false;
    for (auto& save : std::exchange(waiting, {})) save();
  }
};

class FakeStore final : public PolicyStore {
 public:
  explicit FakeStore(FakeDisk& disk) : disk_(disk) {}
  void load(const Domain& name, Loaded loaded) override {
    if (!disk_.load_error.empty()) return loaded(failure(disk_.load_error));
    const auto found = disk_.states.find(name);
    auto give = [state = found == disk_.states.end() ? sts::PolicyState{} : found->second, loaded = std::move(loaded)] {
      loaded(state);
    };
    if (disk_.hold_loads) {
      disk_.waiting.emplace_back(std::move(give));
    } else {
      give();
    }
  }
  void save(const Domain& name, const sts::PolicyState& state, const sts::Moment& now, Saved saved) override {
    ++disk_.saves;
    auto write = [this, name, state, now, saved = std::move(saved)] {
      if (!disk_.save_error.empty()) return saved(failure(disk_.save_error));
      disk_.states[name] = state;
      disk_.last = now;
      saved({});
    };
    if (disk_.hold_saves) {
      disk_.waiting.emplace_back(std::move(write));
    } else {
      write();
    }
  }
  void remove(const Domain& name, Saved removed) override {
    disk_.states.erase(name);
    removed({});
  }
  void record(std::vector<TlsOutcome> outcomes, Saved recorded) override {
    disk_.outcomes.insert(disk_.outcomes.end(), outcomes.begin(), outcomes.end());
    recorded({});
  }
  void due(SteadyTime now, std::size_t limit, Listed listed) override {
    Due due;
    due.stored = disk_.states.size();
    for (const auto& [name, state] : disk_.states) {
      const bool is_due = state.refresh != SteadyTime{} && state.refresh <= now;
      if (is_due && due.domains.size() < limit) due.domains.push_back(name);
    }
    listed(std::move(due));
  }
  [[nodiscard]] std::optional<sts::Moment> last_entry() const override { return disk_.last; }

 private:
  FakeDisk& disk_;
};

// Runs the loop until `reached`, which is looked at every millisecond, or five seconds have passed: then false.
inline bool run_until(Loop& loop, const std::function<bool()>& reached) {
  if (reached()) return true;
  bool yes = false;
  const auto bound = loop.after(Millis{5000}, [&loop] { loop.stop(); });
  Loop::Timer poll;
  const std::function<void()> look = [&] {
    yes = reached();
    if (yes) return loop.stop();
    poll = loop.after(Millis{1}, look);
  };
  look();
  loop.run();
  return yes;
}

}  // namespace sealane::fakes
