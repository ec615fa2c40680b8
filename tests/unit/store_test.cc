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

using namespace sealane;
namespace fs = std::filesystem;

namespace {

constexpr uid_t nobody = 65534;

struct TempDir {
  fs::path path;
  TempDir() {
    std::string name = "/tmp/sealane-store-XXXXXX";
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path = name;
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() { fs::remove_all(path); }
  [[nodiscard]] std::string db() const { return path / "sealane.db"; }
  // Everything in it, and the folder, to `nobody`, so that a child without root's powers works there.
  void give_away() const {
    if (geteuid() != 0) return;
    REQUIRE(chown(path.c_str(), nobody, nobody) == 0);
    for (const auto& entry : fs::directory_iterator(path)) REQUIRE(chown(entry.path().c_str(), nobody, nobody) == 0);
  }
};

Domain domain(const char* text) { return Domain::parse(text).value(); }

WallTime at(std::int64_t seconds) { return WallTime{Seconds{seconds}}; }

const char* const body = "version: STSv1\r\nmode: enforce\r\nmx: *.example.com\r\nmax_age: 604800\r\n";

sts::PolicyState sample() {
  return {sts::StoredPolicy{"20260101", body, at(1767225600), at(1767225700)}, at(1767225800), "20260102",
          "HTTP status 404; \"quoted\" 'text'"};
}

void check_equal(const sts::PolicyState& a, const sts::PolicyState& b) {
  REQUIRE(a.policy.has_value() == b.policy.has_value());
  if (a.policy) {
    CHECK(a.policy->id == b.policy->id);
    CHECK(a.policy->body == b.policy->body);
    CHECK(a.policy->fetched == b.policy->fetched);
    CHECK(a.policy->txt_seen == b.policy->txt_seen);
  }
  CHECK(a.attempted == b.attempted);
  CHECK(a.attempted_id == b.attempted_id);
  CHECK(a.error == b.error);
}

std::unique_ptr<PolicyStore> open_store(const std::string& path, StoreMode mode = StoreMode::read_write) {
  auto store = open_sqlite_store(path, mode);
  if (!store) FAIL(store.error().text());
  return std::move(*store);
}

// With an error that says `what`, in one line, of this file, with a remedy.
bool refused(const std::string& path, StoreMode mode = StoreMode::read_write, const std::string& what = "") {
  const auto store = open_sqlite_store(path, mode);
  if (store) return false;
  const std::string text = store.error().text();
  CAPTURE(text);
  CHECK(store.error().of == path);
  CHECK(store.error().what.find(what) != std::string::npos);
  CHECK_FALSE(store.error().remedy.empty());
  CHECK(text.find('\n') == std::string::npos);
  return true;
}

Result<void> save(PolicyStore& store, const Domain& name, const sts::PolicyState& state) {
  std::optional<Result<void>> outcome;
  store.save(name, state, [&outcome](Result<void> done) { outcome = std::move(done); });
  REQUIRE(outcome.has_value());
  return *outcome;
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
  replaced.policy.reset();
  replaced.error.clear();
  REQUIRE(save(*store, domain("example.com"), replaced).has_value());
  check_equal(store->load(domain("example.com")).value(), replaced);

  sts::PolicyState without_id = sample();  // fetched without a TXT record
  without_id.policy->id.clear();
  without_id.policy->fetched = without_id.policy->txt_seen = at(0);
  REQUIRE(save(*store, domain("example.com"), without_id).has_value());
  check_equal(store->load(domain("example.com")).value(), without_id);
}

TEST_CASE("list is sorted, remove removes") {
  const auto store = open_store(":memory:");
  for (const char* name : {"b.example", "a.example", "xn--bcher-kva.example", "_x.example"}) {
    REQUIRE(save(*store, domain(name), sample()).has_value());
  }
  const std::vector<Domain> all = store->list().value();
  CHECK(all == std::vector<Domain>{domain("_x.example"), domain("a.example"), domain("b.example"),
                                   domain("xn--bcher-kva.example")});
  CHECK(store->remove(domain("a.example")).has_value());
  CHECK(store->remove(domain("never-there.example")).has_value());
  CHECK(store->list().value().size() == 3);
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
  for (const auto& entry : fs::directory_iterator(dir.path)) {
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
      auto store = open_sqlite_store(dir.db(), StoreMode::read_write);
      if (!store) return;
      const auto name = Domain::parse("d" + std::to_string(i) + ".example");
      (*store)->save(*name, sample(), [&good, i](Result<void> done) { good[i] = done ? 1 : 0; });
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(good == std::vector<int>{1, 1, 1, 1});
  CHECK(open_store(dir.db())->list().value().size() == 4);
}

TEST_CASE("read_only: an absent store is empty and stays absent; nothing can be saved") {
  const TempDir dir;
  const auto absent = open_store(dir.db(), StoreMode::read_only);
  CHECK(absent->list().value().empty());
  CHECK_FALSE(save(*absent, domain("example.com"), sample()).has_value());
  CHECK(fs::is_empty(dir.path));

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
    const std::string path = dir.path / std::to_string(++number);
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
  REQUIRE(chmod(dir.path.c_str(), 0) == 0);
  CHECK(holds_without_root(both_refused));
  REQUIRE(chmod(dir.path.c_str(), 0700) == 0);
  CHECK(holds_without_root([&dir] { return open_sqlite_store(dir.db(), StoreMode::read_write).has_value(); }));
}

TEST_CASE("a store that may not be written still counts; saving says that it failed") {
  const TempDir dir;
  make_store(dir.db());
  dir.give_away();
  REQUIRE(chmod(dir.db().c_str(), 0400) == 0);
  CHECK(holds_without_root([&dir] {
    const auto store = open_sqlite_store(dir.db(), StoreMode::read_write);
    return store && (*store)->load(domain("example.com")).value().policy.has_value() &&
           !save(**store, domain("example.net"), sample()).has_value();
  }));
}

TEST_CASE("a full disk: saving says that it failed, what was stored still counts") {
  const TempDir dir;
  make_store(dir.db());
  dir.give_away();
  CHECK(holds_without_root([&dir] {
    const auto store = open_sqlite_store(dir.db(), StoreMode::read_write);
    if (!store) return false;
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit nothing{100, 100};  // octets a file: the log cannot grow
    if (setrlimit(RLIMIT_FSIZE, &nothing) != 0) return false;
    return !save(**store, domain("example.com"), {}).has_value() &&
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

TEST_CASE("an older schema is brought up to date where the store may be written") {
  const TempDir dir;
  make_store(dir.db());
  meddle(dir.db(), "DROP TABLE policies; PRAGMA user_version = 0");
  CHECK(refused(dir.db(), StoreMode::read_only));
  const auto store = open_store(dir.db());
  CHECK(save(*store, domain("example.com"), sample()).has_value());
  CHECK(ask(dir.db(), "PRAGMA user_version") == "1");
}

TEST_CASE("a migration that fails leaves the store as it was") {
  const TempDir dir;
  make_store(dir.db());
  meddle(dir.db(), "PRAGMA user_version = 0");  // the table is there already
  CHECK(refused(dir.db()));
  CHECK(ask(dir.db(), "PRAGMA user_version") == "0");
  CHECK(ask(dir.db(), "SELECT count(*) FROM policies") == "1");
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

TEST_CASE("a row for what is no domain is an error of the list") {
  const TempDir dir;
  make_store(dir.db());
  meddle(dir.db(), "UPDATE policies SET domain = 'Example..COM'");
  const auto all = open_store(dir.db())->list();
  REQUIRE_FALSE(all.has_value());
  CHECK(all.error().what.find("Example..COM") != std::string::npos);
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
