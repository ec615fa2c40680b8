#include "shims/cli/doctor/doctor.h"

#include <unistd.h>

#include <cstdio>
#include <string>

#include "shims/cli/cli.h"

namespace sealane::cli {
namespace {

using sealane::doctor::Finding;
using sealane::doctor::Health;

struct Check {
  const char* name;
  Finding (*run)(const Config& config);
};

constexpr Check checks[] = {
    {"trust anchor", sealane::doctor::check_trust_anchor},
    {"resolver", sealane::doctor::check_resolver},
    {"clock", sealane::doctor::check_clock},
    {"CA file", sealane::doctor::check_ca_file},
    {"store", sealane::doctor::check_store},
    {"agent", sealane::doctor::check_agent},
    {"Exim", sealane::doctor::check_exim},
    {"OpenSMTPD", sealane::doctor::check_opensmtpd},
};

const char* word(Health health) {
  switch (health) {
    case Health::good:
      return "ok";
    case Health::absent:
      return "--";
    case Health::bad:
      break;
  }
  return "FAULT";
}

std::string painted(Health health, bool colour) {
  if (!colour || health == Health::absent) return word(health);
  return std::string(health == Health::good ? "\x1b[32m" : "\x1b[31m") + word(health) + "\x1b[0m";
}

}  // namespace

Status doctor(const std::string& config_path) {
  const auto config = load_config(config_path);
  if (!config) {
    complain(config.error());
    return bad_config;
  }
  const bool colour = ::isatty(STDOUT_FILENO) == 1;
  Status status = ok;
  print("configuration: " + (config->source.empty() ? "none, all defaults" : shown(config->source)) + "\n");
  for (const Check& check : checks) {
    const Finding found = check.run(*config);
    print(std::string(check.name) + ": " + painted(found.health, colour) + ": " + shown(found.what) + "\n");
    if (found.health != Health::bad) continue;
    status = finding;
    if (!found.remedy.empty()) print("  remedy: " + shown(found.remedy) + "\n");
  }
  return status;
}

}  // namespace sealane::cli
