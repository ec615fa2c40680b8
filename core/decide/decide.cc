#include "core/decide/decide.h"

#include <algorithm>

#include "core/decide/host_rules.h"
#include "core/decide/inquiry.h"
#include "core/decide/override_rules.h"
#include "core/decide/sts_rules.h"

namespace sealane {

using dns::Answer;
using dns::RrType;
using dns::Security;

namespace {

// MX records in order of preference, each host once with its best preference; "." beside real hosts is left out.
std::vector<HostDecision> hosts_of(const Answer& mx) {
  std::vector<HostDecision> hosts;
  for (const Bytes& rdata : mx.rdata) {
    auto record = dns::parse_mx(rdata);
    if (!record || record->name == ".") continue;
    HostDecision host;
    host.host = std::move(record->name);
    host.name = std::move(record->host);
    host.preference = record->preference;
    hosts.push_back(std::move(host));
  }
  std::sort(hosts.begin(), hosts.end(), [](const HostDecision& a, const HostDecision& b) {
    return a.host != b.host ? a.host < b.host : a.preference < b.preference;
  });
  hosts.erase(std::unique(hosts.begin(), hosts.end(),
                          [](const HostDecision& a, const HostDecision& b) { return a.host == b.host; }),
              hosts.end());
  std::stable_sort(hosts.begin(), hosts.end(),
                   [](const HostDecision& a, const HostDecision& b) { return a.preference < b.preference; });
  return hosts;
}

// RFC 7505 §3: every record is "."; the preference does not matter.
bool is_null_mx(const Answer& mx) {
  return mx.has_data() && std::all_of(mx.rdata.begin(), mx.rdata.end(), [](const Bytes& rdata) {
           const auto record = dns::parse_mx(rdata);
           return record && record->name == ".";
         });
}

class Ruling {
 public:
  explicit Ruling(const Evidence& evidence) : evidence_(evidence), inquiry_(evidence, wanted_) {}

  Outcome run() {
    const Question& question = evidence_.question;
    d_.domain = question.domain ? question.domain->text() : question.text;
    d_.next_hop = d_.domain;
    d_.port = question.port;
    d_.decided = evidence_.now;
    if (evidence_.rules.override) d_.override_rule = evidence_.rules.override->rule;

    if (question.address_literal) {
      address_literal();
    } else if (!question.domain) {
      conclude(Action::reject, Reason::domain_invalid);
    } else if (evidence_.fault) {
      conclude(Action::defer, evidence_.fault->reason, evidence_.fault->text);
      inquiry_.limit(evidence_.now);  // it is looked at again with the next question
    } else {
      judge(*question.domain);
    }
    d_.complete = wanted_.settled() && !evidence_.fault;
    d_.expires = d_.complete ? inquiry_.expires() : evidence_.now;
    return {std::move(d_), std::move(wanted_)};
  }

 private:
  // An outcome that no further lookup can change.
  void conclude(Action action, Reason reason, std::string detail = {}) {
    d_.action = action;
    d_.reason = reason;
    d_.detail = std::move(detail);
    wanted_ = {};
  }

  [[nodiscard]] bool overridden(OverrideKind kind) const {
    return evidence_.rules.override && evidence_.rules.override->kind == kind;
  }

  // Whether what the store held matters: where MTA-STS is off, or the administrator exempts the domain, it does not.
  [[nodiscard]] bool store_counts() const { return evidence_.rules.mta_sts && !overridden(OverrideKind::none); }

  // A `reject` that rests on an insecure answer may be forged, and must not bounce mail to an enforced domain.
  void reject(Reason reason, bool proven) {
    if (!proven && store_counts() && evidence_.store_fault) {
      return conclude(Action::defer, Reason::store, evidence_.store_fault->text);
    }
    if (!proven && store_counts() && enforced_before(evidence_)) {
      return conclude(Action::defer, Reason::mx_contradicts_policy, std::string(to_text(reason)) + ", unsigned");
    }
    conclude(Action::reject, reason);
  }

