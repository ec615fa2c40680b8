// The configuration file: parse_config().
#include <algorithm>

#include "core/config/config.h"
#include "tests/fuzz/fuzz.h"

using namespace sealane;
using fuzz::must;

namespace {

std::string size_text(std::size_t size) {
  for (const char unit : {'\0', 'K', 'M'}) {
    if (size % 1024 != 0) return std::to_string(size) + std::string(unit == '\0' ? 0 : 1, unit);
    size /= 1024;
  }
  return std::to_string(size) + "G";
}

std::string resolver_text(const Config& config) {
  switch (config.resolver) {
    case ResolverMode::automatic:
      return "auto";
    case ResolverMode::system:
      return "system";
    case ResolverMode::recursive:
      return "recursive";
    case ResolverMode::addresses:
      break;
  }
  std::string text;
  for (const auto& address : config.resolver_addresses) text += (text.empty() ? "" : ",") + address;
  return text;
}

// All that a file can say, in the order of keys.def. The source is no part of it.
std::string written(const Config& config) {
  const auto word = [](bool value, const char* yes, const char* no) { return std::string(value ? yes : no); };
  const auto time = [](Millis value) { return std::to_string(value.count()) + "ms"; };
  std::string text = "store = " + config.store + "\ntrust_anchor = " + config.trust_anchor +
                     "\nroot_hints = " + config.root_hints + "\nresolver = " + resolver_text(config) + "\n";
  for (const Domain& domain : config.insecure) text += "insecure = " + domain.text() + "\n";
  if (config.ca_file) text += "ca_file = " + *config.ca_file + "\n";
  text += "socket = " + config.socket + "\nadmin_socket = " + config.admin_socket +
          "\ntimeout = " + time(config.timeout) + "\ndns_timeout = " + time(config.dns_timeout) +
          "\nhttps_timeout = " + time(config.https_timeout) + "\ndane = " + word(config.dane, "on", "off") +
          "\nmta_sts = " + word(config.mta_sts, "on", "off") +
          "\ndane_insecure_mx = " + word(config.dane_insecure_mx, "dane", "opportunistic") +
          "\nhttps_private = " + word(config.https_private, "yes", "no") +
          "\ncache_entries = " + size_text(config.cache_entries) + "\ncache_bytes = " + size_text(config.cache_bytes) +
          "\nstore_bytes = " + size_text(config.store_bytes) + "\n[override]\n";
  for (const auto& [name, override] : config.overrides) text += override.rule + "\n";
  return text;
}

void must_read_as(const std::string& text, const std::string& expected, const char* property) {
  const auto config = parse_config(text, "fuzz");
  must(config && written(*config) == expected, property);
}

bool is_path(const std::string& text) { return !text.empty() && text.front() == '/'; }

void check_values(const Config& config) {
  must(config.source == "fuzz", "the file is named");
  must(is_path(config.store) && is_path(config.trust_anchor) && is_path(config.root_hints) && is_path(config.socket) &&
           is_path(config.admin_socket) && (!config.ca_file || is_path(*config.ca_file)),
       "paths are absolute");
  must((config.resolver == ResolverMode::addresses) == !config.resolver_addresses.empty() &&
           config.resolver_addresses.size() <= 16,
       "addresses are named where they are to be used, and bounded");
  for (const Millis time : {config.timeout, config.dns_timeout, config.https_timeout}) {
    must(time >= Millis{1} && time <= Millis{3600000}, "times are in range");
  }
  must(config.cache_entries > 0 && config.cache_bytes > 0 && config.store_bytes > 0, "sizes are above zero");
}

bool same(const Override& a, const Override& b) {
  return a.rule == b.rule && a.kind == b.kind &&
         std::equal(a.match.begin(), a.match.end(), b.match.begin(), b.match.end(),
                    [](const MxPattern& one, const MxPattern& other) { return one.text() == other.text(); });
}

void check_overrides(const Config& config) {
  for (const auto& [name, override] : config.overrides) {
    must(override.match.empty() || override.kind == OverrideKind::pkix, "only pkix has patterns");
    for (const auto& pattern : override.match) must(pattern.can_match(), "every pattern can match");
    const auto again = parse_config("[override]\n" + override.rule, "fuzz");
    must(again && again->overrides.size() == 1 && again->overrides.front().first == name &&
             same(again->overrides.front().second, override),
         "the rule that logs show is the override");
    const bool below = name.front() == '.';
    const auto domain = Domain::parse(below ? "a" + name : name);
    if (!domain) continue;  // no label has room before it
    const auto found = config.override_for(*domain);
    must(found.has_value(), "an override applies to its name");
    if (!below) must(found->rule == override.rule, "the exact name wins");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(fuzz::text_of(data, size));
  const auto config = parse_config(text, "fuzz");
  if (!config) {
    const Error& error = config.error();
    must(error.of.rfind("fuzz:", 0) == 0, "an error names the line");
    const auto line = std::strtol(error.of.c_str() + 5, nullptr, 10);
    must(line >= 1 && line <= 1 + std::count(text.begin(), text.end(), '\n'), "the line exists");
    must(!error.what.empty() && error.text().size() < 1500, "an error says what, in bounded words");
    return 0;
  }
  check_values(*config);
  check_overrides(*config);

  const std::string expected = written(*config);
  must_read_as(expected, expected, "what is written reads as it was");
  must_read_as(text + "\n# comment", expected, "a comment changes nothing");
  must_read_as("\r\n\t \n" + text, expected, "nor do blank lines");
  must(!parse_config("no_such_key = 1\n" + text, "fuzz"), "an unknown key is an error");
  must(!parse_config(text + "\n[other]\n", "fuzz"), "an unknown section is an error");
  return 0;
}
