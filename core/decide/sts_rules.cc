#include "core/decide/sts_rules.h"

#include <algorithm>

#include "core/decide/host_rules.h"
#include "core/sts/txt_record.h"

namespace sealane {

using dns::RrType;
using dns::Security;
using sts::Mode;
using sts::TxtKind;

namespace {

enum class TxtFinding { pending, failed, absent, invalid, valid };

struct Txt {
  TxtFinding finding = TxtFinding::pending;
  std::string id;
  std::string error;
};

Txt read_txt(const Domain& domain, Inquiry& inquiry) {
  const auto name = domain.prefixed("_mta-sts");
  if (!name) return {TxtFinding::absent, {}, {}};  // longer than any name in the DNS
  const dns::Answer* answer = inquiry.look(*name, RrType::TXT);
  if (answer == nullptr) return {};
  if (!answer->answered()) return {TxtFinding::failed, {}, failure_text(name->text(), RrType::TXT, *answer)};
  std::vector<std::string> records;
  for (const Bytes& rdata : answer->rdata) {
    if (auto text = dns::parse_txt(rdata)) records.push_back(std::move(*text));
  }
  const sts::TxtRecord record = sts::select_txt_record(records);
  switch (record.kind) {
    case TxtKind::valid:
      return {TxtFinding::valid, record.id, {}};
    case TxtKind::invalid:
      return {TxtFinding::invalid, {}, record.error};
    case TxtKind::not_sts:
      break;
  }
  return {TxtFinding::absent, {}, {}};
}

void ask_for_fetch(StsFinding& sts, std::string id, Inquiry& inquiry) {
  sts.fetch_pending = true;
  inquiry.wanted().fetch = true;
  inquiry.wanted().fetch_id = std::move(id);
}

// Nothing is in force: what the TXT record and the fetch came to.
std::optional<StsView> view_of_nothing(const Txt& txt, const StsFinding& sts, const sts::PolicyState& state) {
  StsView view;
  view.id = txt.id;
  switch (txt.finding) {
    case TxtFinding::absent:
      return std::nullopt;
    case TxtFinding::pending:
      view.state = StsState::pending;
      break;
    case TxtFinding::failed:
      view.state = StsState::unavailable;
      view.error = txt.error;
      break;
    case TxtFinding::invalid:
      view.state = StsState::invalid;
      view.error = txt.error;
      break;
    case TxtFinding::valid:
      view.state = sts.fetch_pending ? StsState::pending : StsState::unavailable;
      view.error = state.error;
      break;
  }
  return view;
}

bool matches(const StsFinding& sts, const HostDecision& host) { return host.name && sts.policy->allows(*host.name); }

}  // namespace

StsFinding find_policy(const Domain& domain, Inquiry& inquiry) {
  const Evidence& evidence = inquiry.evidence();
  StsFinding found;
  const Txt txt = read_txt(domain, inquiry);
  const sts::PolicyState state = evidence.fetch ? sts::after_fetch(evidence.stored, *evidence.fetch,
                                                                   std::max(evidence.now, evidence.fetch->started))
                                                : evidence.stored;
  std::optional<sts::Policy> policy = sts::policy_in_force(state, evidence.now);

  if (!evidence.fetch) {
    // RFC 8461 §3.3: a new id means a new policy. And §5.1: a question that asks `fresh` comes after a refusal.
    if (txt.finding == TxtFinding::valid && sts::fetch_on_txt(evidence.stored, txt.id, evidence.now)) {
      ask_for_fetch(found, txt.id, inquiry);
    } else if (policy && evidence.question.fresh && sts::fetch_on_failure(evidence.stored, evidence.now)) {
      ask_for_fetch(found, state.policy->id, inquiry);
    }
  }

  if (!policy) {
    found.view = view_of_nothing(txt, found, state);
    // RFC 8461 §3.3, §10.2: a policy that cannot be learned does not hold up mail; it is asked for again soon.
    if (found.view && found.view->state != StsState::invalid) inquiry.limit(evidence.now + failure_ttl);
    return found;
  }
  const sts::StoredPolicy& stored = *state.policy;
  StsView view;
  view.state = txt.finding == TxtFinding::valid && txt.id == stored.id ? StsState::valid : StsState::cached;
  view.id = stored.id;
  view.fetched = stored.fetched;
  view.txt_seen = view.state == StsState::valid ? std::max(evidence.now, stored.txt_seen) : stored.txt_seen;
  view.expires = sts::expires(stored, *policy, evidence.now);
  view.refresh_after = sts::refresh_after(stored, *policy);
  view.error = txt.error.empty() ? state.error : txt.error;
  view.policy = policy;
  inquiry.limit(*view.expires);
  found.id = stored.id;
  found.view = std::move(view);
  if (policy->mode != Mode::none) found.policy = std::move(policy);
  return found;
}

bool enforced_before(const Evidence& evidence) {
  const auto policy = sts::policy_in_force(evidence.stored, evidence.now);
  return policy && policy->mode == Mode::enforce;
}

void apply_policy(HostDecision& host, const StsFinding& sts, Security mx_dnssec) {
  if (!sts.policy || host.tls == Tls::skip) return;
  // Reading of RFC 8461 §2: what DANE authenticates over a secure MX meets §4.1 and §4.2, and more.
  if (host.tls == Tls::dane && mx_dnssec == Security::secure) return;

  if (sts.policy->mode == Mode::testing) {  // RFC 8461 §5: changes nothing, but is to be reported
    if (!matches(sts, host)) {
      host.would = Tls::skip;
    } else if (host.tls != Tls::dane) {
      host.would = Tls::pkix;
    }
    return;
  }
  // RFC 8461 §4.1. Also a DANE host behind an insecure MX: whoever forges the MX can sign a zone of their own.
  if (!matches(sts, host)) {
    return skip(host, Reason::sts_mismatch, host.host + " matches no mx of policy id " + sts.id, true);
  }
  if (host.tls == Tls::dane) return;  // RFC 8461 §2: never weakens or replaces what DANE demands
  host.tls = Tls::pkix;
  host.reason = Reason::sts_match;
  host.detail.clear();
  host.names = {host.host};
  host.sni = host.host;  // RFC 8461 §7.1
}

}  // namespace sealane
