// The long-running agent: answers shims over its socket, and keeps the store.
#pragma once

#include <string>

#include "core/base/result.h"
#include "core/config/config.h"

namespace sealane::agent {

// Runs until SIGTERM or SIGINT; SIGHUP reloads, and a file that cannot be used changes nothing. Logs to standard error.
// Takes signal dispositions and the umask of the whole process. Returns an exit status of sysexits.h: 0, 74, 77 or 78.
[[nodiscard]] int run(const std::string& config_path);

// Whether the agent would start: the configuration, the trust anchor and the CA file. Opens no store, looks nothing up.
[[nodiscard]] Result<void> check(const std::string& config_path);

// The file of root trust anchors can be read and holds a DNSKEY or DS record of the root; libunbound itself would
// notice a missing one only at the first lookup, and call everything insecure (RFC 7672 §2.1.1).
[[nodiscard]] Result<void> check_trust_anchor(const std::string& path);

}  // namespace sealane::agent
