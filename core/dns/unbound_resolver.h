// Resolver by libunbound, in this process, on our event loop: no threads, no resolver daemon trusted.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "core/base/log.h"
#include "core/base/loop.h"
#include "core/config/config.h"
#include "core/dns/resolver.h"

namespace sealane::dns {

// Never fails: what is wrong (no trust anchor, name servers that strip DNSSEC) is told by health(), because the agent
// must run and say so rather than be absent. Probes name servers with `. DNSKEY` now and hourly; with `resolver = auto`
// falls back to recursion from the root hints. Does not own `loop`, which must outlive it. Not usable after fork().
[[nodiscard]] std::unique_ptr<Resolver> make_unbound_resolver(Loop& loop, const Config& config, LogSink log);

}  // namespace sealane::dns
