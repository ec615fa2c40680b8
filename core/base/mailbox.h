// From other threads to the loop's.
#pragma once

#include <functional>
#include <memory>

#include "core/base/loop.h"

namespace sealane {

class Mailbox {
 public:
  // Does not own `loop`. Made and destroyed on the loop's thread.
  explicit Mailbox(Loop& loop);
  ~Mailbox();
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  // Calls `fn` from the loop, in the order of the posts. From any thread; none may be on its way into here when the
  // mailbox is destroyed. What has not been called by then is not called.
  void post(std::function<void()> fn);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace sealane
