#include "shims/relay/own_hosts.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <memory>

namespace sealane::relay {
namespace {

constexpr unsigned loopback_net = 127;

bool same_octets(const sockaddr* address, int family, const void* octets) {
  if (address == nullptr || address->sa_family != family) return false;
  if (family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, address, sizeof v4);
    return std::memcmp(&v4.sin_addr, octets, sizeof v4.sin_addr) == 0;
  }
  sockaddr_in6 v6{};
  std::memcpy(&v6, address, sizeof v6);
  return std::memcmp(&v6.sin6_addr, octets, sizeof v6.sin6_addr) == 0;
}

}  // namespace

bool is_own_address(const std::string& address) {
  in_addr v4{};
  in6_addr v6{};
  const int family = ::inet_pton(AF_INET, address.c_str(), &v4) == 1 ? AF_INET : AF_INET6;
  if (family == AF_INET) {
    const std::uint32_t host = ntohl(v4.s_addr);
    if (host >> 24U == loopback_net || host == 0) return true;
  } else {
    if (::inet_pton(AF_INET6, address.c_str(), &v6) != 1) return false;
    if (IN6_IS_ADDR_LOOPBACK(&v6) || IN6_IS_ADDR_UNSPECIFIED(&v6)) return true;
  }
  const void* const octets = family == AF_INET ? static_cast<const void*>(&v4) : &v6;
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return false;
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> freed(all, ::freeifaddrs);
  for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
    if (same_octets(one->ifa_addr, family, octets)) return true;
  }
  return false;
}

Candidates candidates(const Decision& decision, const std::function<bool(const std::string&)>& is_own,
                      std::mt19937& random) {
  Candidates out;
  std::uint32_t own = UINT32_MAX;
  for (const HostDecision& host : decision.hosts) {
    if (is_own(host.host) || std::any_of(host.addresses.begin(), host.addresses.end(), is_own)) {
      own = std::min<std::uint32_t>(own, host.preference);
    }
  }
  std::size_t better = 0;
  for (const HostDecision& host : decision.hosts) {
    if (host.preference >= own) continue;
    ++better;
    if (host.tls != Tls::skip) out.hosts.push_back(host);
  }
  out.we_are_best = own != UINT32_MAX && better == 0;
  std::shuffle(out.hosts.begin(), out.hosts.end(), random);
  std::stable_sort(out.hosts.begin(), out.hosts.end(),
                   [](const HostDecision& a, const HostDecision& b) { return a.preference < b.preference; });
  return out;
}

std::vector<std::string> in_turn(const std::vector<std::string>& addresses) {
  std::vector<std::string> families[2];
  for (const std::string& address : addresses) {
    families[address.find(':') == std::string::npos ? 1 : 0].push_back(address);
  }
  std::vector<std::string> out;
  for (std::size_t i = 0; i < std::max(families[0].size(), families[1].size()); ++i) {
    for (const auto& family : families) {
      if (i < family.size()) out.push_back(family[i]);
    }
  }
  return out;
}

}  // namespace sealane::relay
