// PolicyStore on sqlite. The one user of sqlite.
//
// The law here: "nothing stored" is said only where a sound store says so. A file that is there and cannot be read, is
// no store of ours, or is empty, is an error: an attacker who can damage the file, or an operator who truncates it,
// must not switch enforcement off unnoticed.
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "core/base/bytes.h"
#include "core/store/store.h"

namespace sealane {
namespace {

constexpr std::array migrations = {
#include "migrations.inc"
};
constexpr int newest_schema = static_cast<int>(migrations.size());
constexpr int application_id = 0x53654C61;          // "SeLa", in the file's header (`file` shows it)
constexpr int busy_ms = 2000;                       // another process writes: how long to wait for it
constexpr int evicted_at_once = 64;                 // rows
constexpr int backup_pages = 4096;                  // between two looks at whether to go on
constexpr std::int64_t outcome_days = 7;            // that are kept
constexpr std::int64_t most_outcomes = 100000;      // rows
constexpr int longest_value = 1 << 20;              // octets; nothing stored comes near
constexpr std::int64_t latest_time = 253402300799;  // 9999-12-31T23:59:59Z

// ---- sqlite as values

struct SqliteError {
  int code;
  std::string what;
};
template <class T>
using Sql = tl::expected<T, SqliteError>;

class Db {
 public:
  // `flags`: SQLITE_OPEN_…; the file is never created here.
  static Sql<Db> open(const std::string& path, int flags) {
    sqlite3* handle = nullptr;
    const int code = sqlite3_open_v2(path.c_str(), &handle, flags | SQLITE_OPEN_EXRESCODE, nullptr);
    Db db(handle);
    if (code != SQLITE_OK) return db.error();
    sqlite3_busy_timeout(handle, busy_ms);
    // The file is data and never gets to run anything: no triggers, views or functions of its own making, no writing
    // to the schema tables, and broken pages are noticed early.
    sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    sqlite3_db_config(handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
    sqlite3_db_config(handle, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, nullptr);
    sqlite3_db_config(handle, SQLITE_DBCONFIG_ENABLE_VIEW, 0, nullptr);
    sqlite3_limit(handle, SQLITE_LIMIT_LENGTH, longest_value);
    for (const char* pragma : {"PRAGMA cell_size_check = ON", "PRAGMA mmap_size = 0", "PRAGMA synchronous = FULL"}) {
      if (auto done = db.exec(pragma); !done) return tl::make_unexpected(done.error());
    }
    return db;
  }

  Db(Db&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Db& operator=(Db&&) = delete;
  ~Db() { sqlite3_close_v2(handle_); }

  Sql<void> exec(const char* sql) {
    if (sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) return error();
    return {};
  }
  [[nodiscard]] tl::unexpected<SqliteError> error() const {
    return tl::make_unexpected(SqliteError{handle_ == nullptr ? SQLITE_NOMEM : sqlite3_errcode(handle_),
                                           handle_ == nullptr ? "out of memory" : sqlite3_errmsg(handle_)});
  }
  [[nodiscard]] bool read_only() const { return sqlite3_db_readonly(handle_, "main") != 0; }
  [[nodiscard]] sqlite3* handle() const { return handle_; }

 private:
  explicit Db(sqlite3* handle) : handle_(handle) {}
  sqlite3* handle_;
};

class Stmt {
 public:
  static Sql<Stmt> prepare(const Db& db, std::string_view sql) {
    sqlite3_stmt* handle = nullptr;
    if (sqlite3_prepare_v2(db.handle(), sql.data(), static_cast<int>(sql.size()), &handle, nullptr) != SQLITE_OK) {
      return db.error();
    }
    return Stmt(db, handle);
  }
  Stmt(Stmt&& other) noexcept : db_(other.db_), handle_(std::exchange(other.handle_, nullptr)) {}
  Stmt& operator=(Stmt&&) = delete;
  ~Stmt() { sqlite3_finalize(handle_); }

  // Parameters count from 1; texts are borrowed until the statement has run.
  Stmt& text(int at, std::string_view value) {
    return note(sqlite3_bind_text(handle_, at, value.data(), static_cast<int>(value.size()), SQLITE_STATIC));
  }
  Stmt& blob(int at, std::string_view value) {
    // A null pointer would mean NULL, and an empty view may have one.
    const void* data = value.empty() ? "" : value.data();
    return note(sqlite3_bind_blob(handle_, at, data, static_cast<int>(value.size()), SQLITE_STATIC));
  }
  template <class Time>
  Stmt& time(int at, Time value) {
    return number(at, value.time_since_epoch().count());
  }
  Stmt& number(int at, std::int64_t value) { return note(sqlite3_bind_int64(handle_, at, value)); }
  // Ready to be bound and run once more.
  void reset() {
    sqlite3_reset(handle_);
    sqlite3_clear_bindings(handle_);
    bound_ = SQLITE_OK;
  }

  // True: there is a row.
  Sql<bool> step() {
    if (bound_ != SQLITE_OK) return tl::make_unexpected(SqliteError{bound_, sqlite3_errstr(bound_)});
    const int code = sqlite3_step(handle_);
    if (code == SQLITE_ROW) return true;
    if (code == SQLITE_DONE) return false;
    return db_->error();
  }

  // Columns count from 0.
  [[nodiscard]] bool is_null(int at) const { return sqlite3_column_type(handle_, at) == SQLITE_NULL; }
  [[nodiscard]] std::int64_t integer(int at) const { return sqlite3_column_int64(handle_, at); }
  [[nodiscard]] std::string octets(int at) const {
    const auto* data = static_cast<const char*>(sqlite3_column_blob(handle_, at));
    return data == nullptr ? std::string()
                           : std::string(data, static_cast<std::size_t>(sqlite3_column_bytes(handle_, at)));
  }

 private:
  Stmt(const Db& db, sqlite3_stmt* handle) : db_(&db), handle_(handle) {}
  Stmt& note(int code) {
    if (bound_ == SQLITE_OK) bound_ = code;
    return *this;
  }
  const Db* db_;
  sqlite3_stmt* handle_;
  int bound_ = SQLITE_OK;
};

// Rolls back unless committed.
class Txn {
 public:
  static Sql<Txn> begin(Db& db) {
    if (auto done = db.exec("BEGIN IMMEDIATE"); !done) return tl::make_unexpected(done.error());
    return Txn(db);
  }
  Txn(Txn&& other) noexcept : db_(std::exchange(other.db_, nullptr)) {}
  Txn& operator=(Txn&&) = delete;
  ~Txn() {
    if (db_ != nullptr) static_cast<void>(db_->exec("ROLLBACK"));
  }
  Sql<void> commit() {
    auto done = db_->exec("COMMIT");
    if (done) db_ = nullptr;
    return done;
  }

 private:
  explicit Txn(Db& db) : db_(&db) {}
  Db* db_;
};

Sql<std::int64_t> number(const Db& db, const char* sql) {
  auto stmt = Stmt::prepare(db, sql);
  if (!stmt) return tl::make_unexpected(stmt.error());
  const auto row = stmt->step();
  if (!row) return tl::make_unexpected(row.error());
  return *row ? stmt->integer(0) : 0;
}

// ---- What is told to people

std::string_view remedy_for(int code) {
  switch (code & 0xff) {
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
      return "restore it from a backup; or move it away, with its -wal and -shm files, and know that enforced policies "
             "are forgotten until they are fetched again";
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_READONLY:
      return "its owner must be able to read and write the file and its directory";
    case SQLITE_FULL:
    case SQLITE_IOERR:
      return "free space on its disk, or repair it";
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return "another process holds it: only one may write, the agent or the MTA's own";
    default:
      return "see `sealane doctor`";
  }
}

tl::unexpected<Error> failed(const SqliteError& error, const std::string& of) {
  return failure(error.what, of, std::string(remedy_for(error.code)));
}

tl::unexpected<Error> failed_call(const std::string& of, const char* remedy) {
  return failure(std::strerror(errno), of, remedy);
}

constexpr const char* not_ours = "move it away if it is something else's; see store = in the configuration";

// ---- Opening and creating

// Brings the schema up to date in one transaction.
Sql<void> migrate(Db& db) {
  auto txn = Txn::begin(db);
  if (!txn) return tl::make_unexpected(txn.error());
  // Only now: another process may have migrated it in the meantime.
  const auto schema = number(db, "PRAGMA user_version");
  if (!schema) return tl::make_unexpected(schema.error());
  for (auto step = static_cast<std::size_t>(*schema); step < migrations.size(); ++step) {
    if (auto done = db.exec(migrations[step]); !done) return done;
  }
  const std::string marks = "PRAGMA application_id = " + std::to_string(application_id) +
                            "; PRAGMA user_version = " + std::to_string(newest_schema);
  if (auto done = db.exec(marks.c_str()); !done) return done;
  return txn->commit();
}

void sync_directory(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const int dir = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0) return;  // best effort: without it a crash may lose a new name
  static_cast<void>(fsync(dir));
  close(dir);
}

// ---- Backup

// Copies the whole of `from` into the file at `path`, which exists and is empty. As of one moment, whatever is written
// meanwhile by others.
Sql<void> copy_pages(Db& from, const std::string& path, const std::atomic<bool>* stop) {
  auto to = Db::open(path, SQLITE_OPEN_READWRITE);
  if (!to) return tl::make_unexpected(to.error());
  sqlite3_backup* const backup = sqlite3_backup_init(to->handle(), "main", from.handle(), "main");
  if (backup == nullptr) return to->error();
  int code = SQLITE_OK;
  while (code == SQLITE_OK && (stop == nullptr || !*stop)) code = sqlite3_backup_step(backup, backup_pages);
  sqlite3_backup_finish(backup);
  if (code == SQLITE_OK) return tl::make_unexpected(SqliteError{SQLITE_INTERRUPT, "stopped before it was complete"});
  if (code != SQLITE_DONE) return tl::make_unexpected(SqliteError{code, sqlite3_errstr(code)});
  // One file, that needs no log beside it.
  return to->exec("PRAGMA journal_mode = DELETE");
}

// Every page and index fits, and, in a store of this schema, so does every row. How many policies there are.
Result<std::int64_t> read_through(const std::string& path, const std::atomic<bool>* stop);

// A backup of `db`, the store at `path`, to `target`: whole and read through, or the one that was there stays. One that
// has lost most of what the last one held replaces nothing either: it may be what the backup is needed against.
Result<void> back_up(Db& db, const std::string& path, const std::string& target, const std::atomic<bool>* stop) {
  constexpr const char* remedy = "the directory must be writable to the owner of the store, and its disk have room";
  std::string draft = target + ".XXXXXX";
  const int fd = mkostemp(draft.data(), O_CLOEXEC);  // mode 0600
  if (fd < 0) return failed_call(target, remedy);
  close(fd);
  const auto fill = [&]() -> Result<void> {
    if (auto copied = copy_pages(db, draft, stop); !copied) return failed(copied.error(), target);
    const auto policies = read_through(draft, stop);
    if (!policies) return tl::make_unexpected(policies.error());
    struct stat there {};
    if (stat(target.c_str(), &there) == 0) {
      const auto before = read_through(target, stop);
      if (before && *policies < *before / 2) {
        return failure("the store at " + path + " holds " + std::to_string(*policies) + " policies, this backup " +
                           std::to_string(*before) + ": it is kept",
                       target, "`sealane cache restore` brings it back; remove it if the store is right");
      }
    }
    if (rename(draft.c_str(), target.c_str()) != 0) return failed_call(target, remedy);
    return {};
  };
  Result<void> done = fill();
  if (done) {
    sync_directory(target);
  } else {
    unlink(draft.c_str());
    unlink((draft + "-journal").c_str());
  }
  return done;
}

// Is this a store of ours, of a schema that we know? Migrates an older one where `mode` allows it.
Result<void> check_schema(Db& db, const std::string& path, StoreMode mode, const LogSink& log) {
  // The first read of the file: garbage and truncation show here.
  const auto id = number(db, "PRAGMA application_id");
  if (!id) return failed(id.error(), path);
  const auto schema = number(db, "PRAGMA user_version");
  if (!schema) return failed(schema.error(), path);
  if (*id != application_id) return failure("not a store of this program", path, not_ours);
  if (*schema < 0 || *schema > newest_schema) {
    return failure("schema " + std::to_string(*schema) + " is newer than the " + std::to_string(newest_schema) +
                       " that this version knows",
                   path, "install the newer version again");
  }
  if (*schema < newest_schema) {
    if (mode == StoreMode::read_only) {
      return failure("schema " + std::to_string(*schema) + " is older than this version", path,
                     "start the agent: it brings the store up to date");
    }
    if (*schema > 0) {
      log(Level::notice, "store: " + path + ": bringing schema " + std::to_string(*schema) + " up to date");
      if (auto kept = back_up(db, path, backup_path(path), nullptr); !kept) {
        return failure("not brought up to date, because there is no backup: " + kept.error().what, path,
                       kept.error().remedy);
      }
    }
    if (auto done = migrate(db); !done) return failed(done.error(), path);
  }
  return {};
}

// The store appears under its name only when it is complete, so that a crash leaves no half-made one; if another
// process was faster, its store stays.
Result<void> create(const std::string& path) {
  constexpr const char* remedy = "the directory must exist and be writable to the owner of the store";
  std::string draft = path + ".XXXXXX";
  const int fd = mkostemp(draft.data(), O_CLOEXEC);  // mode 0600
  if (fd < 0) return failed_call(path, remedy);
  close(fd);
  const auto fill = [&draft, &path]() -> Result<void> {
    auto db = Db::open(draft, SQLITE_OPEN_READWRITE);
    if (!db) return failed(db.error(), path);
    if (auto done = migrate(*db); !done) return failed(done.error(), path);
    return {};
  };
  Result<void> done = fill();
  if (done && link(draft.c_str(), path.c_str()) != 0 && errno != EEXIST) done = failed_call(path, remedy);
  unlink(draft.c_str());
  if (!done) return done;
  sync_directory(path);
  return {};
}

// ---- The store

constexpr std::string_view select_state =
    "SELECT policy_id, body, fetched, txt_seen, attempted, attempted_id, error, learned, failures, asked, refresh "
    "FROM policies WHERE domain = ?1";
constexpr std::string_view select_all =
    "SELECT policy_id, body, fetched, txt_seen, attempted, attempted_id, error, learned, failures, asked, refresh, "
    "domain FROM policies ORDER BY domain";
// Another process may have learned a policy since this one looked: that stays. A row learned hours after the present is
// damaged, and bars nothing.
constexpr std::string_view upsert_state =
    "INSERT INTO policies (domain, policy_id, body, fetched, txt_seen, attempted, attempted_id, error, learned, "
    "failures, asked, refresh, worth, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) "
    "ON CONFLICT (domain) DO UPDATE SET policy_id = excluded.policy_id, body = excluded.body, "
    "fetched = excluded.fetched, txt_seen = excluded.txt_seen, attempted = excluded.attempted, "
    "attempted_id = excluded.attempted_id, error = excluded.error, learned = excluded.learned, "
    "failures = excluded.failures, asked = excluded.asked, refresh = excluded.refresh, worth = excluded.worth, "
    "expires = excluded.expires "
    "WHERE policies.learned IS NULL OR policies.learned <= excluded.learned OR policies.learned > ?15 + 3600";
constexpr std::string_view upsert_moment =
    "INSERT INTO moment (only, wall, steady) VALUES (1, ?1, ?2) "
    "ON CONFLICT (only) DO UPDATE SET wall = excluded.wall, steady = max(steady, excluded.steady)";

constexpr std::string_view upsert_outcome =
    "INSERT INTO outcomes (domain, day, mechanism, host, result, teller, attempts, last, detail) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) "
    "ON CONFLICT DO UPDATE SET attempts = attempts + excluded.attempts, last = excluded.last, detail = excluded.detail";
constexpr std::string_view select_outcomes =
    "SELECT mechanism, host, result, teller, attempts, last, detail FROM outcomes WHERE domain = ?1 "
    "ORDER BY day DESC, mechanism, host, result, teller LIMIT 1000";

// What matters least first: what is no longer in force; domains without a policy; policies that enforce nothing, the
// one that ends soonest first. At last enforced policies, those that came last first: whoever fills the store with
// domains of their own drives out those, and none that was there before.
enum Worth : std::int64_t { worth_nothing, worth_little, worth_much };
struct Eviction {
  const char* what;
  const char* rows;  // ?1: now, ?2: how many
};
constexpr Eviction evictions[] = {
    {"expired", "SELECT rowid FROM policies WHERE worth = 1 AND expires < ?1 ORDER BY expires LIMIT ?2"},
    {"expired", "SELECT rowid FROM policies WHERE worth = 2 AND expires < ?1 ORDER BY expires LIMIT ?2"},
    {"no policy", "SELECT rowid FROM policies WHERE worth = 0 AND ?1 IS NOT NULL ORDER BY expires LIMIT ?2"},
    {"not enforced", "SELECT rowid FROM policies WHERE worth = 1 AND ?1 IS NOT NULL ORDER BY expires LIMIT ?2"},
};
constexpr const char* newest_rows = "SELECT rowid, domain FROM policies ORDER BY rowid DESC LIMIT 1";

template <class Time>
std::optional<Time> time_of(const Stmt& row, int at) {
  const std::int64_t seconds = row.integer(at);
  if (seconds < 0 || seconds > latest_time) return std::nullopt;  // also keeps arithmetic with it from overflowing
  return Time{Seconds{seconds}};
}

// What is wrong with a row; nothing where it makes sense. No constraint of the table is relied upon: the file may have
// been written by anything.
std::optional<std::string> read_state(const Stmt& row, sts::PolicyState& state) {
  const auto attempted = time_of<WallTime>(row, 4);
  if (!attempted) return "the time of the last attempt is no time";
  const auto asked = time_of<SteadyTime>(row, 9);
  const auto refresh = time_of<SteadyTime>(row, 10);
  if (!asked || !refresh || row.integer(8) < 0) return "what it says of refreshes makes no sense";
  state.attempted = *attempted;
  state.attempted_id = row.octets(5);
  state.error = row.octets(6);
  state.failures = static_cast<unsigned>(std::min(row.integer(8), std::int64_t{1000}));
  state.asked = *asked;
  state.refresh = *refresh;
  if (row.is_null(0) && row.is_null(1) && row.is_null(2) && row.is_null(3)) return std::nullopt;
  if (row.is_null(0) || row.is_null(1) || row.is_null(2) || row.is_null(3)) return "half a policy";
  const auto fetched = time_of<WallTime>(row, 2);
  const auto txt_seen = time_of<WallTime>(row, 3);
  const auto learned = time_of<SteadyTime>(row, 7);
  if (!fetched || !txt_seen || !learned || row.is_null(7)) return "a time of the policy is no time";
  sts::StoredPolicy policy{row.octets(0), row.octets(1), *fetched, *txt_seen, *learned};
  if (const auto parsed = sts::parse_policy(policy.body); !parsed) {
    return "the stored policy does not parse: line " + std::to_string(parsed.error().line) + ": " + parsed.error().what;
  }
  state.policy = std::move(policy);
  return std::nullopt;
}

// For one thread at a time.
class SqliteStore final : public StoreFile {
 public:
  SqliteStore(Db db, std::string path, StoreOptions options, std::optional<sts::Moment> last)
      : db_(std::move(db)), path_(std::move(path)), options_(std::move(options)), last_(last) {}

