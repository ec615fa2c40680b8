// Evidence as JSON, the decision that follows from it, and both as text. The laws of a decision are checked against the
// evidence, and against evidence with one answer less: never weaker than what was published, whatever is missing.
#include <algorithm>

#include "core/base/bytes.h"
#include "core/decide/decide.h"
#include "core/render/render.h"
#include "core/verify/demand.h"
#include "tests/fuzz/fuzz.h"

using namespace sealane;
using dns::RrType;
using dns::Security;
using fuzz::must;

namespace {

constexpr std::size_t max_file_octets = 1U << 20U;
constexpr std::size_t most_losses = 12;  // bounds the cost of an input

const HostDecision* find(const Decision& decision, const std::string& host) {
  const auto found = std::find_if(decision.hosts.begin(), decision.hosts.end(),
                                  [&host](const HostDecision& one) { return one.host == host; });
  return found == decision.hosts.end() ? nullptr : &*found;
}

const dns::Answer* find(const Evidence& evidence, const std::optional<Domain>& name, RrType type) {
  if (!name) return nullptr;
  const auto found = evidence.answers.find({*name, type});
  return found == evidence.answers.end() ? nullptr : &found->second;
}

bool is_secure_data(const dns::Answer* answer) {
  return answer != nullptr && answer->has_data() && answer->is_secure();
}

bool overridden(const Evidence& evidence, OverrideKind kind) {
  return evidence.rules.override && evidence.rules.override->kind == kind;
}

// Signed addresses, and signed TLSA records at the host's own name.
bool publishes_dane(const Evidence& evidence, const HostDecision& host) {
  if (!host.name) return false;
  const auto base = host.name->prefixed("_" + std::to_string(evidence.question.port) + "._tcp");
  return is_secure_data(find(evidence, host.name, RrType::A)) && is_secure_data(find(evidence, base, RrType::TLSA)) &&
         (evidence.rules.dane || overridden(evidence, OverrideKind::dane)) && !overridden(evidence, OverrideKind::none);
}

void check_host(const Evidence& evidence, const Decision& decision, const HostDecision& host) {
  const bool secure_mx = decision.mx_dnssec == Security::secure;
  must(host.addresses.size() <= max_addresses, "addresses are bounded");
  must(host.expires >= decision.decided, "nothing expires before it was decided");
  if (host.tls == Tls::skip) return;
  must(evidence.question.address_literal || (host.name && !host.addresses.empty()), "a host in use has an address");
  if (host.tls == Tls::dane) {
    must(!host.tlsa.empty() && !host.names.empty() && host.names.front() == host.tlsa_base, "DANE has what it needs");
    for (const auto& record : host.tlsa) must(dane::why_unusable(record).empty(), "only usable records are used");
  }
  if (host.tls == Tls::pkix)
    must(host.names == std::vector{host.host} && host.sni == host.host, "pkix asks the MX name");

  // RFC 7672 §2.2: whoever publishes TLSA records for a host gets TLS at the least.
  if (publishes_dane(evidence, host) && (secure_mx || evidence.rules.dane_insecure_mx)) {
    must(host.tls != Tls::opportunistic, "published DANE is not opportunistic");
  }
  const bool sts_counts = evidence.rules.mta_sts && !overridden(evidence, OverrideKind::none);
  if (sts_counts && decision.sts && decision.sts->policy && decision.sts->policy->mode == sts::Mode::enforce) {
    must(host.tls == Tls::dane || host.tls == Tls::pkix, "RFC 8461 §5: an enforced policy is authenticated");
    must((host.tls == Tls::dane && secure_mx) || decision.sts->policy->allows(*host.name),
         "RFC 8461 §4.1: an enforced policy names the host");
  }
  if (sts_counts && evidence.store_fault && !evidence.question.address_literal) {
    must(host.tls == Tls::dane && secure_mx, "without the store only DANE over a secure MX goes on");
  }
  if (overridden(evidence, OverrideKind::dane)) {
    must(evidence.question.address_literal || (host.tls == Tls::dane && secure_mx), "the override demands DANE");
  }
  if (overridden(evidence, OverrideKind::pkix)) {
    must(evidence.question.address_literal || host.tls == Tls::dane || host.tls == Tls::pkix,
         "the override demands a certificate");
  }
  if (overridden(evidence, OverrideKind::encrypt)) {
    must(evidence.question.address_literal || host.tls != Tls::opportunistic, "the override demands TLS");
  }
}

void check_laws(const Evidence& evidence, const Outcome& outcome) {
  const Decision& decision = outcome.decision;
  Tls floor = Tls::skip;
  bool demanding = false;
  for (const HostDecision& host : decision.hosts) {
    check_host(evidence, decision, host);
    demanding |= host.tls == Tls::dane || host.tls == Tls::encrypt;
    if (host.tls != Tls::skip) floor = std::max(floor, host.tls);
  }
  must(decision.floor == floor, "the floor is the weakest that is not skip");
  must((decision.action == Action::deliver) == (floor != Tls::skip), "what is delivered has a host, nothing else");
  must(decision.complete == (outcome.wanted.settled() && !evidence.fault), "complete: nothing is wanted");
  for (const LookupKey& key : outcome.wanted.lookups) {
    must(evidence.answers.count(key) == 0, "what has been answered is not asked again");
  }
  must(decision.expires >= evidence.now && decision.expires <= evidence.now + Seconds{86400}, "expiry is bounded");
  if (evidence.fault && !evidence.question.address_literal) {
    must(decision.action != Action::deliver, "with a fault of the environment nothing is decided");
  }
  if (decision.mx_dnssec == Security::bogus) must(decision.action != Action::deliver, "no host without an MX answer");
  if (decision.others == Others::opportunistic) {
    must(decision.mx_dnssec == Security::insecure && !demanding, "others are open behind an insecure MX alone");
    must(evidence.question.address_literal || !evidence.rules.override, "and without an override");
    must(!(evidence.rules.mta_sts && decision.sts && decision.sts->policy &&
           decision.sts->policy->mode == sts::Mode::enforce),
         "and without an enforced policy");
  }
}

// A failure is not an answer, and neither is silence.
void check_no_weaker(const Decision& whole, const Decision& less) {
  for (const HostDecision& host : less.hosts) {
    if (host.tls == Tls::skip) continue;
    const HostDecision* before = find(whole, host.host);
    must(before != nullptr && before->tls != Tls::skip, "a lost answer opens no host");
    must(host.tls <= before->tls, "a lost answer weakens no demand");
  }
  must(less.action != Action::reject || whole.action == Action::reject, "a lost answer bounces no mail");
}

void check_losses(const Evidence& evidence, const Decision& whole) {
  std::vector<LookupKey> keys;
  for (const auto& entry : evidence.answers) {
    if (keys.size() < most_losses) keys.push_back(entry.first);
  }
  for (const LookupKey& key : keys) {
    Evidence less = evidence;
    less.answers.erase(key);
    check_no_weaker(whole, decide(less).decision);
    if (key.type == RrType::A || key.type == RrType::AAAA) {
      // Reading of RFC 7672 §2.2.2: one family may fail. Families that do not agree on what they prove are not
      // published.
      const dns::Answer* a = find(evidence, key.name, RrType::A);
      const dns::Answer* aaaa = find(evidence, key.name, RrType::AAAA);
      if (a != nullptr && aaaa != nullptr && (a->security != aaaa->security || a->aliases != aaaa->aliases)) continue;
    }
    less.answers[key] = dns::failed(dns::Failure::bogus, "forged");
    check_no_weaker(whole, decide(less).decision);
  }
}

bool is_for_a_terminal(const std::string& text) {
  return valid_utf8(text) == text && std::all_of(text.begin(), text.end(), [](char c) {
           return c == '\n' || (static_cast<unsigned char>(c) >= ' ' && c != 0x7f);
         });
}

void check_texts(const Evidence& evidence, const Decision& decision) {
  must(is_for_a_terminal(decision_text(decision)) && is_for_a_terminal(explain_text(decision, evidence)),
       "untrusted text is shown escaped");
  const std::string line = log_line(decision);
  must(is_for_a_terminal(line) && line.find('\n') == std::string::npos, "a log line is one line");
  const std::string json = decision_json(decision);
  must(is_for_a_terminal(json) && json.find('\n') == std::string::npos, "a JSON object is one line of UTF-8");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto evidence = evidence_from_json(fuzz::text_of(data, size));
  if (!evidence) {
    must(!evidence.error().what.empty() && evidence.error().text().size() < 1000,
         "an error says what, in bounded words");
    return 0;
  }
  const Outcome outcome = decide(*evidence);
  check_laws(*evidence, outcome);
  check_losses(*evidence, outcome.decision);
  check_texts(*evidence, outcome.decision);
  if (outcome.decision.action == Action::deliver) {
    must(read_token(write_token(demands_of(outcome.decision))).has_value(), "a demand that is written can be read");
  }

  const std::string written = explain_json(outcome.decision, *evidence);
  must(explain_json(decide(*evidence).decision, *evidence) == written, "same evidence, same decision");
  if (written.size() > max_file_octets) return 0;
  const auto again = evidence_from_json(written);
  must(again && explain_json(decide(*again).decision, *again) == written, "evidence read back gives the same decision");
  return 0;
}
