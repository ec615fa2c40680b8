#include "core/engine/engine.h"

#include <algorithm>
#include <iterator>
#include <list>
#include <map>
#include <set>
#include <utility>

#include "core/base/bytes.h"
#include "core/engine/decision_cache.h"
#include "core/engine/policy_keeper.h"
#include "core/engine/refresher.h"
#include "core/gather/gather.h"

namespace sealane {

namespace {

using dns::Health;
using dns::Resolver;

std::optional<Fault> fault_of(const Resolver& resolver) {
  switch (resolver.health()) {
    case Health::ok:
      return std::nullopt;
    case Health::no_dnssec:
      return Fault{Reason::resolver_no_dnssec, resolver.health_text()};
    case Health::unknown:
    case Health::no_trust_anchor:
      break;
  }
  return Fault{Reason::trust_anchor, resolver.health_text()};
}

}  // namespace

struct Engine::Impl {
  struct Waiter {
    Done done;
    Loop::Timer deadline;
  };

  // The evidence for one question on its way, for all who ask it meanwhile. It outlives the answer where a policy fetch
  // goes on that the answer did not wait for, and the deadline of all who asked.
  struct Flight : std::enable_shared_from_this<Flight> {
    Flight(QuestionKey the_key, bool is_fresh) : key(std::move(the_key)), fresh(is_fresh) {}

    QuestionKey key;
    bool fresh;
    bool listed = true;  // in flights_: may be joined
    unsigned epoch = 0;
    MonoTime started;
    Question question;
    std::shared_ptr<Resolver> resolver;
    std::shared_ptr<Gather> gather;  // null until the store has answered
    std::list<Waiter> waiters;
  };

  Impl(Loop& the_loop, Config the_config, Adapters adapters, LogSink sink);

  void ask(const Question& question, Millis timeout, Done done);
  std::shared_ptr<Flight> take_off(const Question& question, QuestionKey key);
  void begin(const std::shared_ptr<Flight>& flight, PolicyKeeper::Known known);
  void changed(Flight& flight);
  void land(Flight& flight);
  void at_deadline(Flight& flight, std::list<Waiter>::iterator waiter);
  void retire(Flight& flight);

  void fetch(const Flight& flight, FetchRequest request);
  void start_fetch(const Domain& domain, FetchRequest request, std::function<void()> stored);
  void fetch_ended(const Domain& domain, const sts::FetchResult& result, const std::function<void()>& stored);
  void landed(const Domain& domain, const PolicyKeeper::Known& known, const sts::FetchResult& result,
              const std::function<void()>& stored);
  [[nodiscard]] Refresher::Hooks refresh_hooks();
  void note_fetch(const Domain& domain, const sts::PolicyState& before, const sts::FetchResult& result);

  [[nodiscard]] Evidence evidence_for(const Question& question) const;
  [[nodiscard]] std::optional<Fault> local_fault() const;
  void soon(std::function<void()> fn);

