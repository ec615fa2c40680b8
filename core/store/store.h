// The seam to what survives a restart: one row a policy domain.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/domain/domain.h"
#include "core/sts/lifecycle.h"

namespace sealane {

class PolicyStore {
 public:
  using Saved = std::function<void(Result<void>)>;
  virtual ~PolicyStore() = default;

  // Nothing stored is an empty PolicyState. An error means that it cannot be known.
  [[nodiscard]] virtual Result<sts::PolicyState> load(const Domain& domain) = 0;
  // Durable when `saved` is called (which may be before save returns). Full or read-only: an error; the caller goes on
  // from memory and says so.
  virtual void save(const Domain& domain, const sts::PolicyState& state, Saved saved) = 0;
  // All domains with something stored, sorted.
  [[nodiscard]] virtual Result<std::vector<Domain>> list() = 0;
  [[nodiscard]] virtual Result<void> remove(const Domain& domain) = 0;
};

enum class StoreMode : unsigned char { read_only, read_write };

// sqlite at `path`. Absent: created with mode 0600 (read_write) or an empty read-only view (read_only). Unreadable,
// corrupt or of a newer schema: an error, never an empty store. An older schema is migrated in one transaction
// (read_write). Not usable after fork(). ":memory:" for tests.
[[nodiscard]] Result<std::unique_ptr<PolicyStore>> open_sqlite_store(const std::string& path, StoreMode mode);

}  // namespace sealane
