// /etc/sealane/sealane.conf: `key = value`, `#` comments, `[section]`. Keys and defaults: keys.def.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/decide/evidence.h"
#include "core/domain/domain.h"

namespace sealane {

enum class ResolverMode : unsigned char { automatic, system, recursive, addresses };

struct Config {
  std::string source;  // the file it came from; empty: defaults
  std::string store = "/var/lib/sealane/sealane.db";
  std::string trust_anchor = "/usr/share/dns/root.key";
  std::string root_hints = "/usr/share/dns/root.hints";
  ResolverMode resolver = ResolverMode::automatic;
  std::vector<std::string> resolver_addresses;   // "IP" or "IP@port", as libunbound takes them
  std::string resolv_conf = "/etc/resolv.conf";  // not a key; tests
  std::vector<Domain> insecure;
  std::optional<std::string> ca_file;  // nothing: the system's bundle
  std::string socket = "/run/sealane/agent.sock";
  std::string admin_socket = "/run/sealane/admin.sock";
  Millis timeout{20000};
  Millis dns_timeout{5000};
  Millis https_timeout{60000};
  bool dane = true;
  bool mta_sts = true;
  bool dane_insecure_mx = true;
  bool https_private = false;
  std::size_t cache_entries = 20000;
  std::size_t cache_bytes = 64U << 20U;
  std::size_t store_bytes = 1U << 30U;
  std::uint16_t relay_first_port = 20025;
  std::uint16_t relay_last_port = 20280;
  std::vector<std::string> relay_users = {"opensmtpd"};
  std::size_t relay_sessions = 1000;
  std::string relay_state = "/var/lib/sealane-relay";
  std::string relay_hello;                  // empty: the name of this machine
  std::string relay_source, relay_source6;  // empty: the kernel chooses
  std::uint16_t relay_port = 25;
  bool relay_reuse = true;
  Millis relay_connect_timeout{30000};
  Millis relay_timeout{230000};
  std::vector<std::pair<std::string, Override>> overrides;  // "example.org" or ".example.org", lower case

  // The longest match wins; an exact name beats any suffix.
  [[nodiscard]] std::optional<Override> override_for(const Domain& domain) const;
  [[nodiscard]] Rules rules_for(const Question& question) const;
};

inline constexpr std::string_view default_config_path = "/etc/sealane/sealane.conf";

// `path` empty: the default file, whose absence is no error. A named file must be readable. A file that others than
// its owner and root may write, an unknown key or a bad value is an error (of: "FILE:LINE").
[[nodiscard]] Result<Config> load_config(const std::string& path = {});
// The same from text; `name` stands for the file in errors.
[[nodiscard]] Result<Config> parse_config(std::string_view text, const std::string& name);

}  // namespace sealane
