// `sealane cache`: list, show and export read the file, which root and its owner may; purge and import are done by the
// agent where one answers, and by this process where none does and the file is ours to write.
#include <unistd.h>

#include <string>

#include "core/config/config.h"
#include "core/engine/engine.h"
#include "core/render/render.h"
#include "core/store/store.h"
#include "shims/cli/cli.h"
#include "shims/cli/local.h"
#include "shims/wire/client.h"

namespace sealane::cli {
namespace {

constexpr int admin_ms = 30000;
constexpr std::size_t longest_import = 1U << 30U;

// Mode and the end of the policy's life, as of now.
std::string summary(const sts::PolicyState& state, const sts::Moment& now) {
  const sts::PolicyState as_now = sts::as_of(state, now);
  if (!as_now.policy) return "none  " + (state.error.empty() ? std::string("-") : shown(state.error));
  const auto policy = sts::parse_policy(as_now.policy->body);
  if (!policy) return "damaged";
  const bool in_force = sts::in_force(*as_now.policy, *policy, now.wall);
  return to_text(policy->mode) + "  id " + shown(as_now.policy->id) + (in_force ? "  until " : "  expired ") +
         rfc3339(sts::expires(*as_now.policy, *policy, now.wall));
}

sts::Moment moment_of(const PolicyStore& store) {
  const WallTime wall = SystemClock().wall();
  const auto last = store.last_entry();
  return {wall, last ? sts::resume(*last, wall) : sts::steady_start(wall)};
}

Status list(StoreFile& store, bool as_json) {
  const sts::Moment now = moment_of(store);
  Status status = ok;
  const auto done = store.each([&](const std::string& name, const Result<sts::PolicyState>& state) {
    if (!state) {
      complain(state.error());
      status = worse(status, bad_data);
      return true;
    }
    if (!as_json) {
      print(shown(name) + "  " + summary(*state, now) + "\n");
    } else if (state->policy) {
      print(policy_record_json(Domain::parse(name).value(), sts::as_of(*state, now)) + "\n");
    }
    return true;
  });
  if (!done) complain(done.error());
  return done ? status : io_error;
}

// How connections ended, a day, mechanism, host and result a line: what RFC 8460 §4 reports.
void show_outcomes(const std::vector<TlsOutcome>& outcomes) {
  for (const TlsOutcome& outcome : outcomes) {
    const auto reason = reason_from_text(outcome.result);
    const std::string type(reason ? describe(*reason).result_type : "");
    print("  " + rfc3339(outcome.last).substr(0, 10) + "  " + shown(outcome.mechanism) + "  " + shown(outcome.host) +
          "  " + shown(outcome.result) + (type.empty() ? "" : " (" + type + ")") + "  " +
          std::to_string(outcome.attempts) + "  last " + rfc3339(outcome.last) + ", told by uid " +
          std::to_string(outcome.teller) + (outcome.detail.empty() ? "" : ": " + shown(outcome.detail)) + "\n");
  }
}

Status show(StoreFile& store, const std::vector<std::string>& names) {
  const sts::Moment now = moment_of(store);
  Status status = ok;
  const auto fail = [&status](const Error& error, Status with) {
    complain(error);
    status = worse(status, with);
  };
  for (const std::string& name : names) {
    const auto domain = Domain::parse(name);
    if (!domain) {
      fail(domain.error(), bad_data);
      continue;
    }
    const auto state = store.load(*domain);
    if (!state) {
      fail(state.error(), io_error);
      continue;
    }
    const auto outcomes = store.outcomes(*domain);
    if (!outcomes) {
      fail(outcomes.error(), io_error);
      continue;
    }
    if (!state->policy && state->attempted == WallTime{} && outcomes->empty()) {
      fail({"nothing is stored of it", domain->text(), ""}, finding);
      continue;
    }
    const sts::PolicyState seen = sts::as_of(*state, now);
    print(domain->text() + "  " + summary(*state, now) + "\n");
    if (seen.attempted != WallTime{}) {
      print("  last fetch " + rfc3339(seen.attempted) + (seen.error.empty() ? "" : ", failed: " + shown(seen.error)) +
            "\n");
    }
    if (seen.refresh != SteadyTime{}) print("  refreshed  " + rfc3339(now.wall + (seen.refresh - now.steady)) + "\n");
    show_outcomes(*outcomes);
    if (!seen.policy) continue;
    print("  fetched    " + rfc3339(seen.policy->fetched) + "\n");
    for (std::string_view line : lines_of(seen.policy->body)) {
      if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
      print("    " + shown(std::string(line)) + "\n");
    }
  }
  return status;
}

// Orders to the agent, or to an engine of our own that looks nothing up.
class Orders {
 public:
  explicit Orders(Config config) : config_(std::move(config)) {
    std::string error;
    by_agent_ = agent_.open(config_.admin_socket, wire::Deadline(2000), error);
    std::string nobody;
    wire::Connection other;
    if (!by_agent_ && other.open(config_.socket, wire::Deadline(2000), nobody)) {
      refused_ = Error{"an agent runs, but its administrator's socket does not answer: " + error, config_.admin_socket,
                       "run this as root"};
    }
  }

