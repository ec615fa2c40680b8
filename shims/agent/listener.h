// The agent's Unix socket: connections in, request lines to a handler, reply lines out, in the order asked.
//
// One thread, on the loop. No client can disturb another: each has bounds of its own for input, open requests and
// time; a client that is idle, slow to ask or slow to read is dropped.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/loop.h"
#include "core/base/result.h"
#include "shims/wire/codec.h"

namespace sealane::agent {

// Who is at the other end, by SO_PEERCRED: as of when it connected.
struct Peer {
  pid_t pid = 0;
  uid_t uid = static_cast<uid_t>(-1);
  [[nodiscard]] std::string text() const;  // "pid 12 uid 100"
};

struct ListenerLimits {
  std::size_t clients = 1000;
  std::size_t open_requests = 32;  // of one client; more are left in its socket
  std::size_t input = 64U << 20U;  // octets of requests that have not ended, of all clients together
  Millis patience{30000};          // for a whole request, and for a reply to be taken
  Millis room_after{1000};         // a client idle for this long makes room for a new one when there is none
  Millis retry{200};               // when descriptors have run out
};

class Listener {
 public:
  // To be called once, at any time, also from within the handler; does nothing once the client has gone. A reply ERR
  // closes the connection.
  using Answer = std::function<void(const wire::Reply&)>;
  using Handler = std::function<void(const wire::Request&, const Peer&, Answer)>;

  // Takes over `fd`, a listening socket. Does not own `loop`, which must outlive it.
  Listener(Loop& loop, int fd, ListenerLimits limits, Handler handler, LogSink log);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  [[nodiscard]] std::size_t clients() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

// A listening socket at `path` with this mode; its group is that of the directory where that is setgid. A socket file
// that nobody answers on is replaced; one that somebody answers on, or that is no socket, is an error.
[[nodiscard]] Result<int> listen_at(const std::string& path, unsigned mode = 0660);

}  // namespace sealane::agent