  Loop& loop;
  Config config;
  LogSink log;
  std::shared_ptr<const Clock> clock;
  std::function<std::unique_ptr<Resolver>()> make_resolver;
  std::optional<Fault> ca_fault;
  PolicyKeeper policies;
  std::unique_ptr<sts::PolicyFetcher> fetcher;
  std::shared_ptr<Resolver> resolver;
  DecisionCache cache;
  unsigned epoch = 0;                                                       // of what may enter the cache
  std::map<std::pair<QuestionKey, bool>, std::shared_ptr<Flight>> flights;  // by question and `fresh`
  std::set<std::shared_ptr<Flight>> aloft;  // these, and those that landed with a fetch under way
  std::set<Domain> fetching;                // policy domains, until the result is durable
  std::unique_ptr<Refresher> refresher;
  std::shared_ptr<int> alive = std::make_shared<int>(0);
};

Engine::Impl::Impl(Loop& the_loop, Config the_config, Adapters adapters, LogSink sink)
    : loop(the_loop),
      config(std::move(the_config)),
      log(sink ? std::move(sink) : [](Level, const std::string&) {}),
      clock(std::move(adapters.clock)),
      make_resolver(std::move(adapters.make_resolver)),
      ca_fault(std::move(adapters.ca_fault)),
      policies(std::move(adapters.store), std::move(adapters.store_fault), *clock, log),
      fetcher(std::move(adapters.fetcher)),
      resolver(make_resolver()),
      cache(config.cache_entries, config.cache_bytes) {
  if (!fetcher && !ca_fault) ca_fault = Fault{Reason::ca_file, "policies cannot be fetched"};
  if (ca_fault) log(Level::error, ca_fault->text);
  if (adapters.refresh && fetcher) {
    refresher = std::make_unique<Refresher>(loop, *clock, policies, sts::RefreshLimits{}, refresh_hooks());
  }
}

// Dropped with the engine.
void Engine::Impl::soon(std::function<void()> fn) {
  loop.soon([weak = std::weak_ptr<int>(alive), fn = std::move(fn)] {
    if (!weak.expired()) fn();
  });
}

// What is wrong with this machine, whatever the resolver says.
std::optional<Fault> Engine::Impl::local_fault() const {
  if (clock->wall() < build_date()) {
    return Fault{Reason::clock, "the clock says " + rfc3339(clock->wall()) + ", before this release (" +
                                    rfc3339(build_date()) + "): set the clock"};
  }
  return ca_fault;
}

Evidence Engine::Impl::evidence_for(const Question& question) const {
  Evidence evidence;
  evidence.question = question;
  evidence.now = clock->wall();
  evidence.rules = config.rules_for(question);
  return evidence;
}

void Engine::Impl::ask(const Question& question, Millis timeout, Done done) {
  std::shared_ptr<const Reply> reply;
  if (!question.domain) {  // an address literal or no name at all: nothing to look up
    const Evidence evidence = evidence_for(question);
    reply = std::make_shared<const Reply>(Reply{decide(evidence).decision, evidence});
  } else if (!question.fresh) {
    reply = cache.find({*question.domain, question.port, question.mx}, clock->mono());
  }
  if (reply) {
    soon([done = std::move(done), reply] { done(reply); });
    return;
  }

  const QuestionKey key{*question.domain, question.port, question.mx};
  const auto found = flights.find({key, question.fresh});
  const auto flight = found != flights.end() ? found->second : take_off(question, key);
  flight->waiters.push_back({std::move(done), {}});
  const auto waiter = std::prev(flight->waiters.end());
  // The timer belongs to the flight: it cannot outlive it.
  waiter->deadline =
      loop.after(std::min(timeout, config.timeout), [this, &flight = *flight, waiter] { at_deadline(flight, waiter); });
}

std::shared_ptr<Engine::Impl::Flight> Engine::Impl::take_off(const Question& question, QuestionKey key) {
  auto flight = std::make_shared<Flight>(std::move(key), question.fresh);
  flight->question = question;
  flight->epoch = epoch;
  flight->started = clock->mono();
  flights.emplace(std::pair(flight->key, flight->fresh), flight);
  aloft.insert(flight);
  policies.load(flight->key.domain, [this, weak = std::weak_ptr<Flight>(flight)](PolicyKeeper::Known known) {
    if (const auto loaded = weak.lock()) begin(loaded, std::move(known));
  });
  return flight;
}

void Engine::Impl::begin(const std::shared_ptr<Flight>& flight, PolicyKeeper::Known known) {
  Evidence evidence = evidence_for(flight->question);
  evidence.stored = std::move(known.state);
  evidence.store_fault = std::move(known.fault);
  // RFC 8461 §5.1: past all caches, so a resolver that has none yet.
  flight->resolver = flight->fresh ? std::shared_ptr<Resolver>(make_resolver()) : resolver;
  Gather::Hooks hooks;
  hooks.fetch = [this, &flight = *flight](FetchRequest request) { fetch(flight, std::move(request)); };
  hooks.changed = [this, &flight = *flight] { changed(flight); };
  flight->gather = std::make_shared<Gather>(loop, flight->resolver, std::move(evidence), std::move(hooks));
  if (auto fault = local_fault()) {
    flight->gather->start(std::move(fault));
  } else {
    flight->resolver->when_ready([weak = std::weak_ptr<Flight>(flight)] {
      if (const auto ready = weak.lock()) ready->gather->start(fault_of(*ready->resolver));
    });
  }
}

void Engine::Impl::changed(Flight& flight) {
  if (flight.gather->settled()) land(flight);
  if (flight.gather->finished()) retire(flight);
}

// The decision is final; once more where a fetch has ended that it did not wait for.
void Engine::Impl::land(Flight& flight) {
  const auto reply = std::make_shared<const Reply>(Reply{flight.gather->outcome().decision, flight.gather->evidence()});
  if (flight.listed) {
    flights.erase({flight.key, flight.fresh});
    flight.listed = false;
  }
  if (flight.epoch == epoch && reply->decision.complete) {
    const Seconds life = reply->decision.expires - reply->decision.decided;
    cache.put(flight.key, reply, flight.started + life, clock->mono());
  }
  for (Waiter& waiter : std::exchange(flight.waiters, {})) waiter.done(reply);
}

void Engine::Impl::at_deadline(Flight& flight, std::list<Waiter>::iterator waiter) {
  const Waiter late = std::move(*waiter);
  flight.waiters.erase(waiter);
  Evidence evidence;
  if (flight.gather) {
    evidence = flight.gather->evidence();
  } else {
    evidence = evidence_for(flight.question);
    evidence.store_fault = Fault{Reason::store, "the store has not answered yet"};
  }
  late.done(std::make_shared<const Reply>(Reply{decide(evidence).decision, evidence}));
}

void Engine::Impl::retire(Flight& flight) {
  const auto& view = flight.gather->outcome().decision.sts;
  const auto& stored = flight.gather->evidence().stored;
  if (view && stored.policy && fetching.count(flight.key.domain) == 0) {
    const bool txt =
        view->state == StsState::valid && flight.gather->evidence().now - stored.policy->txt_seen >= txt_seen_interval;
    const sts::Moment now = policies.now();
    if (txt || sts::after_asked(stored, now, 0)) policies.asked(flight.key.domain, txt);
  }
  // Not now: we are inside the flight's own callback, and perhaps inside its resolver's.
  soon([this, held = flight.shared_from_this()] { aloft.erase(held); });
}

// One fetch at a time for a policy domain, whatever the questions are (ports, with and without MX): its result goes to
// all flights of that domain.
void Engine::Impl::fetch(const Flight& flight, FetchRequest request) {
  if (fetching.count(flight.key.domain) == 0) start_fetch(flight.key.domain, std::move(request), [] {});
}

void Engine::Impl::start_fetch(const Domain& domain, FetchRequest request, std::function<void()> stored) {
  fetching.insert(domain);
  const auto ended = [this, domain, stored = std::move(stored)](const sts::FetchResult& result) {
    fetch_ended(domain, result, stored);
  };
  if (request.addresses.empty()) {
    ended({clock->wall(), std::move(request.id), {}, std::move(request.error)});
  } else {  // there is a fetcher: without one nothing is decided
    fetcher->fetch(domain, request.addresses, std::move(request.id), ended);
  }
}

void Engine::Impl::fetch_ended(const Domain& domain, const sts::FetchResult& result,
                               const std::function<void()>& stored) {
  // As it is now, not as a question saw it when it began: another process may have fetched since.
  policies.load(domain, [this, domain, result, stored](const PolicyKeeper::Known& known) {
    landed(domain, known, result, stored);
  });
}

// RFC 8461 §3.3: what was learned must hold from now on, so it is durable before anyone is answered by it. Failures are
// kept too: the five minutes until the next attempt hold across restarts.
void Engine::Impl::landed(const Domain& domain, const PolicyKeeper::Known& known, const sts::FetchResult& result,
                          const std::function<void()>& stored) {
  note_fetch(domain, known.state, result);
  const sts::Moment now = policies.now();
  sts::Landing landing = sts::land(known.state, result, now);
  const auto is_for_mail = [&domain](const auto& flight) { return flight->key.domain == domain; };
  if (std::any_of(aloft.begin(), aloft.end(), is_for_mail)) landing.before.asked = now.steady;
  const auto tell = [this, domain, landing, fault = known.fault, stored] {
    fetching.erase(domain);
    for (const auto& flight : aloft) {
      if (flight->key.domain != domain || !flight->gather) continue;
      Gather& gather = *flight->gather;
      gather.fetched(fault ? gather.evidence().stored : landing.before, landing.result);
    }
    stored();
  };
  if (known.fault) return tell();  // what cannot be read now must not be overwritten, and what was read stays
  const sts::PolicyState after = sts::record_fetch(landing, now, policies.jitter());
  // A decision in memory rests on the policy that was: not only its own question may bring a new one.
  const bool same = known.state.policy && after.policy && known.state.policy->body == after.policy->body &&
                    known.state.policy->id == after.policy->id;
  if (result.error.empty() && !same) cache.forget(domain);
  policies.save(domain, after, tell);
}

Refresher::Hooks Engine::Impl::refresh_hooks() {
  Refresher::Hooks hooks;
  hooks.resolver = [this] {
    const bool good = !local_fault() && resolver->health() == Health::ok;
    return good ? resolver : nullptr;
  };
  hooks.fetch = [this](const Domain& domain, FetchRequest request, std::function<void()> ended) {
    // Not from within the call: without an address it fails at once.
    soon([this, domain, request = std::move(request), ended = std::move(ended)] {
      if (fetching.count(domain) != 0) return ended();
      start_fetch(domain, request, ended);
    });
  };
  return hooks;
}

// Once per change. Nobody misses the policy of a domain that has withdrawn it (mode `none`).
void Engine::Impl::note_fetch(const Domain& domain, const sts::PolicyState& before, const sts::FetchResult& result) {
  if (result.error == before.error) return;
  if (result.error.empty()) {
    log(Level::notice, domain.text() + ": its MTA-STS policy can be fetched again");
    return;
  }
  const auto policy = before.policy ? sts::parse_policy(before.policy->body) : sts::parse_policy("");
  const bool withdrawn = policy && policy->mode == sts::Mode::none;
  log(withdrawn ? Level::debug : Level::warning,
      domain.text() + ": its MTA-STS policy cannot be fetched: " + printable(result.error));
}

Engine::Engine(Loop& loop, Config config, Adapters adapters, LogSink log)
    : impl_(std::make_unique<Impl>(loop, std::move(config), std::move(adapters), std::move(log))) {}

Engine::~Engine() = default;

void Engine::ask(const Question& question, Millis timeout, Done done) {
  impl_->ask(question, timeout, std::move(done));
}

void Engine::record(std::vector<TlsOutcome> outcomes) { impl_->policies.record(std::move(outcomes)); }

void Engine::forget() {
  ++impl_->epoch;
  impl_->cache.clear();
  for (auto& [key, flight] : impl_->flights) flight->listed = false;
  impl_->flights.clear();  // who waits for them is still answered by them
  impl_->resolver = impl_->make_resolver();
}

void Engine::purge(const Domain& domain, bool force, Ordered done) {
  Impl& impl = *impl_;
  impl.policies.load(domain, [this, &impl, domain, force, done = std::move(done)](const PolicyKeeper::Known& known) {
    std::string why = known.fault ? "what is stored of it cannot be read" : "";
    if (why.empty()) why = sts::weakens(known.state, {}, impl.policies.now());
    if (!why.empty() && !force) return done(failure(why, domain.text(), "--force forgets it all the same"));
    impl.policies.remove(domain, [this, &impl, domain, why, done](const Result<void>& removed) {
      if (!removed) return done(tl::make_unexpected(removed.error()));
      forget(domain);
      const std::string text = domain.text() + ": forgotten" + (why.empty() ? "" : ", though " + why);
      impl.log(Level::notice, "store: " + text);
      done(text);
    });
  });
}

void Engine::import_policy(const Domain& domain, const sts::PolicyState& state, bool force, Ordered done) {
  Impl& impl = *impl_;
  impl.policies.load(domain,
                     [this, &impl, domain, state, force, done = std::move(done)](const PolicyKeeper::Known& known) {
                       if (known.fault) return done(failure(known.fault->text, domain.text(), "purge it first"));
                       const sts::Moment now = impl.policies.now();
                       const sts::PolicyState imported = sts::as_imported(state, now, impl.policies.jitter());
                       if (!imported.policy) return done(domain.text() + ": no policy in it");
                       const auto& stored = known.state.policy;
                       if (stored && stored->learned >= imported.policy->learned)
                         return done(domain.text() + ": what is stored is newer");
                       const std::string why = sts::weakens(known.state, imported, now);
                       if (!why.empty() && !force)
                         return done(failure(why, domain.text(), "--force replaces it all the same"));
                       impl.policies.save(domain, imported, [this, &impl, domain, why, done] {
                         forget(domain);
                         const std::string text = domain.text() + ": imported" + (why.empty() ? "" : ", though " + why);
                         impl.log(Level::notice, "store: " + text);
                         done(text);
                       });
                     });
}

void Engine::forget(const Domain& domain) {
  impl_->cache.forget(domain);
  for (auto at = impl_->flights.begin(); at != impl_->flights.end();) {
    if (at->first.first.domain != domain) {
      ++at;
      continue;
    }
    at->second->listed = false;
    at->second->epoch = impl_->epoch - 1;
    at = impl_->flights.erase(at);
  }
}

void Engine::take_over(Engine& before) {
  before.impl_->refresher.reset();
  impl_->policies.take_over(before.impl_->policies);
}

std::optional<Fault> Engine::fault() const {
  if (auto fault = impl_->local_fault()) return fault;
  if (impl_->resolver->health() != Health::unknown) {
    if (auto fault = fault_of(*impl_->resolver)) return fault;
  }
  return impl_->policies.fault();
}

std::string Engine::resolver_text() const { return impl_->resolver->health_text(); }

}  // namespace sealane
