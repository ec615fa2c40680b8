#include "shims/agent/listener.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <utility>

namespace sealane::agent {
namespace {

constexpr std::size_t read_size = 65536;
constexpr std::size_t output_bound = wire::longest_reply;  // no more requests are taken while this much waits
constexpr int backlog = 128;
constexpr int accepts_a_turn = 16;

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

struct Client {
  Client(int the_fd, Peer the_peer, MonoTime now) : fd(the_fd), peer(the_peer), progress(now) {}

  Fd fd;
  Peer peer;
  std::string in;
  std::size_t scanned = 0;                         // of `in`: holds no line end
  std::deque<std::optional<std::string>> replies;  // one for each open request, oldest first
  std::uint64_t first = 0;                         // number of the oldest
  std::string out;
  MonoTime progress;     // when a whole request last came, or a whole reply went
  bool at_end = false;   // the client sends no more
  bool closing = false;  // no more is read; closed once all is said
  bool failed = false;   // gone
  bool pumping = false;
  unsigned interest = 0;
  Loop::Watch watch;
  Loop::Timer timer;

  [[nodiscard]] bool idle() const { return replies.empty() && out.empty(); }
};

std::string errno_text() { return std::strerror(errno); }

}  // namespace

std::string Peer::text() const { return "pid " + std::to_string(pid) + " uid " + std::to_string(uid); }

struct Listener::Impl : std::enable_shared_from_this<Listener::Impl> {
  Impl(Loop& the_loop, int fd, ListenerLimits the_limits, Handler the_handler, LogSink the_log)
      : loop(the_loop),
        listening(fd),
        limits(the_limits),
        handler(std::move(the_handler)),
        log(the_log ? std::move(the_log) : [](Level, const std::string&) {}) {}

  void resume();
  void pause(Millis delay);
  void accept_some();
  bool make_room();
  void add(int fd);
  void pump(std::uint64_t id);
  void read(Client& client);
  void bound_input();
  void take_requests(std::uint64_t id, Client& client);
  void request(std::uint64_t id, Client& client, std::string_view line);
  void answer(std::uint64_t id, std::uint64_t number, const wire::Reply& reply);
  void refuse(Client& client, const std::string& why);
  void write(Client& client);
  void update(std::uint64_t id, Client& client);
  void arm(std::uint64_t id, Client& client, Millis delay);
  void out_of_patience(std::uint64_t id);
  [[nodiscard]] bool has_room(const Client& client) const {
    return !client.closing && !client.failed && client.replies.size() < limits.open_requests &&
           client.out.size() < output_bound;
  }

  Loop& loop;
  Fd listening;
  ListenerLimits limits;
  Handler handler;
  LogSink log;
  SystemClock clock;
  Loop::Watch accepting;
  Loop::Timer resuming;
  bool told = false;  // that descriptors have run out, once for each time
  std::uint64_t next_id = 1;
  std::map<std::uint64_t, Client> clients;
};

void Listener::Impl::resume() {
  resuming.reset();
  accepting = loop.watch(listening.get(), Loop::readable, [this](unsigned) { accept_some(); });
}

// The socket stays readable while nobody accepts: looking away is all that keeps the loop from spinning.
void Listener::Impl::pause(Millis delay) {
  accepting.reset();
  resuming = loop.after(delay, [this] { resume(); });
}

void Listener::Impl::accept_some() {
  for (int i = 0; i < accepts_a_turn; ++i) {
    if (clients.size() >= limits.clients && !make_room()) return pause(limits.retry);
    const int fd = ::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      told = false;
      add(fd);
    } else if (errno == EAGAIN) {
      return;
    } else if (errno != EINTR && errno != ECONNABORTED) {
      if (!std::exchange(told, true)) log(Level::error, "cannot accept a client: " + errno_text() + "; trying again");
      return pause(limits.retry);
    }
  }
}

// Drops the client that has been idle for longest.
bool Listener::Impl::make_room() {
  auto longest = clients.end();
  for (auto it = clients.begin(); it != clients.end(); ++it) {
    if (!it->second.idle() || clock.mono() - it->second.progress < limits.room_after) continue;
    if (longest == clients.end() || it->second.progress < longest->second.progress) longest = it;
  }
  if (longest == clients.end()) return false;
  clients.erase(longest);
  return true;
}

