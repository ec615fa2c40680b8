#include <filesystem>
#include <utility>

#include "core/dns/unbound_resolver.h"
#include "core/engine/engine.h"
#include "core/sts/curl_fetcher.h"

namespace sealane {

namespace {

// A store that may be read and not written still says which policies are in force; what is learned stays in memory.
Result<std::unique_ptr<StoreFile>> open_store(const Config& config, StoreUse use, const LogSink& log) {
  StoreOptions options{StoreMode::read_only, config.store_bytes, log};
  if (use == StoreUse::read_only) return open_sqlite_store(config.store, options);
  options.mode = StoreMode::read_write;
  auto store = open_sqlite_store(config.store, options);
  if (store) return store;
  // Absent and not to be created, perhaps because a file system is not mounted: what was learned cannot be known.
  std::error_code error;
  if (!std::filesystem::exists(config.store, error)) return store;
  options.mode = StoreMode::read_only;
  auto read_only = open_sqlite_store(config.store, options);
  if (!read_only) return store;
  if (log)
    log(Level::error, "store: " + store.error().text() + "; policies learned from now on are kept in memory only");
  return read_only;
}

}  // namespace

Adapters make_adapters(Loop& loop, const Config& config, StoreUse use, const LogSink& log) {
  Adapters adapters;
  adapters.clock = std::make_shared<const SystemClock>();
  adapters.make_resolver = [&loop, config, log] { return dns::make_unbound_resolver(loop, config, log); };
  if (auto fetcher = sts::make_curl_fetcher(loop, *adapters.clock, config)) {
    adapters.fetcher = std::move(*fetcher);
  } else {
    adapters.ca_fault = Fault{Reason::ca_file, fetcher.error().text()};
  }
  if (auto store = open_store(config, use, log)) {
    if (use == StoreUse::agent) {
      adapters.store = on_thread(loop, std::move(*store), config.store, log);
    } else {
      adapters.store = std::move(*store);
    }
  } else {
    adapters.store_fault = Fault{Reason::store, store.error().text()};
  }
  adapters.refresh = use == StoreUse::agent;
  return adapters;
}

}  // namespace sealane
