// Log lines to standard error: "sealane: …", or with the priority prefix of sd-daemon(3) where the journal reads it.
#pragma once

#include "core/base/log.h"

namespace sealane::agent {

// Lines less urgent than `least` are dropped.
[[nodiscard]] LogSink stderr_log(Level least);

}  // namespace sealane::agent
