#include "core/base/mailbox.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <deque>
#include <mutex>
#include <stdexcept>
#include <utility>

namespace sealane {

struct Mailbox::Impl {
  Impl() : fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (fd < 0) throw std::runtime_error("cannot make an eventfd");
  }
  ~Impl() { ::close(fd); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  int fd;
  Loop::Watch watch;
  std::mutex mutex;
  std::deque<std::function<void()>> letters;  // guarded by mutex
  bool open = true;                           // the loop's thread alone
};

Mailbox::Mailbox(Loop& loop) : impl_(std::make_shared<Impl>()) {
  impl_->watch = loop.watch(impl_->fd, Loop::readable, [weak = std::weak_ptr<Impl>(impl_)](unsigned) {
    const auto impl = weak.lock();
    if (!impl) return;
    std::uint64_t count = 0;
    while (::read(impl->fd, &count, sizeof count) < 0 && errno == EINTR) {
    }
    std::deque<std::function<void()>> letters;
    {
      const std::lock_guard lock(impl->mutex);
      letters.swap(impl->letters);
    }
    for (auto& letter : letters) {
      if (!impl->open) return;  // a letter may close the box
      letter();
    }
  });
}

Mailbox::~Mailbox() {
  impl_->open = false;
  impl_->watch.reset();
}

void Mailbox::post(std::function<void()> fn) {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->letters.push_back(std::move(fn));
  }
  const std::uint64_t one = 1;
  // EAGAIN: the counter is at its end, and the loop is woken all the same.
  while (::write(impl_->fd, &one, sizeof one) < 0 && errno == EINTR) {
  }
}

}  // namespace sealane