void Listener::Impl::add(int fd) {
  Peer peer;
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0) peer = {credentials.pid, credentials.uid};
  const std::uint64_t id = next_id++;
  Client& client = clients.try_emplace(id, fd, peer, clock.mono()).first->second;
  arm(id, client, limits.patience);
  update(id, client);
}

// All that can be done for a client now. The only place that removes one, but for make_room and patience.
void Listener::Impl::pump(std::uint64_t id) {
  const auto found = clients.find(id);
  if (found == clients.end() || found->second.pumping) return;
  Client& client = found->second;
  client.pumping = true;
  do {
    take_requests(id, client);
    while (!client.replies.empty() && client.replies.front()) {
      client.out += *client.replies.front();
      client.replies.pop_front();
      ++client.first;
    }
    write(client);
  } while (has_room(client) && client.in.find('\n', client.scanned) != std::string::npos);
  client.pumping = false;
  const bool done = client.idle() && (client.closing || (client.at_end && client.in.empty()));
  if (client.failed || done) {
    clients.erase(found);
  } else {
    update(id, client);
  }
}

void Listener::Impl::read(Client& client) {
  std::array<char, read_size> buffer;
  const ssize_t n = ::recv(client.fd.get(), buffer.data(), buffer.size(), 0);
  if (n > 0) {
    client.in.append(buffer.data(), static_cast<std::size_t>(n));
    if (client.in.size() > read_size) bound_input();  // those that are short come to little
  } else if (n == 0) {
    client.at_end = true;  // it may still read: `${readsocket}` shuts down its side after the request
  } else if (errno != EAGAIN && errno != EINTR) {
    client.failed = true;
  }
}

// A thousand clients that each begin a long request: the longest goes.
void Listener::Impl::bound_input() {
  std::size_t all = 0;
  Client* longest = nullptr;
  for (auto& [id, client] : clients) {
    all += client.in.size();
    if (longest == nullptr || client.in.size() > longest->in.size()) longest = &client;
  }
  if (all <= limits.input || longest == nullptr) return;
  log(Level::notice, "client " + longest->peer.text() + ": dropped: too much input is waiting");
  longest->in.clear();
  longest->scanned = 0;
  longest->closing = true;
  longest->failed = true;
}

void Listener::Impl::take_requests(std::uint64_t id, Client& client) {
  std::size_t start = 0;
  while (has_room(client)) {
    const std::size_t end = client.in.find('\n', std::max(start, client.scanned));
    const std::string_view rest = std::string_view(client.in).substr(start);
    if (end == std::string::npos) {
      client.scanned = client.in.size();
      if (rest.size() >= wire::longest_request(rest)) {
        refuse(client, "request too long");
      } else if (client.at_end && !rest.empty()) {
        refuse(client, "half a request");
      }
      break;
    }
    client.progress = clock.mono();
    request(id, client, rest.substr(0, end - start));
    start = end + 1;
    client.scanned = start;
  }
  client.in.erase(0, start);
  client.scanned -= std::min(client.scanned, start);
  if (client.closing) client.in.clear();
}

void Listener::Impl::request(std::uint64_t id, Client& client, std::string_view line) {
  std::string error;
  const auto parsed = wire::parse_request(line, error);
  if (!parsed) return refuse(client, error);
  const std::uint64_t number = client.first + client.replies.size();
  client.replies.emplace_back();
  handler(*parsed, client.peer, [weak = weak_from_this(), id, number](const wire::Reply& reply) {
    if (const auto self = weak.lock()) self->answer(id, number, reply);
  });
}

void Listener::Impl::answer(std::uint64_t id, std::uint64_t number, const wire::Reply& reply) {
  const auto found = clients.find(id);
  if (found == clients.end()) return;
  Client& client = found->second;
  if (number < client.first || number - client.first >= client.replies.size()) return;
  auto& slot = client.replies[static_cast<std::size_t>(number - client.first)];
  if (slot) return;
  slot = wire::write_reply(reply);
  if (reply.status == wire::Status::err) client.closing = true;
  pump(id);
}

