// What systemd asks of a daemon, by its documented protocols: readiness (sd_notify(3)) and sockets (sd_listen_fds(3)).
// Both do nothing where we were not started by it.
#pragma once

#include <optional>
#include <string_view>

#include "core/base/result.h"

namespace sealane::agent {

// "READY=1", "RELOADING=1\nMONOTONIC_USEC=…", "STOPPING=1", "STATUS=…". Failure is not told: nobody could act on it.
void notify_systemd(std::string_view state);

// The listening Unix stream socket that was handed over, close-on-exec and non-blocking; nothing if none was; an error
// if what was handed over is anything else. The caller owns it. Call once.
[[nodiscard]] Result<std::optional<int>> socket_from_systemd();

}  // namespace sealane::agent
