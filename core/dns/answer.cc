#include "core/dns/answer.h"

#include <arpa/inet.h>

#include <array>
#include <utility>

#include "core/dns/name.h"

namespace sealane::dns {
namespace {

template <class T, std::size_t n>
using Words = std::array<std::pair<T, std::string_view>, n>;

constexpr Words<RrType, 10> rr_types{{{RrType::A, "A"},
                                      {RrType::NS, "NS"},
                                      {RrType::CNAME, "CNAME"},
                                      {RrType::SOA, "SOA"},
                                      {RrType::MX, "MX"},
                                      {RrType::TXT, "TXT"},
                                      {RrType::AAAA, "AAAA"},
                                      {RrType::DS, "DS"},
                                      {RrType::DNSKEY, "DNSKEY"},
                                      {RrType::TLSA, "TLSA"}}};
constexpr Words<Security, 3> securities{
    {{Security::bogus, "bogus"}, {Security::insecure, "insecure"}, {Security::secure, "secure"}}};
constexpr Words<Outcome, 4> outcomes{{{Outcome::failed, "failed"},
                                      {Outcome::nxdomain, "nxdomain"},
                                      {Outcome::nodata, "nodata"},
                                      {Outcome::data, "data"}}};
constexpr Words<Failure, 8> failures{{{Failure::unknown, "unknown"},
                                      {Failure::none, "none"},
                                      {Failure::bogus, "bogus"},
                                      {Failure::servfail, "servfail"},
                                      {Failure::refused, "refused"},
                                      {Failure::timeout, "timeout"},
                                      {Failure::malformed, "malformed"},
                                      {Failure::loop, "loop"}}};

template <class T, std::size_t n>
std::optional<std::string_view> word_for(const Words<T, n>& words, T value) {
  for (const auto& [known, word] : words) {
    if (known == value) return word;
  }
  return std::nullopt;
}

template <class T, std::size_t n>
std::optional<T> value_for(const Words<T, n>& words, std::string_view text) {
  for (const auto& [value, word] : words) {
    if (word == text) return value;
  }
  return std::nullopt;
}

}  // namespace

std::string to_text(RrType type) {
  if (const auto word = word_for(rr_types, type)) return std::string(*word);
  return "TYPE" + std::to_string(static_cast<std::uint16_t>(type));  // RFC 3597 §5
}

std::optional<RrType> rr_type_from_text(std::string_view text) {
  if (const auto type = value_for(rr_types, text)) return type;
  if (!text.starts_with("TYPE")) return std::nullopt;
  text.remove_prefix(4);
  if (text.empty() || text.size() > 5) return std::nullopt;
  std::uint32_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<std::uint32_t>(c - '0');
  }
  if (value > 0xffff) return std::nullopt;
  return static_cast<RrType>(value);
}

std::string to_text(Security security) { return std::string(word_for(securities, security).value_or("bogus")); }
std::string to_text(Outcome outcome) { return std::string(word_for(outcomes, outcome).value_or("failed")); }
std::string to_text(Failure failure) { return std::string(word_for(failures, failure).value_or("unknown")); }
std::optional<Security> security_from_text(std::string_view text) { return value_for(securities, text); }
std::optional<Outcome> outcome_from_text(std::string_view text) { return value_for(outcomes, text); }
std::optional<Failure> failure_from_text(std::string_view text) { return value_for(failures, text); }

Answer failed(Failure failure, std::string cause) {
  Answer answer;
  answer.failure = failure;
  answer.cause = std::move(cause);
  return answer;
}

std::optional<MxRecord> parse_mx(ByteView rdata) {
  ByteReader reader(rdata);
  const auto preference = reader.u16();
  const auto name = read_name(reader, Pointers::refused);
  if (!preference || !name || reader.left() != 0) return std::nullopt;
  return MxRecord{*preference, to_text(*name), Domain::from_labels(*name)};
}

std::optional<std::string> parse_txt(ByteView rdata) {
  if (rdata.empty()) return std::nullopt;  // RFC 1035 §3.3.14: one or more character-strings
  ByteReader reader(rdata);
  std::string text;
  while (reader.left() != 0) {
    const auto length = reader.u8();
    const auto octets = length ? reader.take(*length) : std::nullopt;
    if (!octets) return std::nullopt;
    text.append(octets->begin(), octets->end());
  }
  return text;
}

std::optional<std::string> parse_address(ByteView rdata) {
  if (rdata.size() != sizeof(in_addr) && rdata.size() != sizeof(in6_addr)) return std::nullopt;
  std::array<char, INET6_ADDRSTRLEN> text{};
  const int family = rdata.size() == sizeof(in_addr) ? AF_INET : AF_INET6;
  if (inet_ntop(family, rdata.data(), text.data(), text.size()) == nullptr) return std::nullopt;
  return std::string(text.data());
}

}  // namespace sealane::dns
