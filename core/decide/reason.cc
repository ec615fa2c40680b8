#include "core/decide/reason.h"

#include <algorithm>
#include <array>

namespace sealane {
namespace {

constexpr std::array reasons{
#define SEALANE_REASON(name, token, rule, result_type, sentence, remedy) \
  ReasonText{token, rule, result_type, sentence, remedy},
#include "core/decide/reasons.def"
#undef SEALANE_REASON
};

}  // namespace

const ReasonText& describe(Reason reason) {
  const auto index = static_cast<std::size_t>(reason);
  return reasons[index < reasons.size() ? index : 0];
}

std::optional<Reason> reason_from_text(std::string_view token) {
  const auto found =
      std::find_if(reasons.begin(), reasons.end(), [token](const ReasonText& text) { return text.token == token; });
  if (found == reasons.end()) return std::nullopt;
  return static_cast<Reason>(found - reasons.begin());
}

}  // namespace sealane