  [[nodiscard]] Result<sts::PolicyState> load(const Domain& domain) override {
    auto stmt = Stmt::prepare(db_, select_state);
    if (!stmt) return failed(stmt.error(), path_);
    const auto row = stmt->text(1, domain.text()).step();
    if (!row) return failed(row.error(), path_);
    sts::PolicyState state;
    if (!*row) return state;
    if (auto wrong = read_state(*stmt, state)) return bad_row(domain.text(), std::move(*wrong));
    return state;
  }

  [[nodiscard]] Result<void> save(const std::vector<Entry>& entries) override {
    auto txn = Txn::begin(db_);
    if (!txn) return failed(txn.error(), path_);
    auto stmt = Stmt::prepare(db_, upsert_state);
    if (!stmt) return failed(stmt.error(), path_);
    for (const Entry& entry : entries) {
      bind(*stmt, entry);
      if (const auto done = stmt->step(); !done) return failed(done.error(), path_ + ": " + entry.domain.text());
      stmt->reset();
    }
    if (!entries.empty()) {
      const sts::Moment& now = entries.back().now;
      auto moment = Stmt::prepare(db_, upsert_moment);
      if (!moment) return failed(moment.error(), path_);
      if (const auto done = moment->time(1, now.wall).time(2, now.steady).step(); !done) {
        return failed(done.error(), path_);
      }
      if (auto done = make_room(entries); !done) return done;
    }
    if (auto done = txn->commit(); !done) return failed(done.error(), path_);
    return {};
  }

