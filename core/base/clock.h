// Time, injected: wall-clock time for what outlives the process (policies), monotonic time for durations inside it.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "core/base/result.h"

namespace sealane {

using Millis = std::chrono::milliseconds;
using Seconds = std::chrono::seconds;
using WallTime = std::chrono::sys_seconds;
using MonoTime = std::chrono::steady_clock::time_point;
// Time by which policies age (core/sts/lifecycle.h): like wall time, but no step of the clock moves it.
struct SteadyTimeline;
using SteadyTime = std::chrono::time_point<SteadyTimeline, Seconds>;

class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual WallTime wall() const = 0;
  [[nodiscard]] virtual MonoTime mono() const = 0;
};

// mono() goes on while the machine sleeps.
class SystemClock final : public Clock {
 public:
  [[nodiscard]] WallTime wall() const override;
  [[nodiscard]] MonoTime mono() const override;
};

// "2026-01-02T03:04:05Z" (RFC 3339, UTC, whole seconds).
[[nodiscard]] std::string rfc3339(WallTime t);
[[nodiscard]] Result<WallTime> parse_rfc3339(std::string_view text);

// The day this source was released: a clock before it is wrong, and certificates and signatures would be judged by it.
[[nodiscard]] WallTime build_date();

}  // namespace sealane
