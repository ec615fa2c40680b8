// Is OpenSMTPD here, does its configuration lead mail to the relay, and is the relay there?
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pwd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "shims/cli/doctor/doctor.h"

namespace sealane::doctor {
namespace {

constexpr std::size_t most_lines = 10000;

bool has(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

// The lines of smtpd.conf without comments and indentation, continued lines joined.
std::vector<std::string> lines_of(const std::string& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  std::string whole;
  for (std::string line; lines.size() < most_lines && std::getline(file, line);) {
    line.resize(std::min(line.find('#'), line.size()));
    if (!line.empty() && line.back() == '\\') {
      whole += line.substr(0, line.size() - 1) + " ";
      continue;
    }
    whole += line;
    whole.erase(0, std::min(whole.find_first_not_of(" \t"), whole.size()));
    if (!whole.empty()) lines.push_back(whole);
    whole.clear();
  }
  return lines;
}

// The ports of the relay at which nobody answers.
std::vector<unsigned> silent_ports(const Config& config) {
  std::vector<unsigned> silent;
  for (unsigned port = config.relay_first_port; port <= config.relay_last_port; ++port) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in there{};
    there.sin_family = AF_INET;
    there.sin_port = htons(static_cast<std::uint16_t>(port));
    there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || ::connect(fd, reinterpret_cast<const sockaddr*>(&there), sizeof there) != 0) silent.push_back(port);
    if (fd >= 0) ::close(fd);
  }
  return silent;
}

// Empty: nothing is wrong with it. Else what, and the remedy.
Finding check_lines(const std::vector<std::string>& lines) {
  std::string action;
  bool limit = false;
  bool table = false;
  std::size_t remote = lines.size();
  std::size_t local = lines.size();
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::string& line = lines[i];
    if (has(line, "mta limit for domain 127.0.0.1") && has(line, "max-conn-per-domain")) {
      limit = true;
      if (has(line, "reconn-delay-route 0") || !has(line, "reconn-delay-route")) {
        return bad("reconn-delay-route is 0, or not set: smtpd would not stop knocking while the relay is down",
                   "set reconn-delay-route 1 in the `mta limit` line");
      }
    }
    if (line.rfind("table ", 0) == 0 && has(line, " sealane:/")) table = true;
    if (line.rfind("action ", 0) == 0 && has(line, " relay domain <")) {
      action = line.substr(7, line.find(' ', 7) - 7);
    }
    if (line.rfind("match ", 0) != 0) continue;
    if (!action.empty() && has(line, "action " + action)) {
      remote = std::min(remote, i);
    } else if (has(line, "for local")) {
      local = std::min(local, i);
    }
  }
  if (!table || action.empty()) {
    return bad("OpenSMTPD is installed, but its configuration does not lead mail to the relay",
               "add the table and the action `relay domain <sealane>`, see sealane-opensmtpd(7)");
  }
  if (remote == lines.size()) return bad("no rule uses the action " + action, "add one, see sealane-opensmtpd(7)");
  if (!limit) {
    return bad("the line `mta limit for domain 127.0.0.1` is missing: mail would leave one by one",
               "copy it from sealane-opensmtpd(7)");
  }
  if (local < lines.size() && local > remote) {
    return bad(
        "the rule for the relay comes before the one for local mail: bounces to local users would go to the relay",
        "move the rules for local mail up");
  }
  return good("");
}

}  // namespace

Finding check_opensmtpd(const Config& config) {
  if (::access("/usr/sbin/smtpd", X_OK) != 0 || ::access("/etc/smtpd.conf", F_OK) != 0)
    return absent("not installed here");
  if (::access("/etc/smtpd.conf", R_OK) != 0) return bad("/etc/smtpd.conf cannot be read", "run this as root");
  if (Finding found = check_lines(lines_of("/etc/smtpd.conf")); found.health == Health::bad) return found;
  for (const char* program : {"/usr/libexec/opensmtpd/table-sealane", "/usr/libexec/opensmtpd/filter-sealane"}) {
    if (::access(program, X_OK) != 0) {
      return bad(std::string(program) + " cannot be run", "install opensmtpd-filter-sealane");
    }
  }
  const auto known = [](const std::string& name) {
    return name.find_first_not_of("0123456789") == std::string::npos || ::getpwnam(name.c_str()) != nullptr;
  };
  if (std::none_of(config.relay_users.begin(), config.relay_users.end(), known)) {
    return bad("there is no user " + config.relay_users.front(), "name smtpd's user in relay_users");
  }
  const auto silent = silent_ports(config);
  if (!silent.empty()) {
    return bad("nobody answers at " + std::to_string(silent.size()) +
                   " ports of the relay, such as 127.0.0.1:" + std::to_string(silent.front()),
               "start sealane-relay.socket and sealane-relay.service; relay_ports and the socket unit must agree");
  }
  return good("the relay answers at ports " + std::to_string(config.relay_first_port) + " to " +
              std::to_string(config.relay_last_port));
}

}  // namespace sealane::doctor
