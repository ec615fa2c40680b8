#include "shims/agent/systemd.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <string>

namespace sealane::agent {
namespace {

constexpr int first_handed_over = 3;  // SD_LISTEN_FDS_START

int socket_option(int fd, int option) {
  int value = -1;
  socklen_t size = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

}  // namespace

void notify_systemd(std::string_view state) {
  const char* name = ::getenv("NOTIFY_SOCKET");
  if (name == nullptr) return;
  const std::string_view path = name;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() < 2 || path.size() >= sizeof address.sun_path) return;
  path.copy(address.sun_path, path.size());
  if (path[0] == '@') address.sun_path[0] = '\0';  // abstract
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  (void)::sendto(fd, state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address), size);
  ::close(fd);
}

std::optional<Millis> watchdog_interval() {
  const char* pid = ::getenv("WATCHDOG_PID");
  const char* text = ::getenv("WATCHDOG_USEC");
  if (text == nullptr || (pid != nullptr && std::to_string(::getpid()) != pid)) return std::nullopt;
  const std::string_view digits = text;
  std::int64_t usec = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), usec);
  if (error != std::errc{} || end != digits.data() + digits.size() || usec < 3000) return std::nullopt;
  return Millis{usec / 1000 / 3};
}

Result<std::optional<int>> socket_from_systemd() {
  const char* pid = ::getenv("LISTEN_PID");
  const char* count = ::getenv("LISTEN_FDS");
  // Meant for another process that forgot to clear its environment.
  if (pid == nullptr || count == nullptr || std::to_string(::getpid()) != pid) return std::optional<int>();
  if (std::string_view(count) != "1") {
    return failure("the socket unit must hand over exactly one socket", "LISTEN_FDS=" + std::string(count));
  }
  const int fd = first_handed_over;
  if (socket_option(fd, SO_DOMAIN) != AF_UNIX || socket_option(fd, SO_TYPE) != SOCK_STREAM ||
      socket_option(fd, SO_ACCEPTCONN) != 1 || ::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 ||
      ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK) != 0) {
    return failure("what the socket unit hands over is no listening Unix stream socket", "LISTEN_FDS",
                   "use ListenStream= with a path");
  }
  ::unsetenv("LISTEN_PID");
  ::unsetenv("LISTEN_FDS");
  ::unsetenv("LISTEN_FDNAMES");
  return std::optional<int>(fd);
}

}  // namespace sealane::agent
