// One LMTP client (RFC 2033) over loopback.
#pragma once

#include <sys/types.h>

#include <memory>
#include <set>

#include "shims/relay/context.h"
#include "shims/relay/port.h"

namespace sealane::relay {

// Takes over `fd`, a connection to `port`. Blocks until the session is over; does not throw. Nothing is answered to a
// peer that is not one of `users` but 421. `context`: deliveries that go on afterwards keep it.
void serve(const std::shared_ptr<Context>& context, int fd, const std::set<uid_t>& users, Port& port);

}  // namespace sealane::relay
