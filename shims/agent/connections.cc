#include "shims/agent/connections.h"

#include <algorithm>

namespace sealane::agent {
namespace {

constexpr std::size_t longest_certificate = 65536 / 3 * 4 + 4;

}  // namespace

void Connections::reset(const Peer& peer) {
  if (const auto found = known_.find({peer.pid, peer.uid}); found != known_.end()) forget(found);
}

bool Connections::certificate(const Peer& peer, std::size_t depth, const std::string& base64) {
  if (base64.size() > longest_certificate || depth >= wire::most_certificates) return false;
  Known& connection = touch(peer);
  connection.agreed = false;
  std::string& place = connection.certificates.at(depth);
  octets_ = octets_ - place.size() + base64.size();
  connection.octets = connection.octets - place.size() + base64.size();
  place = base64;
  make_room();
  return true;
}

std::vector<std::string> Connections::chain(const Peer& peer) const {
  std::vector<std::string> out;
  const auto found = known_.find({peer.pid, peer.uid});
  if (found == known_.end()) return out;
  for (const std::string& certificate : found->second.certificates) {
    if (!certificate.empty()) out.push_back(certificate);
  }
  return out;
}

void Connections::agree(const Peer& peer, const Purpose& purpose) {
  Known& connection = touch(peer);
  connection.demand = purpose.demand;
  connection.host = purpose.host;
  connection.address = purpose.address;
  connection.agreed = true;
}

bool Connections::agreed_on(const Peer& peer, const Purpose& purpose, std::string_view leaf) const {
  const auto found = known_.find({peer.pid, peer.uid});
  if (found == known_.end() || leaf.empty()) return false;
  const Known& connection = found->second;
  return connection.agreed && connection.certificates[0] == leaf && connection.demand == purpose.demand &&
         connection.host == purpose.host && connection.address == purpose.address;
}

bool Connections::was_judged(const Peer& peer) const {
  const auto found = known_.find({peer.pid, peer.uid});
  return found != known_.end() && found->second.judged;
}

Connections::Known& Connections::touch(const Peer& peer) {
  Known& connection = known_[{peer.pid, peer.uid}];
  connection.used = ++clock_;
  return connection;
}

void Connections::forget(std::map<Key, Known>::iterator which) {
  octets_ -= which->second.octets;
  known_.erase(which);
}

// The one that was touched last stays: a certificate is far below the bound.
void Connections::make_room() {
  while (known_.size() > most || octets_ > most_octets) {
    forget(std::min_element(known_.begin(), known_.end(),
                            [](const auto& a, const auto& b) { return a.second.used < b.second.used; }));
  }
}

}  // namespace sealane::agent
