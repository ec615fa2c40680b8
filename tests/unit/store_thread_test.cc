// The store behind its thread: order, durability, and that the loop never waits. Runs under ThreadSanitizer too.
#include <doctest/doctest.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <map>
#include <thread>

#include "core/base/mailbox.h"
#include "core/store/store.h"
#include "tests/unit/temp_dir.h"

using namespace sealane;
namespace fs = std::filesystem;

namespace {

struct TempDir : test::TempDir {
  [[nodiscard]] std::string db() const { return file("sealane.db"); }
};

Domain domain(const std::string& text) { return Domain::parse(text).value(); }

const sts::Moment now{WallTime{Seconds{1800000000}}, SteadyTime{Seconds{1800000000}}};

sts::PolicyState state_of(int number) {
  sts::PolicyState state;
  state.policy =
      sts::StoredPolicy{std::to_string(number), "version: STSv1\nmode: enforce\nmx: mx.example\nmax_age: 86400\n",
                        now.wall, now.wall, now.steady + Seconds{number}};
  return state;
}

// A file that notes what it is asked, and can be made to wait or to fail.
class SlowFile final : public StoreFile {
 public:
  std::shared_ptr<std::atomic<int>> transactions = std::make_shared<std::atomic<int>>(0);
  std::shared_ptr<std::atomic<int>> recorded = std::make_shared<std::atomic<int>>(0);
  std::shared_future<void> gate;                // saves wait for it; not valid: they do not
  std::shared_ptr<std::promise<void>> entered;  // fulfilled when the first save waits
  std::string refuses;                          // a domain that cannot be saved

  Result<sts::PolicyState> load(const Domain& name) override {
    const auto found = rows_.find(name);
    return found == rows_.end() ? sts::PolicyState{} : found->second;
  }
  Result<void> save(const std::vector<Entry>& entries) override {
    if (entered) std::exchange(entered, nullptr)->set_value();
    if (gate.valid()) gate.wait();
    ++*transactions;
    for (const Entry& entry : entries) {
      if (entry.domain.text() == refuses) return failure("refused");
    }
    for (const Entry& entry : entries) rows_[entry.domain] = entry.state;
    return {};
  }
  void load(const Domain& name, Loaded loaded) override { loaded(load(name)); }
  void save(const Domain&, const sts::PolicyState&, const sts::Moment&, Saved saved) override { saved(failure("no")); }
  void remove(const Domain& name, Saved removed) override { removed(remove(name)); }
  void due(SteadyTime, std::size_t, Listed listed) override { listed(Due{{}, rows_.size()}); }
  void record(std::vector<TlsOutcome> outcomes, Saved done) override { done(record(outcomes)); }
  Result<void> record(const std::vector<TlsOutcome>& outcomes) override {
    recorded->fetch_add(static_cast<int>(outcomes.size()));
    return {};
  }
  Result<std::vector<TlsOutcome>> outcomes(const Domain&) override { return {}; }
  [[nodiscard]] std::optional<sts::Moment> last_entry() const override { return now; }
  Result<void> each(const std::function<bool(const std::string&, Result<sts::PolicyState>)>&) override { return {}; }
  Result<std::uint64_t> size() override { return rows_.size(); }
  Result<void> remove(const Domain& name) override {
    rows_.erase(name);
    return {};
  }

 private:
  std::map<Domain, sts::PolicyState> rows_;
};

}  // namespace

TEST_CASE("mailbox: letters from other threads come on the loop's, in order, and none to a closed box") {
  Loop loop;
  auto box = std::make_unique<Mailbox>(loop);
  std::vector<int> got;
  const auto here = std::this_thread::get_id();
  std::thread writer([&] {
    for (int i = 0; i < 1000; ++i) {
      box->post([&, i] {
        CHECK(std::this_thread::get_id() == here);
        got.push_back(i);
        if (i == 999) loop.stop();
      });
    }
  });
  loop.run();
  writer.join();
  REQUIRE(got.size() == 1000);
  CHECK(std::is_sorted(got.begin(), got.end()));
  box->post([&] { box.reset(); });
  box->post([&] { got.clear(); });
  loop.run();  // ends by itself: the box is gone, and nothing is waited for
  CHECK(got.size() == 1000);
}

TEST_CASE("a save that waits for the disk holds up no other work of the loop, and what waits with it costs one wait") {
  Loop loop;
  std::promise<void> disk;
  auto file = std::make_unique<SlowFile>();
  file->gate = disk.get_future().share();
  file->entered = std::make_shared<std::promise<void>>();
  auto waiting = file->entered->get_future();
  const auto transactions = file->transactions;
  const auto store = on_thread(loop, std::move(file), "", nullptr);
  int saved = 0;
  const auto save = [&](int i) {
    store->save(domain("d" + std::to_string(i) + ".example"), state_of(i), now, [&](const Result<void>& done) {
      CHECK(done);
      if (++saved == 100) loop.stop();
    });
  };
  save(0);
  waiting.wait();  // the thread is at the disk
  for (int i = 1; i < 100; ++i) save(i);
  bool turned = false;
  loop.soon([&] {
    turned = true;
    loop.stop();
  });
  loop.run();
  CHECK(turned);
  CHECK(saved == 0);
  disk.set_value();
  loop.run();
  CHECK(saved == 100);
  CHECK(*transactions == 2);
}