  void load(const Domain& domain, Loaded loaded) override { loaded(load(domain)); }
  void save(const Domain& domain, const sts::PolicyState& state, const sts::Moment& now, Saved saved) override {
    saved(save({Entry{domain, state, now}}));
  }

  [[nodiscard]] Result<void> record(const std::vector<TlsOutcome>& outcomes) override {
    if (outcomes.empty()) return {};
    auto txn = Txn::begin(db_);
    if (!txn) return failed(txn.error(), path_);
    const std::int64_t today = day_of(outcomes.back().last);
    auto old = Stmt::prepare(db_, "DELETE FROM outcomes WHERE day <= ?1 - ?2 OR day > ?1");
    if (!old) return failed(old.error(), path_);
    if (auto done = old->number(1, today).number(2, outcome_days).step(); !done) return failed(done.error(), path_);
    for (;;) {  // whoever fills it with names of their own drives out older days, and at last only what is new
      const auto rows = number(db_, "SELECT count(*) FROM outcomes");
      const auto oldest = number(db_, "SELECT coalesce(min(day), 0) FROM outcomes");
      if (!rows) return failed(rows.error(), path_);
      if (!oldest) return failed(oldest.error(), path_);
      if (*rows + static_cast<std::int64_t>(outcomes.size()) <= most_outcomes) break;
      if (*oldest >= today) return failure("no room for more outcomes of today", path_);
      if (auto done = drop_oldest_outcomes(); !done) return failed(done.error(), path_);
    }
    auto stmt = Stmt::prepare(db_, upsert_outcome);
    if (!stmt) return failed(stmt.error(), path_);
    for (const TlsOutcome& outcome : outcomes) {
      stmt->text(1, outcome.domain).number(2, day_of(outcome.last)).text(3, outcome.mechanism).text(4, outcome.host);
      stmt->text(5, outcome.result).number(6, outcome.teller);
      stmt->number(7, static_cast<std::int64_t>(std::min(outcome.attempts, std::uint64_t{1} << 40U)));
      stmt->time(8, outcome.last).text(9, outcome.detail);
      if (const auto done = stmt->step(); !done) return failed(done.error(), path_);
      stmt->reset();
    }
    if (auto done = txn->commit(); !done) return failed(done.error(), path_);
    return {};
  }

