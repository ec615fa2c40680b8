#include "core/config/config.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <map>

#include "core/base/bytes.h"

namespace sealane {
namespace {

constexpr std::size_t longest_file = 1U << 20U;
constexpr std::size_t longest_line = 4096;
constexpr std::size_t most_addresses = 16;  // of name servers
constexpr int most_relay_ports = 1024;
constexpr Millis longest_time{3600 * 1000};
constexpr std::string_view white_space = " \t\r";

std::string_view trim(std::string_view text) {
  const std::size_t first = text.find_first_not_of(white_space);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(white_space) - first + 1);
}

// What stands before `separator`, trimmed; `text` becomes what stands after it, or empty.
std::string_view take(std::string_view& text, char separator) {
  const std::size_t end = std::min(text.find(separator), text.size());
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return trim(part);
}

std::string in_quotes(std::string_view text) { return "\"" + printable(text, 80) + "\""; }

template <class Number>
std::optional<Number> number_of(std::string_view text) {
  Number number = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, number);
  if (text.empty() || text.front() == '-' || error != std::errc{} || at != end) return std::nullopt;
  return number;
}

// ---- Values. A failure says what is wrong with the value and what one looks like; where it stands is added later.

Result<void> read_path(std::string_view value, std::string& out) {
  if (value.front() != '/') return failure("not an absolute path: " + in_quotes(value), {}, "begin it with /");
  out = value;
  return {};
}

Result<void> read_ca_file(std::string_view value, Config& config) { return read_path(value, config.ca_file.emplace()); }

Result<void> read_socket(std::string_view value, std::string& out) {
  constexpr std::size_t longest = sizeof(sockaddr_un::sun_path) - 1;
  if (value.size() > longest) {
    return failure("a socket's path of " + std::to_string(value.size()) + " octets", {},
                   "use at most " + std::to_string(longest));
  }
  return read_path(value, out);
}

Result<void> read_switch(std::string_view value, std::string_view yes, std::string_view no, bool& out) {
  if (value != yes && value != no) {
    return failure("bad value " + in_quotes(value), {}, "use " + std::string(yes) + " or " + std::string(no));
  }
  out = value == yes;
  return {};
}

Result<void> read_time(std::string_view value, Millis& out) {
  struct Unit {
    std::string_view name;
    std::int64_t millis;
  };
  constexpr std::array units = {Unit{"ms", 1}, Unit{"s", 1000}, Unit{"m", 60000}};
  const std::size_t digits = std::min(value.find_first_not_of("0123456789"), value.size());
  const auto number = number_of<std::uint32_t>(value.substr(0, digits));
  for (const Unit& unit : units) {
    if (!number || value.substr(digits) != unit.name) continue;
    const Millis time{*number * unit.millis};
    if (time < Millis{1} || time > longest_time) {
      return failure("a time out of range: " + in_quotes(value), {}, "use 1ms to 60m");
    }
    out = time;
    return {};
  }
  return failure("not a time: " + in_quotes(value), {}, "write a whole number and its unit: 500ms, 20s or 2m");
}

Result<void> read_size(std::string_view value, std::size_t& out) {
  std::uint64_t unit = 1;
  std::string_view digits = value;
  constexpr std::string_view units = "KMG";
  if (const std::size_t at = units.find(value.back()); at != std::string_view::npos) {
    unit = std::uint64_t{1} << (10U * (at + 1));
    digits.remove_suffix(1);
  }
  const auto number = number_of<std::uint32_t>(digits);
  if (!number || *number == 0) {
    return failure("not a size: " + in_quotes(value), {}, "write a whole number above 0, with K, M or G if you like");
  }
  out = *number * unit;
  return {};
}

// "IP" or "IP@port"; IPv6 may have a zone ("fe80::1%eth0").
bool is_server_address(std::string_view text) {
  const std::size_t at = text.find('@');
  if (at != std::string_view::npos) {
    const auto port = number_of<std::uint16_t>(text.substr(at + 1));
    if (!port || *port == 0) return false;
  }
  std::string address(text.substr(0, at));
  std::array<unsigned char, sizeof(in6_addr)> octets{};
  if (inet_pton(AF_INET, address.c_str(), octets.data()) == 1) return true;
  const std::size_t zone = address.find('%');
  if (zone != std::string::npos) {
    const std::string_view name = std::string_view(address).substr(zone + 1);
    const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' ||
             c == '_';
    });
    if (name.empty() || !plain) return false;
    address.resize(zone);
  }
  return inet_pton(AF_INET6, address.c_str(), octets.data()) == 1;
}

