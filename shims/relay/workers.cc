#include "shims/relay/workers.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "core/base/clock.h"

namespace sealane::relay {
namespace {

constexpr Seconds patience{2};

}  // namespace

struct Workers::State {
  std::mutex mutex;
  std::condition_variable more;
  std::deque<std::function<void()>> tasks;  // each has a waiting thread to itself
  std::size_t free = 0;                     // waiting threads that none of them has

  // Nothing: none came in time, and the thread is not counted any more.
  std::function<void()> next() {
    std::unique_lock lock(mutex);
    ++free;
    if (!more.wait_for(lock, patience, [this] { return !tasks.empty(); })) {
      --free;
      return nullptr;
    }
    auto task = std::move(tasks.front());
    tasks.pop_front();
    return task;
  }
};

Workers::Workers() : state_(std::make_shared<State>()) {}
Workers::~Workers() = default;

bool Workers::run(std::function<void()> task) {
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->free > 0) {
      --state_->free;
      state_->tasks.push_back(std::move(task));
      state_->more.notify_one();
      return true;
    }
  }
  try {
    std::thread([state = state_, task = std::move(task)]() mutable {
      while (task) {
        std::exchange(task, nullptr)();
        task = state->next();
      }
    }).detach();
  } catch (const std::system_error&) {
    return false;
  }
  return true;
}

}  // namespace sealane::relay
