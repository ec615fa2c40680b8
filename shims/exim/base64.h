// Certificates as Exim gives them: base64 of DER.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sealane::exim {

// RFC 4648 §4 with its padding, no line ends, nothing after it.
[[nodiscard]] std::optional<std::string> base64_decoded(std::string_view text);

[[nodiscard]] std::string base64_encoded(std::string_view octets);

// One DER SEQUENCE and not an octet more. It is no check of a certificate: it tells one from the text
// "tls_out_peercert", which is what Exim writes where there is none.
[[nodiscard]] bool is_der_sequence(std::string_view octets);

}  // namespace sealane::exim
