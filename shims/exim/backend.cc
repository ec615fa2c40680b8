#include "shims/exim/backend.h"

#include <array>

#include "shims/wire/client.h"

namespace sealane::exim {
namespace {

constexpr std::size_t longest_backend = 4096;

bool is_path(std::string_view text) { return !text.empty() && text[0] == '/'; }

// Replaces the default by `part` where there is one.
bool take_path(std::string_view part, std::string& path) {
  if (part.empty()) return true;
  path = part;
  return is_path(part);
}

}  // namespace

std::optional<Backend> parse_backend(std::string_view text, std::string& error) {
  const auto fail = [&](const char* what) {
    error = what;
    return std::nullopt;
  };
  if (text.size() > longest_backend) return fail("the back end's name is too long");
  const std::size_t colon = text.find(':');
  const std::string_view kind = text.substr(0, colon);
  std::string_view rest = colon == std::string_view::npos ? std::string_view{} : text.substr(colon + 1);

  if (kind == "agent") {
    AgentBackend agent;
    if (!take_path(rest, agent.socket)) return fail("agent:SOCKET needs an absolute path");
    return agent;
  }
  if (kind == "fork") {
    ForkBackend fork;
    std::array<std::string_view, 3> parts{};
    for (std::string_view& part : parts) {
      const std::size_t end = rest.find(':');
      part = rest.substr(0, end);
      rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
    }
    if (!rest.empty() || !take_path(parts[0], fork.library) || !take_path(parts[1], fork.config) ||
        !take_path(parts[2], fork.state)) {
      return fail("fork:LIBRARY:CONFIG:STATE needs absolute paths");
    }
    return fork;
  }
  return fail("the back end is neither agent nor fork: set SEALANE_BACKEND");
}

std::optional<wire::Reply> ask(const Backend& backend, const wire::Request& request, int timeout_ms,
                               std::string& error) {
  if (const auto* agent = std::get_if<AgentBackend>(&backend)) return ask_agent(*agent, request, timeout_ms, error);
  return ask_fork(std::get<ForkBackend>(backend), request, timeout_ms, error);
}

void tell(const Backend& backend, const wire::Request& request) {
  if (const auto* agent = std::get_if<AgentBackend>(&backend)) wire::tell(agent->socket, request);
}

}  // namespace sealane::exim
