#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <span>

#include "core/sts/curl_fetcher.h"

namespace sealane::sts {
namespace {

struct Network {
  std::array<std::uint8_t, 16> prefix;
  unsigned bits;
};

// From the IANA special-purpose registries (RFC 6890). The documentation networks are left out: they lead nowhere, and
// laboratories use them as public ones.
constexpr std::array<Network, 12> private_v4{{
    {{0}, 8},             // "this network"
    {{10}, 8},            // RFC 1918
    {{100, 64}, 10},      // shared by carrier-grade NAT, RFC 6598
    {{127}, 8},           // loopback
    {{169, 254}, 16},     // link-local, cloud metadata services
    {{172, 16}, 12},      // RFC 1918
    {{192, 0, 0}, 24},    // IETF protocol assignments
    {{192, 168}, 16},     // RFC 1918
    {{198, 18}, 15},      // benchmarks, RFC 2544
    {{224}, 4},           // multicast
    {{240}, 4},           // reserved, broadcast
    {{192, 88, 99}, 24},  // 6to4 relays, withdrawn by RFC 7526
}};

constexpr std::array<Network, 7> private_v6{{
    {{}, 96},                                          // ::, ::1, IPv4-compatible
    {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 96},  // IPv4-mapped: an AAAA record has no use for it
    {{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 48},        // NAT64 of a local prefix, RFC 8215
    {{0xfc}, 7},                                       // unique local, RFC 4193
    {{0xfe, 0x80}, 10},                                // link-local
    {{0xfe, 0xc0}, 10},                                // site-local, withdrawn by RFC 3879
    {{0xff}, 8},                                       // multicast
}};

bool in_network(std::span<const std::uint8_t> address, const Network& network) {
  for (unsigned bit = 0; bit < network.bits; ++bit) {
    const unsigned mask = 0x80U >> (bit % 8);
    if (((address[bit / 8] ^ network.prefix[bit / 8]) & mask) != 0) return false;
  }
  return true;
}

template <std::size_t N>
bool in_any(std::span<const std::uint8_t> address, const std::array<Network, N>& networks) {
  return std::any_of(networks.begin(), networks.end(), [&](const Network& n) { return in_network(address, n); });
}

constexpr Network nat64{{0x00, 0x64, 0xff, 0x9b}, 96};  // RFC 6052: the IPv4 address is the last four octets
constexpr Network six_to_four{{0x20, 0x02}, 16};        // RFC 3056: the IPv4 address follows the prefix

}  // namespace

bool is_private_address(const std::string& address) {
  if (address.find('\0') != std::string::npos) return true;  // inet_pton would not see what follows
  std::array<std::uint8_t, 4> v4{};
  if (inet_pton(AF_INET, address.c_str(), v4.data()) == 1) return in_any(v4, private_v4);
  std::array<std::uint8_t, 16> v6{};
  if (inet_pton(AF_INET6, address.c_str(), v6.data()) != 1) return true;
  const std::span<const std::uint8_t> all(v6);
  if (in_network(all, nat64)) return in_any(all.subspan(12, 4), private_v4);
  if (in_network(all, six_to_four)) return in_any(all.subspan(2, 4), private_v4);
  return in_any(all, private_v6);
}

}  // namespace sealane::sts
