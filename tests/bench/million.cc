// A million stored policies: an old schema is brought up to date without loss, the first answer comes at once after a
// start, and a question that memory does not hold finds its policy quickly. Sizes and times are checked.
#include <sqlite3.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "tests/unit/fakes.h"

using namespace sealane;

namespace {

int faults = 0;

void check(bool good, const char* what) {
  if (good) return;
  std::printf("NOT SO: %s\n", what);
  ++faults;
}

std::string sql(const std::string& path, const std::string& statement) {
  sqlite3* db = nullptr;
  sqlite3_open(path.c_str(), &db);
  std::string answer;
  char* error = nullptr;
  sqlite3_exec(
      db, statement.c_str(),
      [](void* out, int, char** values, char**) {
        *static_cast<std::string*>(out) = values[0] == nullptr ? "" : values[0];
        return 0;
      },
      &answer, &error);
  if (error != nullptr) {
    std::printf("NOT SO: %s\n", error);
    ++faults;
    sqlite3_free(error);
  }
  sqlite3_close(db);
  return answer;
}

// Rows as the first schema had them; two of three with a policy.
void make_old(const std::string& path, int rows) {
  std::ifstream file(std::string(std::getenv("SEALANE_MIGRATIONS")) + "/0001_policies.sql");
  const std::string schema((std::istreambuf_iterator<char>(file)), {});
  sql(path, "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN;" + schema +
                "PRAGMA application_id = " + std::to_string(0x53654C61) + "; PRAGMA user_version = 1;" +
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < " + std::to_string(rows) +
                ") INSERT INTO policies SELECT 'd' || i || '.example', CASE WHEN i % 3 > 0 THEN 'id' || i END, "
                "CASE WHEN i % 3 > 0 THEN CAST('version: STSv1' || char(10) || 'mode: ' || "
                "iif(i % 3 = 1, 'enforce', 'testing') || char(10) || 'mx: mx.example' || char(10) || "
                "'max_age: 604800' || char(10) AS BLOB) END, CASE WHEN i % 3 > 0 THEN unixepoch() - 60 END, "
                "CASE WHEN i % 3 > 0 THEN unixepoch() END, unixepoch() - 60, '', '' FROM n; COMMIT");
}

double ms_since(MonoTime start) {
  return std::chrono::duration<double, std::milli>(SystemClock().mono() - start).count();
}

// Of all that a row held before.
constexpr const char* sum_of_old =
    "SELECT count(*) || ' ' || count(body) || ' ' || sum(length(domain)) || ' ' || sum(length(body)) || ' ' || "
    "sum(fetched) || ' ' || sum(txt_seen) || ' ' || sum(attempted) || ' ' || sum(length(policy_id)) FROM policies";

}  // namespace

int main() {
  const int rows = std::getenv("SEALANE_ROWS") != nullptr ? std::atoi(std::getenv("SEALANE_ROWS")) : 1000000;
  std::string folder = "/tmp/sealane-million-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) return 1;
  const std::string path = folder + "/sealane.db";
  make_old(path, rows);
  const std::string before = sql(path, sum_of_old);
  const SystemClock clock;

  auto start = clock.mono();
  { check(open_sqlite_store(path, {StoreMode::read_write}).has_value(), "the old schema is brought up to date"); }
  std::printf("%d rows brought up to date in %.0f ms, backup included\n", rows, ms_since(start));
  check(sql(path, sum_of_old) == before, "nothing is lost");
  check(sql(path, "SELECT count(*) FROM policies WHERE learned IS NULL AND body IS NOT NULL") == "0",
        "all have an age");

  // A start, on the store's thread, to the first answer; its lookups are answered from a map.
  start = clock.mono();
  Loop loop;
  fakes::FakeZone zone(loop);
  fakes::FakePolicyHosts hosts(loop, clock);
  zone.add("d7.example", dns::RrType::MX, dns::Security::insecure, {fakes::mx(10, "mx.example")});
  zone.add("mx.example", dns::RrType::A, dns::Security::insecure, {fakes::a(1)});
  Adapters adapters;
  adapters.make_resolver = [&zone] { return zone.make_resolver(); };
  adapters.fetcher = hosts.make_fetcher();
  auto file = open_sqlite_store(path, {StoreMode::read_write});
  if (!file) return 1;
  adapters.store = on_thread(loop, std::move(*file), "", nullptr);
  adapters.clock = std::make_shared<SystemClock>();
  adapters.refresh = true;
  Engine engine(loop, Config{}, std::move(adapters), {});
  Tls floor{};
  engine.ask(Question::parse("d7.example"), Millis{10000}, [&](const std::shared_ptr<const Reply>& reply) {
    floor = reply->decision.floor;
    loop.stop();
  });
  loop.run();
  const double first = ms_since(start);
  std::printf("start to first answer: %.1f ms\n", first);
  check(floor == Tls::pkix, "the first answer rests on the stored policy");
  check(first < 500, "the first answer comes within 500 ms");

  auto store = open_sqlite_store(path, {StoreMode::read_write});
  auto thread = on_thread(loop, std::move(*store), "", nullptr);
  std::mt19937 random(1);
  std::vector<double> times;
  for (int i = 0; i < 5000; ++i) {
    const auto name = Domain::parse("d" + std::to_string(1 + random() % static_cast<unsigned>(rows)) + ".example");
    start = clock.mono();
    thread->load(*name, [&](const Result<sts::PolicyState>& state) {
      check(state.has_value(), "every row can be loaded");
      loop.stop();
    });
    loop.run();
    times.push_back(ms_since(start));
  }
  std::sort(times.begin(), times.end());
  std::printf("a lookup that misses memory: median %.3f ms, p99 %.3f ms\n", times[times.size() / 2],
              times[times.size() * 99 / 100]);
  check(times[times.size() / 2] < 1, "a lookup that misses memory takes less than 1 ms");
  thread.reset();
  std::filesystem::remove_all(folder);
  return faults == 0 ? 0 : 1;
}
