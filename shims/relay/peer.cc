#include "shims/relay/peer.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace sealane::relay {
namespace {

constexpr int first_pause_us = 50;
constexpr int longest_pause_us = 2000;
constexpr int netlink_ms = 1000;

}  // namespace

PeerWatch::PeerWatch(int fd, bool netlink)
    : fd_(fd), netlink_(netlink ? ::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG) : -1) {
  sockaddr_in here{};
  sockaddr_in there{};
  socklen_t size = sizeof here;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&here), &size) != 0 || here.sin_family != AF_INET) return;
  size = sizeof there;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&there), &size) != 0) return;
  here_ = here.sin_addr.s_addr;
  here_port_ = here.sin_port;
  there_ = there.sin_addr.s_addr;
  there_port_ = there.sin_port;
}

PeerWatch::~PeerWatch() {
  if (netlink_ >= 0) ::close(netlink_);
}

PeerEnd PeerWatch::look() const {
  if (here_port_ == 0) return {};
  if (const auto end = ask_netlink()) return *end;
  return read_proc();
}

// Nothing: netlink is of no use here.
std::optional<PeerEnd> PeerWatch::ask_netlink() const {
  if (netlink_ < 0) return std::nullopt;
  struct {
    nlmsghdr header;
    inet_diag_req_v2 question;
  } request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.question.sdiag_family = AF_INET;
  request.question.sdiag_protocol = IPPROTO_TCP;
  request.question.idiag_states = ~0U;
  request.question.id.idiag_sport = there_port_;  // the peer's end: its own address is our peer
  request.question.id.idiag_dport = here_port_;
  request.question.id.idiag_src[0] = there_;
  request.question.id.idiag_dst[0] = here_;
  request.question.id.idiag_cookie[0] = INET_DIAG_NOCOOKIE;
  request.question.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  char late[4096];  // an answer that an earlier call did not wait for
  while (::recv(netlink_, late, sizeof late, MSG_DONTWAIT) > 0) {
  }
  if (::send(netlink_, &request, sizeof request, 0) != static_cast<ssize_t>(sizeof request)) return std::nullopt;
  alignas(nlmsghdr) char buffer[4096];
  pollfd p{netlink_, POLLIN, 0};
  if (::poll(&p, 1, netlink_ms) <= 0) return std::nullopt;
  const ssize_t n = ::recv(netlink_, buffer, sizeof buffer, 0);
  if (n < static_cast<ssize_t>(sizeof(nlmsghdr))) return std::nullopt;
  nlmsghdr header{};
  std::memcpy(&header, buffer, sizeof header);
  if (header.nlmsg_type == NLMSG_ERROR) {
    nlmsgerr error{};
    if (n < static_cast<ssize_t>(NLMSG_HDRLEN + sizeof error)) return std::nullopt;
    std::memcpy(&error, buffer + NLMSG_HDRLEN, sizeof error);
    if (error.error == -ENOENT) return PeerEnd{};  // no such socket any more
    return std::nullopt;
  }
  inet_diag_msg answer{};
  if (n < static_cast<ssize_t>(NLMSG_HDRLEN + sizeof answer)) return std::nullopt;
  std::memcpy(&answer, buffer + NLMSG_HDRLEN, sizeof answer);
  return PeerEnd{answer.idiag_state == TCP_ESTABLISHED, answer.idiag_uid, answer.idiag_inode, answer.idiag_rqueue};
}

// "  sl  local_address rem_address   st tx_queue:rx_queue tr:tm->when retrnsmt   uid  timeout inode", addresses as the
// machine stores them, ports in the order of people.
PeerEnd PeerWatch::read_proc() const {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen("/proc/net/tcp", "re"),
                                                   [](FILE* f) { return f == nullptr ? 0 : std::fclose(f); });
  char line[512];
  while (file && std::fgets(line, sizeof line, file.get()) != nullptr) {
    unsigned from = 0, from_port = 0, to = 0, to_port = 0, state = 0, sent = 0, unread = 0, uid = 0;
    unsigned long inode = 0;
    // NOLINTNEXTLINE(cert-err34-c): the kernel's own hand; a field that does not fit leaves the line out
    const int found = std::sscanf(line, " %*d: %8X:%4X %8X:%4X %2X %8X:%8X %*2X:%*8X %*8X %u %*d %lu", &from,
                                  &from_port, &to, &to_port, &state, &sent, &unread, &uid, &inode);
    if (found == 9 && from == there_ && to == here_ && from_port == ntohs(there_port_) &&
        to_port == ntohs(here_port_)) {
      return {state == TCP_ESTABLISHED, uid, inode, unread};
    }
  }
  return {};
}

bool PeerWatch::wait_until_read(MonoTime until) const {
  for (int pause = first_pause_us;; pause = std::min(2 * pause, longest_pause_us)) {
    int on_the_way = 0;
    if (::ioctl(fd_, SIOCOUTQ, &on_the_way) != 0) return false;
    if (on_the_way == 0) {
      const PeerEnd end = look();
      if (!end.established) return false;
      if (end.unread == 0) return true;
    }
    if (std::chrono::steady_clock::now() >= until) return false;
    // The kernel has no event for this.
    const timespec wait{0, pause * 1000L};
    ::nanosleep(&wait, nullptr);
  }
}

}  // namespace sealane::relay
