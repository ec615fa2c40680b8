// Who answers: the agent, or a child of this process. Exim's configuration names it in the first argument of each call.
//
// Both answer the same requests with the same replies (shims/wire/grammar.md), so nothing else here knows which it is.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "shims/wire/codec.h"

namespace sealane::exim {

// "agent" or "agent:SOCKET"
struct AgentBackend {
  std::string socket = "/run/sealane/agent.sock";
};

// "fork" or "fork:LIBRARY:CONFIG:STATE"; a part that is empty or left out has its default.
struct ForkBackend {
  std::string library = "libsealane.so.0";
  std::string config;                      // empty: libsealane's default file
  std::string state = "/var/lib/sealane";  // the folder of the store; the child becomes its owner
};

using Backend = std::variant<AgentBackend, ForkBackend>;

// Nothing: `error` says what is wrong with it.
[[nodiscard]] std::optional<Backend> parse_backend(std::string_view text, std::string& error);

// Blocks for `timeout_ms` at most. Nothing: `error` says in words why there is no answer. No thread, alarm or signal is
// used, and no descriptor or child is left behind.
[[nodiscard]] std::optional<wire::Reply> ask(const Backend& backend, const wire::Request& request, int timeout_ms,
                                             std::string& error);

// Lets the back end know, and waits for nothing; nobody learns of it where there is no agent.
void tell(const Backend& backend, const wire::Request& request);

[[nodiscard]] std::optional<wire::Reply> ask_agent(const AgentBackend& backend, const wire::Request& request,
                                                   int timeout_ms, std::string& error);
[[nodiscard]] std::optional<wire::Reply> ask_fork(const ForkBackend& backend, const wire::Request& request,
                                                  int timeout_ms, std::string& error);

}  // namespace sealane::exim
