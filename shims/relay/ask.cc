#include "shims/relay/ask.h"

#include <algorithm>

#include "core/render/render.h"
#include "shims/wire/client.h"

namespace sealane::relay {
namespace {

constexpr int least_ms = 100;
constexpr int margin_ms = 500;  // by which the agent's own deadline is shorter
constexpr int report_ms = 2000;

}  // namespace

Result<Decision> ask_decision(const Context& context, const std::string& domain, const std::string& id,
                              MonoTime until) {
  const auto left = std::chrono::duration_cast<Millis>(until - context.clock.mono()) - Millis{margin_ms};
  const auto wait = std::clamp<Millis>(left, Millis{least_ms}, context.config.timeout);
  wire::Request request;
  request.verb = wire::Verb::query;
  request.domain = domain;
  request.port = context.config.relay_port;
  request.id = id;
  request.wait_ms = static_cast<std::uint32_t>(wait.count());
  std::string error;
  const auto reply = wire::call(context.config.socket, request, static_cast<int>(wait.count()) + margin_ms, error);
  if (!reply) return failure("no decision: " + error);
  if (reply->status != wire::Status::ok) return failure("no decision: " + reply->token + " " + reply->text);
  auto decision = decision_from_json(reply->text);
  if (!decision) return failure("no decision: the agent's answer is malformed: " + decision.error().text());
  if (decision->port != context.config.relay_port) return failure("no decision: the agent answered for another port");
  return decision;
}

void tell_refused(const Context& context, const std::string& domain, const std::string& host, Reason reason,
                  const std::string& id) {
  wire::Request request;
  request.verb = wire::Verb::report;
  request.domain = domain;
  request.host = host;
  request.outcome = "refused";
  request.reason = to_text(reason);
  request.id = id;
  std::string error;
  (void)wire::call(context.config.socket, request, report_ms, error);
}

}  // namespace sealane::relay