  // Neither DANE nor MTA-STS speaks of addresses.
  void address_literal() {
    HostDecision host;
    host.host = host.expanded = d_.domain;
    host.tls = Tls::opportunistic;
    host.reason = Reason::plain;
    host.address_dnssec = d_.mx_dnssec = Security::insecure;
    host.expires = inquiry_.expires();
    d_.hosts.push_back(std::move(host));
    d_.floor = Tls::opportunistic;
    d_.others = Others::opportunistic;
    conclude(Action::deliver, Reason::plain);
  }

  void judge(const Domain& domain) {
    // First, so that its lookup is wanted together with that of the MX records.
    if (evidence_.rules.mta_sts) {
      if (evidence_.store_fault) {
        d_.sts = StsView{};
        d_.sts->error = evidence_.store_fault->text;
      } else {
        sts_ = find_policy(domain, inquiry_);
        d_.sts = sts_.view;
      }
    }
    if (!find_hosts(domain)) return;
    judge_hosts(domain);
    sum_up();
  }

  // RFC 5321 §5.1, RFC 7672 §2.2.1. False: the domain is decided, or nothing can be said yet.
  bool find_hosts(const Domain& domain) {
    if (!evidence_.question.mx) {
      d_.mx_dnssec = Security::secure;  // the administrator's word
      add_implicit(domain);
      return true;
    }
    const Answer* mx = inquiry_.look(domain, RrType::MX);
    if (mx == nullptr) {
      d_.detail = domain.text() + " MX: no answer yet";
      return false;
    }
    if (!mx->answered()) {
      conclude(Action::defer, mx->failure == dns::Failure::bogus ? Reason::mx_bogus : Reason::mx_failed,
               failure_text(domain.text(), RrType::MX, *mx));
      return false;
    }
    d_.mx_dnssec = mx->security;
    if (!mx->aliases.empty()) d_.next_hop = mx->aliases.back();
    const bool proven = mx->security == Security::secure;
    if (mx->outcome == dns::Outcome::nxdomain) {
      reject(Reason::nxdomain, proven);
      return false;
    }
    if (is_null_mx(*mx)) {
      reject(Reason::null_mx, proven);
      return false;
    }
    if (mx->has_data()) {
      d_.hosts = hosts_of(*mx);
      if (d_.hosts.empty()) {  // malformed to the last: not an answer, and no reason to bounce
        conclude(Action::defer, Reason::mx_failed, domain.text() + " MX: malformed");
        return false;
      }
    } else {
      d_.implicit = true;
      add_implicit(domain);
    }
    return true;
  }

  void add_implicit(const Domain& domain) {
    HostDecision host;
    host.host = domain.text();
    host.name = domain;
    d_.hosts.push_back(std::move(host));
  }

  void judge_hosts(const Domain& domain) {
    const Rules& rules = evidence_.rules;
    const bool dane = overridden(OverrideKind::dane) || (rules.dane && !overridden(OverrideKind::none) &&
                                                         (d_.mx_dnssec == Security::secure || rules.dane_insecure_mx));
    const MxContext mx{domain, d_.next_hop, d_.mx_dnssec, evidence_.question.port, dane};
    std::size_t looked_at = 0;
    for (HostDecision& host : d_.hosts) {
      Inquiry inquiry(evidence_, wanted_);
      if (!host.name) {
        skip(host, Reason::mx_name, "", true);
      } else if (evidence_.question.mx && !d_.implicit && host.name->looks_like_address()) {
        skip(host, Reason::mx_numeric, "", false);
      } else if (looked_at == max_hosts) {
        skip(host, Reason::limit, "more than " + std::to_string(max_hosts) + " MX hosts", true);
      } else {
        ++looked_at;
        judge_host(host, mx, inquiry);
        if (!host.tlsa_base.empty()) secure_tlsa_ = true;
        demand_more(host, domain);
      }
      host.expires = inquiry.expires();
      inquiry_.limit(host.expires);
    }
  }

