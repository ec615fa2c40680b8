// What systemd asks of a daemon, by its documented protocols: readiness (sd_notify(3)), signs of life
// (sd_watchdog_enabled(3)) and sockets (sd_listen_fds(3)). All do nothing where we were not started by it.
#pragma once

#include <optional>
#include <string_view>

#include "core/base/clock.h"
#include "core/base/result.h"

namespace sealane::agent {

// "READY=1", "RELOADING=1\nMONOTONIC_USEC=…", "STOPPING=1", "WATCHDOG=1". Failure is not told: nobody could act on it.
void notify_systemd(std::string_view state);

// How often "WATCHDOG=1" must be told, so that one that is late is no reason to be ended; nothing: nobody waits for it.
[[nodiscard]] std::optional<Millis> watchdog_interval();

// The listening Unix stream socket that was handed over, close-on-exec and non-blocking; nothing if none was; an error
// if what was handed over is anything else. The caller owns it. Call once.
[[nodiscard]] Result<std::optional<int>> socket_from_systemd();

}  // namespace sealane::agent
