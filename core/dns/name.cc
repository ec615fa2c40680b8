#include "core/dns/name.h"

#include <algorithm>

namespace sealane::dns {
namespace {

constexpr std::size_t max_wire_octets = 255;  // RFC 1035 §3.1, the final zero octet included
constexpr int max_pointers = 126;             // a name of 255 octets has at most 127 labels

char lower(std::uint8_t octet) { return static_cast<char>(octet >= 'A' && octet <= 'Z' ? octet + ('a' - 'A') : octet); }

}  // namespace

std::optional<Labels> read_name(ByteReader& reader, Pointers pointers) {
  Labels labels;
  std::size_t wire_octets = 1;
  std::size_t run_start = reader.offset();  // of the run of labels being read
  std::optional<std::size_t> behind;        // where the name ends in the record that holds it
  int followed = 0;
  for (;;) {
    const auto length = reader.u8();
    if (!length) return std::nullopt;
    if (*length == 0) break;
    if ((*length & 0xc0U) == 0xc0) {
      const auto low = reader.u8();
      if (!low || pointers == Pointers::refused || ++followed > max_pointers) return std::nullopt;
      const std::size_t target = ((*length & 0x3fU) << 8U) | *low;
      // RFC 1035 §4.1.4: "a prior occurrence". Each run starts before the last one: no loop is possible.
      if (target >= run_start) return std::nullopt;
      if (!behind) behind = reader.offset();
      run_start = target;
      if (!reader.seek(target)) return std::nullopt;
      continue;
    }
    if ((*length & 0xc0U) != 0) return std::nullopt;  // label types 01 and 10 (RFC 6891 §5)
    const auto octets = reader.take(*length);
    wire_octets += 1U + *length;
    if (!octets || wire_octets > max_wire_octets) return std::nullopt;
    std::string& label = labels.emplace_back();
    std::transform(octets->begin(), octets->end(), std::back_inserter(label), lower);
  }
  if (behind) reader.seek(*behind);
  return labels;
}

Labels labels_of(const Domain& domain) {
  Labels labels;
  std::string_view rest = domain.text();
  while (!rest.empty()) {
    const std::size_t dot = std::min(rest.find('.'), rest.size());
    labels.emplace_back(rest.substr(0, dot));
    rest.remove_prefix(std::min(dot + 1, rest.size()));
  }
  return labels;
}

void append_wire(Bytes& out, const Labels& name) {
  for (const std::string& label : name) {
    out.push_back(static_cast<std::uint8_t>(label.size()));
    out.insert(out.end(), label.begin(), label.end());
  }
  out.push_back(0);
}

std::string to_text(const Labels& name) {
  if (name.empty()) return ".";
  std::string text;
  for (const std::string& label : name) {
    if (!text.empty()) text += '.';
    for (const char c : label) {
      if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_') {
        text += c;
      } else {
        const std::string value = std::to_string(static_cast<std::uint8_t>(c));
        text += '\\' + std::string(3 - value.size(), '0') + value;
      }
    }
  }
  return text;
}

}  // namespace sealane::dns
