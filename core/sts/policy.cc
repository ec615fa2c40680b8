#include "core/sts/policy.h"

#include <algorithm>
#include <optional>

#include "core/base/bytes.h"
#include "core/sts/grammar.h"

namespace sealane::sts {
namespace {

tl::unexpected<PolicyError> refuse(int line, std::string what) {
  return tl::make_unexpected(PolicyError{line, std::move(what)});
}

std::string quoted(std::string_view text) { return '"' + printable(text, 64) + '"'; }

// sts-policy-ext-value, of which every other value is an example: %x20-7E and UTF-8, no control characters. The caller
// has trimmed it.
bool is_value(std::string_view text) {
  return !text.empty() && valid_utf8(text) == text && std::all_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) >= ' ' && c != 0x7f;
  });
}

std::optional<Mode> mode_from_text(std::string_view text) {
  for (const Mode mode : {Mode::enforce, Mode::testing, Mode::none}) {
    if (text == to_text(mode)) return mode;
  }
  return std::nullopt;
}

// 1*10(DIGIT), capped (RFC 8461 §3.2: "maximum value of 31557600"): never refused for its size, because a policy that
// means to live too long is better kept for a year than not at all.
std::optional<std::uint32_t> max_age_from_text(std::string_view text) {
  if (text.empty() || text.size() > 10) return std::nullopt;
  std::uint64_t seconds = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    seconds = seconds * 10 + static_cast<std::uint64_t>(c - '0');
  }
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(seconds, max_max_age));
}

// What has been read so far. RFC 8461 §3.2: of a field other than mx, "all entries except for the first SHALL be
// ignored"; so the first counts even where it is malformed and a later one is not.
struct Fields {
  bool version = false;
  std::optional<Mode> mode;
  std::optional<std::uint32_t> max_age;
  std::vector<MxPattern> mx;

  // What is wrong, or nothing.
  std::optional<std::string> add(std::string_view name, std::string_view value) {
    if (name == "version" && !version) {
      version = value == "STSv1";
      if (!version) return "version " + quoted(value) + " is not STSv1";
    } else if (name == "mode" && !mode) {
      mode = mode_from_text(value);
      if (!mode) return "mode " + quoted(value) + " is not enforce, testing or none";
    } else if (name == "max_age" && !max_age) {
      max_age = max_age_from_text(value);
      if (!max_age) return "max_age " + quoted(value) + " is not 1 to 10 digits";
    } else if (name == "mx") {
      auto pattern = MxPattern::parse(value);
      if (!pattern) return "mx " + quoted(value) + " is neither a host name nor \"*.\" before one";
      mx.push_back(*std::move(pattern));
    }
    return std::nullopt;
  }
};

}  // namespace

std::string to_text(Mode mode) {
  switch (mode) {
    case Mode::enforce:
      return "enforce";
    case Mode::testing:
      return "testing";
    case Mode::none:
      return "none";
  }
  return "enforce";
}

bool Policy::allows(const Domain& host) const {
  return std::any_of(mx.begin(), mx.end(), [&host](const MxPattern& pattern) { return pattern.matches(host); });
}

tl::expected<Policy, PolicyError> parse_policy(std::string_view body) {
  if (body.size() > max_policy_octets) return refuse(0, "more than 65536 octets");

  Fields fields;
  int number = 0;
  while (!body.empty()) {
    ++number;
    const std::size_t end = body.find('\n');
    std::string_view line = body.substr(0, end);
    const bool ended = end != std::string_view::npos;
    body.remove_prefix(ended ? end + 1 : body.size());
    if (ended && line.ends_with('\r')) line.remove_suffix(1);  // sts-policy-term = LF / CRLF; a CR alone ends nothing

    // Wider than the ABNF, as real policies are: blank lines, white space around a line, no line end at the end.
    line = without_outer_wsp(line);
    if (line.empty()) continue;

    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return refuse(number, "no \":\" in " + quoted(line));
    const std::string_view name = line.substr(0, colon);
    const std::string_view value = without_outer_wsp(line.substr(colon + 1));
    if (!is_field_name(name)) return refuse(number, "malformed key " + quoted(name));
    if (!is_value(value)) {
      return refuse(number, value.empty() ? "no value for " + quoted(name)
                                          : "control character or broken UTF-8 in the value of " + quoted(name));
    }
    if (auto fault = fields.add(name, value)) return refuse(number, *std::move(fault));
  }

  if (!fields.version) return refuse(0, "no version");
  if (!fields.mode) return refuse(0, "no mode");
  if (!fields.max_age) return refuse(0, "no max_age");
  if (*fields.mode != Mode::none) {
    if (fields.mx.empty()) return refuse(0, "no mx, which mode " + to_text(*fields.mode) + " needs");
    if (std::none_of(fields.mx.begin(), fields.mx.end(), [](const MxPattern& mx) { return mx.can_match(); })) {
      return refuse(0, "every mx looks like an address, so none can match a host name");
    }
  }
  return Policy{*fields.mode, *fields.max_age, std::move(fields.mx)};
}

bool is_policy_media_type(std::string_view content_type) {
  // RFC 8461 §3.2: parameters, a charset of any value included, are ignored.
  std::string type(without_outer_wsp(content_type.substr(0, content_type.find(';'))));
  std::transform(type.begin(), type.end(), type.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return type == "text/plain";
}

}  // namespace sealane::sts