Result<void> read_resolver(std::string_view value, Config& config) {
  if (value == "auto") {
    config.resolver = ResolverMode::automatic;
  } else if (value == "system") {
    config.resolver = ResolverMode::system;
  } else if (value == "recursive") {
    config.resolver = ResolverMode::recursive;
  } else {
    config.resolver = ResolverMode::addresses;
    bool more = true;
    while (more) {
      more = value.find(',') != std::string_view::npos;
      const std::string_view address = take(value, ',');
      if (!is_server_address(address)) {
        return failure("not an address of a name server: " + in_quotes(address), {},
                       "use auto, system, recursive, or addresses such as 192.0.2.1, 2001:db8::1@5353");
      }
      config.resolver_addresses.emplace_back(address);
    }
    if (config.resolver_addresses.size() > most_addresses) {
      return failure("more than " + std::to_string(most_addresses) + " name servers", {}, "name fewer");
    }
  }
  return {};
}

tl::unexpected<Error> no_domain(std::string_view text, const Error& why) {
  return failure("not a domain: " + in_quotes(text) + ": " + why.what, {}, "write a name such as example.org");
}

Result<void> read_insecure(std::string_view value, Config& config) {
  auto domain = Domain::parse(value);
  if (!domain) return no_domain(value, domain.error());
  config.insecure.push_back(std::move(*domain));
  return {};
}

Result<void> read_port(std::string_view value, std::uint16_t& out) {
  const auto port = number_of<std::uint16_t>(value);
  if (!port || *port == 0) return failure("not a port: " + in_quotes(value), {}, "write a number from 1 to 65535");
  out = *port;
  return {};
}

// "20025-20280".
Result<void> read_ports(std::string_view value, Config& config) {
  const std::size_t dash = std::min(value.find('-'), value.size());
  std::uint16_t first = 0;
  std::uint16_t last = 0;
  const bool ports = dash < value.size() && read_port(trim(value.substr(0, dash)), first) &&
                     read_port(trim(value.substr(dash + 1)), last);
  if (!ports || first > last || last - first >= most_relay_ports) {
    return failure("not a range of ports: " + in_quotes(value), {},
                   "write two ports, the lower one first, such as 20025-20280: at most " +
                       std::to_string(most_relay_ports) + " ports");
  }
  config.relay_first_port = first;
  config.relay_last_port = last;
  return {};
}

// Words separated by commas.
Result<void> read_words(std::string_view value, std::vector<std::string>& out) {
  out.clear();
  bool more = true;
  while (more) {
    more = value.find(',') != std::string_view::npos;
    const std::string_view word = take(value, ',');
    const bool plain = std::all_of(word.begin(), word.end(), [](char c) { return c > ' ' && c < 0x7f; });
    if (word.empty() || !plain) return failure("not a name: " + in_quotes(word), {}, "separate names by commas");
    out.emplace_back(word);
  }
  return {};
}

Result<void> read_hello(std::string_view value, std::string& out) {
  const auto domain = Domain::parse(value);
  if (!domain) return no_domain(value, domain.error());
  out = domain->text();
  return {};
}

Result<void> read_sources(std::string_view value, Config& config) {
  bool more = true;
  while (more) {
    more = value.find(',') != std::string_view::npos;
    const std::string address(take(value, ','));
    std::array<unsigned char, sizeof(in6_addr)> octets{};
    const bool v4 = inet_pton(AF_INET, address.c_str(), octets.data()) == 1;
    const bool v6 = inet_pton(AF_INET6, address.c_str(), octets.data()) == 1;
    std::string& out = v4 ? config.relay_source : config.relay_source6;
    if ((!v4 && !v6) || !out.empty()) {
      return failure("not an address, or the second of its family: " + in_quotes(address), {},
                     "name one IPv4 address, one IPv6 address, or both, separated by a comma");
    }
    out = address;
  }
  return {};
}

struct Key {
  std::string_view name;
  Result<void> (*read)(std::string_view value, Config& config);
};

