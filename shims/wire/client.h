// Blocking calls to the agent, for short-lived MTA processes and the command.
//
// No threads, alarms or signals: the caller may have SIGALRM armed without SA_RESTART, and children of its own. The
// descriptor is close-on-exec. Nothing here throws but std::bad_alloc.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "shims/wire/codec.h"

namespace sealane::wire {

// A point of monotonic time, in milliseconds from now; an hour at most.
class Deadline {
 public:
  explicit Deadline(int ms);
  [[nodiscard]] int left_ms() const;
  // Waits until `fd` is ready for `events` of poll(2), however often a signal interrupts. False: the time has passed.
  [[nodiscard]] bool wait(int fd, short events) const;

 private:
  long long at_;
};

// One connection. Requests may be sent ahead; replies come in their order. After a failure it is of no more use.
class Connection {
 public:
  Connection() = default;
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // To the Unix socket at `path`. False, here and below: `error` says what failed, of which socket.
  [[nodiscard]] bool open(const std::string& path, const Deadline& deadline, std::string& error);
  // `line`: LF included.
  [[nodiscard]] bool send(std::string_view line, const Deadline& deadline, std::string& error);
  // The next reply line, without its LF. Nothing but a whole line is one: the end of the stream before its LF, more
  // than longest_reply and a NUL are failures.
  [[nodiscard]] std::optional<std::string> receive(const Deadline& deadline, std::string& error);
  // More has come than was received.
  [[nodiscard]] bool has_more() const { return !unread_.empty(); }

 private:
  int fd_ = -1;
  std::string path_;
  std::string unread_;
};

// One request, one reply, on a connection of their own. All of it takes `timeout_ms` at most. Octets after the reply
// are a failure too.
[[nodiscard]] std::optional<std::string> exchange(const std::string& path, std::string_view line, int timeout_ms,
                                                  std::string& error);

// The same for a request and a parsed reply.
[[nodiscard]] std::optional<Reply> call(const std::string& path, const Request& request, int timeout_ms,
                                        std::string& error);

// Sends a request and does not wait: neither for its reply nor for room. What the agent cannot take at once is lost.
void tell(const std::string& path, const Request& request);

}  // namespace sealane::wire
