// What an MTA says of a connection's TLS, in its own words, to what the rules ask of it.
#pragma once

#include <string_view>

namespace sealane::wire {

// The zero value is the safe one: no TLS.
struct TlsWords {
  bool tls = false;            // the connection has TLS at all
  bool recent = false;         // TLS 1.2 or later
  bool encrypted = false;      // not a NULL or integrity-only suite
  bool authenticated = false;  // not an anonymous suite
};

// "TLS1.3:ECDHE_X25519__RSA_PSS_RSAE_SHA256__AES_256_GCM:256" (Exim with GnuTLS),
// "TLS1.2:ECDHE-RSA-AES256-GCM-SHA384:256" or "TLSv1.2:…" (Exim with OpenSSL); "none" or nothing: no TLS. A version or
// suite that cannot be told counts as bad.
[[nodiscard]] TlsWords read_tls_words(std::string_view text);

// Of a connection whose handshake is not over: its certificates come while version and suite are not known. They are
// judged as if these were good; the gate sees whether they are.
inline constexpr std::string_view tls_to_be_seen = "TLS1.3:TO_BE_SEEN:256";

// Why mail is refused over TLS whose certificate nobody has seen; who gates says it, object or agent.
inline constexpr const char* unseen_certificate =
    "its certificate was not verified when this connection was made; the transport needs its event and a session that "
    "is not resumed";

}  // namespace sealane::wire