  Status give(const wire::Request& request) {
    if (refused_) return fail(*refused_, unreachable);
    return by_agent_ ? give_agent(request) : give_here(request);
  }

 private:
  static Status fail(const Error& error, Status status) {
    complain(error);
    return status;
  }
  Status give_agent(const wire::Request& request) {
    const wire::Deadline deadline(admin_ms);
    std::string error;
    const bool sent = agent_.send(wire::write_request(request), deadline, error);
    const auto line = sent ? agent_.receive(deadline, error) : std::nullopt;
    if (!line) return fail({error, config_.admin_socket, "is it running?"}, unreachable);
    const auto reply = wire::parse_reply(*line);
    if (!reply || reply->status != wire::Status::ok) {
      return fail({reply ? reply->text : "the agent does not understand", "", ""}, finding);
    }
    print(shown(reply->text) + "\n");
    return ok;
  }
  Status give_here(const wire::Request& request) {
    if (!engine_) {
      if (store_use(config_.store) != StoreUse::read_write) {
        return fail({"no agent answers, and only its owner may change it", config_.store, "start the agent"},
                    no_permission);
      }
      const LogSink quiet = [](Level level, const std::string& line) {
        if (level == Level::error) complain({line, "", ""});
      };
      engine_.emplace(loop_, config_, make_adapters(loop_, config_, StoreUse::read_write, quiet), quiet);
    }
    Status status = bug;
    const auto told = [&status](const Result<std::string>& done) {
      if (done) print(shown(*done) + "\n");
      status = done ? ok : fail(done.error(), finding);
    };
    if (request.verb == wire::Verb::purge) {
      engine_->purge(Domain::parse(request.domain).value(), request.force, told);
    } else if (const auto record = policy_record_from_json(request.record)) {
      engine_->import_policy(record->domain, record->state, request.force, told);
    } else {
      told(tl::make_unexpected(record.error()));
    }
    return status;
  }

  Config config_;
  wire::Connection agent_;
  bool by_agent_ = false;
  std::optional<Error> refused_;
  Loop loop_;
  std::optional<Engine> engine_;
};

Status purge(const Config& config, const CacheOptions& options) {
  Orders orders(config);
  Status status = ok;
  for (const std::string& name : options.arguments) {
    const auto domain = Domain::parse(name);
    if (!domain) {
      complain(domain.error());
      status = worse(status, bad_data);
      continue;
    }
    wire::Request request;
    request.verb = wire::Verb::purge;
    request.domain = domain->text();
    request.force = options.force;
    status = worse(status, orders.give(request));
  }
  return status;
}

Status import_file(const Config& config, const CacheOptions& options) {
  const auto text = read_input(options.arguments.front(), longest_import);
  if (!text) {
    complain(text.error());
    return io_error;
  }
  Orders orders(config);
  Status status = ok;
  for (const std::string_view line : lines_of(*text)) {
    if (line.empty()) continue;
    wire::Request request;
    request.verb = wire::Verb::import_policy;
    request.record = line;
    request.force = options.force;
    if (const auto record = policy_record_from_json(request.record); !record) {
      complain(record.error());
      status = worse(status, bad_data);
      continue;
    }
    status = worse(status, orders.give(request));
    if (status == unreachable || status == no_permission) return status;
  }
  return status;
}

Status restore(const Config& config) {
  wire::Connection agent;
  std::string error;
  if (agent.open(config.socket, wire::Deadline(2000), error)) {
    complain({"an agent is running", config.socket, "stop it first, and its socket unit"});
    return unreachable;
  }
  const auto aside = restore_store(config.store);
  if (!aside) {
    complain(aside.error());
    return io_error;
  }
  print(config.store + ": as in the backup" + (aside->empty() ? "" : "; what was there is " + *aside) + "\n");
  return ok;
}

}  // namespace

Status cache(const CacheOptions& options) {
  using What = CacheOptions::What;
  const auto config = configured(options.config);
  if (!config) return bad_config;
  if (options.what == What::purge) return purge(*config, options);
  if (options.what == What::import_file) return import_file(*config, options);
  if (options.what == What::restore) return restore(*config);
  auto store = open_sqlite_store(config->store, {});
  if (!store) {
    complain(store.error());
    return ::access(config->store.c_str(), R_OK) != 0 && errno == EACCES ? no_permission : io_error;
  }
  if (options.what == What::show) return show(**store, options.arguments);
  return list(**store, options.what == What::export_all);
}

}  // namespace sealane::cli