  void record(std::vector<TlsOutcome> outcomes, Saved recorded) override { recorded(record(outcomes)); }

  [[nodiscard]] Result<std::vector<TlsOutcome>> outcomes(const Domain& domain) override {
    auto stmt = Stmt::prepare(db_, select_outcomes);
    if (!stmt) return failed(stmt.error(), path_);
    stmt->text(1, domain.text());
    std::vector<TlsOutcome> found;
    for (;;) {
      const auto row = stmt->step();
      if (!row) return failed(row.error(), path_);
      if (!*row) return found;
      const auto last = time_of<WallTime>(*stmt, 5);
      if (!last || stmt->integer(4) < 1) continue;  // written by anything; of no weight
      found.push_back({domain.text(), stmt->octets(0), stmt->octets(1), stmt->octets(2),
                       static_cast<std::uint32_t>(stmt->integer(3)), static_cast<std::uint64_t>(stmt->integer(4)),
                       *last, stmt->octets(6)});
    }
  }

  void remove(const Domain& domain, Saved removed) override { removed(remove(domain)); }
  void due(SteadyTime now, std::size_t limit, Listed listed) override { listed(due_now(now, limit)); }
  [[nodiscard]] std::optional<sts::Moment> last_entry() const override { return last_; }

  [[nodiscard]] Result<void> each(
      const std::function<bool(const std::string& domain, Result<sts::PolicyState>)>& each) override {
    auto stmt = Stmt::prepare(db_, select_all);
    if (!stmt) return failed(stmt.error(), path_);
    for (;;) {
      const auto row = stmt->step();
      if (!row) return failed(row.error(), path_);
      if (!*row) return {};
      const std::string text = stmt->octets(11);
      const auto domain = Domain::parse(text);
      sts::PolicyState state;
      bool more = false;
      if (!domain || domain->text() != text) {
        more = each(text, failure("a row for \"" + printable(text) + "\", which is no domain", path_,
                                  std::string(remedy_for(SQLITE_CORRUPT))));
      } else if (auto wrong = read_state(*stmt, state)) {
        more = each(text, bad_row(text, std::move(*wrong)));
      } else {
        more = each(text, std::move(state));
      }
      if (!more) return {};
    }
  }

