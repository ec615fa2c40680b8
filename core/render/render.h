// Decisions and evidence as JSON and as text. The one user of nlohmann-json is json.cc.
#pragma once

#include <string>
#include <string_view>

#include "core/base/result.h"
#include "core/decide/decision.h"
#include "core/decide/evidence.h"

namespace sealane {

// The object of `sealane query --json` (schema 1), one line, no line end. Valid UTF-8 always.
[[nodiscard]] std::string decision_json(const Decision& decision);

// Reads such an object as far as whoever delivers needs it: domain, port, action, reason, detail, others, override, and
// of each host all but what was not used. An unknown field is ignored, an unknown `action` is `defer`, an unknown `tls`
// is `skip`; anything else that is missing or wrong is an error.
[[nodiscard]] Result<Decision> decision_from_json(std::string_view text);

// `sealane explain --json`: {"schema":1,"decision":{…},"evidence":{…}}, one line.
[[nodiscard]] std::string explain_json(const Decision& decision, const Evidence& evidence);
// Reads the "evidence" of such an object, or the evidence object alone. Unknown fields are ignored; bounded (1 MiB).
[[nodiscard]] Result<Evidence> evidence_from_json(std::string_view text);

// A line of `sealane cache export`: {"schema":1,"domain":…,"stored":{…}}, without its line end, and back. What is read
// parses as a policy, or there is none.
struct PolicyRecord {
  Domain domain;
  sts::PolicyState state;
};
[[nodiscard]] std::string policy_record_json(const Domain& domain, const sts::PolicyState& state);
[[nodiscard]] Result<PolicyRecord> policy_record_from_json(std::string_view text);

// `sealane query`: short and readable; several lines, each with its line end.
[[nodiscard]] std::string decision_text(const Decision& decision);
// `sealane explain`: the same with every lookup, its DNSSEC status and cause, TTL, and the rule behind each outcome.
[[nodiscard]] std::string explain_text(const Decision& decision, const Evidence& evidence);

// One line for a log, made to be grepped by domain, ending in the rule:
// "example.org deferred: sts-mismatch: mx.evil.test matches no mx of policy id 20260101 [RFC 8461 4.1]".
[[nodiscard]] std::string log_line(const Decision& decision);

}  // namespace sealane
