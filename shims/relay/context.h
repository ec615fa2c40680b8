// What all sessions and deliveries of a relay share. Everything in it may be used by any thread.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/config/config.h"
#include "core/smtp/client.h"
#include "core/verify/verifier.h"
#include "shims/relay/connections.h"
#include "shims/relay/journal.h"
#include "shims/relay/reply.h"
#include "shims/relay/workers.h"

namespace sealane::relay {

// So many at a time and no more.
class Slots {
 public:
  explicit Slots(std::size_t count) : free_(count), count_(count) {}
  // Waits for one. False: none became free in time.
  [[nodiscard]] bool take(MonoTime until) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_until(lock, until, [this] { return free_ > 0; })) return false;
    --free_;
    return true;
  }
  void give_back() {
    const std::lock_guard lock(mutex_);
    ++free_;
    changed_.notify_all();
  }
  // Waits until all are free. False: not in time.
  bool drain(MonoTime until) {
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, until, [this] { return free_ == count_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t free_;
  const std::size_t count_;
};

// Domains none of whose servers could be used just now: what comes next for them is told so at once, and a queue of a
// thousand messages does not knock a thousand times.
class Failures {
 public:
  [[nodiscard]] std::optional<Reply> recent(const std::string& domain) {
    const std::lock_guard lock(mutex_);
    const auto found = known_.find(domain);
    if (found == known_.end()) return std::nullopt;
    if (found->second.until > std::chrono::steady_clock::now()) return found->second.reply;
    known_.erase(found);
    return std::nullopt;
  }
  void remember(const std::string& domain, const Reply& reply) {
    const std::lock_guard lock(mutex_);
    if (known_.size() >= most) known_.erase(known_.begin());
    known_[domain] = {std::chrono::steady_clock::now() + life, reply};
  }
  void forget(const std::string& domain) {
    const std::lock_guard lock(mutex_);
    known_.erase(domain);
  }

 private:
  static constexpr std::size_t most = 10000;
  static constexpr Seconds life{30};
  struct Failure {
    MonoTime until;
    Reply reply;
  };
  std::mutex mutex_;
  std::map<std::string, Failure> known_;
};

struct Context {
  Config config;
  std::string hello;  // what we call ourselves
  LogSink log;
  SystemClock clock;
  std::unique_ptr<Verifier> verifier;
  std::unique_ptr<Journal> journal;
  smtp::TlsContext strict{smtp::Versions::tls12};
  smtp::TlsContext lenient{smtp::Versions::any};
  Connections connections;
  Failures failures;
  Workers workers;
  Slots sessions;
  Slots deliveries;

  Context(Config c, LogSink sink)
      : config(std::move(c)),
        log(std::move(sink)),
        sessions(config.relay_sessions),
        deliveries(config.relay_sessions) {}
};

}  // namespace sealane::relay
