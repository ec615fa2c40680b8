// Is Exim here, and do our routers come before those of the site?
#include <unistd.h>

#include <string>
#include <string_view>

#include "shims/cli/doctor/command.h"
#include "shims/cli/doctor/doctor.h"

namespace sealane::doctor {
namespace {

constexpr int exim_ms = 10000;
constexpr std::string_view our_routers = "sealane_";
constexpr std::string_view asks_agent = "{sealane_exim_route}{agent";

std::string exim_binary() {
  for (const char* path : {"/usr/sbin/exim4", "/usr/sbin/exim", "/usr/exim/bin/exim"}) {
    if (::access(path, X_OK) == 0) return path;
  }
  return {};
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
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.size() > heading.size() && line.substr(line.size() - heading.size()) == heading) {
      routers.push_back({std::string(line.substr(0, line.size() - heading.size())), {}});
    } else if (!routers.empty() && line.substr(0, driver.size()) == driver) {
      routers.back().driver = line.substr(driver.size());
    }
  }
  return routers;
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
  const auto routers = routers_of(output->text);
  std::string earlier;
  for (const Router& router : routers) {
    if (router.name.substr(0, our_routers.size()) == our_routers) {
      if (!earlier.empty()) {
        return bad("router " + earlier + " comes before ours and may deliver without us",
                   "sealane's routers must come before it; see the README of the fragments");
      }
      if (output->text.find(asks_agent) != std::string::npos && ::access(config.socket.c_str(), F_OK) != 0) {
        return bad("Exim asks the agent, and none runs", "start the agent, or let Exim use the fork back end");
      }
      return good("router " + router.name + " comes before every router that looks up MX records");
    }
    // A manualroute before ours is the administrator's own word on a few domains (Debian's hubbed_hosts).
    if (earlier.empty() && router.driver == "dnslookup") earlier = router.name;
  }
  return bad("Exim is installed, but sealane's routers are not part of its configuration",
             "install the fragments, then run update-exim4.conf and restart Exim");
}

}  // namespace sealane::doctor
