// PolicyStore on sqlite. The one user of sqlite.
//
// The law here: "nothing stored" is said only where a sound store says so. A file that is there and cannot be read, is
// no store of ours, or is empty, is an error: an attacker who can damage the file, or an operator who truncates it,
// must not switch enforcement off unnoticed.
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
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
  Stmt& time(int at, WallTime value) { return note(sqlite3_bind_int64(handle_, at, value.time_since_epoch().count())); }

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

// Is this a store of ours, of a schema that we know? Migrates an older one where `mode` allows it.
Result<void> check_schema(Db& db, const std::string& path, StoreMode mode) {
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
  const std::size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const int dir = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir >= 0) {  // best effort: without it a crash may lose the new file, which then is created again
    static_cast<void>(fsync(dir));
    close(dir);
  }
  return {};
}

// ---- The store

constexpr std::string_view select_state =
    "SELECT policy_id, body, fetched, txt_seen, attempted, attempted_id, error FROM policies WHERE domain = ?1";
constexpr std::string_view upsert_state =
    "INSERT INTO policies (domain, policy_id, body, fetched, txt_seen, attempted, attempted_id, error) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (domain) DO UPDATE SET policy_id = excluded.policy_id, "
    "body = excluded.body, fetched = excluded.fetched, txt_seen = excluded.txt_seen, attempted = excluded.attempted, "
    "attempted_id = excluded.attempted_id, error = excluded.error";

std::optional<WallTime> time_of(const Stmt& row, int at) {
  const std::int64_t seconds = row.integer(at);
  if (seconds < 0 || seconds > latest_time) return std::nullopt;  // also keeps arithmetic with it from overflowing
  return WallTime{Seconds{seconds}};
}

// What is wrong with a row; nothing where it makes sense. No constraint of the table is relied upon: the file may have
// been written by anything.
std::optional<std::string> read_state(const Stmt& row, sts::PolicyState& state) {
  const auto attempted = time_of(row, 4);
  if (!attempted) return "the time of the last attempt is no time";
  state.attempted = *attempted;
  state.attempted_id = row.octets(5);
  state.error = row.octets(6);
  if (row.is_null(0) && row.is_null(1) && row.is_null(2) && row.is_null(3)) return std::nullopt;
  if (row.is_null(0) || row.is_null(1) || row.is_null(2) || row.is_null(3)) return "half a policy";
  const auto fetched = time_of(row, 2);
  const auto txt_seen = time_of(row, 3);
  if (!fetched || !txt_seen) return "a time of the policy is no time";
  sts::StoredPolicy policy{row.octets(0), row.octets(1), *fetched, *txt_seen};
  if (const auto parsed = sts::parse_policy(policy.body); !parsed) {
    return "the stored policy does not parse: line " + std::to_string(parsed.error().line) + ": " + parsed.error().what;
  }
  state.policy = std::move(policy);
  return std::nullopt;
}

// For one thread at a time.
class SqliteStore final : public PolicyStore {
 public:
  SqliteStore(Db db, std::string path) : db_(std::move(db)), path_(std::move(path)) {}

  [[nodiscard]] Result<sts::PolicyState> load(const Domain& domain) override {
    auto stmt = Stmt::prepare(db_, select_state);
    if (!stmt) return failed(stmt.error(), path_);
    const auto row = stmt->text(1, domain.text()).step();
    if (!row) return failed(row.error(), path_);
    sts::PolicyState state;
    if (!*row) return state;
    if (auto wrong = read_state(*stmt, state)) {
      return failure(std::move(*wrong), path_ + ": " + domain.text(),
                     "remove the row: `sealane cache purge " + domain.text() + "`; the policy is fetched again");
    }
    return state;
  }

  void save(const Domain& domain, const sts::PolicyState& state, Saved saved) override { saved(write(domain, state)); }

