#include "sealane.h"

#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/loop.h"
#include "core/config/config.h"
#include "core/engine/engine.h"
#include "core/render/render.h"
#include "core/verify/verifier.h"
#include "guard.h"

using sealane::guarded;

// A loop and an engine of its own for each context: contexts share nothing.
struct sealane_ctx {
  pid_t owner = getpid();
  std::string error;
  // In this order: the engine stands on the loop. Both empty: the context could not be opened.
  std::unique_ptr<sealane::Loop> loop;
  std::unique_ptr<sealane::Engine> engine;
  sealane::Millis timeout{};
};

// All text is made once, so that it can be borrowed for the life of the handle.
struct sealane_decision {
  std::shared_ptr<const sealane::Reply> reply;
  std::string action, reason, text, mechanism, others, json, token;
  struct Host {
    std::string tls, reason;
  };
  std::vector<Host> hosts;
};

struct sealane_demand {
  pid_t owner = getpid();
  sealane::Demands demands;
  std::unique_ptr<sealane::Verifier> verifier;
};

struct sealane_verdict {
  sealane::Verdict verdict;
  std::string reason;
};

namespace {

constexpr std::uint32_t abi_version = 0x000100;

int fail(sealane_ctx& ctx, int status, std::string text) {
  ctx.error = std::move(text);
  return status;
}

// Libunbound, libcurl, sqlite and OpenSSL need not survive a fork; a child would also share sockets with its parent.
bool forked(pid_t owner) { return owner != getpid(); }

int open(const char* config_path, sealane_ctx& ctx) {
  auto config = sealane::load_config(config_path == nullptr ? "" : config_path);
  if (!config) return fail(ctx, SEALANE_E_CONFIG, config.error().text());
  auto loop = std::make_unique<sealane::Loop>();
  // A library writes no log; what matters is in the decisions.
  auto adapters = sealane::make_adapters(*loop, *config, sealane::StoreUse::read_write, {});
  if (adapters.ca_fault) return fail(ctx, SEALANE_E_CONFIG, adapters.ca_fault->text);
  ctx.timeout = config->timeout;
  auto engine = std::make_unique<sealane::Engine>(*loop, std::move(*config), std::move(adapters), nullptr);
  // A wrong clock, resolver or store may mend while we run: then decisions say so. A missing trust anchor may not.
  if (const auto fault = engine->fault(); fault && fault->reason == sealane::Reason::trust_anchor) {
    return fail(ctx, SEALANE_E_CONFIG, fault->text);
  }
  ctx.loop = std::move(loop);
  ctx.engine = std::move(engine);
  return SEALANE_OK;
}

// Null where the loop ended without an answer.
std::shared_ptr<const sealane::Reply> ask(sealane_ctx& ctx, const sealane::Question& question,
                                          sealane::Millis timeout) {
  // Shared: should the loop be left early, the engine may still answer in a later call.
  const auto answer = std::make_shared<std::shared_ptr<const sealane::Reply>>();
  ctx.engine->ask(question, timeout, [answer, loop = ctx.loop.get()](std::shared_ptr<const sealane::Reply> reply) {
    *answer = std::move(reply);
    loop->stop();
  });
  ctx.loop->run();
  return *answer;
}

std::unique_ptr<sealane_decision> present(std::shared_ptr<const sealane::Reply> reply) {
  auto shown = std::make_unique<sealane_decision>();
  const sealane::Decision& decision = reply->decision;
  shown->action = to_text(decision.action);
  shown->reason = to_text(decision.reason);
  shown->text = log_line(decision);
  shown->mechanism = to_text(decision.mechanism);
  shown->others = to_text(decision.others);
  shown->json = decision_json(decision);
  shown->token = write_token(demands_of(decision));
  for (const sealane::HostDecision& host : decision.hosts) {
    shown->hosts.push_back({std::string(to_text(host.tls)), std::string(to_text(host.reason))});
  }
  shown->reply = std::move(reply);
  return shown;
}

const sealane::HostDecision* host_at(const sealane_decision* d, std::size_t i) {
  return d != nullptr && i < d->hosts.size() ? &d->reply->decision.hosts[i] : nullptr;
}

}  // namespace