  [[nodiscard]] Result<std::uint64_t> size() override {
    const auto rows = number(db_, "SELECT count(*) FROM policies");
    if (!rows) return failed(rows.error(), path_);
    return static_cast<std::uint64_t>(*rows);
  }

  [[nodiscard]] Result<void> remove(const Domain& domain) override {
    auto stmt = Stmt::prepare(db_, "DELETE FROM policies WHERE domain = ?1");
    if (!stmt) return failed(stmt.error(), path_);
    const auto done = stmt->text(1, domain.text()).step();
    if (!done) return failed(done.error(), path_);
    return {};
  }

 private:
  [[nodiscard]] tl::unexpected<Error> bad_row(const std::string& domain, std::string wrong) const {
    return failure(std::move(wrong), path_ + ": " + domain,
                   "remove the row: `sealane cache purge " + domain + "`; the policy is fetched again");
  }

  static void bind(Stmt& stmt, const Entry& entry) {
    const sts::PolicyState& state = entry.state;
    stmt.text(1, entry.domain.text()).time(6, state.attempted).text(7, state.attempted_id).text(8, state.error);
    stmt.number(10, state.failures).time(11, state.asked);
    if (state.refresh != SteadyTime{}) stmt.time(12, state.refresh);
    stmt.number(13, worth_nothing).time(14, entry.now.steady).time(15, entry.now.steady);
    if (!state.policy) return;  // the rest stays unbound: NULL
    stmt.text(2, state.policy->id).blob(3, state.policy->body);
    stmt.time(4, state.policy->fetched).time(5, state.policy->txt_seen).time(9, state.policy->learned);
    const auto policy = sts::parse_policy(state.policy->body);
    const bool enforced = policy && policy->mode == sts::Mode::enforce;
    stmt.number(13, enforced ? worth_much : worth_little);
    stmt.time(14, state.policy->learned + Seconds{policy ? policy->max_age : 0});
  }

