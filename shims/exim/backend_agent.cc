#include <time.h>

#include "shims/exim/backend.h"
#include "shims/wire/client.h"

namespace sealane::exim {
namespace {

constexpr time_t rest_seconds = 30;

time_t now() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec;
}

// An agent that is hung costs a process one wait, not one for each of a thousand recipients. One that is dead is known
// at once, and asked again each time.
time_t rests_until = 0;

}  // namespace

std::optional<wire::Reply> ask_agent(const AgentBackend& backend, const wire::Request& request, int timeout_ms,
                                     std::string& error) {
  const time_t begin = now();
  if (begin < rests_until) {
    error = backend.socket + ": the agent did not answer in time just before; see sealane doctor";
    return std::nullopt;
  }
  auto reply = wire::call(backend.socket, request, timeout_ms, error);
  if (!reply) {
    error += "; see sealane doctor";
    if (now() - begin >= timeout_ms / 1000) rests_until = now() + rest_seconds;
  }
  return reply;
}

}  // namespace sealane::exim
