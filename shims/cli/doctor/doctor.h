// The checks of `sealane doctor`: one file each. A check takes the configuration, changes nothing, takes bounded time,
// and says what it found, and what to do about it.
#pragma once

#include <string>

#include "core/config/config.h"

namespace sealane::doctor {

enum class Health : unsigned char { bad, absent, good };  // absent: not set up here, which may be as it should

struct Finding {
  Health health = Health::bad;
  std::string what;    // in words; printable
  std::string remedy;  // of `bad`
};

[[nodiscard]] inline Finding good(std::string what) { return {Health::good, std::move(what), {}}; }
[[nodiscard]] inline Finding absent(std::string what) { return {Health::absent, std::move(what), {}}; }
[[nodiscard]] inline Finding bad(std::string what, std::string remedy) {
  return {Health::bad, std::move(what), std::move(remedy)};
}
[[nodiscard]] inline Finding bad(const Error& error) {
  return bad(error.of.empty() ? error.what : error.of + ": " + error.what, error.remedy);
}

[[nodiscard]] Finding check_trust_anchor(const Config& config);
[[nodiscard]] Finding check_resolver(const Config& config);
[[nodiscard]] Finding check_clock(const Config& config);
[[nodiscard]] Finding check_ca_file(const Config& config);
[[nodiscard]] Finding check_store(const Config& config);
[[nodiscard]] Finding check_agent(const Config& config);
[[nodiscard]] Finding check_exim(const Config& config);
[[nodiscard]] Finding check_opensmtpd(const Config& config);

}  // namespace sealane::doctor