  Result<Due> due_now(SteadyTime now, std::size_t limit) {
    Due due;
    auto stmt = Stmt::prepare(db_, "SELECT domain FROM policies WHERE refresh <= ?1 ORDER BY refresh LIMIT ?2");
    if (!stmt) return failed(stmt.error(), path_);
    stmt->time(1, now).number(2, static_cast<std::int64_t>(limit));
    for (;;) {
      const auto row = stmt->step();
      if (!row) return failed(row.error(), path_);
      if (!*row) break;
      if (auto domain = Domain::parse(stmt->octets(0))) due.domains.push_back(std::move(*domain));
    }
    // How many there are, within what was dropped meanwhile, without counting a million rows.
    const auto rows = number(db_, "SELECT max(rowid) FROM policies");
    if (!rows) return failed(rows.error(), path_);
    due.stored = static_cast<std::uint64_t>(*rows);
    return due;
  }

  // Octets in use: what was deleted is used again before the file grows.
  Sql<std::int64_t> used() {
    auto pages = number(db_, "PRAGMA page_count");
    auto free = number(db_, "PRAGMA freelist_count");
    auto size = number(db_, "PRAGMA page_size");
    if (!pages) return pages;
    if (!free) return free;
    if (!size) return size;
    return (*pages - *free) * *size;
  }

  static std::int64_t day_of(WallTime when) { return when.time_since_epoch().count() / 86400; }

  Sql<bool> drop_oldest_outcomes() {
    auto stmt = Stmt::prepare(db_, "DELETE FROM outcomes WHERE day = (SELECT min(day) FROM outcomes)");
    if (!stmt) return tl::make_unexpected(stmt.error());
    if (auto done = stmt->step(); !done) return done;
    return sqlite3_changes(db_.handle()) != 0;
  }

