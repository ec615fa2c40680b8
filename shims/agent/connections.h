// What each mail server process told of the connection that it has open, for shims that keep nothing themselves.
//
// A process has one connection at a time. It is known by pid and user; `tcp:connect`, which every connection begins
// with, takes away what a process of the same number left.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "shims/agent/listener.h"
#include "shims/wire/codec.h"

namespace sealane::agent {

class Connections {
 public:
  // What a connection was judged for. The views are valid during one call.
  struct Purpose {
    std::string_view demand, host, address;
  };

  // Bounds: when one is reached, the connection that was told of least recently is forgotten, which costs its mail a
  // later attempt.
  static constexpr std::size_t most = 1000;
  static constexpr std::size_t most_octets = std::size_t{16} << 20U;

  void reset(const Peer& peer);
  // One certificate, base64, of a depth below wire::most_certificates. False: too long.
  [[nodiscard]] bool certificate(const Peer& peer, std::size_t depth, const std::string& base64);
  // base64, leaf first
  [[nodiscard]] std::vector<std::string> chain(const Peer& peer) const;
  // The chain is not as demanded, or would not be; whatever fails next fails because of that.
  void judged(const Peer& peer) { touch(peer).judged = true; }
  [[nodiscard]] bool was_judged(const Peer& peer) const;
  // The chain is as demanded.
  void agree(const Peer& peer, const Purpose& purpose);
  // Whether agree() was the last word, for this purpose and a chain with this leaf.
  [[nodiscard]] bool agreed_on(const Peer& peer, const Purpose& purpose, std::string_view leaf) const;

 private:
  struct Known {
    std::array<std::string, wire::most_certificates> certificates;
    bool agreed = false, judged = false;
    std::string demand, host, address;
    std::uint64_t used = 0;
    std::size_t octets = 0;
  };
  using Key = std::pair<pid_t, uid_t>;

  Known& touch(const Peer& peer);
  void forget(std::map<Key, Known>::iterator which);
  void make_room();

  std::map<Key, Known> known_;
  std::uint64_t clock_ = 0;
  std::size_t octets_ = 0;
};

}  // namespace sealane::agent
