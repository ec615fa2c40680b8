// The life of a policy: every transition as a row of a table, random histories against a model of ten lines, and clocks
// that are set wrong by ten years.
#include "core/sts/lifecycle.h"

#include <doctest/doctest.h>

#include <cstdio>
#include <functional>
#include <random>
#include <vector>

using namespace sealane;
using namespace sealane::sts;

namespace {

constexpr Seconds hour{3600};
constexpr Seconds day{86400};
constexpr Seconds year = 366 * day;

WallTime at(Seconds since) { return WallTime{Seconds{1'800'000'000}} + since; }
Moment moment(Seconds since) { return {at(since), steady_start(at(since))}; }

std::string body(const std::string& mode, std::int64_t max_age) {
  return "version: STSv1\nmode: " + mode + "\nmx: mail.example.com\nmax_age: " + std::to_string(max_age) + "\n";
}

FetchResult fetched(Seconds started, const std::string& id, const std::string& mode, Seconds max_age) {
  return {at(started), id, body(mode, max_age.count()), ""};
}
FetchResult failed(Seconds started, const std::string& id) { return {at(started), id, "", "HTTP status 500"}; }

// `enforce` for a week, id 1, fetched at 0 for mail.
PolicyState stored() {
  PolicyState state;
  state.asked = moment(Seconds{0}).steady;
  return record_fetch(land(state, fetched(Seconds{0}, "1", "enforce", 7 * day), moment(Seconds{2})), moment(Seconds{2}),
                      0);
}

// What there is to see of a state: mode in force or "-", id, whether a fetch is due for TXT id 1, for TXT id 2, after
// a refusal, and without mail.
std::string seen(const PolicyState& state, Seconds since) {
  const Moment now = moment(since);
  const PolicyState as_now = as_of(state, now);
  const auto policy = policy_in_force(as_now, now.wall);
  std::string text = policy ? to_text(policy->mode) + " " + as_now.policy->id : "-";
  if (fetch_on_txt(as_now, "1", now.wall)) text += " txt1";
  if (fetch_on_txt(as_now, "2", now.wall)) text += " txt2";
  if (fetch_on_failure(as_now, now.wall)) text += " refused";
  if (fetch_on_refresh(as_now, now)) text += " refresh";
  return text;
}

struct Transition {
  const char* rule;
  std::function<PolicyState(PolicyState)> event;  // on what is stored()
  Seconds since;                                  // when it is looked at
  const char* then;
};

PolicyState nothing(PolicyState state) { return state; }

PolicyState after(PolicyState state, const FetchResult& result, Seconds now) {
  return record_fetch(land(std::move(state), result, moment(now)), moment(now), 0);
}

}  // namespace

TEST_CASE("RFC 8461 §3.3, §5.1, §10.2: the life cycle, transition by transition") {
  const auto after_result = [](const FetchResult& result) {
    return [result](PolicyState state) {
      return after(std::move(state), result, result.started - at(Seconds{0}) + Seconds{2});
    };
  };
  const auto after_both = [](const FetchResult& first, const FetchResult& second, Seconds now) {
    return [=](PolicyState state) { return after(after(std::move(state), first, now), second, now); };
  };
  const auto from_nothing = [](const FetchResult& result) {
    return [result](const PolicyState&) {
      PolicyState state;
      state.asked = moment(Seconds{0}).steady;
      return after(state, result, result.started - at(Seconds{0}) + Seconds{2});
    };
  };
  const Transition table[] = {
      {"3.3 nothing stored: a TXT record leads to a fetch, a refusal too",
       [](const PolicyState&) { return PolicyState{}; }, hour, "- txt1 txt2 refused"},
      {"3.3 a first fetch that fails leaves nothing; this id waits five minutes, another does not",
       from_nothing(failed(Seconds{0}, "1")), Seconds{299}, "- txt2"},
      {"3.3 … and after five minutes it is tried again", from_nothing(failed(Seconds{0}, "1")), Seconds{300},
       "- txt1 txt2 refused"},
      {"3.3 a policy in force: its own id fetches nothing, a new id does", nothing, hour, "enforce 1 txt2 refused"},
      {"5.1 a refusal fetches whatever the id says, but not within five minutes of any attempt", nothing, Seconds{299},
       "enforce 1 txt2"},
      {"10.2 without mail it is fetched after min(24 h, max_age/2)", nothing, day, "enforce 1 txt2 refused refresh"},
      {"10.2 … and not before", nothing, day - Seconds{1}, "enforce 1 txt2 refused"},
      {"3.2 an unchanged id does not extend the life: the last second", nothing, 7 * day,
       "enforce 1 txt2 refused refresh"},
      {"3.2 … and the first after it", nothing, 7 * day + Seconds{1}, "- txt1 txt2 refused refresh"},
      {"3.3 a failed fetch for a new id keeps the policy; that id waits", after_result(failed(hour, "2")),
       hour + Seconds{100}, "enforce 1"},
      {"3.3 … five minutes", after_result(failed(hour, "2")), hour + Seconds{300}, "enforce 1 txt2 refused"},
      {"10.2 a refresh that fails is tried again after five minutes", after_result(failed(day, "1")),
       day + Seconds{302}, "enforce 1 txt2 refused refresh"},
      {"10.2 … and not before", after_result(failed(day, "1")), day + Seconds{299}, "enforce 1 txt2"},
      {"3.3 failures do not touch the life: it ends when it ends", after_result(failed(7 * day - hour, "1")),
       7 * day + Seconds{1}, "- txt1 txt2 refused refresh"},
      {"8.3 mode none replaces enforce at once, as a whole", after_result(fetched(hour, "2", "none", day)),
       hour + Seconds{400}, "none 2 txt1 refused"},
      {"3.3 a new policy replaces the old one, whatever its id", after_result(fetched(day, "", "testing", day)),
       day + Seconds{400}, "testing  txt1 txt2 refused"},
      {"3.2 a refresh starts a new life", after_result(fetched(day, "1", "enforce", 7 * day)), 8 * day,
       "enforce 1 txt2 refused refresh"},
      {"3.2 max_age 0 serves the decision that fetched it", from_nothing(fetched(hour, "1", "enforce", Seconds{0})),
       hour + Seconds{1}, "- txt1 txt2"},
      {"3.2 … in that second", from_nothing(fetched(hour, "1", "enforce", Seconds{0})), hour, "enforce 1 txt2"},
      {"10.2 a max_age under an hour: no refresh without mail",
       from_nothing(fetched(hour, "1", "enforce", Seconds{3599})), hour + Seconds{3500}, "enforce 1 txt2 refused"},
      {"10.2 an hour: refresh", from_nothing(fetched(hour, "1", "enforce", hour)), hour + Seconds{1800},
       "enforce 1 txt2 refused refresh"},
      {"3.2 max_age over the cap counts as the cap", from_nothing(fetched(Seconds{0}, "1", "enforce", 20 * year)),
       Seconds{max_max_age} + Seconds{1}, "- txt1 txt2 refused refresh"},
      {"a fetch that started earlier never overwrites, and its id waits for nothing",
       after_both(fetched(hour, "2", "enforce", 7 * day), fetched(hour - Seconds{9}, "1", "none", day),
                  hour + Seconds{9}),
       hour + Seconds{400}, "enforce 2 txt1 refused"},
      {"`fetched` in the future counts as now, and is due for refresh at once", nothing, -10 * year,
       "enforce 1 txt2 refused refresh"},
  };
  for (const Transition& row : table) {
    CAPTURE(row.rule);
    const std::string then = seen(row.event(stored()), row.since);
    std::printf("  %-104s %s\n", row.rule, then.c_str());
    CHECK(then == row.then);
  }
}

TEST_CASE("RFC 8461 §10.2: only what was asked for within max(max_age, 90 days) is refreshed without mail") {
  const auto refreshed_until = [](Seconds max_age) {
    PolicyState state;
    state.asked = moment(Seconds{0}).steady;
    Seconds now{0};
    for (;;) {
      state = after(state, fetched(now, "1", "enforce", max_age), now);
      if (state.refresh == SteadyTime{}) return now;
      now = Seconds{state.refresh - moment(Seconds{0}).steady};
    }
  };
  CHECK(refreshed_until(7 * day) == 91 * day);  // the first one past 90 days is the last
  CHECK(refreshed_until(200 * day) == 201 * day);
  // Asked for again: from then on once more.
  PolicyState state = after(stored(), fetched(100 * day, "1", "enforce", 200 * day), 100 * day);
  state.refresh = {};
  const auto asked = after_asked(as_of(state, moment(200 * day)), moment(200 * day), 0);
  REQUIRE(asked);
  CHECK(asked->refresh == moment(200 * day).steady);
  CHECK_FALSE(after_asked(*asked, moment(200 * day + hour), 0));  // said already
}

TEST_CASE("failures back off, from five minutes to six hours, and never past the refresh interval") {
  PolicyState state = stored();
  std::vector<std::int64_t> waits;
  Seconds now = day;
  for (int i = 0; i < 9; ++i) {
    state = after(state, failed(now, "1"), now);
    waits.push_back((state.refresh - moment(now).steady).count());
    now += Seconds{waits.back()};
  }
  CHECK(waits == std::vector<std::int64_t>{300, 600, 1200, 2400, 4800, 9600, 19200, 21600, 21600});
  state = after(state, fetched(now, "1", "enforce", 7 * day), now);
  CHECK(state.failures == 0);
  state = after(state, fetched(now + Seconds{1}, "1", "enforce", hour), now + Seconds{1});
  for (int i = 0; i < 9; ++i) state.failures = 9;
  CHECK(next_refresh(state, moment(now + Seconds{1}), 0) - moment(now + Seconds{1}).steady == Seconds{1800});
}

TEST_CASE("jitter: refreshes of what was learned in one second are spread over a quarter of the interval") {
  PolicyState state;
  state.asked = moment(Seconds{0}).steady;
  for (const double jitter : {0.0, 0.25, 0.5, 1.0}) {
    const Moment now = moment(Seconds{0});
    const PolicyState then = record_fetch(land(state, fetched(Seconds{0}, "1", "enforce", 7 * day), now), now, jitter);
    CHECK(then.refresh - moment(Seconds{0}).steady == Seconds{static_cast<long>(86400 - 21600 * jitter)});
  }
}

namespace {

// What runs: a process with its two clocks, on a store that outlives it.
struct Machine {
  PolicyState disk;
  Moment mark = moment(Seconds{0});  // of the last entry
  Moment now = mark;

  void pass(Seconds time) {
    now.wall += time;
    now.steady += time;
  }
  void step(Seconds by) { now.wall += by; }
  void restart(Seconds off) {
    now.wall += off;
    now.steady = resume(mark, now.wall);
  }
  void save(PolicyState state) {
    disk = std::move(state);
    mark = now;
  }
  void fetch(const FetchResult& result, double jitter) { save(record_fetch(land(disk, result, now), now, jitter)); }
  [[nodiscard]] std::optional<Policy> in_force() const { return policy_in_force(as_of(disk, now), now.wall); }
};

// The ten lines.
struct Model {
  Seconds now{0};
  std::string mode;
  Seconds until{-1};
  void success(const std::string& the_mode, Seconds max_age, Seconds started) {
    mode = the_mode;
    until = started + std::min(max_age, Seconds{max_max_age});
  }
  [[nodiscard]] bool enforced() const { return mode == "enforce" && now <= until; }
};

struct History {
  explicit History(unsigned seed) : random(seed) {}
  std::mt19937 random;
  Machine machine;
  Model model;
  std::string text;

  int pick(int below) { return std::uniform_int_distribution<int>(0, below - 1)(random); }
  double jitter() { return std::uniform_real_distribution<double>(0, 1)(random); }
  Seconds some_time() {
    const Seconds scales[] = {Seconds{1}, Seconds{60}, hour, day, 30 * day};
    return scales[pick(5)] * (1 + pick(20));
  }
  void pass(Seconds time) {
    machine.pass(time);
    model.now += time;
  }

  // One event; `steps`: also steps of the clock.
  void event(bool steps) {
    const char* const modes[] = {"enforce", "enforce", "testing", "none"};
    const Seconds ages[] = {Seconds{0}, Seconds{60}, hour, day, 7 * day, 90 * day, year, 20 * year};
    const std::string id(1, static_cast<char>('0' + pick(3)));
    switch (pick(steps ? 8 : 7)) {
      case 0: {
        const std::string mode = modes[pick(4)];
        const Seconds max_age = ages[pick(8)];
        const WallTime started = machine.now.wall;
        const Seconds started_at = model.now;
        pass(Seconds{pick(60)});
        text += " fetched:" + mode + ":" + std::to_string(max_age.count());
        machine.fetch({started, id, body(mode, max_age.count()), ""}, jitter());
        model.success(mode, max_age, started_at);
        break;
      }
      case 1:
        text += " failed";
        machine.fetch({machine.now.wall, id, "", "HTTP status 500"}, jitter());
        break;
      case 2:
        text += " asked";
        if (auto asked = after_asked(as_of(machine.disk, machine.now), machine.now, jitter())) machine.save(*asked);
        break;
      case 3:
        text += " txt";
        if (machine.disk.policy) {
          PolicyState state = as_of(machine.disk, machine.now);
          state.policy->txt_seen = machine.now.wall;
          machine.save(state);
        }
        break;
      case 4: {
        text += " restart";
        // Off for longer than longest_gap after the last entry, it would know of nothing that has passed.
        if (machine.now.wall - machine.mark.wall > 60 * day) machine.save(machine.disk);
        const Seconds off = pick(2) == 0 ? Seconds{pick(5)} : std::min(some_time(), 300 * day);
        machine.restart(off);
        model.now += off;
        break;
      }
      case 7: {
        const Seconds by = (pick(2) == 0 ? 1 : -1) * (pick(2) == 0 ? 10 * year : some_time());
        text += " step:" + std::to_string(by.count());
        machine.step(by);
        if (pick(2) == 0) {
          text += ":restart";
          machine.restart(Seconds{0});
        }
        break;
      }
      default: {
        const Seconds time = some_time();
        text += " pass:" + std::to_string(time.count());
        pass(time);
      }
    }
  }
};

}  // namespace

TEST_CASE("random histories: an unexpired enforce policy is never weaker than the last successful fetch said") {
  long enforced = 0;
  long events = 0;
  for (unsigned seed = 0; seed < 1000; ++seed) {
    History history(seed);
    for (int i = 0; i < 60; ++i, ++events) {
      history.event(false);
      const auto policy = history.machine.in_force();
      const bool real = policy && policy->mode == Mode::enforce;
      enforced += history.model.enforced() ? 1 : 0;
      if (real == history.model.enforced()) continue;
      // Without steps of the clock both agree to the second, but for a gap that restart could not know of.
      CAPTURE(seed);
      CAPTURE(history.text);
      FAIL("enforced: ", real, ", the model says ", history.model.enforced());
    }
  }
  std::printf("  %ld events, %ld times an enforced policy was in force\n", events, enforced);
  CHECK(enforced > 10000);
}

TEST_CASE("random histories in one process with steps of ±10 years: nothing learned is dropped") {
  long enforced = 0;
  for (unsigned seed = 0; seed < 1000; ++seed) {
    History history(seed);
    for (int i = 0; i < 60; ++i) {
      // A step that comes with a restart may hide how long the machine was off; that is the next case.
      const std::string before = history.text;
      const Machine machine = history.machine;
      const Model model = history.model;
      history.event(true);
      if (history.text.find("restart", before.size()) != std::string::npos) {
        history.machine = machine;
        history.model = model;
        continue;
      }
      if (!history.model.enforced()) continue;
      ++enforced;
      const auto policy = history.machine.in_force();
      CAPTURE(seed);
      CAPTURE(history.text);
      REQUIRE(policy);
      REQUIRE(policy->mode == Mode::enforce);
    }
  }
  CHECK(enforced > 10000);
}

TEST_CASE("steps of ±10 years, in the process and across restarts: nothing is dropped, nothing lives for ever") {
  for (const Seconds step : {10 * year, -10 * year}) {
    for (const bool restart : {false, true}) {
      for (const bool back : {false, true}) {
        CAPTURE(step.count());
        CAPTURE(restart);
        CAPTURE(back);
        Machine machine;
        machine.fetch({machine.now.wall, "1", body("enforce", (7 * day).count()), ""}, 0);
        machine.pass(day);
        machine.save(machine.disk);
        machine.step(step);
        if (restart) machine.restart(Seconds{0});
        CHECK(machine.in_force());
        machine.pass(day);
        if (back) {
          machine.step(-step);
          if (restart) machine.restart(Seconds{0});
        }
        CHECK(machine.in_force());
        // What is learned while the clock is wrong outlives its correction.
        Machine other = machine;
        other.fetch({other.now.wall, "2", body("enforce", (7 * day).count()), ""}, 0);
        other.step(back ? step : -step);
        if (restart) other.restart(Seconds{0});
        REQUIRE(other.in_force());
        CHECK(other.disk.policy->id == "2");
        other.pass(7 * day + Seconds{1});
        CHECK_FALSE(other.in_force());
        // Two days are over by now. A restart may forget the time since the last entry, and no more.
        machine.pass(4 * day);
        CHECK(machine.in_force());
        machine.pass(2 * day);
        CHECK_FALSE(machine.in_force());
      }
    }
  }
}

TEST_CASE("a gap between two processes is believed up to longest_gap") {
  const Moment last = moment(Seconds{0});
  CHECK(resume(last, at(5 * day)) == last.steady + 5 * day);
  CHECK(resume(last, at(longest_gap)) == last.steady + longest_gap);
  CHECK(resume(last, at(longest_gap + Seconds{1})) == last.steady);
  CHECK(resume(last, at(Seconds{-1})) == last.steady);
}

TEST_CASE("a fetch during which the clock was stepped counts as started now") {
  for (const Seconds step : {10 * year, -10 * year}) {
    Machine machine;
    const WallTime started = machine.now.wall;
    machine.pass(Seconds{5});
    machine.step(step);
    machine.fetch({started, "1", body("enforce", 86400), ""}, 0);
    CHECK(machine.disk.policy->fetched == machine.now.wall);
    CHECK(machine.in_force());
  }
}

TEST_CASE("what is answered by is what is stored, also where clocks are read a second apart") {
  int replaced = 0;
  int kept = 0;
  for (int learned = -5; learned <= 5; ++learned) {
    for (int took = 0; took <= 3; ++took) {
      for (int asked = 0; asked <= 30; asked += 5) {  // how long before the fetch the question came
        CAPTURE(learned);
        CAPTURE(took);
        CAPTURE(asked);
        const Moment now = moment(hour);
        PolicyState before = stored();
        before.policy->fetched = at(hour + Seconds{learned});
        before.policy->learned = moment(hour + Seconds{learned}).steady;
        const FetchResult result = fetched(hour - Seconds{took}, "2", "enforce", 7 * day);
        const Landing landing = land(before, result, now);
        const PolicyState kept_state = record_fetch(landing, now, 0);
        const WallTime question = result.started - Seconds{asked};
        const PolicyState answered =
            after_fetch(landing.before, landing.result, std::max(question, landing.result.started));
        CHECK(answered.policy->id == kept_state.policy->id);
        CHECK(kept_state.policy->learned >= before.policy->learned);
        const bool is_new = kept_state.policy->id == "2";
        if (learned <= -took) CHECK(is_new);          // it started later, or in the same second
        if (learned > 2 - took) CHECK_FALSE(is_new);  // another process has fetched since
        ++(is_new ? replaced : kept);
      }
    }
  }
  CHECK(replaced > 0);
  CHECK(kept > 0);
}
