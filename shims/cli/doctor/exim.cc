// Is Exim here, do our routers come before those of the site, can it ask, and does nothing undo what we set?
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "shims/cli/doctor/command.h"
#include "shims/cli/doctor/doctor.h"

namespace sealane::doctor {
namespace {

constexpr int exim_ms = 10000;
constexpr std::string_view our_routers = "sealane_";
constexpr std::string_view asks_agent = "{sealane_exim_route}{agent";
constexpr std::string_view asks_by_itself = "${readsocket{";

// What our transports leave to Exim's defaults, and must be so: an Exim of another maker may have other ones.
constexpr std::pair<std::string_view, std::string_view> needed[] = {
    {"hosts_avoid_tls", ""},      {"hosts_verify_avoid_tls", ""}, {"hosts_pipe_connect", ""},
    {"tls_resumption_hosts", ""}, {"tls_try_verify_hosts", "*"},  {"tls_verify_cert_hostnames", "*"},
};

std::string exim_binary() {
  for (const char* path : {"/usr/sbin/exim4", "/usr/sbin/exim", "/usr/exim/bin/exim"}) {
    if (::access(path, X_OK) == 0) return path;
  }
  return {};
}

std::string_view next_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

struct Router {
  std::string name, driver;
};

// `-bP routers` prints "NAME router:" and then each of its options on a line, " = " between name and value.
std::vector<Router> routers_of(std::string_view text) {
  constexpr std::string_view heading = " router:";
  constexpr std::string_view driver = "driver = ";
  std::vector<Router> routers;
  while (!text.empty()) {
    const std::string_view line = next_line(text);
    if (line.size() > heading.size() && line.substr(line.size() - heading.size()) == heading) {
      routers.push_back({std::string(line.substr(0, line.size() - heading.size())), {}});
    } else if (!routers.empty() && line.substr(0, driver.size()) == driver) {
      routers.back().driver = line.substr(driver.size());
    }
  }
  return routers;
}

// "NAME = VALUE" -> VALUE; nothing where the option is not printed, as of an Exim that does not have it.
std::optional<std::string> option(std::string_view text, std::string_view name) {
  while (!text.empty()) {
    const std::string_view line = next_line(text);
    if (line.substr(0, name.size() + 2) != std::string(name) + " =") continue;
    const std::string_view value = line.substr(name.size() + 2);
    return std::string(value.substr(std::min(value.find_first_not_of(' '), value.size())));
  }
  return std::nullopt;
}

// "Exim version 4.96 #2 built …" and "Support for: …"
std::string version_of(std::string_view text) {
  const std::size_t at = text.find("Exim version ");
  if (at == std::string_view::npos) return "of unknown version";
  text.remove_prefix(at + 13);
  return std::string(text.substr(0, text.find_first_of(" \n")));
}

bool is_same_or_empty(const std::optional<std::string>& got, std::string_view want) { return !got || *got == want; }

// Exim asks as root when it delivers, and as its own user when it verifies.
std::optional<Finding> unreachable(const std::string& exim, const std::string& socket) {
  struct stat found {};
  if (::stat(socket.c_str(), &found) != 0) {
    return bad("Exim asks the agent, and none runs", "start the agent, or let Exim use the fork back end");
  }
  const auto printed = run_command({exim, "-bP", "exim_group"}, exim_ms);
  const auto name = printed ? option(printed->text, "exim_group") : std::nullopt;
  const group* const of_exim = name ? ::getgrnam(name->c_str()) : nullptr;
  if (of_exim == nullptr || (found.st_mode & S_IWOTH) != 0) return std::nullopt;  // not known, or open to all
  if (found.st_gid == of_exim->gr_gid && (found.st_mode & S_IWGRP) != 0) return std::nullopt;
  return bad(socket + ": Exim's group " + *name + " may not connect, so that no address can be verified",
             "set SocketGroup=" + *name + " in sealane-agent.socket, or give its directory that group, setgid");
}

std::optional<Finding> undone(const std::string& exim) {
  for (const char* transport : {"sealane_strict", "sealane_gated"}) {
    const auto printed = run_command({exim, "-bP", "transport", transport}, exim_ms);
    if (!printed || printed->status != 0) {
      return bad(std::string("transport ") + transport + " is not in Exim's configuration", "sealane setup exim");
    }
    for (const auto& [name, value] : needed) {
      if (is_same_or_empty(option(printed->text, name), value)) continue;
      return bad(std::string(transport) + ": " + std::string(name) + " is not `" + std::string(value) + "`",
                 "take it out of the file that SEALANE_SITE names, or add it to sealane's fragments as it must be");
    }
    const auto event = option(printed->text, "event_action");
    const auto gate = option(printed->text, "authenticated_sender");
    if (event && gate && !event->empty() && !gate->empty()) continue;
    return bad(std::string(transport) + " does not ask before it sends",
               "sealane setup exim, to get the fragments again");
  }
  return std::nullopt;
}

}  // namespace

Finding check_exim(const Config& config) {
  const std::string exim = exim_binary();
  if (exim.empty()) return absent("not installed here");
  const auto output = run_command({exim, "-bP", "routers"}, exim_ms);
  if (!output) return bad(exim + " cannot be started", "repair the installation of Exim");
  if (output->status == -1) return bad(exim + " -bP routers does not end", "run it by hand");
  if (output->status != 0) {
    return bad(exim + " -bP routers: " + output->text, "run this as root; Exim's configuration must be valid");
  }
  const auto built = run_command({exim, "-bV"}, exim_ms);
  const std::string version = built ? version_of(built->text) : "of unknown version";
  const bool openssl =
      built && built->text.find("OpenSSL") != std::string::npos && built->text.find("GnuTLS") == std::string::npos;
  const bool asks = output->text.find(asks_agent) != std::string::npos;
  const bool light = output->text.find(asks_by_itself) != std::string::npos;
  std::string earlier;
  for (const Router& router : routers_of(output->text)) {
    if (router.name.substr(0, our_routers.size()) == our_routers) {
      if (!earlier.empty()) {
        return bad("router " + earlier + " comes before ours and may deliver without us",
                   "sealane's routers must come before it; see the README of the fragments");
      }
      if (asks || light) {
        if (const auto fault = unreachable(exim, config.socket)) return *fault;
      }
      if (const auto fault = undone(exim)) return *fault;
      std::string text = "Exim " + version + (light ? ", without dlfunc" : "") + ": router " + router.name +
                         " comes before every router for other hosts";
      if (openssl) text += "; with OpenSSL a host that TLSA records refuse ends the attempt, and the next is not tried";
      const auto relayed = run_command({exim, "-bP", "+relay_to_domains"}, exim_ms);
      const auto domains = relayed ? option(relayed->text, "domainlist relay_to_domains") : std::nullopt;
      if (domains && !domains->empty()) text += "; mail for relay_to_domains is decided too (backup MX): " + *domains;
      return good(std::move(text));
    }
    // A manualroute before ours is the administrator's own word on a few domains (Debian's hubbed_hosts), but for
    // Debian's router of all mail to a smart host.
    if (earlier.empty() && (router.driver == "dnslookup" || router.name == "smarthost")) earlier = router.name;
  }
  return bad("Exim " + version + " is installed, but sealane's routers are not part of its configuration",
             "run `sealane setup exim`, and restart Exim");
}

}  // namespace sealane::doctor
