#include <algorithm>
#include <string>
#include <vector>

#include "core/config/config.h"
#include "core/decide/decide.h"
#include "core/render/render.h"
#include "shims/cli/cli.h"
#include "shims/cli/local.h"
#include "shims/wire/client.h"

namespace sealane::cli {
namespace {

constexpr std::size_t sent_ahead = 16;  // requests: fewer than an agent keeps open for one client
constexpr int connect_ms = 2000;
constexpr int grace_ms = 2000;  // for an agent that answers at its deadline

int milliseconds(Millis time) {
  return static_cast<int>(std::clamp<Millis::rep>(time.count(), 1, wire::longest_wait_ms));
}

Status show(const QueryOptions& options, const Decision& decision) {
  print(options.json ? decision_json(decision) + "\n" : decision_text(decision));
  return status_of(decision);
}

Status query_here(const Config& config, const QueryOptions& options, const std::vector<Question>& questions,
                  Millis wait) {
  Status status = ok;
  ask_here(config, questions, wait, [&](const Reply& reply) { status = worse(status, show(options, reply.decision)); });
  return status;
}

// What is no domain needs no agent and no lookup; an agent would refuse a line as long as it may be.
Status show_invalid(const QueryOptions& options, const Question& question) {
  Evidence evidence;
  evidence.question = question;
  evidence.now = SystemClock().wall();
  return show(options, sealane::decide(evidence).decision);
}

// The value of a string member at the top of what decision_json writes. Quotation marks inside a value are escaped, so
// that `,"KEY":"` is nothing but a member, and hosts, which have members of the same names, come later.
std::string_view member(std::string_view json, const std::string& key) {
  const std::string start = ",\"" + key + "\":\"";
  const std::size_t at = json.find(start);
  if (at == std::string_view::npos) return {};
  json.remove_prefix(at + start.size());
  return json.substr(0, json.find('"'));
}

// One reply of the agent to standard output.
Status show_reply(const QueryOptions& options, const std::string& domain, const std::string& line) {
  const auto reply = wire::parse_reply(line);
  if (!reply || reply->status == wire::Status::err) {
    complain({"the agent does not understand the question: " + line, domain, "use --local, or restart it"});
    return bug;
  }
  if (reply->status != wire::Status::ok) {
    complain({"the agent has no decision: " + reply->text, domain, "ask again later"});
    return deferred;
  }
  if (options.json) {
    print(reply->text + "\n");
    return status_of(member(reply->text, "action"), member(reply->text, "reason"));
  }
  const auto answer = wire::parse_text_answer(reply->text);
  if (!answer) {
    complain({"the agent's answer is malformed", domain, "use --local"});
    return unreachable;
  }
  print(answer->text);
  return status_of(answer->action, answer->reason);
}

Status query_agent(wire::Connection& agent, const QueryOptions& options, const std::vector<Question>& questions,
                   Millis wait) {
  wire::Request request;
  request.verb = wire::Verb::query;
  request.port = options.port;
  request.mx = options.mx;
  request.fresh = options.fresh;
  request.as_text = !options.json;
  request.wait_ms = static_cast<std::uint32_t>(milliseconds(wait));
  Status status = ok;
  std::size_t sent = 0;
  for (std::size_t i = 0; i < questions.size(); ++i) {
    if (!questions[i].domain) {
      status = worse(status, show_invalid(options, questions[i]));
      continue;
    }
    const wire::Deadline deadline(milliseconds(wait) + grace_ms);
    std::string error;
    bool good = true;
    for (; good && sent < std::min(questions.size(), i + sent_ahead); ++sent) {
      if (!questions[sent].domain) continue;
      request.domain = options.domains[sent];
      good = agent.send(wire::write_request(request), deadline, error);
    }
    const auto line = good ? agent.receive(deadline, error) : std::nullopt;
    if (!line) {
      complain({error, "", "is it running? --local decides without it"});
      return worse(status, unreachable);
    }
    status = worse(status, show_reply(options, options.domains[i], *line));
  }
  return status;
}

}  // namespace

Status query(const QueryOptions& options) {
  const auto config = configured(options.config);
  if (!config) return bad_config;
  std::vector<Question> questions;
  for (const auto& domain : options.domains) {
    questions.push_back(Question::parse(domain, options.port, options.mx, options.fresh));
  }
  const Millis wait = options.wait.value_or(config->timeout);
  if (!options.local) {
    wire::Connection agent;
    std::string nobody_there;
    if (agent.open(config->socket, wire::Deadline(connect_ms), nobody_there)) {
      return query_agent(agent, options, questions, wait);
    }
  }
  return query_here(*config, options, questions, wait);
}

}  // namespace sealane::cli
