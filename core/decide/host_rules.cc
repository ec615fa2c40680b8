#include "core/decide/host_rules.h"

#include "core/decide/decide.h"

namespace sealane {

using dns::Answer;
using dns::RrType;
using dns::Security;

namespace {

enum class TlsaFinding { pending, failed, absent, insecure, secure };

struct Addresses {
  const Answer* a;
  const Answer* aaaa;
};

void add_addresses(HostDecision& host, RrType type, const Answer& answer) {
  // RFC 7672 §2.2.2 speaks of "A and/or AAAA": one family failing is noted and not fatal; no downgrade follows from it.
  if (!answer.answered()) host.failed.push_back(failure_text(host.host, type, answer));
  for (const Bytes& rdata : answer.rdata) {
    const auto text = dns::parse_address(rdata);
    if (!text) {  // as a failed lookup: no reason to give the host up
      host.failed.push_back(host.host + " " + dns::to_text(type) + ": malformed");
      return;
    }
    if (host.addresses.size() == max_addresses) {
      host.failed.emplace_back("limit: more than " + std::to_string(max_addresses) + " addresses");
      return;
    }
    host.addresses.push_back(*text);
  }
}

// The address answer that speaks for the host: a secure one if there is one (a host is secure if any address RRset is).
const Answer* leading(const Addresses& found) {
  const Answer* best = nullptr;
  for (const Answer* answer : {found.a, found.aaaa}) {
    if (answer->has_data() && (best == nullptr || answer->security > best->security)) best = answer;
  }
  return best;
}

// RFC 7672 §2.2.3: looks for a secure TLSA RRset, usable or not, at `_PORT._tcp.BASE`.
TlsaFinding find_tlsa(HostDecision& host, const std::string& base, const MxContext& mx, Inquiry& inquiry) {
  const auto base_domain = Domain::parse(base);
  if (!base_domain) {  // an alias to a name with odd octets: what it publishes cannot be asked for, so it cannot be
                       // known
    skip(host, Reason::cname_failed, "alias target " + base + " is no host name", true);
    return TlsaFinding::failed;
  }
  const auto name = base_domain->prefixed("_" + std::to_string(mx.port) + "._tcp");
  if (!name) return TlsaFinding::absent;  // longer than any name in the DNS: nothing can be published there
  const Answer* answer = inquiry.look(*name, RrType::TLSA);
  if (answer == nullptr) {
    skip(host, Reason::deadline, name->text() + " TLSA: no answer yet", true);
    return TlsaFinding::pending;
  }
  if (!answer->answered()) {  // RFC 7672 §2.1.2, §2.2: no falling back, to nothing
    const bool bogus = answer->failure == dns::Failure::bogus;
    skip(host, bogus ? Reason::tlsa_bogus : Reason::tlsa_failed, failure_text(name->text(), RrType::TLSA, *answer),
         true);
    return TlsaFinding::failed;
  }
  if (!answer->has_data()) return TlsaFinding::absent;
  if (!answer->is_secure()) return TlsaFinding::insecure;

  dane::TlsaRrset rrset = dane::sort_rrset(answer->rdata);
  host.tlsa_base = host.sni = base;
  host.tlsa = std::move(rrset.usable);
  host.tlsa_unused = std::move(rrset.unused);
  return TlsaFinding::secure;
}

// RFC 7672 §3.2.2: the TLSA base; with a secure MX also the next-hop domain and its full expansion, no name between.
std::vector<std::string> reference_names(const HostDecision& host, const MxContext& mx) {
  std::vector<std::string> names{host.tlsa_base};
  const auto add = [&names](const std::string& name) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  };
  if (mx.dnssec == Security::secure) {
    add(mx.domain.text());
    add(mx.next_hop);
  }
  return names;
}

// The names at which TLSA records are looked for, in order; empty where DANE does not apply. False: the host was
// skipped.
bool tlsa_bases(HostDecision& host, const Answer& addresses, Inquiry& inquiry, std::vector<std::string>& bases) {
  const bool aliased = !addresses.aliases.empty();
  if (addresses.security == Security::secure) {
    // RFC 7672 §2.2.3: first the fully expanded name, then the initial one, never a name between.
    if (aliased) bases.push_back(host.expanded);
    bases.push_back(host.host);
    return true;
  }
  // RFC 7672 §2.2.2: no TLSA queries for hosts with insecure addresses: some of the largest fail such queries.
  host.reason = Reason::addr_insecure;
  if (!aliased) return true;
  // RFC 7672 §2.1.3, §2.2.3: the target is insecure, but the alias itself may be secure: then the initial name counts.
  const Answer* cname = inquiry.look(*host.name, RrType::CNAME);
  if (cname == nullptr) {
    skip(host, Reason::deadline, host.host + " CNAME: no answer yet", true);
    return false;
  }
  if (!cname->answered()) {
    skip(host, Reason::cname_failed, failure_text(host.host, RrType::CNAME, *cname), true);
    return false;
  }
  if (cname->has_data() && cname->is_secure()) bases.push_back(host.host);
  return true;
}

}  // namespace

void skip(HostDecision& host, Reason reason, std::string detail, bool transient) {
  host.tls = Tls::skip;
  host.reason = reason;
  host.detail = std::move(detail);
  host.transient = transient;
}

void judge_host(HostDecision& host, const MxContext& mx, Inquiry& inquiry) {
  host.sni = host.host;
  host.expanded = host.host;
  const Addresses found{inquiry.look(*host.name, RrType::A), inquiry.look(*host.name, RrType::AAAA)};
  if (found.a == nullptr || found.aaaa == nullptr) {
    return skip(host, Reason::deadline, host.host + ": addresses: no answer yet", true);
  }
  add_addresses(host, RrType::A, *found.a);
  add_addresses(host, RrType::AAAA, *found.aaaa);
  if (host.addresses.empty()) {
    if (!host.failed.empty()) return skip(host, Reason::addr_failed, host.failed.front(), true);
    host.address_dnssec = std::min(found.a->security, found.aaaa->security);
    return skip(host, Reason::addr_none, "", false);
  }
  const Answer& addresses = *leading(found);
  host.address_dnssec = addresses.security;
  if (!addresses.aliases.empty()) host.expanded = addresses.aliases.back();

  host.tls = Tls::opportunistic;
  host.reason = Reason::plain;
  if (!mx.dane) return;

  std::vector<std::string> bases;
  if (!tlsa_bases(host, addresses, inquiry, bases)) return;
  for (const std::string& base : bases) {
    switch (find_tlsa(host, base, mx, inquiry)) {
      case TlsaFinding::pending:
      case TlsaFinding::failed:
        return;
      case TlsaFinding::absent:
        host.reason = Reason::tlsa_none;
        continue;
      case TlsaFinding::insecure:
        host.reason = Reason::tlsa_insecure;
        continue;
      case TlsaFinding::secure:
        host.names = reference_names(host, mx);
        // RFC 7672 §2.2: a secure RRset without a usable record still demands TLS.
        host.tls = host.tlsa.empty() ? Tls::encrypt : Tls::dane;
        host.reason = host.tlsa.empty() ? Reason::tlsa_unusable : Reason::tlsa_usable;
        // RFC 7672 §2.2.1: DANE behind an insecure MX is never presented as more than it is.
        if (mx.dnssec != Security::secure) host.detail = "mx insecure";
        return;
    }
  }
}

}  // namespace sealane
