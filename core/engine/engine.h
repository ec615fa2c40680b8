// Questions to decisions: cache, single flight, policy fetches and the store, on one loop.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/loop.h"
#include "core/config/config.h"
#include "core/decide/decision.h"
#include "core/decide/evidence.h"
#include "core/dns/resolver.h"
#include "core/store/store.h"
#include "core/sts/fetcher.h"

namespace sealane {

// A decision and what it rests on.
struct Reply {
  Decision decision;
  Evidence evidence;
};

// What the engine stands on; tests inject fakes (tests/unit/fakes.h).
struct Adapters {
  // Makes a resolver with cold caches; called once at start and once for every `fresh` question.
  std::function<std::unique_ptr<dns::Resolver>()> make_resolver;
  std::unique_ptr<sts::PolicyFetcher> fetcher;  // null: ca_fault says why
  std::unique_ptr<PolicyStore> store;           // null: store_fault says why
  std::optional<Fault> ca_fault;
  std::optional<Fault> store_fault;
  std::shared_ptr<const Clock> clock;
  bool refresh = false;  // policies are fetched without mail (RFC 8461 §10.2): for who runs long
};

class Engine {
 public:
  using Done = std::function<void(std::shared_ptr<const Reply>)>;

  // Does not own `loop`, which must outlive it. Not usable after fork().
  Engine(Loop& loop, Config config, Adapters adapters, LogSink log);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Calls `done` once, from the loop, within `timeout` (and config.timeout at most); a decision in memory that has not
  // expired is given at once, without a lookup. Questions for the same thing share one flight. At the deadline the
  // answer is what the evidence so far allows; its lookups go on and fill the cache.
  void ask(const Question& question, Millis timeout, Done done);

  // What an administrator orders. `done` is called once, with what was done in words, or why it was not. Nothing that
  // makes less be demanded of a domain is done without `force`, and what is done is logged.
  using Ordered = std::function<void(Result<std::string>)>;
  void purge(const Domain& domain, bool force, Ordered done);
  void import_policy(const Domain& domain, const sts::PolicyState& state, bool force, Ordered done);

  // How connections ended, for the store. What it does not take is lost, and that is logged once.
  void record(std::vector<TlsOutcome> outcomes);

  // Nothing of what is in memory is used again.
  void forget();
  // The same for one domain: what is stored of it was changed by others.
  void forget(const Domain& domain);
  // What `before` has learned and could not store is known to this one too, which refreshes in its place (reload).
  void take_over(Engine& before);

  // What is wrong with the installation as a whole, as far as the engine knows.
  [[nodiscard]] std::optional<Fault> fault() const;
  [[nodiscard]] std::string resolver_text() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

enum class StoreUse : unsigned char {
  read_only,
  read_write,  // this thread reads and writes it
  agent,       // a thread of its own does, and makes backups
};

// The one place that picks adapters: libunbound, libcurl, sqlite.
[[nodiscard]] Adapters make_adapters(Loop& loop, const Config& config, StoreUse use, const LogSink& log);

}  // namespace sealane
