// Do validated answers come through? The resolver's own probe of `. DNSKEY`, then a lookup of our own below the root.
#include <algorithm>

#include "core/base/loop.h"
#include "core/engine/engine.h"
#include "shims/cli/doctor/doctor.h"

namespace sealane::doctor {

Finding check_resolver(const Config& config) {
  Loop loop;
  Adapters adapters = make_adapters(loop, config, StoreUse::read_only, {});
  const auto resolver = adapters.make_resolver();
  bool ready = false;
  std::optional<dns::Answer> answer;
  // Signed, and present or absent: either way the root vouches for the answer.
  const auto name = Domain::parse("org");
  resolver->when_ready([&] {
    ready = true;
    if (resolver->health() != dns::Health::ok) return loop.stop();
    resolver->lookup(*name, dns::RrType::DS, [&](dns::Answer result) {
      answer = std::move(result);
      loop.stop();
    });
  });
  const auto bound = loop.after(3 * config.dns_timeout, [&] { loop.stop(); });
  if (!ready || !answer) loop.run();

  const std::string remedy = "name servers must answer and pass DNSSEC on; or set `resolver = recursive`";
  if (!ready) return bad("no name server answers", remedy);
  if (resolver->health() != dns::Health::ok) return bad(resolver->health_text(), remedy);
  if (!answer) return bad("org DS: no answer in time", remedy);
  if (!answer->answered()) return bad("org DS: " + dns::to_text(answer->failure) + ": " + answer->cause, remedy);
  if (!answer->is_secure()) return bad("org DS: not secure: " + answer->cause, remedy);
  return good(resolver->health_text());
}

}  // namespace sealane::doctor
