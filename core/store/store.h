// What survives a restart: one row a policy domain.
//
// Three things: PolicyStore is the seam that the engine stands on; StoreFile is the sqlite file, for one thread at a
// time; on_thread() puts a StoreFile behind the seam, with a thread of its own, so that no loop waits for a disk.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/log.h"
#include "core/base/loop.h"
#include "core/base/result.h"
#include "core/domain/domain.h"
#include "core/sts/lifecycle.h"

namespace sealane {

// How connections to a host of a domain ended on one day, counted: what RFC 8460 §4.3 reports.
struct TlsOutcome {
  std::string domain, mechanism, host;  // A-label; "dane", "sts", "sts-testing" or "encrypt"; as the MTA knows it
  std::string result;                   // a token of reasons.def; "verified": as demanded
  std::uint32_t teller = 0;             // user id of the process that told it
  std::uint64_t attempts = 1;
  WallTime last{};
  std::string detail;  // of the last one, in words, printable
};

class PolicyStore {
 public:
  using Loaded = std::function<void(Result<sts::PolicyState>)>;
  using Saved = std::function<void(Result<void>)>;
  // What is due for refresh, the longest overdue first, and how many domains there are in all.
  struct Due {
    std::vector<Domain> domains;
    std::uint64_t stored = 0;
  };
  using Listed = std::function<void(Result<Due>)>;
  virtual ~PolicyStore() = default;

  // Callbacks come once, from the loop's thread, perhaps before the call returns; calls are answered as if they were
  // done one after the other, but what is loaded may be older than saves that have not been answered yet.
  //
  // Nothing stored is an empty PolicyState. An error means that it cannot be known.
  virtual void load(const Domain& domain, Loaded loaded) = 0;
  // Durable when `saved` is called. Full or read-only: an error; the caller goes on from memory and says so. A policy
  // is never replaced by none, nor by one that was learned earlier: another process may have learned it meanwhile.
  virtual void save(const Domain& domain, const sts::PolicyState& state, const sts::Moment& now, Saved saved) = 0;
  // What is stored of the domain is gone when `removed` is called.
  virtual void remove(const Domain& domain, Saved removed) = 0;
  // At most `limit` domains whose `refresh` is not after `now`.
  virtual void due(SteadyTime now, std::size_t limit, Listed listed) = 0;
  // Adds to what is counted of the day of each. Not vital: what the store has no room for is an error, and is lost.
  virtual void record(std::vector<TlsOutcome> outcomes, Saved recorded) = 0;
  // The moment of the last entry when this store was opened; nothing in an empty one.
  [[nodiscard]] virtual std::optional<sts::Moment> last_entry() const = 0;
};

enum class StoreMode : unsigned char { read_only, read_write };

class StoreFile : public PolicyStore {
 public:
  // The same without callbacks.
  [[nodiscard]] virtual Result<sts::PolicyState> load(const Domain& domain) = 0;
  struct Entry {
    const Domain& domain;
    const sts::PolicyState& state;
    const sts::Moment& now;
  };
  // All or nothing, in one transaction.
  [[nodiscard]] virtual Result<void> save(const std::vector<Entry>& entries) = 0;
  [[nodiscard]] virtual Result<void> record(const std::vector<TlsOutcome>& outcomes) = 0;
  // The latest days first.
  [[nodiscard]] virtual Result<std::vector<TlsOutcome>> outcomes(const Domain& domain) = 0;
  using PolicyStore::load;
  using PolicyStore::record;
  using PolicyStore::remove;
  using PolicyStore::save;

  // Calls `each` for every domain, sorted, until it returns false; a row that makes no sense is an error of that row.
  [[nodiscard]] virtual Result<void> each(
      const std::function<bool(const std::string& domain, Result<sts::PolicyState>)>& each) = 0;
  [[nodiscard]] virtual Result<std::uint64_t> size() = 0;
  [[nodiscard]] virtual Result<void> remove(const Domain& domain) = 0;
};

struct StoreOptions {
  StoreMode mode = StoreMode::read_only;
  std::size_t bytes = 1U << 30U;  // of the file, about: more than this is made up for by dropping what matters least
  LogSink log = {};               // told what is dropped though it was in force
};

// sqlite at `path`. Absent: created with mode 0600 (read_write) or an empty read-only view (read_only). Unreadable,
// corrupt or of a newer schema: an error, never an empty store. An older schema is migrated in one transaction, after a
// backup (read_write). Not usable after fork(). ":memory:" for tests.
[[nodiscard]] Result<std::unique_ptr<StoreFile>> open_sqlite_store(const std::string& path, StoreOptions options);

// Where the backup of the store at `path` is, and what restore_store brings back. It is never read otherwise.
[[nodiscard]] std::string backup_path(const std::string& path);
// Makes one: as of one moment, and read through before it takes the place of the last, which it does not where it holds
// less than half of it. From any thread; ends early, with an error, once `stop` is set.
[[nodiscard]] Result<void> back_up_store(const std::string& path, const std::atomic<bool>& stop);
// Puts the backup in the place of the store, which is kept beside it, with its log, under a name that is given back
// (empty: there was none). The backup is read through first. No process may have the store open.
[[nodiscard]] Result<std::string> restore_store(const std::string& path);

// `file` on a thread of its own. Loads come before saves; saves that wait together are one transaction, so that a slow
// disk costs each of them one wait. `backed_up`: path of the store of which, once a day, a backup is made on another
// thread; empty: none. The destructor returns when all that was saved is durable; callbacks that have not come by then
// do not come. `loop` outlives it.
[[nodiscard]] std::unique_ptr<PolicyStore> on_thread(Loop& loop, std::unique_ptr<StoreFile> file, std::string backed_up,
                                                     LogSink log);

}  // namespace sealane
