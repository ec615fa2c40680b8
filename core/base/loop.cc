#include "core/base/loop.h"

#include <event2/event.h>

#include <algorithm>
#include <new>
#include <stdexcept>

namespace sealane {

struct Loop::Event {
  Loop* loop = nullptr;
  event* native = nullptr;
  // Shared with a call under way: a callback may destroy its own handle.
  std::shared_ptr<std::function<void(unsigned ready)>> fn;
};

// An exception must not pass through libevent's C frames: it stops the loop and leaves by run().
struct Loop::Trampoline {
  static void fired(evutil_socket_t /*fd*/, short what, void* argument) {
    const auto* event = static_cast<Event*>(argument);
    Loop* const loop = event->loop;
    const auto fn = event->fn;
    const auto flags = static_cast<unsigned>(what);
    try {
      (*fn)(((flags & EV_READ) != 0 ? readable : 0U) | ((flags & EV_WRITE) != 0 ? writable : 0U));
    } catch (...) {
      loop->thrown_ = std::current_exception();
      loop->stop();
    }
  }
};

void Loop::Cancel::operator()(Event* event) const {
  if (event->native != nullptr) event_free(event->native);
  delete event;
}

Loop::Loop() : base_(nullptr) {
  // A library must not let the environment choose its behaviour (EVENT_NOEPOLL and the like).
  const std::unique_ptr<event_config, void (*)(event_config*)> config(event_config_new(), event_config_free);
  if (config && event_config_set_flag(config.get(), EVENT_BASE_FLAG_IGNORE_ENV) == 0) {
    base_ = event_base_new_with_config(config.get());
  }
  if (base_ == nullptr) throw std::runtime_error("cannot create an event loop");
}

Loop::~Loop() {
  soon_timer_.reset();
  event_base_free(base_);
}

std::unique_ptr<Loop::Event, Loop::Cancel> Loop::add(int fd, short what, const timeval* delay,
                                                     std::function<void(unsigned)> fn) {
  std::unique_ptr<Event, Cancel> handle(new Event{this, nullptr, {}});
  handle->fn = std::make_shared<std::function<void(unsigned)>>(std::move(fn));
  handle->native = event_new(base_, fd, what, Trampoline::fired, handle.get());
  if (handle->native == nullptr) throw std::bad_alloc();
  if (event_add(handle->native, delay) != 0) throw std::runtime_error("cannot add an event to the loop");
  return handle;
}

Loop::Timer Loop::after(Millis delay, std::function<void()> fn) {
  const auto ms = std::max<Millis::rep>(delay.count(), 0);
  const timeval tv{static_cast<time_t>(ms / 1000), static_cast<suseconds_t>(ms % 1000 * 1000)};
  return add(-1, 0, &tv, [fn = std::move(fn)](unsigned) { fn(); });
}

Loop::Watch Loop::watch(int fd, unsigned what, std::function<void(unsigned ready)> fn) {
  short flags = EV_PERSIST;
  if ((what & readable) != 0) flags |= EV_READ;
  if ((what & writable) != 0) flags |= EV_WRITE;
  return add(fd, flags, nullptr, std::move(fn));
}

Loop::Watch Loop::on_signal(int signal, std::function<void()> fn) {
  return add(signal, EV_SIGNAL | EV_PERSIST, nullptr, [fn = std::move(fn)](unsigned) { fn(); });
}

void Loop::soon(std::function<void()> fn) {
  soon_.push_back(std::move(fn));
  if (!soon_timer_) {
    soon_timer_ = after(Millis{0}, [this] { run_soon(); });
  }
}

// What a callback asks for with soon() waits for the next turn of the loop, so that descriptors are not starved.
void Loop::run_soon() {
  soon_timer_.reset();
  auto batch = std::move(soon_);
  soon_.clear();
  for (auto& fn : batch) fn();
}

void Loop::run() {
  event_base_dispatch(base_);
  if (thrown_) std::rethrow_exception(std::exchange(thrown_, nullptr));
}

void Loop::stop() { event_base_loopbreak(base_); }

}  // namespace sealane
