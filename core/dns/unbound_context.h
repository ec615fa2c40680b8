// One instance of libunbound on our loop. unbound_context.cc is the one user of the library.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/base/loop.h"
#include "core/config/config.h"
#include "core/dns/answer.h"

struct ub_ctx;

namespace sealane::dns {

// What libunbound has to say of one question, not yet judged.
struct Reply {
  static constexpr int servfail = 2;  // rcodes (RFC 1035 §4.1.1)
  static constexpr int refused = 5;

  bool timed_out = false;
  int rcode = servfail;  // libunbound shows SERVFAIL as insecure and without data, like an absence: look at this first
  Security security = Security::bogus;
  Bytes packet;     // a whole response; only if answered()
  std::string why;  // bogus or failed, as far as libunbound tells; printable

  [[nodiscard]] bool answered() const { return !timed_out && rcode == 0; }
};

// A cache, a trust anchor and a way to the DNS: by name servers, or by recursion from the root. Everything is bound to
// the thread of the loop, which must outlive it; not usable after fork(). Writes nothing to standard error.
class UnboundContext {
 public:
  using Done = std::function<void(const Reply&)>;

  // `servers`: "IP" or "IP@port"; none: recursion. Reads the files of `config`. An error's `of` is the option, the
  // address or the file concerned. That all went well does not mean that the trust anchor is of any use: libunbound
  // takes what it cannot use for "nothing is to be validated". Only a secure answer of the root shows that.
  [[nodiscard]] static Result<std::unique_ptr<UnboundContext>> create(Loop& loop, const Config& config,
                                                                      const std::vector<std::string>& servers);
  ~UnboundContext();
  UnboundContext(const UnboundContext&) = delete;
  UnboundContext& operator=(const UnboundContext&) = delete;

  // Calls `done` once from the loop, within `bound`, never from within this call; not at all once *this is destroyed.
  // `done` may destroy *this. `name` ends with a dot. What libunbound does for a question that ran out of time goes on
  // and fills its cache.
  void ask(const std::string& name, RrType type, Millis bound, Done done);
  [[nodiscard]] bool idle() const { return queries_.empty(); }

 private:
  struct Query;

  explicit UnboundContext(Loop& loop);
  Result<void> configure(const Config& config, const std::vector<std::string>& servers);
  static void replied(void* argument, int rcode, void* packet, int length, int security, char* why_bogus,
                      int was_ratelimited) noexcept;
  void deliver_soon(Query* query);
  void deliver(Query* query);

  Loop& loop_;
  bool closing_ = false;
  std::unordered_map<Query*, std::unique_ptr<Query>> queries_;  // not yet delivered
  ub_ctx* ctx_;
};

}  // namespace sealane::dns
