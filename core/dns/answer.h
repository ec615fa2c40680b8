// What a DNSSEC-validating lookup came to. Failure is kept apart from absence: only NOERROR and NXDOMAIN are answers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/domain/domain.h"

namespace sealane::dns {

enum class RrType : std::uint16_t {
  A = 1,
  NS = 2,
  CNAME = 5,
  SOA = 6,
  MX = 15,
  TXT = 16,
  AAAA = 28,
  DS = 43,
  DNSKEY = 48,
  TLSA = 52
};

// "A", "MX", …; "TYPE99" for others.
[[nodiscard]] std::string to_text(RrType type);
[[nodiscard]] std::optional<RrType> rr_type_from_text(std::string_view text);

// RFC 4033 §5; "indeterminate" does not occur: without a trust anchor for the root nothing is decided at all.
enum class Security : std::uint8_t { bogus, insecure, secure };

enum class Outcome : std::uint8_t { failed, nxdomain, nodata, data };

// Why `outcome` is `failed`.
enum class Failure : std::uint8_t { unknown, none, bogus, servfail, refused, timeout, malformed, loop };

struct Answer {
  Outcome outcome = Outcome::failed;
  Security security = Security::bogus;  // of the whole answer, every CNAME on the way included; bogus for every failure
  Failure failure = Failure::unknown;   // `none` if and only if outcome is not `failed`
  std::string cause;                    // why bogus, failed or insecure, in words, where known
  std::vector<std::string> aliases;  // CNAME targets in the order followed; presentation form, lower case, no final dot
  std::vector<Bytes> rdata;          // of the type asked for, names uncompressed; only with `data`
  std::uint32_t ttl = 0;             // seconds: the least of all records used, RRSIG end and RFC 2308 §5 included

  [[nodiscard]] bool answered() const { return outcome != Outcome::failed; }
  [[nodiscard]] bool has_data() const { return outcome == Outcome::data; }
  [[nodiscard]] bool is_secure() const { return answered() && security == Security::secure; }
};

[[nodiscard]] std::string to_text(Security security);  // "secure", …
[[nodiscard]] std::string to_text(Outcome outcome);
[[nodiscard]] std::string to_text(Failure failure);
[[nodiscard]] std::optional<Security> security_from_text(std::string_view text);
[[nodiscard]] std::optional<Outcome> outcome_from_text(std::string_view text);
[[nodiscard]] std::optional<Failure> failure_from_text(std::string_view text);

// A failed answer, ready made.
[[nodiscard]] Answer failed(Failure failure, std::string cause);

struct MxRecord {
  std::uint16_t preference = 0;  // host order
  std::string name;              // presentation form, other octets escaped as \DDD; "." for the root
  std::optional<Domain> host;    // nothing if the name is the root or holds an octet outside a-z 0-9 - _
};

// RDATA as it stands in Answer::rdata (uncompressed). Nothing: malformed.
[[nodiscard]] std::optional<MxRecord> parse_mx(ByteView rdata);
[[nodiscard]] std::optional<std::string> parse_txt(ByteView rdata);      // character-strings joined without a space
[[nodiscard]] std::optional<std::string> parse_address(ByteView rdata);  // 4 or 16 octets -> "192.0.2.1", "2001:db8::1"

}  // namespace sealane::dns
