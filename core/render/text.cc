// Decisions for people. Everything that came from outside passes through shown(): no control character reaches a
// terminal or splits a log line.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "core/base/bytes.h"
#include "core/render/render.h"

namespace sealane {

using dns::Answer;
using dns::RrType;
using dns::Security;

namespace {

constexpr std::size_t max_shown = 600;     // octets of one piece of text from outside
constexpr std::size_t max_log_hosts = 8;   // a log line is for one screen line, not for fifty hosts
constexpr std::size_t max_log_host = 256;  // octets of a host's name there
constexpr std::size_t max_log_detail = 400;
constexpr std::size_t max_records = 20;  // of one lookup

std::string shown(const std::string& text) { return printable(text, max_shown); }

template <class... Values>
void add(std::string& out, fmt::format_string<Values...> format, Values&&... values) {
  fmt::format_to(std::back_inserter(out), format, std::forward<Values>(values)...);
}

std::string joined(const std::vector<std::string>& texts) {
  std::string out;
  for (const auto& text : texts) add(out, "{}{}", out.empty() ? "" : ", ", shown(text));
  return out;
}

// "the host is not listed in the MTA-STS policy: mx.evil.test matches … [sts-mismatch, RFC 8461 4.1]"
std::string because(Reason reason, const std::string& detail) {
  const ReasonText& text = describe(reason);
  return fmt::format("{}{}{} [{}{}{}]", text.sentence, detail.empty() ? "" : ": ", shown(detail), text.token,
                     text.rule.empty() ? "" : ", ", text.rule);
}

// RFC 7672 §2.2.1: authentication of a host that an insecure MX named is not to be presented as more than it is.
std::string demand(const HostDecision& host, const Decision& d) {
  std::string text(to_text(host.tls));
  if (host.tls == Tls::dane && d.mx_dnssec != Security::secure) text += ", mx insecure";
  return text;
}

std::string first_line(const Decision& d) {
  std::string line = fmt::format("{}: {}; mechanism {}", shown(d.domain), to_text(d.action), to_text(d.mechanism));
  // Of a bogus MX, and of none that was looked up, the reason tells.
  if (d.mx_dnssec != Security::bogus) add(line, "; MX {}", dns::to_text(d.mx_dnssec));
  if (d.implicit) line += ", implicit (RFC 5321 5.1: no MX record, the domain is its own host)";
  return line + "\n";
}

std::string_view no_policy(StsState state) {
  switch (state) {
    case StsState::pending:
      return "the policy is not known yet";
    case StsState::invalid:
      return "what is published is invalid, and no policy was kept from before";
    default:
      return "no policy could be had, and none was kept from before";
  }
}

std::string policy_line(const StsView& sts) {
  std::string line = "MTA-STS: ";
  if (sts.policy) {
    add(line, "mode {}, id {}", sts::to_text(sts.policy->mode), shown(sts.id));
    for (const auto& pattern : sts.policy->mx) add(line, ", mx {}", shown(pattern.text()));
    if (sts.expires) add(line, ", in force until {}", rfc3339(*sts.expires));
    if (sts.state != StsState::valid) line += ", as kept from before";
  } else {
    line += no_policy(sts.state);
  }
  if (!sts.error.empty()) add(line, "; {}", shown(sts.error));
  return line;
}

// What the administrator, here or there, can do: of the decision and of each host that is not used as it might be.
std::vector<std::string_view> remedies(const Decision& d) {
  std::vector<std::string_view> found;
  const auto note = [&found](Reason reason) {
    const std::string_view remedy = describe(reason).remedy;
    if (!remedy.empty() && std::find(found.begin(), found.end(), remedy) == found.end()) found.push_back(remedy);
  };
  if (d.action != Action::deliver) note(d.reason);
  for (const HostDecision& host : d.hosts) {
    if (host.tls == Tls::skip || host.reason == Reason::tlsa_unusable) note(host.reason);
  }
  return found;
}

void add_host(std::string& out, const HostDecision& host, const Decision& d) {
  add(out, "\n  {} {}: {}\n", host.preference, shown(host.host), demand(host, d));
  add(out, "    why: {}\n", because(host.reason, host.detail));
  if (host.would) {
    add(out, "    testing: were the policy in mode enforce, this would be {}\n", to_text(*host.would));
  }
  if (host.expanded != host.host && !host.expanded.empty()) add(out, "    alias of: {}\n", shown(host.expanded));
  if (!host.addresses.empty()) {
    add(out, "    addresses: {}; {}\n", joined(host.addresses), dns::to_text(host.address_dnssec));
  }
  for (const auto& failed : host.failed) add(out, "    failed: {}\n", shown(failed));
  if (!host.tlsa_base.empty()) add(out, "    TLSA base: {}\n", shown(host.tlsa_base));
  for (const auto& record : host.tlsa) add(out, "    TLSA: {}\n", shown(record.text()));
  for (const auto& record : host.tlsa_unused) {
    add(out, "    TLSA not used: {}: {}\n", shown(record.rr), shown(record.why));
  }
  if (host.tls == Tls::dane || host.tls == Tls::pkix) {
    add(out, "    certificate for: {}; asked for with SNI {}\n", joined(host.names), shown(host.sni));
  }
}

// One record in presentation form.
std::string record_text(RrType type, const Bytes& rdata) {
  switch (type) {
    case RrType::MX:
      if (const auto mx = dns::parse_mx(rdata)) return fmt::format("{} {}", mx->preference, shown(mx->name));
      break;
    case RrType::TXT:
      if (const auto txt = dns::parse_txt(rdata)) return fmt::format("\"{}\"", shown(*txt));
      break;
    case RrType::A:
    case RrType::AAAA:
      if (const auto address = dns::parse_address(rdata)) return *address;
      break;
    case RrType::TLSA:
      if (const auto tlsa = dane::parse_tlsa(rdata)) return shown(tlsa->text());
      break;
    case RrType::CNAME: {
      // The RDATA is a name, as that of an MX is behind its preference (RFC 1035 §3.3.1, §3.3.9).
      Bytes as_mx{0, 0};
      as_mx.insert(as_mx.end(), rdata.begin(), rdata.end());
      if (const auto mx = dns::parse_mx(as_mx)) return shown(mx->name);
      break;
    }
    default:
      break;
  }
  return fmt::format("\\# {} {}", rdata.size(), shown(hex(rdata)));  // RFC 3597 §5
}

std::string outcome_text(const Answer& answer) {
  switch (answer.outcome) {
    case dns::Outcome::data:
      return "answered";
    case dns::Outcome::nodata:
      return "no such record";
    case dns::Outcome::nxdomain:
      return "no such name";
    case dns::Outcome::failed:
      break;
  }
  return "failed: " + dns::to_text(answer.failure);
}

void add_lookup(std::string& out, const LookupKey& key, const Answer& answer) {
  add(out, "  {} {}: {}", key.name.text(), dns::to_text(key.type), outcome_text(answer));
  if (answer.answered()) add(out, ", {}", dns::to_text(answer.security));
  if (!answer.cause.empty()) add(out, " ({})", shown(answer.cause));
  add(out, ", TTL {} s\n", answer.ttl);
  for (const auto& alias : answer.aliases) add(out, "    alias of {}\n", shown(alias));
  const std::size_t count = std::min(answer.rdata.size(), max_records);
  for (std::size_t i = 0; i < count; ++i) add(out, "    {}\n", record_text(key.type, answer.rdata[i]));
  if (count < answer.rdata.size()) add(out, "    and {} more\n", answer.rdata.size() - count);
}

void add_policy(std::string& out, const Decision& d, const Evidence& evidence) {
  if (d.sts) {
    add(out, "  {}\n", policy_line(*d.sts));
    if (d.sts->fetched) add(out, "  fetched {}", rfc3339(*d.sts->fetched));
    if (d.sts->txt_seen) add(out, ", its id last seen {}", rfc3339(*d.sts->txt_seen));
    if (d.sts->refresh_after) add(out, ", refreshed after {}", rfc3339(*d.sts->refresh_after));
    if (d.sts->fetched) out += "\n";
  } else {
    out += evidence.rules.mta_sts ? "  MTA-STS: no policy\n" : "  MTA-STS: switched off (mta_sts = off)\n";
  }
  const sts::PolicyState& stored = evidence.stored;
  if (stored.attempted != WallTime{}) {
    add(out, "  last HTTPS fetch before this question: {}, for id {}: {}\n", rfc3339(stored.attempted),
        shown(stored.attempted_id), stored.error.empty() ? "good" : shown(stored.error));
  }
  if (evidence.fetch) {
    add(out, "  HTTPS fetch of this question: {}, for id {}: {}\n", rfc3339(evidence.fetch->started),
        shown(evidence.fetch->id), evidence.fetch->error.empty() ? "good" : shown(evidence.fetch->error));
  }
}

// "dane to", "dane, mx insecure, to", "not"
std::string log_label(const HostDecision& host, const Decision& d) {
  if (host.tls == Tls::skip) return "not";
  const std::string text = demand(host, d);
  return text + (text.find(',') == std::string::npos ? " to" : ", to");
}

// "dane to mx1.example.org, mx2.example.org; not mx3.example.org (sts-mismatch)". Hosts are named as the MX names them,
// before CNAME expansion, so that a forged MX shows in the log (RFC 7672 §2.2.1).
std::string demands_line(const Decision& d) {
  std::string line;
  std::string before;
  const std::size_t count = std::min(d.hosts.size(), max_log_hosts);
  for (std::size_t i = 0; i < count; ++i) {
    const HostDecision& host = d.hosts[i];
    const std::string label = log_label(host, d);
    if (label == before) {
      line += ", ";
    } else {
      add(line, "{}{} ", line.empty() ? "" : "; ", label);
    }
    line += printable(host.host, max_log_host);
    if (host.tls == Tls::skip) add(line, " ({})", to_text(host.reason));
    if (host.would) add(line, " (testing: {})", to_text(*host.would));
    before = label;
  }
  if (count < d.hosts.size()) add(line, "; and {} more", d.hosts.size() - count);
  return line;
}

std::string_view log_verb(Action action) {
  switch (action) {
    case Action::deliver:
      return "deliver";
    case Action::reject:
      return "rejected";
    case Action::defer:
      break;
  }
  return "deferred";
}

}  // namespace

std::string decision_text(const Decision& d) {
  std::string out = first_line(d);
  add(out, "  {}\n", because(d.reason, d.detail));
  for (const HostDecision& host : d.hosts) {
    add(out, "  {} {}: {}: {}", host.preference, shown(host.host), demand(host, d), because(host.reason, host.detail));
    if (host.would) add(out, "; testing: would be {}", to_text(*host.would));
    out += "\n";
  }
  if (d.sts) add(out, "  {}\n", policy_line(*d.sts));
  if (!d.override_rule.empty()) add(out, "  override: {}\n", shown(d.override_rule));
  for (const auto& remedy : remedies(d)) add(out, "  remedy: {}\n", remedy);
  return out;
}

std::string explain_text(const Decision& d, const Evidence& evidence) {
  std::string out = first_line(d);
  add(out, "  why: {}\n", because(d.reason, d.detail));
  add(out, "  asked: {}, port {}{}{}\n", shown(evidence.question.text), d.port,
      evidence.question.mx ? "" : ", as a next hop (no MX lookup)", evidence.question.fresh ? ", past all caches" : "");
  add(out, "  decided {}, good until {}{}\n", rfc3339(d.decided), rfc3339(d.expires),
      d.complete ? "" : "; not all was known in time");
  if (d.next_hop != d.domain) add(out, "  alias of: {}\n", shown(d.next_hop));
  add(out, "  a host that is not listed here: {}\n", to_text(d.others));
  if (!d.override_rule.empty()) add(out, "  override: {}\n", shown(d.override_rule));

  out += "\nHosts, best first\n";
  if (d.hosts.empty()) out += "  none\n";
  for (const HostDecision& host : d.hosts) add_host(out, host, d);

  out += "\nLookups\n";
  if (evidence.answers.empty()) out += "  none\n";
  for (const auto& [key, answer] : evidence.answers) add_lookup(out, key, answer);

  out += "\nPolicy\n";
  add_policy(out, d, evidence);

  out += "\nRemedy\n";
  const auto found = remedies(d);
  if (found.empty()) out += "  nothing needs to be done\n";
  for (const auto& remedy : found) add(out, "  {}\n", remedy);
  return out;
}

std::string log_line(const Decision& d) {
  const ReasonText& reason = describe(d.reason);
  std::string why(reason.sentence);
  if (!d.detail.empty()) why = printable(d.detail, max_log_detail);
  if (d.action == Action::deliver) why = demands_line(d);
  std::string line =
      fmt::format("{} {}: {}: {}", printable(d.domain, max_log_host), log_verb(d.action), reason.token, why);
  if (!d.override_rule.empty()) add(line, " (override {})", printable(d.override_rule, max_log_detail));
  if (!reason.rule.empty()) add(line, " [{}]", reason.rule);
  return line;
}

}  // namespace sealane