TEST_CASE("one that cannot be saved does not keep others from it") {
  Loop loop;
  std::promise<void> disk;
  auto file = std::make_unique<SlowFile>();
  file->gate = disk.get_future().share();
  file->refuses = "d2.example";
  const auto store = on_thread(loop, std::move(file), "", nullptr);
  int good = 0;
  int bad = 0;
  for (int i = 0; i < 5; ++i) {
    store->save(domain("d" + std::to_string(i) + ".example"), state_of(i), now, [&](const Result<void>& done) {
      ++(done ? good : bad);
      if (good + bad == 5) loop.stop();
    });
  }
  disk.set_value();
  loop.run();
  CHECK(good == 4);
  CHECK(bad == 1);
}

TEST_CASE("what was saved is durable when the store is closed, and nobody is called any more") {
  const TempDir dir;
  Loop loop;
  int called = 0;
  {
    const auto store = on_thread(loop, std::move(*open_sqlite_store(dir.db(), {StoreMode::read_write})), "", nullptr);
    for (int i = 0; i < 500; ++i) {
      store->save(domain("d" + std::to_string(i) + ".example"), state_of(i), now,
                  [&](const Result<void>&) { ++called; });
    }
    store->load(domain("d1.example"), [&](const Result<sts::PolicyState>&) { ++called; });
  }
  loop.soon([&] { loop.stop(); });
  loop.run();
  CHECK(called == 0);
  CHECK(open_sqlite_store(dir.db(), {})->get()->size().value() == 500);
}

TEST_CASE("many saves and loads at once: each is answered once, and the last state of a domain is what is stored") {
  const TempDir dir;
  Loop loop;
  const auto store =
      on_thread(loop, std::move(*open_sqlite_store(dir.db(), {StoreMode::read_write})), dir.db(), nullptr);
  int answers = 0;
  int wrong = 0;
  const int rounds = 2000;
  const auto count = [&] {
    if (++answers == 2 * rounds + 1) loop.stop();
  };
  for (int i = 0; i < rounds; ++i) {
    const Domain name = domain("d" + std::to_string(i % 50) + ".example");
    store->save(name, state_of(i), now, [&](const Result<void>& done) {
      wrong += done ? 0 : 1;
      count();
    });
    store->load(name, [&](const Result<sts::PolicyState>& state) {
      wrong += state ? 0 : 1;
      count();
    });
  }
  store->due(now.steady, 10, [&](const Result<PolicyStore::Due>& due) {
    wrong += due ? 0 : 1;
    count();
  });
  loop.run();
  CHECK(wrong == 0);
  const auto file = open_sqlite_store(dir.db(), {});
  REQUIRE(file);
  for (int i = rounds - 50; i < rounds; ++i) {
    CHECK((*file)->load(domain("d" + std::to_string(i % 50) + ".example")).value().policy->id == std::to_string(i));
  }
}

TEST_CASE("a backup is made while others read and write") {
  const TempDir dir;
  Loop loop;
  auto file = open_sqlite_store(dir.db(), {StoreMode::read_write});
  REQUIRE(file);
  for (int i = 0; i < 200; ++i) {
    REQUIRE((*file)->save({{domain("d" + std::to_string(i) + ".example"), state_of(i), now}}));
  }
  const auto store = on_thread(loop, std::move(*file), "", nullptr);
  const std::atomic<bool> go{false};
  std::atomic<bool> made{false};
  std::thread backup([&] { made = back_up_store(dir.db(), go).has_value(); });
  int saved = 0;
  for (int i = 0; i < 300; ++i) {
    store->save(domain("e" + std::to_string(i) + ".example"), state_of(i), now, [&](const Result<void>& done) {
      CHECK(done);
      if (++saved == 300) loop.stop();
    });
  }
  loop.run();
  backup.join();
  CHECK(made);
  CHECK(open_sqlite_store(backup_path(dir.db()), {})->get()->size().value() >= 200);
}

TEST_CASE("what is recorded reaches the store, also where the thread ends at once") {
  Loop loop;
  auto file = std::make_unique<SlowFile>();
  const auto recorded = file->recorded;
  {
    const auto store = on_thread(loop, std::move(file), "", nullptr);
    store->record({TlsOutcome{}, TlsOutcome{}}, [](const Result<void>&) {});
  }
  CHECK(*recorded == 2);
}
