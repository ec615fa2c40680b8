// Waiting for sockets, and sending on them, in threads that may block.
#pragma once

#include <string_view>

#include "core/base/clock.h"
#include "core/base/result.h"

namespace sealane {

// Waits until `fd` is ready for `events` of poll(2), however often a signal interrupts. False: the time has passed.
// What is wrong with the socket is told by the call that follows.
[[nodiscard]] bool wait_for(int fd, short events, MonoTime until);

// All of `octets` on a non-blocking socket, without SIGPIPE.
[[nodiscard]] Result<void> send_all(int fd, std::string_view octets, MonoTime until);

}  // namespace sealane