  [[nodiscard]] Result<std::vector<Domain>> list() override {
    auto stmt = Stmt::prepare(db_, "SELECT domain FROM policies ORDER BY domain");
    if (!stmt) return failed(stmt.error(), path_);
    std::vector<Domain> domains;
    for (;;) {
      const auto row = stmt->step();
      if (!row) return failed(row.error(), path_);
      if (!*row) return domains;
      const std::string text = stmt->octets(0);
      auto domain = Domain::parse(text);
      if (!domain || domain->text() != text) {
        return failure("a row for \"" + printable(text) + "\", which is no domain", path_,
                       std::string(remedy_for(SQLITE_CORRUPT)));
      }
      domains.push_back(std::move(*domain));
    }
  }

  [[nodiscard]] Result<void> remove(const Domain& domain) override {
    auto stmt = Stmt::prepare(db_, "DELETE FROM policies WHERE domain = ?1");
    if (!stmt) return failed(stmt.error(), path_);
    const auto done = stmt->text(1, domain.text()).step();
    if (!done) return failed(done.error(), path_);
    return {};
  }

 private:
  Result<void> write(const Domain& domain, const sts::PolicyState& state) {
    auto stmt = Stmt::prepare(db_, upsert_state);
    if (!stmt) return failed(stmt.error(), path_);
    stmt->text(1, domain.text()).time(6, state.attempted).text(7, state.attempted_id).text(8, state.error);
    if (state.policy) {  // else the four stay unbound: NULL
      stmt->text(2, state.policy->id).blob(3, state.policy->body);
      stmt->time(4, state.policy->fetched).time(5, state.policy->txt_seen);
    }
    const auto done = stmt->step();
    if (!done) return failed(done.error(), path_ + ": " + domain.text());
    return {};
  }

  Db db_;
  std::string path_;
};

Result<std::unique_ptr<PolicyStore>> empty_store(const std::string& path, StoreMode mode) {
  auto db = Db::open(":memory:", SQLITE_OPEN_READWRITE);
  if (!db) return failed(db.error(), path);
  if (auto done = migrate(*db); !done) return failed(done.error(), path);
  if (mode == StoreMode::read_only) {
    if (auto done = db->exec("PRAGMA query_only = ON"); !done) return failed(done.error(), path);
  }
  return std::make_unique<SqliteStore>(std::move(*db), path);
}

}  // namespace

Result<std::unique_ptr<PolicyStore>> open_sqlite_store(const std::string& path, StoreMode mode) {
  if (path == ":memory:") return empty_store(path, mode);
  struct stat info {};
  // In this order: whoever creates a store makes the log after the file.
  const bool log = stat((path + "-wal").c_str(), &info) == 0;
  if (stat(path.c_str(), &info) != 0) {
    // Only this is absence. A directory that may not be looked into, say, hides a store.
    if (errno != ENOENT) return failed_call(path, "its owner must be able to reach and read it");
    // Policies may be in the log alone; and sqlite would mix it into a new store.
    if (log)
      return failure("the store is gone, but its log " + path + "-wal is not", path, "put it back, or remove both");
    if (mode == StoreMode::read_only) return empty_store(path, mode);
    if (auto done = create(path); !done) return tl::make_unexpected(done.error());
  } else if (!S_ISREG(info.st_mode)) {
    return failure("not a regular file", path, not_ours);
  } else if (info.st_size == 0) {
    // sqlite takes an empty file for a new database. We never leave one behind.
    return failure("the file is empty: it has lost what it held", path, std::string(remedy_for(SQLITE_CORRUPT)));
  }

  // Where the file may only be read, sqlite opens it for reading: what is stored still counts, saving fails.
  auto db = Db::open(path, mode == StoreMode::read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE);
  if (!db) return failed(db.error(), path);
  if (auto done = check_schema(*db, path, mode); !done) return tl::make_unexpected(done.error());
  if (mode == StoreMode::read_write && !db->read_only()) {
    // Readers and the writer do not wait for each other. It stays so in the file.
    if (auto done = db->exec("PRAGMA journal_mode = WAL"); !done) return failed(done.error(), path);
  }
  // The table is as the schema's number promises.
  if (auto table = Stmt::prepare(*db, select_state); !table) return failed(table.error(), path);
  return std::make_unique<SqliteStore>(std::move(*db), path);
}

}  // namespace sealane
