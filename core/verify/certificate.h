// What a certificate says of itself, for people. Nothing here is proof of anything: verifier.h judges.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/clock.h"

namespace sealane {

struct CertificateText {
  std::string subject;  // "CN=mx.example.org", printable
  std::string issuer;
  std::vector<std::string> names;  // its DNS-IDs, printable; at most 100
  WallTime not_after{};
};

// Nothing: not one certificate in DER, of at most max_certificate_octets (verifier.h).
[[nodiscard]] std::optional<CertificateText> describe_certificate(const Bytes& der);

}  // namespace sealane