extern "C" {

uint32_t sealane_abi_version(void) { return abi_version; }

const char* sealane_strerror(int status) {
  switch (status) {
    case SEALANE_OK:
      return "success";
    case SEALANE_E_ARGUMENT:
      return "an argument is null, out of range or unknown";
    case SEALANE_E_CONFIG:
      return "the configuration, trust anchor or CA file cannot be used";
    case SEALANE_E_FORKED:
      return "the handle was made in another process; make a new one after fork()";
    case SEALANE_E_MEMORY:
      return "out of memory";
    case SEALANE_E_INTERNAL:
      return "a bug in libsealane";
    case SEALANE_E_TOKEN:
      return "this is not a demand token";
    default:
      return "unknown status";
  }
}

int sealane_open(const char* config, sealane_ctx** ctx) {
  if (ctx == nullptr) return SEALANE_E_ARGUMENT;
  *ctx = nullptr;
  return guarded([&] {
    auto opened = std::make_unique<sealane_ctx>();
    const int status = open(config, *opened);
    *ctx = opened.release();
    return status;
  });
}

void sealane_close(sealane_ctx* ctx) {
  if (ctx == nullptr) return;
  // In a forked child the engine's sockets, epoll and database are still the parent's: closing them properly would
  // disturb it, so they are left to the end of the child.
  if (forked(ctx->owner)) return;
  delete ctx;
}

const char* sealane_error(const sealane_ctx* ctx) { return ctx == nullptr ? "no context" : ctx->error.c_str(); }

int sealane_query(sealane_ctx* ctx, const char* name, unsigned flags, uint16_t port, unsigned timeout_ms,
                  sealane_decision** decision) {
  if (decision != nullptr) *decision = nullptr;
  if (ctx == nullptr) return SEALANE_E_ARGUMENT;
  return guarded([&] {
    ctx->error = sealane_strerror(SEALANE_E_INTERNAL);  // should an exception end this call
    if (forked(ctx->owner)) return fail(*ctx, SEALANE_E_FORKED, sealane_strerror(SEALANE_E_FORKED));
    if (!ctx->engine) return fail(*ctx, SEALANE_E_CONFIG, "the context could not be opened");
    if (name == nullptr || decision == nullptr) return fail(*ctx, SEALANE_E_ARGUMENT, "a null pointer");
    if (port == 0) return fail(*ctx, SEALANE_E_ARGUMENT, "port 0");
    constexpr unsigned known_flags = SEALANE_NO_MX | SEALANE_FRESH;
    if ((flags & ~known_flags) != 0) return fail(*ctx, SEALANE_E_ARGUMENT, "an unknown flag");

    const auto question =
        sealane::Question::parse(name, port, (flags & SEALANE_NO_MX) == 0, (flags & SEALANE_FRESH) != 0);
    auto reply = ask(*ctx, question, timeout_ms == 0 ? ctx->timeout : sealane::Millis{timeout_ms});
    if (!reply) return fail(*ctx, SEALANE_E_INTERNAL, "no answer");
    *decision = present(std::move(reply)).release();
    ctx->error.clear();
    return int{SEALANE_OK};
  });
}

const char* sealane_decision_action(const sealane_decision* d) { return d == nullptr ? "defer" : d->action.c_str(); }
const char* sealane_decision_reason(const sealane_decision* d) { return d == nullptr ? "" : d->reason.c_str(); }
const char* sealane_decision_text(const sealane_decision* d) { return d == nullptr ? "" : d->text.c_str(); }
const char* sealane_decision_domain(const sealane_decision* d) {
  return d == nullptr ? "" : d->reply->decision.domain.c_str();
}
const char* sealane_decision_mechanism(const sealane_decision* d) {
  return d == nullptr ? "none" : d->mechanism.c_str();
}
const char* sealane_decision_others(const sealane_decision* d) { return d == nullptr ? "skip" : d->others.c_str(); }
int64_t sealane_decision_expires(const sealane_decision* d) {
  return d == nullptr ? 0 : int64_t{d->reply->decision.expires.time_since_epoch().count()};
}
const char* sealane_decision_json(const sealane_decision* d) { return d == nullptr ? "" : d->json.c_str(); }
size_t sealane_decision_host_count(const sealane_decision* d) { return d == nullptr ? 0 : d->hosts.size(); }
void sealane_decision_free(sealane_decision* d) { delete d; }

const char* sealane_host_name(const sealane_decision* d, size_t i) {
  const auto* host = host_at(d, i);
  return host == nullptr ? nullptr : host->host.c_str();
}
const char* sealane_host_tls(const sealane_decision* d, size_t i) {
  return host_at(d, i) == nullptr ? nullptr : d->hosts[i].tls.c_str();
}
const char* sealane_host_sni(const sealane_decision* d, size_t i) {
  const auto* host = host_at(d, i);
  return host == nullptr ? nullptr : host->sni.c_str();
}
const char* sealane_host_tlsa_base(const sealane_decision* d, size_t i) {
  const auto* host = host_at(d, i);
  return host == nullptr ? nullptr : host->tlsa_base.c_str();
}
const char* sealane_host_reason(const sealane_decision* d, size_t i) {
  return host_at(d, i) == nullptr ? nullptr : d->hosts[i].reason.c_str();
}

int sealane_demand_write(const sealane_decision* d, const char** token) {
  if (token == nullptr) return SEALANE_E_ARGUMENT;
  *token = nullptr;
  if (d == nullptr) return SEALANE_E_ARGUMENT;
  *token = d->token.c_str();
  return SEALANE_OK;
}

int sealane_demand_read(const char* token, const char* config, sealane_demand** demand) {
  if (demand == nullptr) return SEALANE_E_ARGUMENT;
  *demand = nullptr;
  if (token == nullptr) return SEALANE_E_ARGUMENT;
  return guarded([&] {
    auto demands = sealane::read_token(token);
    if (!demands) return int{SEALANE_E_TOKEN};
    auto read = std::make_unique<sealane_demand>();
    const auto needs_ca = [](const sealane::Demand& host) { return host.tls == sealane::Tls::pkix; };
    if (std::any_of(demands->hosts.begin(), demands->hosts.end(), needs_ca)) {
      const auto settings = sealane::load_config(config == nullptr ? "" : config);
      if (!settings) return int{SEALANE_E_CONFIG};
      auto verifier = sealane::make_openssl_verifier(settings->ca_file);
      if (!verifier) return int{SEALANE_E_CONFIG};
      read->verifier = std::move(*verifier);
    } else {
      read->verifier = sealane::make_dane_verifier();
    }
    read->demands = std::move(*demands);
    *demand = read.release();
    return int{SEALANE_OK};
  });
}

void sealane_demand_free(sealane_demand* demand) { delete demand; }

int sealane_verify(const sealane_demand* demand, const char* host, const unsigned char* const der[], const size_t len[],
                   size_t n, sealane_verdict** verdict) {
  if (verdict == nullptr) return SEALANE_E_ARGUMENT;
  *verdict = nullptr;
  if (demand == nullptr || host == nullptr || (n != 0 && (der == nullptr || len == nullptr))) return SEALANE_E_ARGUMENT;
  if (forked(demand->owner)) return SEALANE_E_FORKED;
  return guarded([&] {
    std::vector<sealane::Bytes> chain;
    // One certificate too many is enough to be refused for it.
    for (size_t i = 0; i < std::min(n, sealane::max_chain + 1); ++i) {
      if (der[i] == nullptr) return int{SEALANE_E_ARGUMENT};
      chain.emplace_back(der[i], der[i] + len[i]);
    }
    auto judged = std::make_unique<sealane_verdict>();
    judged->verdict = verify_all(*demand->verifier, demand->demands, host, chain, sealane::SystemClock().wall());
    judged->reason = to_text(judged->verdict.reason);
    *verdict = judged.release();
    return int{SEALANE_OK};
  });
}

int sealane_verdict_ok(const sealane_verdict* v) { return v != nullptr && v->verdict.ok ? 1 : 0; }
const char* sealane_verdict_reason(const sealane_verdict* v) { return v == nullptr ? "" : v->reason.c_str(); }
const char* sealane_verdict_text(const sealane_verdict* v) { return v == nullptr ? "" : v->verdict.text.c_str(); }
void sealane_verdict_free(sealane_verdict* v) { delete v; }

}  // extern "C"