constexpr std::array keys = {
#define SEALANE_KEY(key, default_text, reader, meaning) \
  Key{key, [](std::string_view value, [[maybe_unused]] Config& config) -> Result<void> { return reader; }},
#include "core/config/keys.def"
#undef SEALANE_KEY
};

std::string key_names() {
  std::string names;
  for (const Key& key : keys) names += (names.empty() ? "" : ", ") + std::string(key.name);
  return names;
}

// ---- [override]

// "example.org", or ".example.org" for all below it.
Result<std::string> read_override_name(std::string_view text) {
  const bool below = !text.empty() && text.front() == '.';
  const auto domain = Domain::parse(below ? text.substr(1) : text);
  if (!domain) return no_domain(text, domain.error());
  return (below ? "." : "") + domain->text();
}

Result<std::vector<MxPattern>> read_match(std::string_view text) {
  std::vector<MxPattern> patterns;
  bool more = true;
  while (more) {
    more = text.find(',') != std::string_view::npos;
    const std::string_view item = take(text, ',');
    auto pattern = MxPattern::parse(item);
    if (!pattern || !pattern->can_match()) {
      return failure("not a pattern for MX hosts: " + in_quotes(item), {},
                     "use names, or *.example.net, without spaces");
    }
    patterns.push_back(std::move(*pattern));
  }
  return patterns;
}

// "none", "encrypt", "pkix [match=PATTERN,…]", "dane".
Result<Override> read_override(const std::string& name, std::string_view value) {
  Override override;
  const std::string_view kind = take(value, ' ');
  const std::string_view option = trim(value);
  bool known = false;
  for (const OverrideKind one : {OverrideKind::none, OverrideKind::encrypt, OverrideKind::pkix, OverrideKind::dane}) {
    if (kind != to_text(one)) continue;
    override.kind = one;
    known = true;
  }
  if (!known) return failure("unknown override " + in_quotes(kind), {}, "use none, encrypt, pkix or dane");
  override.rule = name + " = " + std::string(kind);
  if (option.empty()) return override;

  constexpr std::string_view match = "match=";
  if (override.kind != OverrideKind::pkix || option.substr(0, match.size()) != match) {
    return failure("unknown option " + in_quotes(option) + " of " + std::string(kind), {},
                   "only pkix has one: match=PATTERN,PATTERN");
  }
  auto patterns = read_match(option.substr(match.size()));
  if (!patterns) return tl::make_unexpected(patterns.error());
  override.match = std::move(*patterns);
  override.rule += " match=";
  for (const MxPattern& pattern : override.match) {
    override.rule += (&pattern == &override.match.front() ? "" : ",") + pattern.text();
  }
  return override;
}

// ---- Lines

class Reader {
 public:
  explicit Reader(const std::string& name) : name_(name) { config_.source = name; }

  Result<Config> read(std::string_view text) {
    while (!text.empty()) {
      ++line_;
      const std::size_t end = std::min(text.find('\n'), text.size());
      if (auto done = read_line(text.substr(0, end)); !done) {
        Error error = std::move(done.error());
        error.of = name_ + ":" + std::to_string(line_);
        return tl::make_unexpected(std::move(error));
      }
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    return std::move(config_);
  }

 private:
  Result<void> read_line(std::string_view line) {
    if (line.size() > longest_line) {
      return failure("a line of more than " + std::to_string(longest_line) + " octets", {}, "shorten it");
    }
    if (valid_utf8(line) != line) return failure("not UTF-8", {}, "save the file as UTF-8");
    if (std::any_of(line.begin(), line.end(), [](char c) {
          return (static_cast<unsigned char>(c) < ' ' && white_space.find(c) == std::string_view::npos) || c == 0x7f;
        })) {
      return failure("a control character", {}, "remove it");
    }
    line = trim(without_comment(line));
    if (line.empty()) return {};
    if (line.front() == '[') return read_section(line);
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos) {
      return failure("neither `key = value` nor [section]: " + in_quotes(line), {}, "write key = value");
    }
    const std::string_view key = trim(line.substr(0, equals));
    const std::string_view value = trim(line.substr(equals + 1));
    if (value.empty()) return failure("no value for " + in_quotes(key), {}, "give one, or remove the line");
    return in_override_ ? add_override(key, value) : set_key(key, value);
  }