  // What stands above DANE's own word on a host: the store, the policy, the administrator.
  void demand_more(HostDecision& host, const Domain& domain) {
    const auto& override = evidence_.rules.override;
    if (store_counts()) {
      const bool dane_over_secure_mx = host.tls == Tls::dane && d_.mx_dnssec == Security::secure;
      if (evidence_.store_fault && host.tls != Tls::skip && !dane_over_secure_mx) {
        skip(host, Reason::store, evidence_.store_fault->text, true);
      }
      apply_policy(host, sts_, d_.mx_dnssec);
    }
    if (override) apply_override(host, *override, domain, d_.mx_dnssec);
  }

  [[nodiscard]] bool any_host(bool (*test)(const HostDecision&)) const {
    return std::any_of(d_.hosts.begin(), d_.hosts.end(), test);
  }

  void sum_up() {
    d_.mechanism = secure_tlsa_                                     ? Mechanism::dane
                   : sts_.policy && !overridden(OverrideKind::none) ? Mechanism::sts
                                                                    : Mechanism::none;
    ask_for_newer_policy();
    wait_for_policy();

    const HostDecision* best = nullptr;  // the first that may be used
    for (const HostDecision& host : d_.hosts) {
      if (host.tls == Tls::skip) continue;
      if (best == nullptr) best = &host;
      d_.floor = d_.floor == Tls::skip ? host.tls : std::max(d_.floor, host.tls);
    }
    if (best != nullptr) {
      d_.action = Action::deliver;
      const bool nothing_published = best->tls == Tls::opportunistic && best->reason != Reason::override;
      d_.reason = nothing_published ? Reason::plain : best->reason;
      d_.detail = best->detail;
      set_others();
      return;
    }
    no_host_usable();
  }

  // decision.md: a mismatch leads to a new fetch whatever the id says: operators change policies and forget the id.
  void ask_for_newer_policy() {
    const bool mismatch = any_host([](const HostDecision& host) { return host.reason == Reason::sts_mismatch; });
    if (!mismatch || sts_.fetch_pending || evidence_.fetch) return;
    if (!sts::fetch_on_failure(evidence_.stored, evidence_.now)) return;
    sts_.fetch_pending = true;
    wanted_.fetch = true;
    wanted_.fetch_id = sts_.id;
  }

  // HTTPS is not waited for where its outcome changes nothing: every host is `dane` over a secure MX.
  void wait_for_policy() {
    if (!sts_.fetch_pending || overridden(OverrideKind::none)) return;
    const bool all_dane =
        d_.mx_dnssec == Security::secure && !any_host([](const HostDecision& host) { return host.tls != Tls::dane; });
    wanted_.fetch_needed = !all_dane;
  }

  void set_others() {
    const bool open =
        d_.mx_dnssec == Security::insecure && !evidence_.rules.override && !sts_.enforced() &&
        !any_host([](const HostDecision& host) { return host.tls == Tls::dane || host.tls == Tls::encrypt; });
    d_.others = open ? Others::opportunistic : Others::skip;
  }

  void no_host_usable() {
    const auto blocking =
        std::find_if(d_.hosts.begin(), d_.hosts.end(), [](const HostDecision& host) { return host.transient; });
    if (blocking != d_.hosts.end()) {
      d_.action = Action::defer;
      d_.reason = blocking->reason;
      d_.detail = blocking->detail.empty() ? blocking->host : blocking->detail;
      return;
    }
    const bool proven = d_.mx_dnssec == Security::secure && !any_host([](const HostDecision& host) {
                          return host.reason == Reason::addr_none && host.address_dnssec != Security::secure;
                        });
    const bool all_numeric =
        !d_.hosts.empty() && !any_host([](const HostDecision& host) { return host.reason != Reason::mx_numeric; });
    reject(all_numeric ? Reason::mx_numeric : Reason::no_address, proven);
  }

  const Evidence& evidence_;
  Wanted wanted_;
  Inquiry inquiry_;
  Decision d_;
  StsFinding sts_;
  bool secure_tlsa_ = false;
};

}  // namespace

Outcome decide(const Evidence& evidence) { return Ruling(evidence).run(); }

}  // namespace sealane
