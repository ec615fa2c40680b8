#include "core/base/clock.h"

#include "shims/cli/doctor/doctor.h"

namespace sealane::doctor {

Finding check_clock(const Config& /*config*/) {
  const WallTime now = SystemClock().wall();
  if (now < build_date()) {
    return bad("it says " + rfc3339(now) + ", before this release (" + rfc3339(build_date()) + ")",
               "set the clock, and keep it by NTP");
  }
  return good(rfc3339(now));
}

}  // namespace sealane::doctor
