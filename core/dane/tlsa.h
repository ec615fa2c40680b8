// TLSA records (RFC 6698 §2) and which of them an SMTP client can use (RFC 7672 §3.1).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/bytes.h"

namespace sealane::dane {

struct TlsaRecord {
  std::uint8_t usage = 0;
  std::uint8_t selector = 0;
  std::uint8_t matching_type = 0;
  Bytes data;

  [[nodiscard]] std::string text() const;  // "3 1 1 9f86d0…", lower case
  friend bool operator==(const TlsaRecord&, const TlsaRecord&) = default;
};

// From RDATA; nothing if shorter than three octets.
[[nodiscard]] std::optional<TlsaRecord> parse_tlsa(ByteView rdata);
// From presentation form "3 1 1 HEX" (hex may hold white space, either case).
[[nodiscard]] std::optional<TlsaRecord> parse_tlsa_text(std::string_view text);

// Empty: usable for SMTP. Else why not, in words ("usage 1 is not for SMTP (RFC 7672 §3.1.3)").
[[nodiscard]] std::string why_unusable(const TlsaRecord& record);

struct UnusedRecord {
  std::string rr;   // presentation form, or \# generic form (RFC 3597) for RDATA that is no TLSA record
  std::string why;  // in words
};

struct TlsaRrset {
  std::vector<TlsaRecord> usable;  // after usability, digest agility (RFC 7671 §9), duplicates
  std::vector<UnusedRecord> unused;
};

inline constexpr std::size_t max_records = 100;  // usable ones; the rest is unused: "limit"

// Sorts an RRset into what is used and what is not. Agility: per usage and selector the strongest digest present stays;
// Full(0) always stays.
[[nodiscard]] TlsaRrset sort_rrset(const std::vector<Bytes>& rdata);

}  // namespace sealane::dane