  Result<void> make_room(const std::vector<Entry>& entries) {
    const auto limit = static_cast<std::int64_t>(options_.bytes);
    auto in_use = used();
    while (in_use && *in_use > limit) {  // no policy goes before these
      const auto dropped = drop_oldest_outcomes();
      if (!dropped) return failed(dropped.error(), path_);
      if (!*dropped) break;
      in_use = used();
    }
    if (in_use && *in_use <= limit) return {};
    const SteadyTime now = entries.back().now.steady;
    for (const Eviction& eviction : evictions) {
      for (;;) {
        in_use = used();
        if (!in_use) return failed(in_use.error(), path_);
        if (*in_use <= limit) return {};
        const std::string sql = std::string("DELETE FROM policies WHERE rowid IN (") + eviction.rows + ")";
        auto stmt = Stmt::prepare(db_, sql);
        if (!stmt) return failed(stmt.error(), path_);
        if (auto done = stmt->time(1, now).number(2, evicted_at_once).step(); !done) return failed(done.error(), path_);
        if (sqlite3_changes(db_.handle()) == 0) break;
      }
    }
    return drop_newest(entries, limit);
  }

  // Nothing is left but enforced policies in force.
  Result<void> drop_newest(const std::vector<Entry>& entries, std::int64_t limit) {
    std::set<std::string> saved;
    for (const Entry& entry : entries) saved.insert(entry.domain.text());
    std::vector<std::string> dropped;
    for (;;) {
      const auto in_use = used();
      if (!in_use) return failed(in_use.error(), path_);
      if (*in_use <= limit) break;
      auto newest = Stmt::prepare(db_, newest_rows);
      if (!newest) return failed(newest.error(), path_);
      const auto row = newest->step();
      if (!row) return failed(row.error(), path_);
      if (!*row) break;
      const std::string domain = newest->octets(1);
      if (saved.count(domain) != 0) {
        return failure("the store is full of enforced policies that are in force (store_bytes = " +
                           std::to_string(options_.bytes) + ")",
                       path_ + ": " + domain, "raise store_bytes");
      }
      auto stmt = Stmt::prepare(db_, "DELETE FROM policies WHERE rowid = ?1");
      if (!stmt) return failed(stmt.error(), path_);
      if (auto done = stmt->number(1, newest->integer(0)).step(); !done) return failed(done.error(), path_);
      dropped.push_back(domain);
    }
    for (const std::string& domain : dropped) {
      options_.log(Level::warning, printable(domain) + ": its enforced policy is dropped though it is in force: the " +
                                       "store is full; raise store_bytes");
    }
    return {};
  }

