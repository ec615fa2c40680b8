#include "core/dane/tlsa.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "core/dane/der.h"

namespace sealane::dane {
namespace {

// RFC 7218 §2: the numbers and their names.
enum Usage : std::uint8_t { PKIX_TA, PKIX_EE, DANE_TA, DANE_EE };
enum Selector : std::uint8_t { Cert, SPKI };
enum MatchingType : std::uint8_t { Full, SHA2_256, SHA2_512 };

constexpr std::string_view white_space = " \t\r\n";
constexpr std::size_t longest_rdata = 65535;  // RFC 1035 §3.2.1

// The next field of presentation text, taken off its front; empty at the end.
std::string_view next_field(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(white_space), text.size()));
  const std::string_view field = text.substr(0, text.find_first_of(white_space));
  text.remove_prefix(field.size());
  return field;
}

// RFC 6698 §2.2: an unsigned decimal integer of one octet.
std::optional<std::uint8_t> octet_of(std::string_view text) {
  std::uint8_t value = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || at != end) return std::nullopt;
  return value;
}

// RFC 3597 §5: RDATA of which no more is known than its octets.
std::string generic_text(ByteView rdata) {
  std::string text = "\\# " + std::to_string(rdata.size());
  if (!rdata.empty()) text += " " + hex(rdata);
  return text;
}

std::string digest_problem(const TlsaRecord& record, std::string_view name, std::size_t length) {
  if (record.data.size() == length) return {};
  return std::string(name) + " digest of " + std::to_string(record.data.size()) + " octets instead of " +
         std::to_string(length) + " (RFC 6698 2.1.3)";
}

// RFC 7671 §9: of the digests for one usage and selector the strongest counts, so that a weaker one, published for
// older clients, is no way in. Full(0) employs no digest and always stays.
bool superseded(const TlsaRecord& record, const std::vector<TlsaRecord>& all) {
  return record.matching_type == SHA2_256 && std::any_of(all.begin(), all.end(), [&record](const TlsaRecord& other) {
           return other.matching_type == SHA2_512 && other.usage == record.usage && other.selector == record.selector;
         });
}

}  // namespace

std::string TlsaRecord::text() const {
  std::string out =
      std::to_string(usage) + " " + std::to_string(selector) + " " + std::to_string(matching_type) + " " + hex(data);
  if (data.empty()) out.pop_back();
  return out;
}

std::optional<TlsaRecord> parse_tlsa(ByteView rdata) {
  ByteReader reader(rdata);
  TlsaRecord record;
  const auto usage = reader.u8();
  const auto selector = reader.u8();
  const auto matching_type = reader.u8();
  if (reader.failed()) return std::nullopt;
  const ByteView data = *reader.take(reader.left());
  return TlsaRecord{*usage, *selector, *matching_type, Bytes(data.begin(), data.end())};
}

std::optional<TlsaRecord> parse_tlsa_text(std::string_view text) {
  const auto usage = octet_of(next_field(text));
  const auto selector = octet_of(next_field(text));
  const auto matching_type = octet_of(next_field(text));
  if (!usage || !selector || !matching_type) return std::nullopt;
  std::string digits(text);
  digits.erase(std::remove_if(digits.begin(), digits.end(),
                              [](char c) { return white_space.find(c) != std::string_view::npos; }),
               digits.end());
  auto data = from_hex(digits);
  if (!data || data->size() > longest_rdata - 3) return std::nullopt;
  return TlsaRecord{*usage, *selector, *matching_type, std::move(*data)};
}

std::string why_unusable(const TlsaRecord& record) {
  if (record.usage == PKIX_TA || record.usage == PKIX_EE) {
    return "usage " + std::to_string(record.usage) + " is not for SMTP (RFC 7672 3.1.3)";
  }
  if (record.usage > DANE_EE) return "unknown usage " + std::to_string(record.usage) + " (RFC 6698 2.1.1)";
  if (record.selector > SPKI) return "unknown selector " + std::to_string(record.selector) + " (RFC 6698 2.1.2)";
  switch (record.matching_type) {
    case SHA2_256:
      return digest_problem(record, "SHA2-256", 32);
    case SHA2_512:
      return digest_problem(record, "SHA2-512", 64);
    case Full:
      if (record.selector == Cert && !is_one_certificate(record.data)) {
        return "the data is not exactly one DER certificate (RFC 6698 2.1.4)";
      }
      if (record.selector == SPKI && !is_one_public_key(record.data)) {
        return "the data is not exactly one DER SubjectPublicKeyInfo (RFC 6698 2.1.4)";
      }
      return {};
    default:
      return "unknown matching type " + std::to_string(record.matching_type) + " (RFC 6698 2.1.3)";
  }
}

TlsaRrset sort_rrset(const std::vector<Bytes>& rdata) {
  TlsaRrset rrset;
  // RFC 7671 §9: unusable records go first, so that a malformed strong digest does not displace a good weak one.
  std::vector<TlsaRecord> usable;
  for (const Bytes& octets : rdata) {
    auto record = parse_tlsa(octets);
    if (!record) {
      rrset.unused.push_back({generic_text(octets), "shorter than three octets (RFC 6698 2.1)"});
      continue;
    }
    std::string why = why_unusable(*record);
    if (why.empty() && std::find(usable.begin(), usable.end(), *record) != usable.end()) why = "a duplicate";
    // Only usable records count: else a heap of unusable ones would turn `dane` into `encrypt`.
    if (why.empty() && usable.size() == max_records) why = "limit: more than " + std::to_string(max_records);
    if (why.empty()) {
      usable.push_back(std::move(*record));
    } else {
      rrset.unused.push_back({record->text(), std::move(why)});
    }
  }
  for (const TlsaRecord& record : usable) {
    if (superseded(record, usable)) {
      rrset.unused.push_back({record.text(), "a stronger digest is published (RFC 7671 9)"});
    } else {
      rrset.usable.push_back(record);
    }
  }
  return rrset;
}

}  // namespace sealane::dane
