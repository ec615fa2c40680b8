#include "core/domain/domain.h"

#include <idn2.h>

#include <algorithm>
#include <memory>

#include "core/base/bytes.h"

namespace sealane {
namespace {

constexpr std::size_t max_label = 63;    // RFC 1035 §2.3.4
constexpr std::size_t max_name = 253;    // in presentation form: 255 octets on the wire
constexpr std::size_t max_input = 1024;  // UTF-8 that UTS 46 may still map to 253 octets; bounds its cost

bool is_ascii(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
}

// Appends one label in lower case, after a dot if it is not the first. What is wrong with it, or nothing.
const char* append_label(std::string& name, std::string_view label) {
  if (label.empty()) return "an empty label";
  if (label.size() > max_label) return "a label of more than 63 octets";
  if (!name.empty()) name += '.';
  for (const char c : label) {
    if (c >= 'A' && c <= 'Z') {
      name += static_cast<char>(c - 'A' + 'a');
    } else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_') {
      name += c;
    } else {
      return "an octet other than letters, digits, \"-\" and \"_\" in a label";
    }
  }
  return name.size() > max_name ? "a name of more than 253 octets" : nullptr;
}

// UTS 46, non-transitional: also maps case, full-width forms and the ideographic full stops. Only called for input that
// is not all ASCII and holds no NUL.
Result<std::string> to_a_labels(std::string_view utf8) {
  char* out = nullptr;
  const int rc = idn2_to_ascii_8z(std::string(utf8).c_str(), &out, IDN2_NONTRANSITIONAL);
  const std::unique_ptr<char, void (*)(void*)> owned(out, idn2_free);
  if (rc != IDN2_OK) {
    return failure(std::string("no valid internationalised name (") + idn2_strerror(rc) + ")", printable(utf8));
  }
  return std::string(out);
}

}  // namespace

Result<Domain> Domain::parse(std::string_view utf8) {
  const auto refuse = [utf8](const char* why) { return failure(why, printable(utf8)); };
  if (utf8.empty()) return refuse("an empty name");
  if (utf8.size() > max_input) return refuse("a name of more than 253 octets");
  if (utf8.find('\0') != std::string_view::npos) return refuse("a NUL in a name");

  std::string ascii(utf8);
  if (!is_ascii(utf8)) {
    auto converted = to_a_labels(utf8);
    if (!converted) return tl::make_unexpected(converted.error());
    ascii = *std::move(converted);
  }
  std::string_view rest = ascii;
  if (rest.size() > 1 && rest.back() == '.') rest.remove_suffix(1);

  std::string name;
  for (;;) {
    const std::size_t dot = rest.find('.');
    if (const char* why = append_label(name, rest.substr(0, dot))) return refuse(why);
    if (dot == std::string_view::npos) return Domain(std::move(name));
    rest.remove_prefix(dot + 1);
  }
}

std::optional<Domain> Domain::from_labels(std::span<const std::string> labels) {
  std::string name;
  for (const std::string& label : labels) {
    if (append_label(name, label) != nullptr) return std::nullopt;
  }
  if (name.empty()) return std::nullopt;  // the root
  return Domain(std::move(name));
}

bool Domain::is_below(const Domain& ancestor) const {
  const std::string& top = ancestor.text_;
  return text_.size() > top.size() && text_.ends_with(top) && text_[text_.size() - top.size() - 1] == '.';
}

bool Domain::looks_like_address() const {
  const std::size_t last = text_.rfind('.') + 1;  // npos + 1 == 0: a single label
  return std::all_of(text_.begin() + static_cast<std::ptrdiff_t>(last), text_.end(),
                     [](char c) { return c >= '0' && c <= '9'; });
}

std::optional<Domain> Domain::prefixed(std::string_view labels) const {
  auto name = parse(std::string(labels) + '.' + text_);
  if (!name) return std::nullopt;
  return *std::move(name);
}

}  // namespace sealane