  Db db_;
  std::string path_;
  StoreOptions options_;
  std::optional<sts::Moment> last_;
};

Result<std::optional<sts::Moment>> read_moment(const Db& db, const std::string& path) {
  auto stmt = Stmt::prepare(db, "SELECT wall, steady FROM moment");
  if (!stmt) return failed(stmt.error(), path);
  const auto row = stmt->step();
  if (!row) return failed(row.error(), path);
  if (!*row) return std::optional<sts::Moment>();
  const auto wall = time_of<WallTime>(*stmt, 0);
  const auto steady = time_of<SteadyTime>(*stmt, 1);
  if (!wall || !steady)
    return failure("the time of its last entry is no time", path, std::string(remedy_for(SQLITE_CORRUPT)));
  return std::optional(sts::Moment{*wall, *steady});
}

Result<std::unique_ptr<StoreFile>> empty_store(const std::string& path, StoreOptions options) {
  auto db = Db::open(":memory:", SQLITE_OPEN_READWRITE);
  if (!db) return failed(db.error(), path);
  if (auto done = migrate(*db); !done) return failed(done.error(), path);
  if (options.mode == StoreMode::read_only) {
    if (auto done = db->exec("PRAGMA query_only = ON"); !done) return failed(done.error(), path);
  }
  return std::make_unique<SqliteStore>(std::move(*db), path, std::move(options), std::nullopt);
}

// What there is at `path`, if there is something.
Result<bool> is_there(const std::string& path) {
  struct stat info {};
  // In this order: whoever creates a store makes the log after the file.
  const bool log = stat((path + "-wal").c_str(), &info) == 0;
  if (stat(path.c_str(), &info) != 0) {
    // Only this is absence. A directory that may not be looked into, say, hides a store.
    if (errno != ENOENT) return failed_call(path, "its owner must be able to reach and read it");
    // Policies may be in the log alone; and sqlite would mix it into a new store.
    if (log)
      return failure("the store is gone, but its log " + path + "-wal is not", path, "put it back, or remove both");
    return false;
  }
  if (!S_ISREG(info.st_mode)) return failure("not a regular file", path, not_ours);
  if (info.st_size == 0) {
    // sqlite takes an empty file for a new database. We never leave one behind.
    return failure("the file is empty: it has lost what it held", path, std::string(remedy_for(SQLITE_CORRUPT)));
  }
  return true;
}

Result<std::int64_t> read_through(const std::string& path, const std::atomic<bool>* stop) {
  auto db = Db::open(path, SQLITE_OPEN_READONLY);
  if (!db) return failed(db.error(), path);
  auto check = Stmt::prepare(*db, "PRAGMA integrity_check(1)");
  if (!check) return failed(check.error(), path);
  const auto row = check->step();
  if (!row) return failed(row.error(), path);
  if (!*row || check->octets(0) != "ok") {
    return failure("damaged: " + printable(check->octets(0), 200), path, std::string(remedy_for(SQLITE_CORRUPT)));
  }
  const auto schema = number(*db, "PRAGMA user_version");
  if (!schema) return failed(schema.error(), path);
  std::int64_t policies = 0;
  if (*schema != newest_schema) {  // made ahead of a migration
    const auto rows = number(*db, "SELECT count(body) FROM policies");
    if (!rows) return failed(rows.error(), path);
    return *rows;
  }
  SqliteStore store(std::move(*db), path, {}, std::nullopt);
  std::optional<Error> wrong;
  const auto done = store.each([&](const std::string&, const Result<sts::PolicyState>& state) {
    if (!state) wrong = state.error();
    if (state && state->policy) ++policies;
    return !wrong && (stop == nullptr || !*stop);
  });
  if (!done) return tl::make_unexpected(done.error());
  if (wrong) return tl::make_unexpected(std::move(*wrong));
  if (stop != nullptr && *stop) return failure("stopped before it was read through", path);
  return policies;
}

}  // namespace

std::string backup_path(const std::string& path) { return path + ".backup"; }

Result<void> back_up_store(const std::string& path, const std::atomic<bool>& stop) {
  auto db = Db::open(path, SQLITE_OPEN_READONLY);
  if (!db) return failed(db.error(), path);
  // What others write meanwhile stays out, and does not make it begin again.
  if (auto done = db->exec("BEGIN; SELECT count(*) FROM moment"); !done) return failed(done.error(), path);
  return back_up(*db, path, backup_path(path), &stop);
}

Result<std::string> restore_store(const std::string& path) {
  const std::string backup = backup_path(path);
  const auto good = read_through(backup, nullptr);
  if (!good) return tl::make_unexpected(good.error());
  constexpr const char* remedy = "the directory must be writable to the owner of the store, and its disk have room";
  std::string draft = path + ".XXXXXX";
  const int fd = mkostemp(draft.data(), O_CLOEXEC);
  if (fd < 0) return failed_call(path, remedy);
  // Of the owner that the backup has: root may run this, and the agent must read it.
  struct stat owner {};
  if (stat(backup.c_str(), &owner) == 0) static_cast<void>(!fchown(fd, owner.st_uid, owner.st_gid));
  close(fd);
  auto from = Db::open(backup, SQLITE_OPEN_READONLY);
  if (!from) return failed(from.error(), backup);
  if (auto done = copy_pages(*from, draft, nullptr); !done) {
    unlink(draft.c_str());
    return failed(done.error(), path);
  }
  std::string aside;
  struct stat info {};
  for (int i = 0; aside.empty(); ++i) {
    const std::string name = path + ".before-restore" + (i == 0 ? "" : "-" + std::to_string(i));
    if (stat(name.c_str(), &info) != 0) aside = name;
  }
  bool kept = false;
  for (const char* const part : {"-wal", "-shm", ""}) {
    const bool moved = rename((path + part).c_str(), (aside + part).c_str()) == 0;
    if (!moved && errno != ENOENT) return failed_call(path + part, remedy);
    kept = kept || (moved && *part == '\0');
  }
  if (rename(draft.c_str(), path.c_str()) != 0) return failed_call(path, remedy);
  sync_directory(path);
  return kept ? aside : std::string();
}

Result<std::unique_ptr<StoreFile>> open_sqlite_store(const std::string& path, StoreOptions options) {
  if (!options.log) options.log = [](Level, const std::string&) {};
  const StoreMode mode = options.mode;
  if (path == ":memory:") return empty_store(path, std::move(options));
  const auto there = is_there(path);
  if (!there) return tl::make_unexpected(there.error());
  if (!*there) {
    if (mode == StoreMode::read_only) return empty_store(path, std::move(options));
    struct stat info {};
    if (stat(backup_path(path).c_str(), &info) == 0) {
      options.log(Level::warning, "store: " + path + " is not there and is made anew, but " + backup_path(path) +
                                      " is: `sealane cache restore` brings it back");
    }
    if (auto done = create(path); !done) return tl::make_unexpected(done.error());
  }

  // Where the file may only be read, sqlite opens it for reading: what is stored still counts, saving fails.
  auto db = Db::open(path, mode == StoreMode::read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE);
  if (!db) return failed(db.error(), path);
  if (auto done = check_schema(*db, path, mode, options.log); !done) return tl::make_unexpected(done.error());
  if (mode == StoreMode::read_write && !db->read_only()) {
    // Readers and the writer do not wait for each other. It stays so in the file.
    if (auto done = db->exec("PRAGMA journal_mode = WAL"); !done) return failed(done.error(), path);
  }
  // The table is as the schema's number promises.
  if (auto table = Stmt::prepare(*db, select_state); !table) return failed(table.error(), path);
  const auto last = read_moment(*db, path);
  if (!last) return tl::make_unexpected(last.error());
  return std::make_unique<SqliteStore>(std::move(*db), path, std::move(options), *last);
}

}  // namespace sealane
