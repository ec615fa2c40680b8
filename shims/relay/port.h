// How busy a port of the relay is, and whether one more session there would be of use. A mail server with a thousand
// messages opens hundreds of sessions at once; where a few of them go on at full speed the others would only cost
// memory, and each a connection to the domain's server. They wait in the kernel's queue. Where a server is slow, more
// and more are let in, until something ends every moment again.
#pragma once

#include <algorithm>
#include <iterator>
#include <mutex>
#include <set>

#include "core/base/clock.h"

namespace sealane::relay {

// Thread-safe.
class Port {
 public:
  // How many more to accept now.
  [[nodiscard]] unsigned room(MonoTime now) const {
    const std::lock_guard lock(mutex_);
    const auto still = now - moved_;
    const auto running = static_cast<unsigned>(running_.size());
    // There is no message for those that there are, and the next one would only be ended as well.
    if (running < sessions_) return still >= stall ? 1 : 0;
    // What takes long holds up nobody else.
    const auto slow = static_cast<unsigned>(std::distance(running_.begin(), running_.upper_bound(now - long_time)));
    if (running - slow < freely) return 1;
    return still >= stall ? std::max(1U, (running - slow) / 2) : 0;
  }

  void begin_session(MonoTime now) {
    const std::lock_guard lock(mutex_);
    ++sessions_;
    moved_ = now;
  }
  void end_session(MonoTime now) {
    const std::lock_guard lock(mutex_);
    --sessions_;
    moved_ = now;
  }
  void begin_transaction(MonoTime now) {
    const std::lock_guard lock(mutex_);
    running_.insert(now);
  }
  void end_transaction(MonoTime began, MonoTime now) {
    const std::lock_guard lock(mutex_);
    running_.erase(running_.find(began));
    moved_ = now;
  }

  // From its beginning to its end, however it ends.
  class Transaction {
   public:
    Transaction(Port& port, const Clock& clock) : port_(port), clock_(clock), began_(clock.mono()) {
      port_.begin_transaction(began_);
    }
    ~Transaction() { port_.end_transaction(began_, clock_.mono()); }
    Transaction(const Transaction&) = delete;
    Transaction& operator=(const Transaction&) = delete;

   private:
    Port& port_;
    const Clock& clock_;
    const MonoTime began_;
  };

  static constexpr unsigned freely = 4;
  static constexpr Millis stall{100};
  static constexpr Seconds long_time{1};

 private:
  mutable std::mutex mutex_;
  unsigned sessions_ = 0;
  std::multiset<MonoTime> running_;  // when each transaction began
  MonoTime moved_{};                 // when a transaction or a session ended, or a session began
};

}  // namespace sealane::relay
