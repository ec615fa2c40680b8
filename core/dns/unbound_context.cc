#include "core/dns/unbound_context.h"

#include <unbound-event.h>
#include <unbound.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <new>
#include <utility>

namespace sealane::dns {
namespace {

constexpr int class_in = 1;

// What libunbound is told. Its defaults are repeated where the law ("never weaker than published") hangs on them.
constexpr std::array<std::pair<const char*, const char*>, 24> options{{
    {"module-config:", "validator iterator"},
    {"val-permissive-mode:", "no"},
    {"harden-glue:", "yes"},
    {"harden-dnssec-stripped:", "yes"},
    {"harden-below-nxdomain:", "yes"},
    {"val-clean-additional:", "yes"},
    // RFC 6840 §5.11: one valid path is enough. "yes" makes zones bogus that are changing their algorithm.
    {"harden-algo-downgrade:", "no"},
    // RFC 8198: absence proved by a cached NSEC is as secure as one that was asked for, and spares a question.
    {"aggressive-nsec:", "yes"},
    // RFC 9156 §2.3 hides names from the servers of parent zones, and costs a round of questions for each label below
    // the cut: `_25._tcp` and AAAA alone are three more than the three rounds that a decision needs.
    {"qname-minimisation:", "no"},
    {"minimal-responses:", "yes"},
    {"rrset-roundrobin:", "no"},
    {"trust-anchor-signaling:", "no"},  // RFC 8145: every short-lived process would send one
    {"unblock-lan-zones:", "yes"},      // reverse zones of private addresses; for the others see local_zones
    {"edns-buffer-size:", "1232"},
    {"outgoing-range:", "128"},
    {"outgoing-num-tcp:", "8"},
    {"msg-cache-size:", "8m"},
    {"rrset-cache-size:", "16m"},
    {"key-cache-size:", "4m"},
    {"neg-cache-size:", "1m"},
    {"cache-max-negative-ttl:", "3600"},
    {"val-bogus-ttl:", "60"},
    // After an outage name servers are asked again at once, not after a quarter of an hour.
    {"infra-keep-probing:", "yes"},
    {"infra-host-ttl:", "60"},
}};

// What libunbound would answer by itself, in this or a later version: a domain there would be refused for good although
// the DNS was never asked. A name that is not built in does no harm here.
constexpr std::array<const char*, 9> local_zones{
    "localhost.",
    "test.",
    "invalid.",
    "onion.",
    "home.arpa.",
    "resolver.arpa.",
    "service.arpa.",
    "127.in-addr.arpa.",
    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa.",
};

bool on_loopback(const std::string& server) { return server.starts_with("127.") || server.starts_with("::1"); }

}  // namespace

struct UnboundContext::Query {
  UnboundContext* owner = nullptr;
  int id = 0;
  Done done;
  Loop::Timer timer;  // of the bound; then of the delivery
  Reply reply;
};

Result<std::unique_ptr<UnboundContext>> UnboundContext::create(Loop& loop, const Config& config,
                                                               const std::vector<std::string>& servers) {
  std::unique_ptr<UnboundContext> context(new UnboundContext(loop));
  if (context->ctx_ == nullptr) return failure("libunbound cannot be started");
  if (auto done = context->configure(config, servers); !done) return tl::make_unexpected(std::move(done.error()));
  return context;
}

UnboundContext::UnboundContext(Loop& loop) : loop_(loop), ctx_(ub_ctx_create_event(loop.native())) {}

UnboundContext::~UnboundContext() {
  closing_ = true;
  if (ctx_ != nullptr) ub_ctx_delete(ctx_);  // calls replied() for everything under way
}

Result<void> UnboundContext::configure(const Config& config, const std::vector<std::string>& servers) {
  ub_ctx_debugout(ctx_, nullptr);  // no log at all
  const auto set = [this](const char* name, const std::string& value) -> Result<void> {
    if (ub_ctx_set_option(ctx_, name, value.c_str()) == 0) return {};
    return failure("libunbound refuses this option", std::string(name) + ' ' + value, "use version 1.17 or later");
  };
  // A zone on the Internet must not send us to services of our own machine.
  const bool local = std::any_of(servers.begin(), servers.end(), on_loopback);
  std::vector<std::pair<const char*, std::string>> own{{"do-not-query-localhost:", local ? "no" : "yes"}};
  for (const Domain& name : config.insecure) own.emplace_back("domain-insecure:", name.text());
  // Without the file libunbound uses the list that it was built with; answers are validated in any case.
  std::error_code ignored;
  if (servers.empty() && std::filesystem::exists(config.root_hints, ignored)) {
    own.emplace_back("root-hints:", config.root_hints);
  }
  for (const auto& [name, value] : options) {
    if (auto done = set(name, value); !done) return done;
  }
  for (const auto& [name, value] : own) {
    if (auto done = set(name, value); !done) return done;
  }
  for (const std::string& server : servers) {
    if (ub_ctx_set_fwd(ctx_, server.c_str()) != 0) return failure("is not an IP address", printable(server));
  }
  if (ub_ctx_add_ta_file(ctx_, config.trust_anchor.c_str()) != 0) throw std::bad_alloc();
  for (const char* zone : local_zones) {
    // The first call makes libunbound read its files, so that everything else must be set by now.
    if (ub_ctx_zone_remove(ctx_, zone) != 0) return failure("cannot be understood", config.trust_anchor);
  }
  return {};
}

void UnboundContext::ask(const std::string& name, RrType type, Millis bound, Done done) {
  auto owned = std::make_unique<Query>();
  Query* const query = owned.get();
  query->owner = this;
  query->done = std::move(done);
  query->timer = loop_.after(bound, [this, query] {
    ub_cancel(ctx_, query->id);  // it is not called back for; libunbound does not stop
    query->reply.timed_out = true;
    deliver(query);
  });
  queries_.emplace(query, std::move(owned));
  const int status = ub_resolve_event(ctx_, name.c_str(), static_cast<int>(type), class_in, query, replied, &query->id);
  if (status != 0) {
    query->reply.why = ub_strerror(status);
    deliver_soon(query);
  }
}

// Called by libunbound, also from within ub_resolve_event() and ub_ctx_delete(). It must not be re-entered from here,
// hence the delivery from the loop; and no exception may pass through its C frames.
void UnboundContext::replied(void* argument, int rcode, void* packet, int length, int security, char* why_bogus,
                             int /*was_ratelimited*/) noexcept {
  auto* const query = static_cast<Query*>(argument);
  UnboundContext* const self = query->owner;
  if (self->closing_) return;
  Reply& reply = query->reply;
  reply.rcode = rcode;
  // unbound-event.h: 0 if insecure, 1 if bogus, 2 if DNSSEC secure.
  reply.security = security == 2 ? Security::secure : security == 0 ? Security::insecure : Security::bogus;
  if (why_bogus != nullptr) reply.why = printable(why_bogus);
  if (rcode == 0 && packet != nullptr && length > 0) {
    const auto* octets = static_cast<const std::uint8_t*>(packet);
    reply.packet.assign(octets, octets + length);
  }
  self->deliver_soon(query);
}

void UnboundContext::deliver_soon(Query* query) {
  query->timer = loop_.after(Millis{0}, [this, query] { deliver(query); });
}

void UnboundContext::deliver(Query* query) {
  const auto owned = std::move(queries_.extract(query).mapped());
  owned->done(owned->reply);  // may destroy *this
}

}  // namespace sealane::dns
