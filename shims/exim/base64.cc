#include "shims/exim/base64.h"

#include <cstddef>
#include <cstdint>

namespace sealane::exim {
namespace {

int value_of(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+') return 62;
  return c == '/' ? 63 : -1;
}

}  // namespace

std::optional<std::string> base64_decoded(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  std::size_t padding = 0;
  while (padding < 2 && !text.empty() && text.back() == '=') {
    text.remove_suffix(1);
    ++padding;
  }
  std::string out;
  std::uint32_t bits = 0;
  unsigned held = 0;
  for (const char c : text) {
    const int value = value_of(c);
    if (value < 0) return std::nullopt;
    bits = (bits << 6U | static_cast<std::uint32_t>(value)) & 0xffffU;
    held += 6;
    if (held >= 8) {
      held -= 8;
      out += static_cast<char>(static_cast<unsigned char>(bits >> held & 0xffU));
    }
  }
  // RFC 4648 §3.5: other bits than zero at the end would give one certificate several spellings.
  if ((bits & ((1U << held) - 1)) != 0) return std::nullopt;
  return out;
}

std::string base64_encoded(std::string_view octets) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  std::uint32_t bits = 0;
  unsigned held = 0;
  for (const char c : octets) {
    bits = (bits << 8U | static_cast<unsigned char>(c)) & 0xffffU;
    for (held += 8; held >= 6;) {
      held -= 6;
      out += digits[bits >> held & 63U];
    }
  }
  if (held != 0) out += digits[bits << (6 - held) & 63U];
  while (out.size() % 4 != 0) out += '=';
  return out;
}

bool is_der_sequence(std::string_view octets) {
  const auto at = [&](std::size_t i) { return static_cast<std::size_t>(static_cast<unsigned char>(octets[i])); };
  if (octets.size() < 2 || at(0) != 0x30) return false;
  if (at(1) < 0x80) return octets.size() == 2 + at(1);
  const std::size_t count = at(1) - 0x80;  // octets of the length, X.690 §8.1.3.5
  if (count < 1 || count > 3 || octets.size() < 2 + count) return false;
  std::size_t length = 0;
  for (std::size_t i = 0; i < count; ++i) length = length << 8U | at(2 + i);
  return octets.size() == 2 + count + length;
}

}  // namespace sealane::exim
