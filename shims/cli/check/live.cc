#include "shims/cli/check/live.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include "core/base/bytes.h"
#include "core/decide/decide.h"
#include "core/engine/engine.h"
#include "core/smtp/client.h"
#include "shims/cli/cli.h"

namespace sealane::check {

namespace {

// Servers that hold back their greeting to scare off spammers take up to half a minute.
constexpr Seconds connect_time{10};
constexpr Seconds talk_time{45};
constexpr Seconds quit_time{2};
constexpr std::size_t most_connections = 100;
constexpr std::size_t at_once = 8;

// ---- DNS and HTTPS

// The policies in memory, so that nothing is written. Whatever a fetch comes to is saved, also where the decision does
// not wait for it: so this is where it is seen.
class Copy final : public PolicyStore {
 public:
  struct Seen {
    std::optional<sts::FetchResult> fetch;
    std::function<void()> changed;
  };
  Copy(std::unique_ptr<StoreFile> memory, std::optional<sts::Moment> last_entry, std::shared_ptr<Seen> seen)
      : memory_(std::move(memory)), last_entry_(last_entry), seen_(std::move(seen)) {}

  void load(const Domain& domain, Loaded loaded) override { memory_->load(domain, std::move(loaded)); }
  void save(const Domain& domain, const sts::PolicyState& state, const sts::Moment& now, Saved saved) override {
    memory_->save(domain, state, now, std::move(saved));
    if (state.attempted == WallTime{}) return;
    const bool good = state.error.empty() && state.policy;
    seen_->fetch =
        sts::FetchResult{state.attempted, state.attempted_id, good ? state.policy->body : std::string(), state.error};
    if (seen_->changed) seen_->changed();
  }
  void remove(const Domain& domain, Saved removed) override { memory_->remove(domain, std::move(removed)); }
  void due(SteadyTime now, std::size_t limit, Listed listed) override { memory_->due(now, limit, std::move(listed)); }
  void record(std::vector<TlsOutcome> outcomes, Saved recorded) override {
    memory_->record(std::move(outcomes), std::move(recorded));
  }
  [[nodiscard]] std::optional<sts::Moment> last_entry() const override { return last_entry_; }

