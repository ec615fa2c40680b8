#include "shims/cli/check/judge.h"

#include <algorithm>

#include "core/base/bytes.h"
#include "core/smtp/client.h"
#include "core/verify/certificate.h"

namespace sealane::check {

namespace {

using dns::RrType;
using dns::Security;
using Remarks = std::vector<Remark>;

// What ACME clients renew by; a certificate that is older than this was forgotten.
constexpr std::chrono::days renewal{21};
// RFC 8461 §3.2 expects weeks; a day is what an attacker can sit out.
constexpr std::uint32_t short_life = 86400;

void add(Remarks& out, Weight weight, std::string of, std::string what, std::string remedy, std::string rule) {
  const Remark remark{weight, std::move(of), std::move(what), std::move(remedy), std::move(rule)};
  const bool said = std::any_of(out.begin(), out.end(), [&remark](const Remark& other) {
    return other.of == remark.of && other.what == remark.what;  // of two addresses of one host
  });
  if (!said) out.push_back(remark);
}

void add(Remarks& out, Weight weight, std::string of, Reason reason, const std::string& detail) {
  const ReasonText& text = describe(reason);
  add(out, weight, std::move(of), std::string(text.sentence) + (detail.empty() ? "" : ": " + detail),
      std::string(text.remedy), std::string(text.rule));
}

const dns::Answer* find(const Live& live, const std::string& labels, RrType type) {
  if (!live.evidence.question.domain) return nullptr;
  const auto name = live.evidence.question.domain->prefixed(labels);
  if (!name) return nullptr;
  const auto found = live.evidence.answers.find({*name, type});
  return found == live.evidence.answers.end() ? nullptr : &found->second;
}

std::string days_text(Seconds left) {
  return std::to_string(std::chrono::floor<std::chrono::days>(left).count()) + " days";
}

// ---- The decision

void judge_decision(const Live& live, Remarks& out) {
  const Decision& d = live.decision;
  // A host outside the policy is told below, whatever the mode.
  if (d.action != Action::deliver && d.reason != Reason::sts_mismatch)
    add(out, Weight::finding, d.domain, d.reason, d.detail);
  bool any_dane = false;
  for (const HostDecision& host : d.hosts) {
    any_dane = any_dane || host.tls == Tls::dane;
    const bool told = d.action != Action::deliver && host.reason == d.reason;
    if (host.tls == Tls::skip && !told && host.reason != Reason::sts_mismatch) {
      add(out, Weight::finding, host.host, host.reason, host.detail);
    }
    if (host.reason == Reason::tlsa_unusable || host.reason == Reason::tlsa_insecure) {
      add(out, Weight::finding, host.host, host.reason, "");
    }
    for (const auto& failed : host.failed) {
      add(out, Weight::finding, host.host, "a lookup fails: " + printable(failed, 300),
          "the name servers of the domain must answer it, if only that there is no such record", "RFC 7672 2.2.2");
    }
    for (const dane::UnusedRecord& record : host.tlsa_unused) {
      // A usable record that gives way to a stronger digest (RFC 7671 §9) is no mistake.
      const auto read = dane::parse_tlsa_text(record.rr);
      if (read && dane::why_unusable(*read).empty()) continue;
      add(out, Weight::finding, host.host, "TLSA record " + printable(record.rr, 80) + " is not used: " + record.why,
          "publish 3 1 1 or 2 1 1 records only, and remove this one", "RFC 7672 3.1");
    }
  }
  if (!any_dane) return;
  for (const HostDecision& host : d.hosts) {
    if (host.tls != Tls::opportunistic) continue;
    add(out, Weight::finding, host.host, "has no TLSA records where other hosts of the domain have them",
        "publish TLSA records for every MX host: whoever blocks the others gets the mail unauthenticated",
        "RFC 7672 2.2.1");
  }
  if (d.mx_dnssec == Security::insecure) {
    add(out, Weight::finding, d.domain, "its hosts have TLSA records, but its MX records are not signed",
        "sign the domain's zone too: whoever forges the MX records names hosts of their own", "RFC 7672 2.2.1");
  }
}

// ---- MTA-STS

void judge_fetch(const Live& live, Remarks& out) {
  const Decision& d = live.decision;
  const std::string host = "mta-sts." + d.domain;
  const dns::Answer* address = find(live, "mta-sts", RrType::A);
  const bool delegated = address != nullptr && !address->aliases.empty();
  const sts::FetchResult& fetch = *live.evidence.fetch;
  if (!fetch.error.empty()) {
    add(out, Weight::finding, host, "the policy cannot be fetched: " + printable(fetch.error, 300),
        delegated ? "the name is an alias of " + printable(address->aliases.back()) +
                        ", whose web server must have a certificate for " + host + " and this domain's policy"
                  : "its web server must answer with status 200, text/plain, and a certificate for " + host,
        "RFC 8461 3.3");
    return;
  }
  const auto& stored = live.evidence.stored.policy;
  if (stored && !stored->id.empty() && stored->id == fetch.id && stored->body != fetch.body) {
    add(out, Weight::finding, d.domain,
        "the policy has changed, but its id has not: senders that know id " + printable(stored->id) +
            " go on with the old one",
        "publish a new id in the TXT record at _mta-sts." + d.domain + " with every change of the policy",
        "RFC 8461 3.1");
  }
}

void judge_hosts_by_policy(const Live& live, const sts::Policy& policy, Remarks& out) {
  for (const HostDecision& host : live.decision.hosts) {
    if (!host.name || policy.allows(*host.name)) continue;
    add(out, Weight::finding, host.host,
        policy.mode == sts::Mode::enforce
            ? "is an MX host that the MTA-STS policy does not list: senders do not deliver to it"
            : "is an MX host that the MTA-STS policy does not list: in mode enforce, senders would not deliver to it",
        "add \"mx: " + host.host + "\" to the policy, and publish a new id", "RFC 8461 4.1");
  }
  for (const MxPattern& pattern : policy.mx) {
    const auto& hosts = live.decision.hosts;
    if (std::any_of(hosts.begin(), hosts.end(),
                    [&pattern](const HostDecision& host) { return host.name && pattern.matches(*host.name); })) {
      continue;
    }
    add(out, Weight::note, live.decision.domain, "the policy lists " + pattern.text() + ", which no MX record names",
        "remove it, if it is not for a host to come: whoever gets that name gets trusted", "RFC 8461 4.1");
  }
}

void judge_policy(const Live& live, Remarks& out) {
  const Decision& d = live.decision;
  if (!live.parent.empty()) {
    add(out, Weight::finding, d.domain, "has no MTA-STS policy, and that of " + live.parent + " is not for it",
        "a subdomain does not inherit: publish a record at _mta-sts." + d.domain + " and a policy at mta-sts." +
            d.domain,
        "RFC 8461 3.4");
  }
  if (live.evidence.fetch) judge_fetch(live, out);
  if (!d.sts) return;
  if (!live.evidence.fetch && !d.sts->error.empty()) {
    add(out, Weight::finding, "_mta-sts." + d.domain, "no policy can be learned: " + printable(d.sts->error, 300),
        "publish exactly one record like \"v=STSv1; id=20260101T000000;\"", "RFC 8461 3.1");
  }
  if (!d.sts->policy) return;
  const sts::Policy& policy = *d.sts->policy;
  if (policy.mode == sts::Mode::none) return;
  judge_hosts_by_policy(live, policy, out);
  if (policy.max_age < short_life) {
    add(out, Weight::finding, d.domain, "max_age is " + std::to_string(policy.max_age) + " seconds",
        "set some weeks, such as 2419200: a policy that is soon forgotten protects little", "RFC 8461 3.2");
  }
  if (policy.mode == sts::Mode::testing) {
    add(out, Weight::note, d.domain, "the policy is in mode testing: nothing is refused yet",
        "when reports show no failures, set mode enforce and publish a new id", "RFC 8461 5");
  }
}

// ---- Connections

// Senders that go by MTA-STS alone, and those that will once `testing` is over.
bool pkix_counts(const Live& live, const HostDecision& host) {
  const auto& sts = live.decision.sts;
  return sts && sts->policy && sts->policy->mode != sts::Mode::none && host.name && sts->policy->allows(*host.name);
}

// DANE (RFC 7671 §8.1): the record of the next key must have been published before the key is used.
void judge_rollover(const Live& live, const Connection& connection, const HostDecision& host, const Verifier& verifier,
                    Remarks& out) {
  if (host.tls != Tls::dane || connection.chain.empty()) return;
  const auto leaf = describe_certificate(connection.chain.front());
  bool by_authority = false;
  bool by_leaf = false;
  std::vector<std::string> unmatched;
  for (const dane::TlsaRecord& record : host.tlsa) {
    const Demand alone{host.host, host.expanded, Tls::dane, host.names, host.sni, {record}};
    if (!verifier.verify(alone, connection.chain, live.evidence.now).ok) {
      unmatched.push_back(printable(record.text(), 40));
    } else {
      (record.usage == 2 ? by_authority : by_leaf) = true;
    }
  }
  if (!by_leaf && !by_authority) return;  // nothing matches: the verdict says so
  if (!unmatched.empty()) {
    add(out, Weight::note, host.host,
        "TLSA record " + unmatched.front() +
            " matches nothing that the host presents: the next key, or a forgotten one",
        "", "RFC 7671 8.1");
    return;
  }
  if (by_authority || !leaf) return;
  const Seconds left = leaf->not_after - live.evidence.now;
  const std::string remedy =
      "publish the TLSA record of the next key beside the present one, wait two TTLs, and only then change the key; or "
      "keep the key when the certificate is renewed";
  if (left < renewal && left > Seconds{0}) {
    add(out, Weight::finding, host.host,
        "the certificate ends in " + days_text(left) + ", and there is no TLSA record for a next key", remedy,
        "RFC 7671 8.1");
  } else {
    add(out, Weight::note, host.host, "there is no TLSA record for a next key yet", remedy, "RFC 7671 8.1");
  }
}

void judge_certificate(const Live& live, const Connection& connection, const HostDecision& host,
                       const Verifier& verifier, Remarks& out) {
  judge_rollover(live, connection, host, verifier, out);
  if (!pkix_counts(live, host)) return;
  const Demand pkix{host.host, host.host, Tls::pkix, {host.host}, host.host, {}};
  const Verdict verdict = verifier.verify(pkix, connection.chain, live.evidence.now);
  if (host.tls != Tls::pkix && !verdict.ok) {
    add(out, Weight::finding, host.host + " [" + connection.address + "]",
        "senders that go by the MTA-STS policy alone refuse it: " + verdict.text,
        std::string(describe(verdict.reason).remedy), "RFC 8461 4.2");
  }
  const auto leaf = connection.chain.empty() ? std::nullopt : describe_certificate(connection.chain.front());
  if (!verdict.ok || !leaf) return;
  const Seconds left = leaf->not_after - live.evidence.now;
  if (left < renewal) {
    add(out, Weight::finding, host.host, "the certificate ends in " + days_text(left), "renew it, automatically",
        "RFC 8461 4.2");
  }
}

void judge_connection(const Live& live, const Connection& connection, const HostDecision& host,
                      const Verifier& verifier, Remarks& out) {
  const std::string of = connection.host + " [" + connection.address + "]";
  switch (connection.stage) {
    case Stage::no_route:
      return add(out, Weight::note, of, "not tried, this machine has no route to it: " + connection.error, "", "");
    case Stage::no_connection:
      return add(out, Weight::finding, of, "accepts no connection: " + connection.error,
                 "the host must listen at every address that it publishes, or the address must go", "RFC 5321 5.1");
    case Stage::no_smtp:
      return add(out, Weight::finding, of, "takes no mail: " + connection.error,
                 "the host must greet with 220 and answer EHLO with 250, from here too", "RFC 5321 3.1");
    case Stage::no_starttls:
    case Stage::starttls_refused:
    case Stage::tls_failed:
    case Stage::tls:
      break;
  }
  const Verdict verdict = verdict_of(live, connection, verifier);
  if (!verdict.ok) add(out, Weight::finding, of, verdict.reason, verdict.text);
  if (connection.stage != Stage::tls) return;
  if (verdict.ok && !smtp::is_recent(connection.version)) {
    add(out, Weight::finding, of, Reason::tls_version, "it speaks " + connection.version);
  }
  judge_certificate(live, connection, host, verifier, out);
}

}  // namespace

Verdict verdict_of(const Live& live, const Connection& connection, const Verifier& verifier) {
  switch (connection.stage) {
    case Stage::no_starttls:
      return {false, Reason::starttls_missing, ""};
    case Stage::starttls_refused:
      return {false, Reason::starttls_refused, connection.error};
    case Stage::tls_failed:
      return {false, Reason::tls_failed, connection.error};
    case Stage::tls:
      break;
    default:
      return {false, Reason::tls_failed, connection.error};
  }
  const Demands demands = demands_of(live.decision);
  for (const Demand& demand : demands_for(demands, connection.host)) {
    // RFC 7672 §6, RFC 8461 §7.2: TLS 1.2 or later, where TLS is relied upon.
    if ((demand.tls == Tls::dane || demand.tls == Tls::pkix) && !smtp::is_recent(connection.version)) {
      return {false, Reason::tls_version, "it speaks " + connection.version};
    }
  }
  return verify_all(verifier, demands, connection.host, connection.chain, live.evidence.now);
}

std::vector<Remark> judge(const Live& live, const Verifier& verifier) {
  Remarks out;
  judge_decision(live, out);
  judge_policy(live, out);
  for (const Connection& connection : live.connections) {
    const auto& hosts = live.decision.hosts;
    const auto host = std::find_if(hosts.begin(), hosts.end(),
                                   [&connection](const HostDecision& h) { return h.host == connection.host; });
    if (host != hosts.end()) judge_connection(live, connection, *host, verifier, out);
  }
  std::stable_sort(out.begin(), out.end(), [](const Remark& a, const Remark& b) { return a.weight < b.weight; });
  return out;
}

}  // namespace sealane::check
