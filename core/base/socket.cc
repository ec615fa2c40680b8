#include "core/base/socket.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace sealane {

bool wait_for(int fd, short events, MonoTime until) {
  for (;;) {
    const auto left = std::chrono::ceil<Millis>(until - std::chrono::steady_clock::now()).count();
    if (left <= 0) return false;
    pollfd p{fd, events, 0};
    const int n = ::poll(&p, 1, static_cast<int>(std::min<Millis::rep>(left, 60000)));
    if (n > 0 || (n < 0 && errno != EINTR)) return true;
  }
}

Result<void> send_all(int fd, std::string_view octets, MonoTime until) {
  while (!octets.empty()) {
    const ssize_t n = ::send(fd, octets.data(), octets.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
      octets.remove_prefix(static_cast<std::size_t>(n));
    } else if (errno == EAGAIN) {
      if (!wait_for(fd, POLLOUT, until)) return failure("the other side does not take what is sent in time");
    } else if (errno != EINTR) {
      return failure(std::string("cannot send: ") + std::strerror(errno));
    }
  }
  return {};
}

}  // namespace sealane