 private:
  std::unique_ptr<StoreFile> memory_;
  std::optional<sts::Moment> last_entry_;
  std::shared_ptr<Seen> seen_;
};

// What the store has of `domain`, without the last attempt, so that a fetch is due.
Result<std::unique_ptr<PolicyStore>> copy_store(const std::string& path, const Domain& domain,
                                                std::shared_ptr<Copy::Seen> seen) {
  const auto from = open_sqlite_store(path, {});
  if (!from) return tl::make_unexpected(from.error());
  const auto stored = (*from)->load(domain);
  if (!stored) return tl::make_unexpected(stored.error());
  auto memory = open_sqlite_store(":memory:", {StoreMode::read_write});
  if (!memory) return tl::make_unexpected(memory.error());
  const auto last_entry = (*from)->last_entry();
  if (stored->policy && last_entry) {
    sts::PolicyState state;
    state.policy = stored->policy;
    const auto copied = (*memory)->save({{domain, state, *last_entry}});
    if (!copied) return tl::make_unexpected(copied.error());
  }
  return std::make_unique<Copy>(std::move(*memory), last_entry, std::move(seen));
}

void look_up(const Config& config, const Question& question, Millis wait, Live& live) {
  Loop loop;
  const LogSink log = [](Level level, const std::string& line) {
    if (level == Level::error) cli::complain({line, "", ""});
  };
  const auto seen = std::make_shared<Copy::Seen>();
  Adapters adapters = make_adapters(loop, config, StoreUse::read_only, log);
  if (question.domain) {
    adapters.store.reset();
    adapters.store_fault.reset();
    if (auto copy = copy_store(config.store, *question.domain, seen)) {
      adapters.store = std::move(*copy);
    } else {
      adapters.store_fault = Fault{Reason::store, copy.error().text()};
    }
  }
  Engine engine(loop, config, std::move(adapters), log);

  std::shared_ptr<const Reply> answer;
  const auto ask = [&](const Question& what) {
    answer = nullptr;
    bool late = false;
    engine.ask(what, wait, [&](std::shared_ptr<const Reply> reply) {
      answer = std::move(reply);
      // A policy that the decision does not wait for is waited for here.
      const auto& sts = answer->decision.sts;
      if (!sts || sts->state != StsState::pending || seen->fetch || late) loop.stop();
    });
    seen->changed = [&] {
      if (answer) loop.stop();
    };
    const auto give_up = loop.after(wait, [&] {
      late = true;
      if (answer) loop.stop();
    });
    loop.run();
    seen->changed = nullptr;
  };
  Question fresh = question;
  fresh.fresh = true;
  ask(fresh);
  live.evidence = answer->evidence;
  if (!live.evidence.fetch) live.evidence.fetch = seen->fetch;
  live.decision = decide(live.evidence).decision;

  // RFC 8461 §3.4: a subdomain never inherits, which its owner may not know.
  if (!question.domain || live.decision.sts || live.decision.action == Action::reject) return;
  const std::string& name = question.domain->text();
  const std::string parent = name.substr(std::min(name.size(), name.find('.') + 1));
  if (name.find('.') == std::string::npos || parent.find('.') == std::string::npos) return;
  seen->fetch.reset();
  ask(Question::parse(parent));
  if (answer->decision.sts && !answer->decision.sts->id.empty()) live.parent = parent;
}

// ---- SMTP

Connection probe(const std::string& host, const std::string& address, std::uint16_t port, const std::string& sni,
                 const smtp::TlsContext& context) {
  const MonoTime now = SystemClock().mono();
  const MonoTime until = now + talk_time;
  Connection connection;
  connection.host = host;
  connection.address = address;
  smtp::ConnectError error;
  const auto client = smtp::Client::connect(address, port, now + connect_time, error);
  const auto stop = [&connection](Stage stage, std::string why) {
    connection.stage = stage;
    connection.error = std::move(why);
    return connection;
  };
  if (!client) return stop(error.no_route ? Stage::no_route : Stage::no_connection, error.what);

  const auto greeting = client->receive(until);
  if (!greeting) return stop(Stage::no_smtp, greeting.error().what);
  if (!greeting->good()) return stop(Stage::no_smtp, greeting->text());
  const auto hello = client->command("EHLO " + smtp::machine_name(), until);
  if (!hello) return stop(Stage::no_smtp, hello.error().what);
  if (!hello->good()) return stop(Stage::no_smtp, hello->text());
  const auto quit = [&client] { static_cast<void>(client->command("QUIT", SystemClock().mono() + quit_time)); };
  if (!hello->offers("STARTTLS")) {
    quit();
    return stop(Stage::no_starttls, "");
  }
  const auto ready = client->command("STARTTLS", until);
  if (!ready) return stop(Stage::starttls_refused, ready.error().what);
  if (ready->code != 220) {
    quit();
    return stop(Stage::starttls_refused, ready->text());
  }
  const auto secured = client->start_tls(context, sni, until);
  if (!secured) return stop(Stage::tls_failed, secured.error().what);
  connection.stage = Stage::tls;
  connection.version = client->version();
  connection.cipher = client->cipher();
  connection.chain = client->chain();
  quit();
  return connection;
}

void connect_to_all(Live& live) {
  struct Target {
    const HostDecision* host;
    const std::string* address;
  };
  std::vector<Target> targets;
  for (const HostDecision& host : live.decision.hosts) {
    if (host.tls == Tls::skip) continue;
    for (const std::string& address : host.addresses) {
      if (targets.size() < most_connections) targets.push_back({&host, &address});
    }
  }
  const smtp::TlsContext context(smtp::Versions::any);  // to be able to say which version there is
  live.connections.resize(targets.size());
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t i = next++; i < targets.size(); i = next++) {
      const auto& [host, address] = targets[i];
      live.connections[i] = probe(host->host, *address, live.decision.port, host->sni, context);
    }
  };
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < std::min(at_once, targets.size()); ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

Live look(const Config& config, const Question& question, Millis wait) {
  Live live;
  look_up(config, question, wait, live);
  connect_to_all(live);
  return live;
}

}  // namespace sealane::check
