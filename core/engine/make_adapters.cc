#include <filesystem>
#include <utility>

#include "core/dns/unbound_resolver.h"
#include "core/engine/engine.h"
#include "core/sts/curl_fetcher.h"

namespace sealane {

namespace {

// A store that may be read and not written still says which policies are in force; what is learned stays in memory.
Result<std::unique_ptr<PolicyStore>> open_store(const Config& config, StoreMode mode, const LogSink& log) {
  auto store = open_sqlite_store(config.store, mode);
  if (store || mode == StoreMode::read_only) return store;
  // Absent and not to be created, perhaps because a file system is not mounted: what was learned cannot be known.
  std::error_code error;
  if (!std::filesystem::exists(config.store, error)) return store;
  auto read_only = open_sqlite_store(config.store, StoreMode::read_only);
  if (!read_only) return store;
  if (log)
    log(Level::error, "store: " + store.error().text() + "; policies learned from now on are kept in memory only");
  return read_only;
}

}  // namespace

Adapters make_adapters(Loop& loop, const Config& config, StoreMode store_mode, const LogSink& log) {
  Adapters adapters;
  adapters.clock = std::make_shared<const SystemClock>();
  adapters.make_resolver = [&loop, config, log] { return dns::make_unbound_resolver(loop, config, log); };
  if (auto fetcher = sts::make_curl_fetcher(loop, *adapters.clock, config)) {
    adapters.fetcher = std::move(*fetcher);
  } else {
    adapters.ca_fault = Fault{Reason::ca_file, fetcher.error().text()};
  }
  if (auto store = open_store(config, store_mode, log)) {
    adapters.store = std::move(*store);
  } else {
    adapters.store_fault = Fault{Reason::store, store.error().text()};
  }
  return adapters;
}

}  // namespace sealane
