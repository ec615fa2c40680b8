// The seam between us and the DNS.
#pragma once

#include <functional>
#include <string>

#include "core/dns/answer.h"

namespace sealane::dns {

// Whether answers can be trusted to be validated at all.
enum class Health : std::uint8_t { unknown, ok, no_trust_anchor, no_dnssec };

class Resolver {
 public:
  using Done = std::function<void(Answer)>;
  virtual ~Resolver() = default;

  // Looks up `name` and calls `done` once from the loop, never from within this call. Takes at most the configured
  // dns_timeout (then Failure::timeout), and while no name server is known to be fit up to twice that for the probe.
  // Destroying the resolver drops what is under way without calling `done`; `done` itself may do that.
  virtual void lookup(const Domain& name, RrType type, Done done) = 0;

  // Calls `ready` once from the loop as soon as health() is known; at once if it is.
  virtual void when_ready(std::function<void()> ready) = 0;
  [[nodiscard]] virtual Health health() const = 0;
  // Which name servers are used and why, or what is wrong and the remedy: one line for people.
  [[nodiscard]] virtual std::string health_text() const = 0;
};

}  // namespace sealane::dns
