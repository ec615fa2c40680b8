#include "shims/wire/client.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace sealane::wire {
namespace {

constexpr int connect_retry_ms = 10;
constexpr int longest_timeout_ms = 3600000;

long long now_ms() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<long long>(t.tv_sec) * 1000 + t.tv_nsec / 1000000;
}

bool connect_by(const Deadline& deadline, int fd, const sockaddr_un& address) {
  for (;;) {
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return true;
    // A Unix socket whose backlog is full says EAGAIN, and cannot be polled for room.
    if (errno != EAGAIN && errno != EINTR) return false;
    const int pause = std::min(connect_retry_ms, deadline.left_ms());
    if (pause == 0) {
      errno = ETIMEDOUT;
      return false;
    }
    ::poll(nullptr, 0, pause);
  }
}

std::string of_socket(const std::string& path, const char* what, int code = 0) {
  std::string text = path + ": " + what;
  if (code != 0) text += std::string(": ") + std::strerror(code);
  return text;
}

}  // namespace

Deadline::Deadline(int ms) : at_(now_ms() + std::clamp(ms, 0, longest_timeout_ms)) {}

int Deadline::left_ms() const { return static_cast<int>(std::max<long long>(0, at_ - now_ms())); }

bool Deadline::wait(int fd, short events) const {
  for (;;) {
    pollfd p{fd, events, 0};
    const int left = left_ms();
    if (left == 0) return false;
    const int n = ::poll(&p, 1, left);
    if (n > 0) return true;
    if (n < 0 && errno != EINTR) return true;  // the read or write that follows tells what is wrong
  }
}

Connection::~Connection() {
  if (fd_ >= 0) ::close(fd_);
}

bool Connection::open(const std::string& path, const Deadline& deadline, std::string& error) {
  path_ = path;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path || path.find('\0') != std::string::npos) {
    error = of_socket(path, "no possible name of a socket");
    return false;
  }
  path.copy(address.sun_path, path.size());
  fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd_ < 0) {
    error = of_socket(path, "cannot make a socket", errno);
    return false;
  }
  if (!connect_by(deadline, fd_, address)) {
    error = of_socket(path, "cannot reach the agent", errno);
    return false;
  }
  return true;
}

bool Connection::send(std::string_view line, const Deadline& deadline, std::string& error) {
  while (!line.empty()) {
    const ssize_t n = ::send(fd_, line.data(), line.size(), MSG_NOSIGNAL);
    if (n >= 0) {
      line.remove_prefix(static_cast<std::size_t>(n));
    } else if (errno == EAGAIN) {
      if (deadline.wait(fd_, POLLOUT)) continue;
      error = of_socket(path_, "the agent does not take the request in time");
      return false;
    } else if (errno == EPIPE || errno == ECONNRESET) {
      return true;  // it may have answered (an ERR) before it closed: receive() tells
    } else if (errno != EINTR) {
      error = of_socket(path_, "cannot send the request", errno);
      return false;
    }
  }
  return true;
}

std::optional<std::string> Connection::receive(const Deadline& deadline, std::string& error) {
  const auto fail = [&](const char* what, int code = 0) {
    error = of_socket(path_, what, code);
    return std::nullopt;
  };
  std::size_t scanned = 0;
  char buffer[16384];
  for (;;) {
    const std::size_t end = unread_.find('\n', scanned);
    if (std::min(end, unread_.size()) >= longest_reply) return fail("the answer is too long");
    if (end != std::string::npos) {
      std::string line = unread_.substr(0, end);
      unread_.erase(0, end + 1);
      if (line.find('\0') != std::string::npos) return fail("the answer is malformed");
      return line;
    }
    scanned = unread_.size();
    if (!deadline.wait(fd_, POLLIN)) return fail("the agent does not answer in time");
    const ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
    if (n > 0) {
      unread_.append(buffer, static_cast<std::size_t>(n));
    } else if (n == 0) {
      return fail(unread_.empty() ? "the agent closed without an answer" : "the agent sent half an answer");
    } else if (errno != EINTR && errno != EAGAIN) {
      return fail("cannot read the answer", errno);
    }
  }
}

std::optional<std::string> exchange(const std::string& path, std::string_view line, int timeout_ms,
                                    std::string& error) {
  const Deadline deadline(timeout_ms);
  Connection connection;
  if (!connection.open(path, deadline, error) || !connection.send(line, deadline, error)) return std::nullopt;
  auto reply = connection.receive(deadline, error);
  if (reply && connection.has_more()) {
    error = of_socket(path, "the agent sent more than was asked");
    return std::nullopt;
  }
  return reply;
}

std::optional<Reply> call(const std::string& path, const Request& request, int timeout_ms, std::string& error) {
  const auto line = exchange(path, write_request(request), timeout_ms, error);
  if (!line) return std::nullopt;
  auto reply = parse_reply(*line);
  if (!reply) error = path + ": the answer is malformed";
  return reply;
}

void tell(const std::string& path, const Request& request) {
  const Deadline now(0);
  std::string error;
  Connection connection;
  if (connection.open(path, now, error)) (void)connection.send(write_request(request), now, error);
}

}  // namespace sealane::wire
