#include <unistd.h>

#include "shims/cli/doctor/doctor.h"
#include "shims/wire/client.h"

namespace sealane::doctor {
namespace {

constexpr int answer_ms = 5000;

}  // namespace

Finding check_agent(const Config& config) {
  if (::access(config.socket.c_str(), F_OK) != 0) {
    return absent("none runs here (" + config.socket + " is not there); Exim's fork back end needs none");
  }
  // An address literal is decided without a lookup: what is measured is the agent.
  wire::Request request;
  request.verb = wire::Verb::query;
  request.domain = "[192.0.2.1]";
  request.id = "doctor";
  std::string error;
  const auto reply = wire::call(config.socket, request, answer_ms, error);
  if (!reply) return bad(error, "start or restart the agent; its user and group must let this user connect");
  if (reply->status != wire::Status::ok) {
    return bad(config.socket + ": answers, but with: " + reply->text, "restart the agent: it is of another version");
  }
  return good(config.socket + " answers");
}

}  // namespace sealane::doctor
