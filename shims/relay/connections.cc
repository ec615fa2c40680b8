#include "shims/relay/connections.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace sealane::relay {
namespace {

// Nobody waits for its reply.
void say_goodbye(Open& open, MonoTime now) { (void)open.client->send("QUIT\r\n", now); }

}  // namespace

Connections::Connections() : timer_(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) {}

Connections::~Connections() {
  if (timer_ >= 0) ::close(timer_);
}

std::optional<Open> Connections::take(const std::string& domain, const std::string& address, const Demand& demand,
                                      MonoTime now) {
  std::vector<Open> closed;  // after the lock is gone
  const std::lock_guard lock(mutex_);
  for (auto one = kept_.begin(); one != kept_.end();) {
    if (one->domain != domain || one->address != address || one->open.demand != demand || one->until <= now) {
      ++one;
      continue;
    }
    Open open = std::move(one->open);
    one = kept_.erase(one);
    // A server that says something unasked ends the session, or is out of step.
    if (open.client->quiet()) return open;
    closed.push_back(std::move(open));
  }
  return std::nullopt;
}

void Connections::keep(const std::string& domain, const std::string& address, Open open, MonoTime now) {
  if (++open.messages >= messages || open.since + age <= now || timer_ < 0 || !open.client->quiet()) {
    say_goodbye(open, now);
    return;
  }
  std::optional<Open> oldest;
  {
    const std::lock_guard lock(mutex_);
    if (kept_.size() >= most) {
      oldest = std::move(kept_.front().open);
      kept_.pop_front();
    }
    kept_.push_back({domain, address, std::move(open), now + idle});
    if (kept_.size() == 1) arm(now);
  }
  if (oldest) say_goodbye(*oldest, now);
}

void Connections::end_old(MonoTime now) {
  std::vector<Open> old;
  {
    const std::lock_guard lock(mutex_);
    std::uint64_t times = 0;
    (void)!::read(timer_, &times, sizeof times);
    while (!kept_.empty() && kept_.front().until <= now) {
      old.push_back(std::move(kept_.front().open));
      kept_.pop_front();
    }
    if (!kept_.empty()) arm(now);
  }
  for (Open& one : old) say_goodbye(one, now);
}

void Connections::arm(MonoTime now) {
  const auto left = std::max<Millis>(std::chrono::ceil<Millis>(kept_.front().until - now), Millis{1});
  itimerspec when{};
  when.it_value.tv_sec = static_cast<time_t>(left.count() / 1000);
  when.it_value.tv_nsec = static_cast<long>(left.count() % 1000) * 1000000;
  ::timerfd_settime(timer_, 0, &when, nullptr);
}

}  // namespace sealane::relay
