// The recipients of one message at one domain: from the decision to the servers' words.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "shims/relay/body.h"
#include "shims/relay/context.h"
#include "shims/relay/reply.h"

namespace sealane::relay {

// A message and what became of each of its recipients. The session that took it waits for that until its own time is
// over; deliveries may go on longer, because what a server takes later has to be written down.
class Message {
 public:
  explicit Message(const std::string& folder) : body(folder) {}

  std::string sender;
  std::vector<std::string> recipients;
  Body body;  // whole, before the first delivery begins
  std::string id;
  MonoTime until{};  // when the session gives up

  void start() { replies_.resize(recipients.size()); }
  void settle(std::size_t recipient, Reply reply) {
    const std::lock_guard lock(mutex_);
    replies_[recipient] = std::move(reply);
    settled_.notify_all();
  }
  // Nothing: not in time.
  [[nodiscard]] std::optional<Reply> wait(std::size_t recipient) {
    std::unique_lock lock(mutex_);
    settled_.wait_until(lock, until, [&] { return replies_[recipient].has_value(); });
    return replies_[recipient];
  }

 private:
  std::mutex mutex_;
  std::condition_variable settled_;
  std::vector<std::optional<Reply>> replies_;
};

// Settles each of `recipients` (places in message.recipients), all of which are at `domain`. Blocks; does not throw.
void deliver(Context& context, Message& message, const std::string& domain, const std::vector<std::size_t>& recipients);

}  // namespace sealane::relay
