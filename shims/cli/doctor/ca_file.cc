#include "core/verify/verifier.h"
#include "shims/cli/doctor/doctor.h"

namespace sealane::doctor {

Finding check_ca_file(const Config& config) {
  const auto verifier = make_openssl_verifier(config.ca_file);
  if (!verifier) return bad(verifier.error());
  return good(config.ca_file ? *config.ca_file : "the system's bundle");
}

}  // namespace sealane::doctor
