// Why: the fixed list of reasons, each with its RFC section, a sentence for the operator and the remedy (reasons.def).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace sealane {

enum class Reason : std::uint8_t {
#define SEALANE_REASON(name, token, rule, result_type, sentence, remedy) name,
#include "core/decide/reasons.def"
#undef SEALANE_REASON
};

struct ReasonText {
  std::string_view token;        // "tlsa-usable"
  std::string_view rule;         // "RFC 7672 2.2"; may be empty where the rule is ours
  std::string_view result_type;  // RFC 8460 §4.3 result type; empty where there is nothing to report
  std::string_view sentence;     // for the operator, no full stop
  std::string_view remedy;       // what to do; may be empty
};

[[nodiscard]] const ReasonText& describe(Reason reason);
[[nodiscard]] inline std::string_view to_text(Reason reason) { return describe(reason).token; }
[[nodiscard]] std::optional<Reason> reason_from_text(std::string_view token);

}  // namespace sealane