  // A comment begins a line or follows white space, so that a path may hold a #.
  static std::string_view without_comment(std::string_view line) {
    for (std::size_t at = line.find('#'); at != std::string_view::npos; at = line.find('#', at + 1)) {
      if (at == 0 || white_space.find(line[at - 1]) != std::string_view::npos) return line.substr(0, at);
    }
    return line;
  }

  Result<void> read_section(std::string_view line) {
    if (line != "[override]") return failure("unknown section " + in_quotes(line), {}, "the one section is [override]");
    in_override_ = true;
    return {};
  }

  Result<void> set_key(std::string_view name, std::string_view value) {
    const auto* key = std::find_if(keys.begin(), keys.end(), [name](const Key& one) { return one.name == name; });
    if (key == keys.end()) return failure("unknown key " + in_quotes(name), {}, "the keys are " + key_names());
    if (name != "insecure") {
      if (auto once = first_time(std::string(name)); !once) return once;
    }
    return key->read(value, config_);
  }

  Result<void> add_override(std::string_view text, std::string_view value) {
    const auto name = read_override_name(text);
    if (!name) return tl::make_unexpected(name.error());
    if (auto once = first_time("override " + *name); !once) return once;
    auto override = read_override(*name, value);
    if (!override) return tl::make_unexpected(override.error());
    config_.overrides.emplace_back(*name, std::move(*override));
    return {};
  }

  Result<void> first_time(std::string what) {
    const auto [at, fresh] = seen_.emplace(std::move(what), line_);
    if (fresh) return {};
    return failure("set again; first set in line " + std::to_string(at->second), {}, "remove one of the two");
  }

  const std::string& name_;
  Config config_;
  int line_ = 0;
  bool in_override_ = false;
  std::map<std::string, int> seen_;  // key -> line
};

class File {
 public:
  explicit File(const std::string& path)
      // O_NONBLOCK: opening a FIFO must not wait for a writer.
      : fd_(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)) {}
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_;
};

Result<std::string> read_file(const File& file, const std::string& path) {
  struct stat info {};
  if (fstat(file.fd(), &info) != 0) return failure(std::strerror(errno), path, "see that it can be read");
  if (!S_ISREG(info.st_mode)) return failure("not a regular file", path, "name a file");
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return failure("others than its owner may write it", path, "chmod go-w " + path);
  }
  std::string text;
  std::array<char, 16384> buffer{};
  for (;;) {
    const ssize_t got = read(file.fd(), buffer.data(), buffer.size());
    if (got == 0) return text;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failure(std::strerror(errno), path, "see that it can be read");
    text.append(buffer.data(), static_cast<std::size_t>(got));
    if (text.size() > longest_file) {
      return failure("more than " + std::to_string(longest_file) + " octets", path, "is it a configuration?");
    }
  }
}

}  // namespace

std::optional<Override> Config::override_for(const Domain& domain) const {
  const std::pair<std::string, Override>* best = nullptr;
  for (const auto& entry : overrides) {
    const std::string& name = entry.first;
    if (name == domain.text()) return entry.second;
    // ".example.org" ends every name below it, and no other.
    const std::string& text = domain.text();
    const bool below = name.front() == '.' && text.size() > name.size() &&
                       text.compare(text.size() - name.size(), name.size(), name) == 0;
    if (below && (best == nullptr || name.size() > best->first.size())) best = &entry;
  }
  if (best == nullptr) return std::nullopt;
  return best->second;
}

Rules Config::rules_for(const Question& question) const {
  Rules rules;
  rules.dane = dane;
  rules.mta_sts = mta_sts;
  rules.dane_insecure_mx = dane_insecure_mx;
  if (question.domain) rules.override = override_for(*question.domain);
  return rules;
}

Result<Config> load_config(const std::string& path) {
  const std::string name = path.empty() ? std::string(default_config_path) : path;
  const File file(name);
  if (file.fd() < 0) {
    if (path.empty() && errno == ENOENT) return Config{};
    return failure(std::strerror(errno), name, "see that the file exists and can be read");
  }
  const auto text = read_file(file, name);
  if (!text) return tl::make_unexpected(text.error());
  return parse_config(*text, name);
}

Result<Config> parse_config(std::string_view text, const std::string& name) { return Reader(name).read(text); }

}  // namespace sealane
