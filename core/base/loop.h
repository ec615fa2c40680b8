// The event loop. The one user of libevent is loop.cc.
//
// One thread: every method and every callback runs on the thread that calls run(). Handles (Timer, Watch) are owned by
// the caller; destroying one cancels it, also from inside its own callback. A Loop must outlive its handles, and must
// not be used after fork().
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <vector>

#include "core/base/clock.h"

struct event_base;
struct timeval;

namespace sealane {

class Loop {
 public:
  Loop();
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  struct Event;  // opaque
  struct Cancel {
    void operator()(Event* event) const;
  };
  using Timer = std::unique_ptr<Event, Cancel>;
  using Watch = std::unique_ptr<Event, Cancel>;

  static constexpr unsigned readable = 1;
  static constexpr unsigned writable = 2;

  // Calls `fn` once, `delay` from now.
  [[nodiscard]] Timer after(Millis delay, std::function<void()> fn);
  // Calls `fn(ready)` each time `fd` is ready for any of `what` (level-triggered). Does not own `fd`.
  [[nodiscard]] Watch watch(int fd, unsigned what, std::function<void(unsigned ready)> fn);
  // Calls `fn` each time `signal` arrives.
  [[nodiscard]] Watch on_signal(int signal, std::function<void()> fn);
  // Calls `fn` once, from the loop, as soon as control returns to it. Not cancellable.
  void soon(std::function<void()> fn);

  // Runs until stop() is called from a callback, or until nothing is left to wait for. An exception from a callback
  // stops it and leaves by this call.
  void run();
  void stop();

  // For libunbound and libcurl adapters.
  [[nodiscard]] event_base* native() { return base_; }

 private:
  struct Trampoline;
  std::unique_ptr<Event, Cancel> add(int fd, short what, const timeval* delay, std::function<void(unsigned)> fn);
  void run_soon();

  event_base* base_;
  std::vector<std::function<void()>> soon_;
  Timer soon_timer_;  // set while soon_ is not empty
  std::exception_ptr thrown_;
};

}  // namespace sealane
