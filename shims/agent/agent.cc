#include "shims/agent/agent.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/loop.h"
#include "core/engine/engine.h"
#include "core/verify/verifier.h"
#include "shims/agent/listener.h"
#include "shims/agent/stderr_log.h"
#include "shims/agent/systemd.h"
#include "shims/agent/verbs.h"

namespace sealane::agent {
namespace {

// Everything that a configuration names and that must be good, or the agent does not start with it.
struct Checked {
  Config config;
  std::unique_ptr<Verifier> verifier;
};

Result<Checked> read_and_check(const std::string& config_path) {
  auto config = load_config(config_path);
  if (!config) return tl::make_unexpected(config.error());
  if (auto anchor = check_trust_anchor(config->trust_anchor); !anchor) return tl::make_unexpected(anchor.error());
  auto verifier = make_openssl_verifier(config->ca_file);
  if (!verifier) return tl::make_unexpected(verifier.error());
  return Checked{std::move(*config), std::move(*verifier)};
}

// `ready`: called once it is known whether name servers and trust anchor are good, perhaps before this returns.
Result<std::unique_ptr<Backend>> make_backend(Loop& loop, const std::string& config_path, const LogSink& log,
                                              std::function<void()> ready) {
  auto checked = read_and_check(config_path);
  if (!checked) return tl::make_unexpected(checked.error());
  Adapters adapters = make_adapters(loop, checked->config, StoreUse::agent, log);
  if (adapters.ca_fault) return failure(adapters.ca_fault->text);
  adapters.make_resolver = [make = std::move(adapters.make_resolver), ready = std::move(ready)]() mutable {
    auto resolver = make();
    if (ready) resolver->when_ready(std::exchange(ready, nullptr));
    return resolver;
  };
  // A fault of the store stops only what depends on the store: DANE needs none.
  if (adapters.store_fault) log(Level::error, adapters.store_fault->text);

  auto backend = std::make_unique<Backend>();
  backend->clock = adapters.clock;
  backend->verifier = std::move(checked->verifier);
  backend->engine = std::make_unique<Engine>(loop, checked->config, std::move(adapters), log);
  backend->config = std::move(checked->config);
  return backend;
}

std::string monotonic_usec() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::to_string(static_cast<long long>(now.tv_sec) * 1000000 + now.tv_nsec / 1000);
}

// What a configuration names and what may change behind it. Looked at, not watched: the files may be links into folders
// that come and go.
class NamedFiles {
 public:
  explicit NamedFiles(const Config& config) {
    for (const std::string& path :
         {config.resolv_conf, config.trust_anchor, config.ca_file.value_or("/etc/ssl/certs/ca-certificates.crt")}) {
      if (!path.empty()) seen_.emplace_back(path, state_of(path));
    }
  }
  // The first that is not as it was, once.
  std::optional<std::string> changed() {
    for (auto& [path, before] : seen_) {
      State now = state_of(path);
      if (now == before) continue;
      before = now;
      return path;
    }
    return std::nullopt;
  }

 private:
  using State = std::array<long long, 5>;
  static State state_of(const std::string& path) {
    struct stat file {};
    if (::stat(path.c_str(), &file) != 0) return {};
    return {static_cast<long long>(file.st_dev), static_cast<long long>(file.st_ino), file.st_size, file.st_mtim.tv_sec,
            file.st_mtim.tv_nsec};
  }
  std::vector<std::pair<std::string, State>> seen_;
};

constexpr Millis look_at_files{1000};
constexpr Millis tell_outcomes{60000};

// As many descriptors as clients, lookups and fetches may take.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 65536);
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

class Agent {
 public:
  Agent(std::string config_path, const LogSink& log) : config_path_(std::move(config_path)), log_(log), verbs_(log) {}

  int run();

 private:
  Result<int> open_socket();
  void serve();
  void serve_administrator();
  Result<void> reload();
  void look_after_files();
  void feed_watchdog(Millis interval);
  void record_outcomes();
  void retire(std::unique_ptr<Backend> backend);

