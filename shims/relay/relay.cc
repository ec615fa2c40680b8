#include "shims/relay/relay.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <set>
#include <system_error>

#include "core/base/bytes.h"
#include "shims/agent/stderr_log.h"
#include "shims/agent/systemd.h"
#include "shims/relay/context.h"
#include "shims/relay/session.h"

namespace sealane::relay {
namespace {

constexpr int backlog = 1024;
constexpr Seconds last_words{25};     // for deliveries under way when we are told to stop
constexpr int first_handed_over = 3;  // sd_listen_fds(3)
constexpr int full_port_pause_ms = 10;
constexpr int accept_pause_ms = 100;  // when descriptors or threads have run out

Result<std::set<uid_t>> user_ids(const std::vector<std::string>& names) {
  std::set<uid_t> ids;
  std::string unknown;
  for (const std::string& name : names) {
    uid_t id = 0;
    const auto [at, error] = std::from_chars(name.data(), name.data() + name.size(), id);
    if (error == std::errc{} && at == name.data() + name.size()) {
      ids.insert(id);
    } else if (const passwd* user = ::getpwnam(name.c_str()); user != nullptr) {
      ids.insert(user->pw_uid);
    } else {
      unknown = name;
    }
  }
  if (ids.empty()) {
    return failure("there is no user " + printable(unknown), "relay_users", "name the user of the mail server");
  }
  return ids;
}

Result<std::shared_ptr<Context>> make_context(const std::string& config_path, const LogSink& log) {
  auto config = load_config(config_path);
  if (!config) return tl::make_unexpected(config.error());
  auto verifier = make_openssl_verifier(config->ca_file);
  if (!verifier) return tl::make_unexpected(verifier.error());
  auto context = std::make_shared<Context>(std::move(*config), log);
  context->hello = context->config.relay_hello.empty() ? smtp::machine_name() : context->config.relay_hello;
  context->verifier = std::move(*verifier);
  return context;
}

Result<int> listen_on(std::uint16_t port) {
  const auto fail = [port](const char* what) {
    return failure(std::string(what) + ": " + std::strerror(errno), "127.0.0.1:" + std::to_string(port),
                   "see relay_ports in sealane.conf(5)");
  };
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return fail("cannot make a socket");
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in here{};
  here.sin_family = AF_INET;
  here.sin_port = htons(port);
  here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&here), sizeof here) != 0 || ::listen(fd, backlog) != 0) {
    const auto why = fail("cannot listen");
    ::close(fd);
    return why;
  }
  return fd;
}

// The sockets that systemd keeps open while we restart: port -> descriptor; none if it handed over none.
Result<std::map<std::uint16_t, int>> handed_over() {
  std::map<std::uint16_t, int> sockets;
  const char* pid = ::getenv("LISTEN_PID");
  const char* count = ::getenv("LISTEN_FDS");
  if (pid == nullptr || count == nullptr || std::to_string(::getpid()) != pid) return sockets;
  const int end = first_handed_over + std::atoi(count);
  for (int fd = first_handed_over; fd < end; ++fd) {
    sockaddr_in here{};
    socklen_t size = sizeof here;
    int listening = 0;
    socklen_t option = sizeof listening;
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&here), &size) != 0 || here.sin_family != AF_INET ||
        here.sin_addr.s_addr != htonl(INADDR_LOOPBACK) ||
        ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &option) != 0 || listening != 1 ||
        ::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || ::fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
      return failure("what the socket unit hands over is no TCP socket that listens on 127.0.0.1", "LISTEN_FDS");
    }
    sockets[ntohs(here.sin_port)] = fd;
  }
  ::unsetenv("LISTEN_PID");
  ::unsetenv("LISTEN_FDS");
  ::unsetenv("LISTEN_FDNAMES");
  return sockets;
}

class Relay {
 public:
  explicit Relay(const LogSink& log) : log_(log) {}

  int run(const std::string& config_path) {
    auto context = make_context(config_path, log_);
    if (!context) return stop(context.error(), EX_CONFIG);
    context_ = std::move(*context);
    auto users = user_ids(context_->config.relay_users);
    if (!users) return stop(users.error(), EX_CONFIG);
    users_ = std::move(*users);
    auto journal = Journal::open(context_->config.relay_state, log_, context_->clock.wall());
    if (!journal) return stop(journal.error(), EX_CANTCREAT);
    context_->journal = std::move(*journal);
    if (auto listening = listen(); !listening) return stop(listening.error(), EX_UNAVAILABLE);
    serve_all();
    return EX_OK;
  }

 private:
  int stop(const Error& error, int status) {
    log_(Level::error, error.text());
    return status;
  }

