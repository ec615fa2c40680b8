// Who is at the other end of a connection over loopback, and has it read what it was sent? Asked of the kernel
// (sock_diag(7); where netlink may not be used, /proc/net/tcp).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "core/base/clock.h"

namespace sealane::relay {

// The peer's own end. Of a socket that its program has closed, and of one that cannot be found, everything is zero.
struct PeerEnd {
  bool established = false;
  uid_t uid = 0;
  std::uint64_t inode = 0;
  std::uint32_t unread = 0;  // octets in its receive queue
};

// For one thread.
class PeerWatch {
 public:
  // `fd`: a connected TCP socket, IPv4, whose two ends are both on this machine. Not owned.
  // `netlink`: whether sock_diag(7) is asked at all, which the system may forbid.
  explicit PeerWatch(int fd, bool netlink = true);
  ~PeerWatch();
  PeerWatch(const PeerWatch&) = delete;
  PeerWatch& operator=(const PeerWatch&) = delete;

  [[nodiscard]] PeerEnd look() const;
  // Waits until the peer has taken everything that was sent to it out of its receive queue. False: it has closed, or
  // the time has passed.
  [[nodiscard]] bool wait_until_read(MonoTime until) const;

 private:
  [[nodiscard]] std::optional<PeerEnd> ask_netlink() const;
  [[nodiscard]] PeerEnd read_proc() const;

  const int fd_;
  int netlink_;
  std::uint32_t here_ = 0, there_ = 0;  // addresses and ports, network order
  std::uint16_t here_port_ = 0, there_port_ = 0;
};

}  // namespace sealane::relay
