#include "shims/relay/dialog.h"

#include "core/base/bytes.h"

namespace sealane::relay {
namespace {

class Opening {
 public:
  Opening(const Context& context, const Demand& demand, HostFailure& failure)
      : context_(context), demand_(demand), failure_(failure) {}

  [[nodiscard]] bool optional_tls() const { return demand_.tls == Tls::opportunistic; }

  // Nothing: `failure` says why.
  std::optional<Open> run(const std::string& address, bool with_tls, MonoTime until) {
    const std::string& source =
        address.find(':') == std::string::npos ? context_.config.relay_source : context_.config.relay_source6;
    smtp::ConnectError error;
    Open open;
    open.demand = demand_;
    open.since = context_.clock.mono();
    open.client = smtp::Client::connect(address, context_.config.relay_port, until, error, source);
    if (!open.client) return fail(Reason::deadline, false, error.what, error.no_route);
    const auto greeting = open.client->receive(until);
    if (!greeting) return fail(Reason::deadline, false, greeting.error().what);
    if (greeting->code != 220) return fail(Reason::deadline, false, greeting->text());
    if (!hello(open, until)) return std::nullopt;
    open.shown = "clear text";
    if (with_tls) {
      if (open.hello.offers("STARTTLS")) {
        if (!start_tls(open, until)) return std::nullopt;
      } else if (!optional_tls()) {
        return fail(Reason::starttls_missing, true, "STARTTLS is not offered");
      }
    }
    return open;
  }

 private:
  std::nullopt_t fail(Reason reason, bool security, std::string text, bool no_route = false) {
    failure_ = {reason, security, no_route, std::move(text)};
    return std::nullopt;
  }

  bool hello(Open& open, MonoTime until) {
    auto reply = open.client->command("EHLO " + context_.hello, until);
    // RFC 5321 §3.2: a server that does not know EHLO; no TLS there.
    if (reply && !reply->good() && reply->code >= 500 && optional_tls() && open.client->version().empty()) {
      reply = open.client->command("HELO " + context_.hello, until);
    }
    if (!reply || !reply->good()) {
      (void)fail(Reason::deadline, false, reply ? reply->text() : reply.error().what);
      return false;
    }
    open.hello = std::move(*reply);
    return true;
  }

  bool start_tls(Open& open, MonoTime until) {
    const auto ready = open.client->command("STARTTLS", until);
    if (!ready || ready->code != 220) {
      (void)fail(Reason::starttls_refused, true, ready ? ready->text() : ready.error().what);
      return false;
    }
    const bool authenticated = demand_.tls == Tls::dane || demand_.tls == Tls::pkix;
    const auto secured = open.client->start_tls(authenticated ? context_.strict : context_.lenient, demand_.sni, until);
    if (!secured) {
      (void)fail(Reason::tls_failed, true, secured.error().what);
      return false;
    }
    // RFC 7672 §6: nothing older is ever taken for authenticated, whatever the library made of it.
    const std::string version = open.client->version();
    if (authenticated && !smtp::is_recent(version)) {
      (void)fail(Reason::tls_version, true, "the connection has " + version + ", no TLS 1.2 or later");
      return false;
    }
    const Verdict verdict = context_.verifier->verify(demand_, open.client->chain(), context_.clock.wall());
    if (!verdict.ok) {
      (void)fail(verdict.reason, true, verdict.text);
      return false;
    }
    open.shown = version + ", " + std::string(to_text(demand_.tls));
    return hello(open, until);  // RFC 3207 §4.2: all that was said before is forgotten
  }

  const Context& context_;
  const Demand& demand_;
  HostFailure& failure_;
};

}  // namespace

Demand demand_of(const Decision& decision, const HostDecision& host) {
  for (Demand& demand : demands_of(decision).hosts) {
    if (demand.host == host.host) return std::move(demand);
  }
  return {};
}

std::optional<Open> open_connection(const Context& context, const Demand& demand, const std::string& address,
                                    MonoTime until, HostFailure& failure) {
  Opening opening(context, demand, failure);
  if (demand.tls == Tls::skip) {
    failure = {Reason::tls_failed, true, false, "no connection is allowed"};
    return std::nullopt;
  }
  auto open = opening.run(address, true, until);
  if (open || !opening.optional_tls() || !failure.security) return open;
  return opening.run(address, false, context.clock.mono() + context.config.relay_connect_timeout);
}

}  // namespace sealane::relay
