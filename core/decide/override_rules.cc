#include "core/decide/override_rules.h"

#include <algorithm>

#include "core/decide/host_rules.h"

namespace sealane {

using dns::Security;

namespace {

// An insecure MX names whatever host an attacker likes, signed ones of their own too. So `pkix` needs a reason to
// believe that the host is the domain's.
bool belongs(const HostDecision& host, const Override& rule, const Domain& domain, Security mx_dnssec) {
  if (mx_dnssec == Security::secure) return true;
  if (*host.name == domain || host.name->is_below(domain)) return true;
  return std::any_of(rule.match.begin(), rule.match.end(),
                     [&host](const MxPattern& pattern) { return pattern.matches(*host.name); });
}

}  // namespace

void apply_override(HostDecision& host, const Override& rule, const Domain& domain, Security mx_dnssec) {
  if (host.tls == Tls::skip) return;
  switch (rule.kind) {
    case OverrideKind::none:
      host.tls = Tls::opportunistic;
      host.reason = Reason::override;
      return;
    case OverrideKind::encrypt:
      if (host.tls != Tls::opportunistic) return;  // a stronger demand of its own stays
      host.tls = Tls::encrypt;
      host.reason = Reason::override;
      return;
    case OverrideKind::pkix:
      if (!belongs(host, rule, domain, mx_dnssec)) {
        return skip(host, Reason::override,
                    host.host + ": the MX is insecure, and the host is neither below the domain nor in match=", true);
      }
      if (host.tls == Tls::dane) return;
      host.tls = Tls::pkix;
      host.reason = Reason::override;
      host.names = {host.host};
      host.sni = host.host;
      return;
    case OverrideKind::dane:
      if (mx_dnssec != Security::secure) {
        return skip(host, Reason::override, "the override demands DANE, and the MX is insecure", true);
      }
      if (host.tls != Tls::dane) {
        return skip(host, Reason::override,
                    host.host + ": the override demands DANE, and there is no usable TLSA record", true);
      }
      return;
  }
}

}  // namespace sealane