  Result<void> listen() {
    auto sockets = handed_over();
    if (!sockets) return tl::make_unexpected(sockets.error());
    for (unsigned port = context_->config.relay_first_port; port <= context_->config.relay_last_port; ++port) {
      const auto found = sockets->find(static_cast<std::uint16_t>(port));
      auto fd = found != sockets->end() ? Result<int>(found->second) : listen_on(static_cast<std::uint16_t>(port));
      if (!fd) return tl::make_unexpected(fd.error());
      watched_.push_back({*fd, POLLIN, 0});
    }
    ports_ = std::vector<Port>(watched_.size());
    return {};
  }

  void serve_all() {
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    ::pthread_sigmask(SIG_BLOCK, &ends, nullptr);  // threads inherit it
    ::signal(SIGPIPE, SIG_IGN);
    const int signals = ::signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
    watched_.push_back({context_->connections.timer(), POLLIN, 0});
    watched_.push_back({signals, POLLIN, 0});
    rlimit files{};
    if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
      files.rlim_cur = files.rlim_max;
      ::setrlimit(RLIMIT_NOFILE, &files);
    }
    log_(Level::notice, "the relay is ready at 127.0.0.1, ports " + std::to_string(context_->config.relay_first_port) +
                            " to " + std::to_string(context_->config.relay_last_port) + "; " +
                            std::to_string(context_->journal->size()) + " deliveries remembered");
    agent::notify_systemd("READY=1");
    while (watched_.back().revents == 0) {
      if (::poll(watched_.data(), watched_.size(), look_at_ports()) < 0) continue;
      for (std::size_t i = 0; i < ports_.size(); ++i) {
        if (watched_[i].revents != 0) take_some(watched_[i].fd, ports_[i]);
      }
      if (watched_[ports_.size()].revents != 0) context_->connections.end_old(context_->clock.mono());
    }
    agent::notify_systemd("STOPPING=1");
    for (const pollfd& one : watched_) ::close(one.fd);
    const MonoTime until = context_->clock.mono() + last_words;
    if (!context_->deliveries.drain(until)) {
      log_(Level::warning, "deliveries are still under way; their mail will be sent again if it was not taken");
    }
    // What else a session waits for is its client's next word, which it will not get.
    log_(Level::notice, "the relay ends");
    ::_exit(EX_OK);  // threads of sessions still use what a return would destroy
  }

  // Ports with no room are left out of the next poll(2), which must not take longer than what is given back.
  int look_at_ports() {
    const MonoTime now = context_->clock.mono();
    int bound = -1;
    for (std::size_t i = 0; i < ports_.size(); ++i) {
      const bool open = ports_[i].room(now) > 0;
      watched_[i].events = open ? POLLIN : 0;
      if (!open) bound = full_port_pause_ms;
    }
    return bound;
  }

  void take_some(int listener, Port& port) {
    for (unsigned room = port.room(context_->clock.mono()); room > 0; --room) {
      const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) {
        if (errno == EINTR || errno == ECONNABORTED) continue;
        if (errno != EAGAIN) ::poll(nullptr, 0, accept_pause_ms);
        return;
      }
      if (!context_->sessions.take(context_->clock.mono())) {
        constexpr std::string_view full = "421 4.3.2 too many sessions\r\n";
        (void)!::send(fd, full.data(), full.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        ::close(fd);
        continue;
      }
      port.begin_session(context_->clock.mono());
      const bool begun = context_->workers.run([context = context_, fd, users = users_, &port] {
        serve(context, fd, users, port);
        port.end_session(context->clock.mono());
        context->sessions.give_back();
      });
      if (!begun) {
        port.end_session(context_->clock.mono());
        context_->sessions.give_back();
        ::close(fd);
        ::poll(nullptr, 0, accept_pause_ms);
      }
    }
  }

  const LogSink log_;
  std::shared_ptr<Context> context_;
  std::set<uid_t> users_;
  std::vector<Port> ports_;      // of the listeners
  std::vector<pollfd> watched_;  // listeners, the timer of kept connections, and last the descriptor of signals
};

}  // namespace

Result<void> check(const std::string& config_path) {
  const auto context = make_context(config_path, [](Level, const std::string&) {});
  if (!context) return tl::make_unexpected(context.error());
  const auto users = user_ids((*context)->config.relay_users);
  if (!users) return tl::make_unexpected(users.error());
  return {};
}

int run(const std::string& config_path) {
  // Each of hundreds of threads would keep what it had once.
  ::mallopt(M_ARENA_MAX, 2);
  return Relay(agent::stderr_log(Level::info)).run(config_path);
}

}  // namespace sealane::relay
