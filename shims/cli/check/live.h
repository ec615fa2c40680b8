// What a domain publishes and what its hosts show, as it is now: the input of `sealane check`.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/config/config.h"
#include "core/decide/decision.h"
#include "core/decide/evidence.h"
#include "core/verify/verifier.h"

namespace sealane::check {

// How far one connection got.
enum class Stage : unsigned char { no_route, no_connection, no_smtp, no_starttls, starttls_refused, tls_failed, tls };

struct Connection {
  std::string host;  // MX name
  std::string address;
  Stage stage = Stage::no_connection;
  std::string error;    // why not further; printable
  std::string version;  // "TLSv1.3"
  std::string cipher;
  std::vector<Bytes> chain;
};

struct Live {
  Decision decision;
  Evidence evidence;   // all lookups are new; `stored` is what was kept from before, `fetch` is new too
  std::string parent;  // the domain one label up that has an MTA-STS record, where this one has none; else empty
  std::vector<Connection> connections;  // of every address of every host that is not `skip`
};

// Looks `question` up past all caches, within `wait`, and writes nothing to the store; then connects to the hosts.
// Policies are fetched whatever their `id` says: whether a changed policy kept its id is one of the things to find out.
[[nodiscard]] Live look(const Config& config, const Question& question, Millis wait);

}  // namespace sealane::check
