// Requests to replies: the one place that knows what each verb does.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>

#include "core/base/log.h"
#include "core/config/config.h"
#include "core/engine/engine.h"
#include "core/verify/verifier.h"
#include "shims/agent/connections.h"
#include "shims/agent/listener.h"
#include "shims/agent/outcomes.h"
#include "shims/wire/codec.h"
#include "shims/wire/tls_words.h"

namespace sealane::agent {

// What a configuration comes to. Replaced as a whole by a reload.
struct Backend {
  Config config;
  std::shared_ptr<const Clock> clock;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<Verifier> verifier;
};

class Verbs {
 public:
  explicit Verbs(LogSink log);

  // From now on `backend` answers. It is borrowed; one that was in use before must live until its questions are
  // answered, which Engine::ask bounds. This object outlives them all.
  void use(Backend& backend) { backend_ = &backend; }

  // Tells the store how connections ended since the last call.
  void record_outcomes() { backend_->engine->record(outcomes_.take()); }

  void handle(const wire::Request& request, const Peer& peer, Listener::Answer answer);
  // The administrator's verbs. `reload`: reads the configuration again; why not, if it did not.
  void administer(const wire::Request& request, const Listener::Answer& answer,
                  const std::function<Result<void>()>& reload);

 private:
  void ask(const wire::Request& request, Listener::Answer answer);
  [[nodiscard]] wire::Reply verify(const wire::Request& request, const Peer& peer);
  [[nodiscard]] wire::Reply try_out(const wire::Request& request, const Peer& peer, const Demands& demands,
                                    const std::vector<Bytes>& chain);
  [[nodiscard]] wire::Reply event(const wire::Request& request, const Peer& peer);
  [[nodiscard]] wire::Reply gate(const wire::Request& request, const Peer& peer);
  [[nodiscard]] wire::Reply report(const wire::Request& request, const Peer& peer);
  // A connection to `host` ended so: counted, where something was demanded of it, or is tested.
  void count(const Demands& demands, std::string_view host, Reason reason, std::string_view detail, const Peer& peer);
  void suspect(const std::string& domain);

  LogSink log_;
  Backend* backend_ = nullptr;
  std::size_t open_questions_ = 0;
  Connections connections_;
  Outcomes outcomes_;
  // Domains of which a connection was refused: what is known of them is asked afresh the next time (RFC 8461 §5.1, and
  // the key may have been changed under RFC 7671 §8).
  std::set<std::string> suspects_;
};

// What the rules ask of a connection's TLS, beyond its certificates: TLS 1.2 or later and an encrypting suite that
// authenticates, for `dane` and `pkix` (RFC 8461 §7.2; RFC 7672 §8.2 on anonymous suites). Nothing: good, or not for us
// to say.
[[nodiscard]] std::optional<Verdict> judge_tls(const wire::TlsWords& tls, std::span<const Demand> demands);

}  // namespace sealane::agent
