#include "shims/agent/verbs.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/base/bytes.h"
#include "core/render/render.h"

namespace sealane::agent {
namespace {

constexpr std::size_t most_open_questions = 2000;
constexpr std::size_t most_suspects = 1000;

std::string with_id(std::string line, const std::string& id) {
  return id.empty() ? line : std::move(line) + " id=" + printable(id, 64);
}

Level level_of(Action action) {
  switch (action) {
    case Action::deliver:
      return Level::info;
    case Action::reject:
      return Level::notice;
    case Action::defer:
      break;
  }
  return Level::warning;
}

wire::Reply ok(std::string text) { return {wire::Status::ok, "", std::move(text)}; }

wire::RouteAnswer route_answer(const Decision& decision) {
  wire::RouteAnswer answer;
  answer.domain = decision.domain;
  answer.action = to_text(decision.action);
  answer.others = to_text(decision.others);
  for (const HostDecision& host : decision.hosts) answer.hosts.push_back({host.host, std::string(to_text(host.tls))});
  answer.demand = write_token(demands_of(decision));
  answer.text = log_line(decision);
  return answer;
}

std::string reply_text(const wire::Request& request, const Decision& decision) {
  if (request.verb == wire::Verb::route) return wire::write_route(route_answer(decision));
  if (!request.as_text) return decision_json(decision);
  return wire::write_text_answer(
      {std::string(to_text(decision.action)), std::string(to_text(decision.reason)), decision_text(decision)});
}

wire::Reply passed(std::string_view why) { return ok(wire::write_verdict({true, "verified", std::string(why)})); }
wire::Reply refused(std::string_view why) { return ok(wire::write_verdict({false, "tls-failed", std::string(why)})); }

bool is_pass(const wire::Reply& reply) {
  const auto verdict = wire::parse_verdict(reply.text);
  return reply.status == wire::Status::ok && verdict && verdict->pass;
}

Verdict refusal(Reason reason, std::string text) { return {false, reason, std::move(text)}; }

}  // namespace

std::optional<Verdict> judge_tls(const wire::TlsWords& tls, std::span<const Demand> demands) {
  if (!tls.tls) return std::nullopt;  // the verifier's to say: it is shown no chain
  for (const Demand& demand : demands) {
    const bool authenticated = demand.tls == Tls::dane || demand.tls == Tls::pkix;
    if (authenticated && !tls.recent) return refusal(Reason::tls_version, "the connection has no TLS 1.2 or later");
    if ((authenticated || demand.tls == Tls::encrypt) && !tls.encrypted) {
      return refusal(Reason::tls_failed, "the cipher suite does not encrypt");
    }
    if (authenticated && !tls.authenticated) {
      return refusal(Reason::tls_failed, "the cipher suite does not authenticate");
    }
  }
  return std::nullopt;
}

Verbs::Verbs(LogSink log) : log_(log ? std::move(log) : [](Level, const std::string&) {}) {}

void Verbs::handle(const wire::Request& request, const Peer& peer, Listener::Answer answer) {
  switch (request.verb) {
    case wire::Verb::query:
    case wire::Verb::route:
      return ask(request, std::move(answer));
    case wire::Verb::verify:
      return answer(verify(request, peer));
    case wire::Verb::event:
      return answer(event(request, peer));
    case wire::Verb::gate:
      return answer(gate(request, peer));
    case wire::Verb::report:
      return answer(report(request, peer));
    case wire::Verb::purge:
    case wire::Verb::import_policy:
    case wire::Verb::reload:  // of the administrator's socket
    case wire::Verb::none:
      break;
  }
  answer({wire::Status::err, "", "unknown verb"});
}

void Verbs::administer(const wire::Request& request, const Listener::Answer& answer,
                       const std::function<Result<void>()>& reload) {
  const auto told = [answer](const Result<std::string>& done) {
    answer(done ? ok(printable(*done, 1000))
                : wire::Reply{wire::Status::perm, "refused", printable(done.error().text(), 1000)});
  };
  switch (request.verb) {
    case wire::Verb::reload: {
      const auto done = reload();
      return told(done ? Result<std::string>("reloaded") : tl::make_unexpected(done.error()));
    }
    case wire::Verb::purge: {
      const auto domain = Domain::parse(request.domain);
      if (!domain) return told(tl::make_unexpected(domain.error()));
      return backend_->engine->purge(*domain, request.force, told);
    }
    case wire::Verb::import_policy: {
      const auto record = policy_record_from_json(request.record);
      if (!record) return told(tl::make_unexpected(record.error()));
      return backend_->engine->import_policy(record->domain, record->state, request.force, told);
    }
    default:
      break;
  }
  answer({wire::Status::err, "", "unknown verb"});
}

void Verbs::ask(const wire::Request& request, Listener::Answer answer) {
  if (open_questions_ >= most_open_questions) {
    return answer({wire::Status::temp, "busy", "too many questions are open"});
  }
  Question question = Question::parse(request.domain, request.port, request.mx, request.fresh);
  if (question.domain && suspects_.erase(question.domain->text()) != 0) question.fresh = true;
  const Millis wait = request.wait_ms == 0 ? backend_->config.timeout : Millis{request.wait_ms};
  ++open_questions_;
  backend_->engine->ask(question, wait,
                        [this, request, answer = std::move(answer)](const std::shared_ptr<const Reply>& reply) {
                          --open_questions_;
                          const Decision& decision = reply->decision;
                          log_(level_of(decision.action), with_id(log_line(decision), request.id));
                          answer(ok(reply_text(request, decision)));
                        });
}

wire::Reply Verbs::verify(const wire::Request& request, const Peer& peer) {
  const auto demands = read_token(request.demand);
  if (!demands) return {wire::Status::perm, "demand", wire::safe_text(demands.error().text())};
  const wire::TlsWords tls = wire::read_tls_words(request.tls);
  std::vector<Bytes> chain;
  if (tls.tls) {
    for (const std::string& cert : request.certs) {
      auto der = from_base64(cert);
      if (!der) return {wire::Status::perm, "cert", "a certificate is not base64"};
      chain.push_back(std::move(*der));
    }
  }
  if (request.tested) return try_out(request, peer, *demands, chain);
  const std::vector<Demand> asked = demands_for(*demands, request.host);
  const auto fault = judge_tls(tls, asked);
  const Verdict verdict =
      fault ? *fault : verify_all(*backend_->verifier, *demands, request.host, chain, backend_->clock->wall());
  const ReasonText& reason = describe(verdict.reason);
  // `tls=none` may be asked ahead of a connection, to learn whether clear text would do: nothing was refused yet.
  if (!verdict.ok && tls.tls) {
    suspect(demands->domain);
    count(*demands, request.host, verdict.reason, verdict.text, peer);
    std::string line = printable(demands->domain) + " refused: " + printable(request.host) + ": " +
                       std::string(reason.token) + ": " + printable(verdict.text, 400);
    if (!reason.rule.empty()) line += " [" + std::string(reason.rule) + "]";
    log_(Level::warning, with_id(std::move(line), request.id));
  }
  return ok(wire::write_verdict({verdict.ok, std::string(reason.token), verdict.text}));
}

// RFC 8461 §5: a policy in `testing` refuses nothing, and what it would refuse is known all the same.
wire::Reply Verbs::try_out(const wire::Request& request, const Peer& peer, const Demands& demands,
                           const std::vector<Bytes>& chain) {
  for (const Demand& demand : tested_for(demands, request.host)) {
    const Verdict verdict = demand.tls == Tls::skip
                                ? refusal(Reason::sts_mismatch, demand.host + " matches no mx of the policy")
                                : judge_tls(wire::read_tls_words(request.tls), std::span(&demand, 1))
                                      .value_or(backend_->verifier->verify(demand, chain, backend_->clock->wall()));
    if (verdict.ok) continue;
    count(demands, request.host, verdict.reason, verdict.text, peer);
    log_(Level::notice,
         with_id(printable(demands.domain) + " in testing, would be refused: " + printable(request.host) + ": " +
                     std::string(to_text(verdict.reason)) + ": " + printable(verdict.text, 400),
                 request.id));
    return refused(verdict.text);
  }
  count(demands, request.host, Reason::verified, "", peer);
  return passed("as the policy in testing has it");
}

// RFC 7672 §2.2, RFC 8461 §4.2: a host that cannot be authenticated is refused while the next one can still be tried.
wire::Reply Verbs::event(const wire::Request& request, const Peer& peer) {
  if (peer.pid == 0) return {wire::Status::temp, "peer", "the processes that ask cannot be told apart"};
  if (request.connects) {
    connections_.reset(peer);
    return passed("a new connection");
  }
  if (!request.depth || request.certs.size() != 1) return {wire::Status::err, "", "tls:cert without a certificate"};
  const auto der = from_base64(request.certs[0]);
  if (!der || !connections_.certificate(peer, *request.depth, request.certs[0])) {
    return {wire::Status::temp, "cert", "the host presents no certificate that can be read"};
  }
  if (*request.depth != 0) return passed("not the last certificate");
  wire::Request chain = request;
  chain.verb = wire::Verb::verify;
  chain.tls = wire::tls_to_be_seen;
  chain.certs = connections_.chain(peer);
  if (const auto demands = read_token(request.demand); demands && !tested_for(*demands, request.host).empty()) {
    wire::Request tested = chain;
    tested.tested = true;
    static_cast<void>(verify(tested, peer));
    connections_.judged(peer);
  }
  wire::Reply reply = verify(chain, peer);
  if (is_pass(reply)) {
    connections_.agree(peer, {request.demand, request.host, request.address});
  } else {
    connections_.judged(peer);
  }
  return reply;
}

// The last word before MAIL.
wire::Reply Verbs::gate(const wire::Request& request, const Peer& peer) {
  const auto demands = read_token(request.demand);
  if (!demands) return {wire::Status::perm, "demand", wire::safe_text(demands.error().text())};
  const auto domain = Domain::parse(request.domain);
  if ((domain ? domain->text() : request.domain) != demands->domain) {
    return refused("this message is for another domain");
  }
  const wire::TlsWords tls = wire::read_tls_words(request.tls);
  const bool agreed = tls.tls && request.certs.size() == 1 &&
                      connections_.agreed_on(peer, {request.demand, request.host, request.address}, request.certs[0]);
  wire::Request connection = request;
  connection.verb = wire::Verb::verify;
  connection.tls = agreed ? request.tls : "none";  // a chain that nobody agreed on counts as none
  connection.certs = agreed ? connections_.chain(peer) : std::vector<std::string>{};
  wire::Reply reply = verify(connection, peer);
  if (agreed && is_pass(reply)) count(*demands, request.host, Reason::verified, "", peer);
  if (!agreed && tls.tls && !is_pass(reply)) return refused(wire::unseen_certificate);
  return reply;
}

wire::Reply Verbs::report(const wire::Request& request, const Peer& peer) {
  const auto domain = Domain::parse(request.domain);
  if (!domain) return {wire::Status::perm, "domain", "not a domain"};
  if (!request.demand.empty()) {
    const auto demands = read_token(request.demand);
    if (!demands || demands->domain != domain->text()) return {wire::Status::perm, "demand", "not of this domain"};
    const auto reason = reason_from_text(request.reason);
    if (!reason) return {wire::Status::perm, "reason", "unknown"};
    // What follows on a verdict of ours is no failure of its own.
    if (connections_.was_judged(peer)) return ok("");
    count(*demands, request.host, *reason, request.detail, peer);
    if (*reason == Reason::verified) return ok("");  // every message would leave a line
  }
  if (request.outcome == "refused") suspect(domain->text());
  std::string line = domain->text() + " " + request.outcome + " by " + printable(request.host);
  if (!request.reason.empty()) line += ": " + printable(request.reason, 64);
  log_(Level::info, with_id(std::move(line), request.id));
  return ok("");
}

void Verbs::count(const Demands& demands, std::string_view host, Reason reason, std::string_view detail,
                  const Peer& peer) {
  std::string_view mechanism;
  for (const Demand& demand : demands_for(demands, host)) {
    if (demand.tls == Tls::dane) mechanism = "dane";
    if (demand.tls == Tls::pkix && mechanism != "dane") mechanism = "sts";
    if (demand.tls == Tls::encrypt && mechanism.empty()) mechanism = "encrypt";
    if (demand.tls == Tls::opportunistic && demand.would && mechanism.empty()) mechanism = "sts-testing";
  }
  if (mechanism.empty()) return;
  outcomes_.note({printable(demands.domain, 253), std::string(mechanism), printable(host, 255),
                  std::string(to_text(reason)), peer.uid, 1, backend_->clock->wall(), printable(detail, 400)});
}

// Bounded: the place of an older one is taken, which costs that one its freshness and nothing else.
void Verbs::suspect(const std::string& domain) {
  if (suspects_.size() >= most_suspects) suspects_.erase(suspects_.begin());
  suspects_.insert(domain);
}

}  // namespace sealane::agent
