#include "core/store/store.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include "tests/unit/temp_dir.h"

using namespace sealane;
namespace fs = std::filesystem;

namespace {

constexpr uid_t nobody = 65534;

struct TempDir : test::TempDir {
  [[nodiscard]] std::string db() const { return file("sealane.db"); }
  // Everything in it, and the folder, to `nobody`, so that a child without root's powers works there.
  void give_away() const {
    if (geteuid() != 0) return;
    REQUIRE(chown(path().c_str(), nobody, nobody) == 0);
    for (const auto& entry : fs::directory_iterator(path())) {
      REQUIRE(chown(entry.path().c_str(), nobody, nobody) == 0);
    }
  }
};

Domain domain(const char* text) { return Domain::parse(text).value(); }

WallTime at(std::int64_t seconds) { return WallTime{Seconds{seconds}}; }

const char* const body = "version: STSv1\r\nmode: enforce\r\nmx: *.example.com\r\nmax_age: 604800\r\n";

sts::PolicyState sample() {
  return {sts::StoredPolicy{"20260101", body, at(1767225600), at(1767225700), SteadyTime{Seconds{1767225601}}},
          at(1767225800),
          "20260102",
          "HTTP status 404; \"quoted\" 'text'",
          3,
          SteadyTime{Seconds{1767225000}},
          SteadyTime{Seconds{1767229000}}};
}

const sts::Moment now{at(1767225900), SteadyTime{Seconds{1767225901}}};

void check_equal(const sts::PolicyState& a, const sts::PolicyState& b) {
  REQUIRE(a.policy.has_value() == b.policy.has_value());
  if (a.policy) {
    CHECK(a.policy->id == b.policy->id);
    CHECK(a.policy->body == b.policy->body);
    CHECK(a.policy->fetched == b.policy->fetched);
    CHECK(a.policy->txt_seen == b.policy->txt_seen);
    CHECK(a.policy->learned == b.policy->learned);
  }
  CHECK(a.attempted == b.attempted);
  CHECK(a.attempted_id == b.attempted_id);
  CHECK(a.error == b.error);
  CHECK(a.failures == b.failures);
  CHECK(a.asked == b.asked);
  CHECK(a.refresh == b.refresh);
}

std::unique_ptr<StoreFile> open_store(const std::string& path, StoreMode mode = StoreMode::read_write) {
  auto store = open_sqlite_store(path, {mode});
  if (!store) FAIL(store.error().text());
  return std::move(*store);
}

// With an error that says `what`, in one line, of this file, with a remedy.
bool refused(const std::string& path, StoreMode mode = StoreMode::read_write, const std::string& what = "") {
  const auto store = open_sqlite_store(path, {mode});
  if (store) return false;
  const std::string text = store.error().text();
  CAPTURE(text);
  CHECK(store.error().of == path);
  CHECK(store.error().what.find(what) != std::string::npos);
  CHECK_FALSE(store.error().remedy.empty());
  CHECK(text.find('\n') == std::string::npos);
  return true;
}

Result<void> save(StoreFile& store, const Domain& name, const sts::PolicyState& state) {
  return store.save({{name, state, now}});
}

std::vector<std::string> domains_of(StoreFile& store) {
  std::vector<std::string> all;
  const auto done = store.each([&all](const std::string& name, const Result<sts::PolicyState>& state) {
    all.push_back(state ? name : "bad " + name);
    return true;
  });
  CHECK(done);
  return all;
}

// A store with one row, closed again.
void make_store(const std::string& path) {
  const auto store = open_store(path);
  REQUIRE(save(*store, domain("example.com"), sample()).has_value());
}

// What an administrator, or an accident, may do to the file behind our back.
void meddle(const std::string& path, const std::string& sql) {
  sqlite3* db = nullptr;
  REQUIRE(sqlite3_open(path.c_str(), &db) == SQLITE_OK);
  char* error = nullptr;
  sqlite3_exec(db, sql.c_str(), nullptr, nullptr, &error);
  const std::string what = error == nullptr ? "" : error;
  sqlite3_free(error);
  CHECK(sqlite3_close(db) == SQLITE_OK);
  REQUIRE(what == "");
}

std::string ask(const std::string& path, const std::string& sql) {
  sqlite3* db = nullptr;
  REQUIRE(sqlite3_open(path.c_str(), &db) == SQLITE_OK);
  std::string answer;
  sqlite3_exec(
      db, sql.c_str(),
      [](void* out, int, char** values, char**) {
        *static_cast<std::string*>(out) = values[0];
        return 0;
      },
      &answer, nullptr);
  sqlite3_close(db);
  return answer;
}

// Runs `what` in a process without root's powers: root may read everything.
bool holds_without_root(const std::function<bool()>& what) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const bool dropped = geteuid() != 0 || (setgid(nobody) == 0 && setuid(nobody) == 0);
    _exit(dropped && what() ? 0 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

TEST_CASE("what is saved is loaded") {
  const auto store = open_store(":memory:");
  check_equal(store->load(domain("example.com")).value(), sts::PolicyState{});
  REQUIRE(save(*store, domain("example.com"), sample()).has_value());
  check_equal(store->load(domain("example.com")).value(), sample());
  check_equal(store->load(domain("sub.example.com")).value(), sts::PolicyState{});

  sts::PolicyState replaced = sample();  // as a whole
  replaced.policy->body += "\n";
  replaced.policy->learned += Seconds{1};
  replaced.error.clear();
  replaced.failures = 0;
  replaced.refresh = {};
  REQUIRE(save(*store, domain("example.com"), replaced).has_value());
  check_equal(store->load(domain("example.com")).value(), replaced);

  sts::PolicyState without_id = sample();  // fetched without a TXT record
  without_id.policy->id.clear();
  without_id.policy->fetched = without_id.policy->txt_seen = at(0);
  without_id.policy->learned += Seconds{2};
  REQUIRE(save(*store, domain("example.com"), without_id).has_value());
  check_equal(store->load(domain("example.com")).value(), without_id);
}

TEST_CASE("each is sorted, remove removes") {
  const auto store = open_store(":memory:");
  for (const char* name : {"b.example", "a.example", "xn--bcher-kva.example", "_x.example"}) {
    REQUIRE(save(*store, domain(name), sample()).has_value());
  }
  CHECK(domains_of(*store) ==
        std::vector<std::string>{"_x.example", "a.example", "b.example", "xn--bcher-kva.example"});
  CHECK(store->remove(domain("a.example")).has_value());
  CHECK(store->remove(domain("never-there.example")).has_value());
  CHECK(store->size().value() == 3);
  check_equal(store->load(domain("a.example")).value(), sts::PolicyState{});
}

TEST_CASE("RFC 8461 §10.2: policies survive a restart") {
  const TempDir dir;
  make_store(dir.db());
  check_equal(open_store(dir.db())->load(domain("example.com")).value(), sample());
  check_equal(open_store(dir.db(), StoreMode::read_only)->load(domain("example.com")).value(), sample());
}

TEST_CASE("an absent store is created for its owner alone, whole or not at all") {
  const TempDir dir;
  const mode_t before = umask(0);
  make_store(dir.db());
  const auto store = open_store(dir.db());
  REQUIRE(save(*store, domain("example.net"), sample()).has_value());
  umask(before);
  for (const auto& entry : fs::directory_iterator(dir.path())) {
    struct stat info {};
    REQUIRE(stat(entry.path().c_str(), &info) == 0);
    CAPTURE(entry.path().string());
    CHECK((info.st_mode & 0777) == 0600);
    CHECK(entry.path().string().rfind(dir.db(), 0) == 0);
    CHECK((entry.path() == dir.db() || entry.path() == dir.db() + "-wal" || entry.path() == dir.db() + "-shm"));
  }
  CHECK(ask(dir.db(), "PRAGMA journal_mode") == "wal");
}

TEST_CASE("several that create the store at once share one") {
  const TempDir dir;
  std::vector<int> good(4);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < good.size(); ++i) {
    threads.emplace_back([&good, &dir, i] {
      auto store = open_sqlite_store(dir.db(), {StoreMode::read_write});
      if (!store) return;
      const auto name = Domain::parse("d" + std::to_string(i) + ".example");
      good[i] = (*store)->save({{*name, sample(), now}}) ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(good == std::vector<int>{1, 1, 1, 1});
  CHECK(open_store(dir.db())->size().value() == 4);
}

TEST_CASE("read_only: an absent store is empty and stays absent; nothing can be saved") {
  const TempDir dir;
  const auto absent = open_store(dir.db(), StoreMode::read_only);
  CHECK(absent->size().value() == 0);
  CHECK_FALSE(save(*absent, domain("example.com"), sample()).has_value());
  CHECK(fs::is_empty(dir.path()));

  make_store(dir.db());
  const auto store = open_store(dir.db(), StoreMode::read_only);
  CHECK_FALSE(save(*store, domain("example.com"), {}).has_value());
  CHECK_FALSE(store->remove(domain("example.com")).has_value());
  check_equal(store->load(domain("example.com")).value(), sample());
}

TEST_CASE("what is there and no store of ours is an error, never an empty store, and stays as it is") {
  const TempDir dir;
  struct Case {
    std::string why;
    std::string what;
    std::function<void(const std::string&)> make;
  };
  const std::vector<Case> cases = {
      {"an empty file", "the file is empty", [](const std::string& path) { std::ofstream{path}; }},
      {"a short text", "", [](const std::string& path) { std::ofstream(path) << "hello"; }},
      {"garbage", "not a database", [](const std::string& path) { std::ofstream(path) << std::string(100000, 'x'); }},
      {"zeroes", "", [](const std::string& path) { std::ofstream(path) << std::string(100000, '\0'); }},
      {"truncated", "malformed",
       [](const std::string& path) {
         make_store(path);
         fs::resize_file(path, fs::file_size(path) - 4096);
       }},
      {"truncated to its first page", "malformed",
       [](const std::string& path) {
         make_store(path);
         fs::resize_file(path, 4096);
       }},
      {"truncated to less than its header", "",
       [](const std::string& path) {
         make_store(path);
         fs::resize_file(path, 50);
       }},
      {"another program's database", "not a store of this program",
       [](const std::string& path) { meddle(path, "CREATE TABLE policies (domain)"); }},
      {"a newer schema", "schema 999 is newer",
       [](const std::string& path) {
         make_store(path);
         meddle(path, "PRAGMA user_version = 999");
       }},
      {"no table", "no such table",
       [](const std::string& path) {
         make_store(path);
         meddle(path, "DROP TABLE policies");
       }},
      {"another table", "no such column",
       [](const std::string& path) {
         make_store(path);
         meddle(path, "DROP TABLE policies; CREATE TABLE policies (domain TEXT, body TEXT)");
       }},
      {"a directory", "not a regular file", [](const std::string& path) { fs::create_directory(path); }},
      {"a FIFO", "not a regular file", [](const std::string& path) { REQUIRE(mkfifo(path.c_str(), 0600) == 0); }},
      {"a device", "not a regular file", [](const std::string& path) { fs::create_symlink("/dev/null", path); }},
  };
  int number = 0;
  for (const Case& item : cases) {
    CAPTURE(item.why);
    const std::string path = dir.file(std::to_string(++number));
    item.make(path);
    const bool regular = fs::is_regular_file(path);
    const auto size = regular ? fs::file_size(path) : 0;
    CHECK(refused(path, StoreMode::read_write, item.what));
    CHECK(refused(path, StoreMode::read_only, item.what));
    if (regular) CHECK(fs::file_size(path) == size);
  }
}

TEST_CASE("the log of a store that is gone is an error") {
  const TempDir dir;
  std::ofstream(dir.db() + "-wal") << "x";
  CHECK(refused(dir.db()));
  CHECK(refused(dir.db(), StoreMode::read_only));
}

TEST_CASE("a directory that is missing is an error that names the store") { CHECK(refused("/nonexistent/sealane.db")); }

TEST_CASE("a store, or a directory, that may not be read is an error") {
  const TempDir dir;
  make_store(dir.db());
  dir.give_away();
  REQUIRE(chmod(dir.db().c_str(), 0) == 0);
  const auto both_refused = [&dir] { return refused(dir.db()) && refused(dir.db(), StoreMode::read_only); };
  CHECK(holds_without_root(both_refused));
  REQUIRE(chmod(dir.db().c_str(), 0600) == 0);
  REQUIRE(chmod(dir.path().c_str(), 0) == 0);
  CHECK(holds_without_root(both_refused));
  REQUIRE(chmod(dir.path().c_str(), 0700) == 0);
  CHECK(holds_without_root([&dir] { return open_sqlite_store(dir.db(), {StoreMode::read_write}).has_value(); }));
}

TEST_CASE("a store that may not be written still counts; saving says that it failed") {
  const TempDir dir;
  make_store(dir.db());
  dir.give_away();
  REQUIRE(chmod(dir.db().c_str(), 0400) == 0);
  CHECK(holds_without_root([&dir] {
    const auto store = open_sqlite_store(dir.db(), {StoreMode::read_write});
    return store && (*store)->load(domain("example.com")).value().policy.has_value() &&
           !save(**store, domain("example.net"), sample()).has_value();
  }));
}

TEST_CASE("a full disk: saving says that it failed, what was stored still counts") {
  const TempDir dir;
  make_store(dir.db());
  dir.give_away();
  CHECK(holds_without_root([&dir] {
    const auto store = open_sqlite_store(dir.db(), {StoreMode::read_write});
    if (!store) return false;
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit nothing{100, 100};  // octets a file: the log cannot grow
    if (setrlimit(RLIMIT_FSIZE, &nothing) != 0) return false;
    return !save(**store, domain("example.net"), sample()).has_value() &&
           (*store)->load(domain("example.com")).value().policy.has_value();
  }));
}

TEST_CASE("a store that another process holds: an error after a bounded wait") {
  const TempDir dir;
  make_store(dir.db());
  sqlite3* other = nullptr;
  REQUIRE(sqlite3_open(dir.db().c_str(), &other) == SQLITE_OK);
  REQUIRE(sqlite3_exec(other, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr) == SQLITE_OK);
  const auto store = open_store(dir.db());
  check_equal(store->load(domain("example.com")).value(), sample());  // readers do not wait
  const auto begin = std::chrono::steady_clock::now();
  CHECK_FALSE(save(*store, domain("example.com"), {}).has_value());
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(10));
  sqlite3_close(other);
  CHECK(save(*store, domain("example.com"), {}).has_value());
}

namespace {

// A store as version 0.1.0 first made it, with some rows.
void make_first_schema(const std::string& path, int rows) {
  const char* const folder = std::getenv("SEALANE_MIGRATIONS");
  REQUIRE(folder != nullptr);
  std::ifstream file(fs::path(folder) / "0001_policies.sql");
  const std::string sql((std::istreambuf_iterator<char>(file)), {});
  REQUIRE_FALSE(sql.empty());
  meddle(path, sql + "PRAGMA application_id = " + std::to_string(0x53654C61) + "; PRAGMA user_version = 1;" +
                   "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < " + std::to_string(rows) +
                   ") INSERT INTO policies SELECT 'd' || i || '.example', CASE WHEN i % 3 > 0 THEN 'id' || i END, "
                   "CASE WHEN i % 3 > 0 THEN CAST('version: STSv1' || char(10) || 'mode: ' || "
                   "iif(i % 3 = 1, 'enforce', 'testing') || char(10) || 'mx: mx' || i || '.example' || char(10) || "
                   "'max_age: 604800' || char(10) AS BLOB) END, CASE WHEN i % 3 > 0 THEN unixepoch() - i END, "
                   "CASE WHEN i % 3 > 0 THEN unixepoch() END, unixepoch() - i, 'a' || i, 'error ' || i FROM n");
}

}  // namespace

TEST_CASE("an older schema is brought up to date where the store may be written, without loss, after a backup") {
  const TempDir dir;
  make_first_schema(dir.db(), 1000);
  CHECK(refused(dir.db(), StoreMode::read_only, "older"));
  const auto store = open_store(dir.db());
  CHECK(ask(dir.db(), "PRAGMA user_version") == "3");
  CHECK(ask(backup_path(dir.db()), "PRAGMA user_version") == "1");
  CHECK(ask(backup_path(dir.db()), "SELECT count(*) FROM policies") == "1000");
  CHECK(store->size().value() == 1000);
  const sts::PolicyState enforced = store->load(domain("d1.example")).value();
  REQUIRE(enforced.policy);
  CHECK(enforced.policy->id == "id1");
  CHECK(enforced.policy->body == "version: STSv1\nmode: enforce\nmx: mx1.example\nmax_age: 604800\n");
  CHECK(enforced.policy->learned.time_since_epoch() == enforced.policy->fetched.time_since_epoch());
  CHECK(enforced.attempted_id == "a1");
  CHECK(enforced.error == "error 1");
  const auto begin = store->last_entry().value().steady;
  CHECK(enforced.refresh >= begin);  // spread over the day to come
  CHECK(enforced.refresh < begin + Seconds{86400});
  CHECK_FALSE(store->load(domain("d3.example")).value().policy);
  CHECK(ask(dir.db(), "SELECT group_concat(n) FROM (SELECT count(*) AS n FROM policies GROUP BY worth)") ==
        "333,333,334");
  CHECK(save(*store, domain("example.com"), sample()).has_value());
}

TEST_CASE("a migration that fails leaves the store as it was") {
  const TempDir dir;
  make_first_schema(dir.db(), 1);
  meddle(dir.db(), "CREATE TABLE moment (x)");
  CHECK(refused(dir.db()));
  CHECK(ask(dir.db(), "PRAGMA user_version") == "1");
  CHECK(ask(dir.db(), "SELECT count(*) FROM policies") == "1");
}

TEST_CASE("without a backup nothing is migrated") {
  const TempDir dir;
  make_first_schema(dir.db(), 3);
  fs::create_directory(backup_path(dir.db()));
  CHECK(refused(dir.db(), StoreMode::read_write, "no backup"));
  CHECK(ask(dir.db(), "PRAGMA user_version") == "1");
}

TEST_CASE("the moment of the last entry is kept, and steady time never goes back") {
  const TempDir dir;
  make_store(dir.db());
  const auto last = open_store(dir.db())->last_entry();
  REQUIRE(last);
  CHECK(last->wall == now.wall);
  CHECK(last->steady >= now.steady);  // began with the store
  const sts::Moment earlier{at(5), SteadyTime{Seconds{5}}};
  REQUIRE(open_store(dir.db())->save({{domain("example.net"), sample(), earlier}}));
  CHECK(open_store(dir.db())->last_entry()->wall == at(5));
  CHECK(open_store(dir.db())->last_entry()->steady == last->steady);
}

TEST_CASE("two processes on one store: what was learned later stays, whoever writes last") {
  const TempDir dir;
  make_store(dir.db());
  const auto first = open_store(dir.db());
  const auto second = open_store(dir.db());
  sts::PolicyState newer = sample();
  newer.policy->id = "newer";
  newer.policy->learned += Seconds{60};
  REQUIRE(save(*first, domain("example.com"), newer));
  sts::PolicyState older = sample();
  older.error = "looked at it before";
  REQUIRE(save(*second, domain("example.com"), older));
  CHECK(second->load(domain("example.com")).value().policy->id == "newer");
  REQUIRE(save(*second, domain("example.com"), {}));  // a policy is never replaced by none
  CHECK(first->load(domain("example.com")).value().policy->id == "newer");
}

TEST_CASE("RFC 8461 §10.2: what is due for refresh, the longest overdue first") {
  const auto store = open_store(":memory:");
  const auto at_steady = [](std::int64_t seconds) { return SteadyTime{Seconds{seconds}}; };
  for (const auto& [name, refresh] :
       {std::pair{"c.example", 300}, {"a.example", 100}, {"never.example", 0}, {"b.example", 200}}) {
    sts::PolicyState state = sample();
    state.refresh = at_steady(refresh);
    REQUIRE(save(*store, domain(name), state));
  }
  const auto due = [&](std::int64_t seconds, std::size_t limit) {
    std::vector<std::string> names;
    store->due(at_steady(seconds), limit, [&](const Result<PolicyStore::Due>& found) {
      REQUIRE(found);
      CHECK(found->stored == 4);
      for (const Domain& name : found->domains) names.push_back(name.text());
    });
    return names;
  };
  CHECK(due(99, 10).empty());
  CHECK(due(200, 10) == std::vector<std::string>{"a.example", "b.example"});
  CHECK(due(1000, 2) == std::vector<std::string>{"a.example", "b.example"});
}

namespace {

// A store that is as full as `bytes` allows, and what it says when something goes.
struct FullStore {
  TempDir dir;
  std::vector<std::string> log;
  std::unique_ptr<StoreFile> store;

  explicit FullStore(std::size_t bytes) {
    StoreOptions options{StoreMode::read_write, bytes, [this](Level, const std::string& line) { log.push_back(line); }};
    auto opened = open_sqlite_store(dir.db(), options);
    REQUIRE(opened);
    store = std::move(*opened);
  }
  // A policy of 8 KiB.
  Result<void> add(const std::string& name, const std::string& mode, std::int64_t age = 0) const {
    sts::PolicyState state;
    state.policy = sts::StoredPolicy{"1", "version: STSv1\nmode: " + mode + "\nmx: mx.example\nmax_age: 86400\n",
                                     now.wall, now.wall, now.steady - Seconds{age}};
    while (state.policy->body.size() < 8000) state.policy->body += "mx: " + std::string(50, 'a') + ".example\n";
    return save(*store, domain(name.c_str()), state);
  }
  [[nodiscard]] std::size_t with(const std::string& start) const {
    std::size_t count = 0;
    for (const std::string& name : domains_of(*store)) count += name.rfind(start, 0) == 0 ? 1 : 0;
    return count;
  }
};

}  // namespace

TEST_CASE("RFC 8460 §4.3: outcomes of connections are counted by day, and kept for a week, within bounds") {
  const auto store = open_store(":memory:");
  const auto seen = [&](const char* name) { return store->outcomes(domain(name)).value(); };
  const auto outcome = [](std::string name, std::string result, WallTime last) {
    return TlsOutcome{std::move(name), "dane", "mx.example.com", std::move(result), 107, 2, last, "why"};
  };
  const WallTime monday = at(0);
  const Seconds day{86400};
  REQUIRE(store->record({outcome("example.com", "verified", monday),
                         outcome("example.com", "verified", monday + Seconds{5}),
                         outcome("example.com", "tlsa-mismatch", monday)}));
  REQUIRE(seen("example.com").size() == 2);
  CHECK(seen("example.com")[0].result == "tlsa-mismatch");
  CHECK(seen("example.com")[1].attempts == 4);
  CHECK(seen("example.com")[1].last == monday + Seconds{5});
  CHECK(seen("example.com")[1].teller == 107);
  CHECK(seen("example.com")[1].detail == "why");
  CHECK(seen("sub.example.com").empty());
  REQUIRE(store->record({outcome("example.com", "verified", monday + 6 * day)}));
  CHECK(seen("example.com").size() == 3);
  REQUIRE(store->record({outcome("example.net", "verified", monday + 7 * day)}));
  CHECK(seen("example.com").size() == 1);
  CHECK(seen("example.com")[0].last == monday + 6 * day);

  std::vector<TlsOutcome> flood;
  for (int i = 0; i < 100000; ++i)
    flood.push_back(outcome("flood" + std::to_string(i) + ".example", "verified", monday + 7 * day));
  flood.pop_back();
  REQUIRE(store->record(flood));  // in the place of the day before
  CHECK(seen("example.com").empty());
  CHECK(seen("flood7.example").size() == 1);
  CHECK_FALSE(store->record({outcome("example.com", "verified", monday + 7 * day)}));
  REQUIRE(store->record({outcome("example.com", "verified", monday + 8 * day)}));
  CHECK(seen("flood7.example").empty());
}

TEST_CASE("outcomes go before any policy does") {
  const FullStore full(60 * 8192);
  for (int i = 0; i < 10; ++i) REQUIRE(full.add("testing" + std::to_string(i) + ".example", "testing"));
  std::vector<TlsOutcome> many;
  for (int i = 0; i < 5000; ++i) {
    many.push_back({"d" + std::to_string(i) + ".example", "sts", "mx.example.com", "verified", 0, 1, now.wall, ""});
  }
  REQUIRE(full.store->record(many));
  REQUIRE(full.add("later.example", "enforce"));
  CHECK(full.with("testing") == 10);
  CHECK(full.store->outcomes(domain("d1.example")).value().empty());
}

TEST_CASE("RFC 8461 §10.3: a full store drops what is expired first, then what has no policy or enforces nothing") {
  const FullStore full(60 * 8192);
  for (int i = 0; i < 10; ++i) {
    const std::string number = std::to_string(i) + ".example";
    REQUIRE(full.add("enforced" + number, "enforce"));
    REQUIRE(full.add("testing" + number, "testing"));
    REQUIRE(full.add("expired" + number, "enforce", 90000));
    REQUIRE(save(*full.store, domain(("nothing" + number).c_str()), {}));
  }
  std::vector<std::size_t> gone;  // counts as enforced policies come
  for (int i = 0; i < 40; ++i) {
    REQUIRE(full.add("later" + std::to_string(i) + ".example", "enforce"));
    CHECK(full.with("enforced") == 10);
    CHECK(full.with("later") == static_cast<std::size_t>(i) + 1);
    if (full.with("expired") > 0) CHECK(full.with("testing") == 10);
    gone.push_back(full.with("testing"));
  }
  CHECK(full.with("expired") == 0);
  CHECK(gone.front() == 10);
  CHECK(gone.back() < 10);
  CHECK(full.log.empty());
  CHECK(fs::file_size(full.dir.db()) < 80 * 8192);
}

TEST_CASE("a store full of enforced policies takes no new one, and drops none that was there; it is an error") {
  const FullStore full(60 * 8192);
  int taken = 0;
  while (taken < 1000 && full.add("flood" + std::to_string(taken) + ".example", "enforce")) ++taken;
  CHECK(taken > 20);
  CHECK(taken < 60);
  const auto refused = full.add("one-more.example", "enforce");
  REQUIRE_FALSE(refused);
  CHECK(refused.error().what.find("full of enforced policies") != std::string::npos);
  CHECK(full.with("flood") == static_cast<std::size_t>(taken));
  CHECK(full.store->load(domain("flood0.example")).value().policy);
  REQUIRE(full.add("flood3.example", "enforce"));  // what is there is still replaced
}

TEST_CASE("a flood of new domains does not drive out an enforced policy that was there before") {
  FullStore full(60 * 8192);
  REQUIRE(full.add("victim.example", "enforce"));
  for (int i = 0; i < 300; ++i)
    static_cast<void>(full.add("flood" + std::to_string(i) + ".example", i % 3 == 0 ? "enforce" : "none"));
  CHECK(full.store->load(domain("victim.example")).value().policy);
}

TEST_CASE("a backup is read through before it counts; it comes back on command, and what it replaces is kept") {
  const TempDir dir;
  make_store(dir.db());
  const std::atomic<bool> go{false};
  REQUIRE(back_up_store(dir.db(), go));
  struct stat info {};
  REQUIRE(stat(backup_path(dir.db()).c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
  CHECK_FALSE(fs::exists(backup_path(dir.db()) + "-wal"));

  std::ofstream(dir.db(), std::ios::trunc) << std::string(50000, 'x');
  fs::remove(dir.db() + "-wal");
  CHECK(refused(dir.db()));
  CHECK_FALSE(back_up_store(dir.db(), go));  // does not replace the good one
  const auto aside = restore_store(dir.db());
  REQUIRE(aside);
  CHECK(fs::file_size(*aside) == 50000);
  check_equal(open_store(dir.db())->load(domain("example.com")).value(), sample());
  const auto again = restore_store(dir.db());
  REQUIRE(again);
  CHECK(*again != *aside);
}

TEST_CASE("a store that has lost most of what it held does not replace the backup") {
  const TempDir dir;
  const std::atomic<bool> go{false};
  {
    const auto store = open_store(dir.db());
    for (int i = 0; i < 10; ++i)
      REQUIRE(save(*store, domain(("d" + std::to_string(i) + ".example").c_str()), sample()));
  }
  REQUIRE(back_up_store(dir.db(), go));
  fs::remove(dir.db());
  fs::remove(dir.db() + "-wal");
  std::vector<std::string> log;
  {
    auto store = open_sqlite_store(
        dir.db(), {StoreMode::read_write, 1U << 30U, [&log](Level, const std::string& line) { log.push_back(line); }});
    REQUIRE(store);
  }
  REQUIRE(log.size() == 1);
  CHECK(log[0].find("cache restore") != std::string::npos);
  const auto kept = back_up_store(dir.db(), go);
  REQUIRE_FALSE(kept);
  CHECK(kept.error().what.find("10: it is kept") != std::string::npos);
  REQUIRE(restore_store(dir.db()));
  CHECK(open_store(dir.db())->size().value() == 10);
}

TEST_CASE("a damaged backup is not restored") {
  const TempDir dir;
  make_store(dir.db());
  const std::atomic<bool> go{false};
  REQUIRE(back_up_store(dir.db(), go));
  meddle(backup_path(dir.db()), "PRAGMA ignore_check_constraints = ON; UPDATE policies SET body = x'00'");
  CHECK_FALSE(restore_store(dir.db()));
  CHECK_FALSE(restore_store("/nonexistent/sealane.db"));
  check_equal(open_store(dir.db())->load(domain("example.com")).value(), sample());
}

TEST_CASE("a row that makes no sense is an error for its domain, not for others") {
  const std::string broken[] = {
      "attempted = -1",
      "attempted = 253402300800",
      "fetched = -1",
      "txt_seen = 9223372036854775807",
      "body = x'00'",
      "body = x''",
      "body = CAST(replace(CAST(body AS TEXT), 'enforce', 'enforced') AS BLOB)",
      "body = NULL",
      "policy_id = NULL",
      "fetched = NULL",
      "learned = NULL",
      "learned = 9223372036854775807",
      "asked = -5",
      "refresh = -5",
      "failures = -1",
  };
  for (const std::string& change : broken) {
    CAPTURE(change);
    const TempDir dir;
    make_store(dir.db());
    REQUIRE(save(*open_store(dir.db()), domain("example.net"), sample()).has_value());
    meddle(dir.db(),
           "PRAGMA ignore_check_constraints = ON; UPDATE policies SET " + change + " WHERE domain = 'example.com'");
    const auto store = open_store(dir.db());
    const auto state = store->load(domain("example.com"));
    REQUIRE_FALSE(state.has_value());
    CHECK(state.error().of == dir.db() + ": example.com");
    CHECK_FALSE(state.error().remedy.empty());
    CHECK(store->load(domain("example.net")).has_value());
    CHECK(save(*store, domain("example.com"), sample()).has_value());  // a new fetch repairs it
    CHECK(store->load(domain("example.com")).has_value());
  }
}

TEST_CASE("a row for what is no domain is an error of that row") {
  const TempDir dir;
  make_store(dir.db());
  REQUIRE(save(*open_store(dir.db()), domain("example.net"), sample()));
  meddle(dir.db(), "UPDATE policies SET domain = 'Example..COM' WHERE domain = 'example.com'");
  CHECK(domains_of(*open_store(dir.db())) == std::vector<std::string>{"bad Example..COM", "example.net"});
}

TEST_CASE("what could not be loaded is not saved") {
  const auto store = open_store(":memory:");
  for (const std::int64_t seconds : {std::int64_t{-1}, std::int64_t{253402300800}}) {
    sts::PolicyState state = sample();
    state.attempted = at(seconds);
    CHECK_FALSE(save(*store, domain("example.com"), state).has_value());
    state = sample();
    state.policy->fetched = at(seconds);
    CHECK_FALSE(save(*store, domain("example.com"), state).has_value());
  }
  sts::PolicyState state = sample();
  state.policy->body.assign(sts::max_policy_octets + 1, 'x');
  CHECK_FALSE(save(*store, domain("example.com"), state).has_value());
  check_equal(store->load(domain("example.com")).value(), sts::PolicyState{});
}
