// `sealane relay`: takes mail by LMTP on loopback and delivers it, while its client waits, as the agent's decision
// demands. It has no queue: the client keeps the message until the server of the recipient's domain has it.
#pragma once

#include <string>

#include "core/base/result.h"

namespace sealane::relay {

// Whether it would start with this configuration. `config_path` empty: the default file.
[[nodiscard]] Result<void> check(const std::string& config_path);

// Runs until SIGTERM or SIGINT; gives an exit status of sysexits.h.
[[nodiscard]] int run(const std::string& config_path);

}  // namespace sealane::relay