// Earlier requests are still answered.
void Listener::Impl::refuse(Client& client, const std::string& why) {
  log(Level::notice, "client " + client.peer.text() + ": malformed request: " + why);
  client.replies.emplace_back(wire::write_reply({wire::Status::err, "", why}));
  client.closing = true;
}

void Listener::Impl::write(Client& client) {
  std::size_t sent = 0;
  while (sent < client.out.size() && !client.failed) {
    const ssize_t n = ::send(client.fd.get(), client.out.data() + sent, client.out.size() - sent, MSG_NOSIGNAL);
    if (n >= 0) {
      sent += static_cast<std::size_t>(n);
    } else if (errno == EAGAIN) {
      break;
    } else if (errno != EINTR) {
      client.failed = true;
    }
  }
  if (sent == 0) return;
  client.out.erase(0, sent);
  if (client.out.empty()) client.progress = clock.mono();
}

void Listener::Impl::update(std::uint64_t id, Client& client) {
  const unsigned interest =
      (has_room(client) && !client.at_end ? Loop::readable : 0U) | (client.out.empty() ? 0U : Loop::writable);
  if (interest == client.interest) return;
  client.interest = interest;
  client.watch.reset();
  if (interest == 0) return;
  client.watch = loop.watch(client.fd.get(), interest, [this, id](unsigned ready) {
    const auto found = clients.find(id);
    if (found == clients.end()) return;
    if ((ready & Loop::readable) != 0) read(found->second);
    pump(id);
  });
}

void Listener::Impl::arm(std::uint64_t id, Client& client, Millis delay) {
  client.timer = loop.after(delay, [this, id] { out_of_patience(id); });
}

void Listener::Impl::out_of_patience(std::uint64_t id) {
  const auto found = clients.find(id);
  if (found == clients.end()) return;
  Client& client = found->second;
  const auto waited = std::chrono::duration_cast<Millis>(clock.mono() - client.progress);
  const bool it_waits_for_us = !client.replies.empty() && client.out.empty();
  if (it_waits_for_us || waited < limits.patience) {
    return arm(id, client, it_waits_for_us ? limits.patience : limits.patience - waited);
  }
  if (!client.in.empty() || !client.out.empty()) {
    log(Level::notice, "client " + client.peer.text() + ": dropped: " +
                           (client.out.empty() ? "its request did not end" : "it does not read its answer"));
  }
  clients.erase(found);
}

Listener::Listener(Loop& loop, int fd, ListenerLimits limits, Handler handler, LogSink log)
    : impl_(std::make_shared<Impl>(loop, fd, limits, std::move(handler), std::move(log))) {
  impl_->resume();
}

Listener::~Listener() = default;

std::size_t Listener::clients() const { return impl_->clients.size(); }

namespace {

bool somebody_answers(const sockaddr_un& address) {
  const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (probe.get() < 0) return true;
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return true;
  return errno != ECONNREFUSED && errno != ENOENT;  // EAGAIN: its backlog is full
}

}  // namespace

Result<int> listen_at(const std::string& path, unsigned mode) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return failure("no possible name for a socket", path, "set `socket` to a shorter absolute path");
  }
  path.copy(address.sun_path, path.size());
  struct stat there {};
  if (::lstat(path.c_str(), &there) == 0) {
    if (!S_ISSOCK(there.st_mode)) return failure("is there and is no socket", path, "remove it or change `socket`");
    if (somebody_answers(address)) return failure("another agent answers there", path, "stop that one first");
    if (::unlink(path.c_str()) != 0) return failure("cannot remove the stale socket: " + errno_text(), path);
  }
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd.get() < 0) return failure("cannot make a socket: " + errno_text(), path);
  // Never open to all, not for an instant: who may connect may learn whom mail goes to, and make us look things up.
  const mode_t before = ::umask(static_cast<mode_t>(~mode & 0777U));
  const int bound = ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int bind_error = errno;
  ::umask(before);
  if (bound != 0) {
    return failure(std::string("cannot bind: ") + std::strerror(bind_error), path,
                   "its directory must exist and be writable by this user");
  }
  if (::listen(fd.get(), backlog) != 0) return failure("cannot listen: " + errno_text(), path);
  return fd.release();
}

}  // namespace sealane::agent
