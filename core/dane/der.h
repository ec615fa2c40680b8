// Is this DER? The one user of OpenSSL in core/dane is der.cc.
#pragma once

#include "core/base/bytes.h"

namespace sealane::dane {

// Exactly one X.509 certificate, or one SubjectPublicKeyInfo, without an octet left over. Only the structure counts: a
// key of an algorithm that OpenSSL does not know is still a key, and whoever publishes it demands authentication.
[[nodiscard]] bool is_one_certificate(ByteView der);
[[nodiscard]] bool is_one_public_key(ByteView der);

}  // namespace sealane::dane