  std::string config_path_;
  LogSink log_;
  Loop loop_;
  Verbs verbs_;
  std::unique_ptr<Backend> backend_;
  // Backends that were replaced, while their questions are still being answered.
  std::map<const Backend*, std::pair<std::unique_ptr<Backend>, Loop::Timer>> retired_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Listener> admin_listener_;
  std::string admin_path_;  // empty: there is none
  std::optional<NamedFiles> files_;
  Loop::Timer files_timer_, watchdog_timer_, outcomes_timer_;
  int socket_ = -1;              // until the listener takes it over
  std::string own_socket_path_;  // empty: the socket is systemd's
  int status_ = EX_OK;
};

Result<int> Agent::open_socket() {
  auto handed_over = socket_from_systemd();
  if (!handed_over) return tl::make_unexpected(handed_over.error());
  if (*handed_over) return **handed_over;
  auto fd = listen_at(backend_->config.socket);
  if (fd) own_socket_path_ = backend_->config.socket;
  return fd;
}

int Agent::run() {
  ::signal(SIGPIPE, SIG_IGN);  // libraries write to connections that others close
  const auto stop = [this] { loop_.stop(); };
  const auto on_term = loop_.on_signal(SIGTERM, stop);
  const auto on_int = loop_.on_signal(SIGINT, stop);
  const auto on_hup = loop_.on_signal(SIGHUP, [this] { (void)reload(); });
  raise_descriptor_limit();

  auto backend = make_backend(loop_, config_path_, log_, [this] { loop_.soon([this] { serve(); }); });
  if (!backend) {
    log_(Level::error, backend.error().text());
    return EX_CONFIG;
  }
  backend_ = std::move(*backend);
  verbs_.use(*backend_);
  const auto fd = open_socket();
  if (!fd) {
    log_(Level::error, fd.error().text());
    const auto directory = std::filesystem::path(backend_->config.socket).parent_path();
    return ::access(directory.c_str(), W_OK) != 0 && errno == EACCES ? EX_NOPERM : EX_IOERR;
  }
  socket_ = *fd;
  loop_.run();

  notify_systemd("STOPPING=1");
  listener_.reset();
  admin_listener_.reset();
  verbs_.record_outcomes();
  if (!admin_path_.empty()) ::unlink(admin_path_.c_str());
  if (!own_socket_path_.empty()) ::unlink(own_socket_path_.c_str());
  log_(Level::notice, "stopped");
  return status_;
}

// The resolver knows what it has. Clients that came meanwhile are waiting in the socket.
void Agent::serve() {
  const auto fault = backend_->engine->fault();
  if (fault && fault->reason == Reason::trust_anchor) {
    log_(Level::error, fault->text);
    ::close(socket_);
    status_ = EX_CONFIG;
    return loop_.stop();
  }
  listener_ = std::make_unique<Listener>(
      loop_, socket_, ListenerLimits{},
      [this](const wire::Request& request, const Peer& peer, Listener::Answer answer) {
        verbs_.handle(request, peer, std::move(answer));
      },
      log_);
  log_(Level::notice, own_socket_path_.empty() ? "listening on the socket that systemd handed over"
                                               : "listening on " + own_socket_path_);
  serve_administrator();
  files_.emplace(backend_->config);
  look_after_files();
  record_outcomes();
  notify_systemd("READY=1");
  if (const auto interval = watchdog_interval()) feed_watchdog(*interval);
}

// Root's, and of the user that could write the store anyway. Not vital: the mail flows without it.
void Agent::serve_administrator() {
  const std::string& path = backend_->config.admin_socket;
  const auto fd = listen_at(path, 0600);
  if (!fd) return log_(Level::warning, "no socket for the administrator: " + fd.error().text());
  admin_path_ = path;
  admin_listener_ = std::make_unique<Listener>(
      loop_, *fd, ListenerLimits{},
      [this](const wire::Request& request, const Peer& peer, const Listener::Answer& answer) {
        if (peer.uid != 0 && peer.uid != ::geteuid()) return answer({wire::Status::err, "", "for root alone"});
        verbs_.administer(request, answer, [this] { return reload(); });
      },
      log_);
}

void Agent::look_after_files() {
  files_timer_ = loop_.after(look_at_files, [this] {
    if (const auto path = files_->changed()) {
      log_(Level::notice, *path + " has changed");
      (void)reload();
    }
    look_after_files();
  });
}

// From the loop: it is fed only while that turns.
void Agent::feed_watchdog(Millis interval) {
  notify_systemd("WATCHDOG=1");
  watchdog_timer_ = loop_.after(interval, [this, interval] { feed_watchdog(interval); });
}

void Agent::record_outcomes() {
  verbs_.record_outcomes();
  outcomes_timer_ = loop_.after(tell_outcomes, [this] { record_outcomes(); });
}

Result<void> Agent::reload() {
  if (!listener_) return failure("still starting");
  notify_systemd("RELOADING=1\nMONOTONIC_USEC=" + monotonic_usec());
  auto fresh = make_backend(loop_, config_path_, log_, nullptr);
  if (!fresh) {
    log_(Level::error, "not reloaded, the old configuration stays: " + fresh.error().text());
    notify_systemd("READY=1");
    return tl::make_unexpected(fresh.error());
  }
  if ((*fresh)->config.socket != backend_->config.socket) {
    log_(Level::warning, "`socket` has changed: this takes a restart");
  }
  if ((*fresh)->config.admin_socket != backend_->config.admin_socket) {
    log_(Level::warning, "`admin_socket` has changed: this takes a restart");
  }
  (*fresh)->engine->take_over(*backend_->engine);
  verbs_.use(**fresh);
  files_.emplace((*fresh)->config);
  retire(std::exchange(backend_, std::move(*fresh)));
  log_(Level::notice, "reloaded");
  notify_systemd("READY=1");
  return {};
}

// Engine::ask answers within config.timeout, and a fetch that is under way is not thrown away.
void Agent::retire(std::unique_ptr<Backend> backend) {
  const Backend* const key = backend.get();
  const Millis life = std::max(backend->config.timeout, backend->config.https_timeout) + Seconds{1};
  retired_[key] = {std::move(backend), loop_.after(life, [this, key] { retired_.erase(key); })};
}

}  // namespace

Result<void> check(const std::string& config_path) {
  const auto checked = read_and_check(config_path);
  if (!checked) return tl::make_unexpected(checked.error());
  return {};
}

int run(const std::string& config_path) { return Agent(config_path, stderr_log(Level::info)).run(); }

Result<void> check_trust_anchor(const std::string& path) {
  const std::string remedy = "install dns-root-data, or set trust_anchor to a file with the root's key";
  std::ifstream file(path);
  if (!file) return failure(std::string("no trust anchor: ") + std::strerror(errno), path, remedy);
  // Presentation form: ". 86400 IN DNSKEY 257 3 8 …" or ". IN DS 20326 8 2 …"; comments begin with ";".
  std::string line;
  for (int lines = 0; lines < 1000 && std::getline(file, line); ++lines) {
    line.resize(std::min(line.find(';'), line.size()));
    const std::size_t start = line.find_first_not_of(" \t");
    if (start == std::string::npos || line[start] != '.') continue;
    if (line.find("DNSKEY") != std::string::npos || line.find("DS") != std::string::npos) return {};
  }
  return failure("no trust anchor: no DNSKEY or DS record of the root in it", path, remedy);
}

}  // namespace sealane::agent
