// Gathering: decide, look up what is wanted, decide again, until nothing more is wanted. The order of lookups is
// written down nowhere: decide() says what it needs next.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/base/loop.h"
#include "core/decide/decide.h"
#include "core/dns/resolver.h"

namespace sealane {

// A fetch of the policy that is due now (RFC 8461 §3.3).
struct FetchRequest {
  std::string id;                      // the TXT id that it is made for
  std::vector<std::string> addresses;  // of the policy host, from validated lookups; none: `error` says why
  std::string error;

  // What a lookup of the policy host's addresses came to.
  void add(const Domain& host, dns::RrType type, const dns::Answer& answer);
};

// At most this many lookups a question: A, AAAA and two of CNAME and TLSA for each host, and the few of the domain.
inline constexpr std::size_t max_lookups = max_hosts * 4 + 20;

// The evidence of one question as it grows. Nothing is asked for twice, and everything that is wanted at one time is
// asked for at that time. Callbacks come from the loop only, never from within a call. Dropping the last reference
// drops what is under way. A Gather must not be dropped from within its own hooks.
class Gather : public std::enable_shared_from_this<Gather> {
 public:
  struct Hooks {
    std::function<void(FetchRequest)> fetch;  // at most once; what it came to is told by fetched()
    std::function<void()> changed;            // outcome() is new
  };

  // `evidence` as far as it is known without a lookup. Does not own `loop`.
  Gather(Loop& loop, std::shared_ptr<dns::Resolver> resolver, Evidence evidence, Hooks hooks);

  // `fault`: of the environment; then nothing is looked up. Call once.
  void start(std::optional<Fault> fault);

  // A fetch for the policy domain has ended, whoever asked for it. `before`: what was stored when it ended.
  void fetched(const sts::PolicyState& before, const sts::FetchResult& result);

  [[nodiscard]] const Evidence& evidence() const { return evidence_; }
  // As of the last `changed`. While it is not settled, its decision is the one for a deadline that passes now.
  [[nodiscard]] const Outcome& outcome() const { return outcome_; }
  [[nodiscard]] bool settled() const { return outcome_.wanted.settled(); }
  // Settled, and nothing is under way any more, not even a fetch that the decision did not wait for.
  [[nodiscard]] bool finished() const;

 private:
  void wake();
  void judge();
  void look_up(const LookupKey& key);
  void pursue_fetch();

  Loop& loop_;
  std::shared_ptr<dns::Resolver> resolver_;
  Evidence evidence_;
  Hooks hooks_;
  Outcome outcome_;
  std::set<LookupKey> asked_;
  std::size_t under_way_ = 0;
  bool awake_ = false;                   // judge() is about to run
  std::optional<std::string> fetch_id_;  // the fetch is wanted
  bool fetch_requested_ = false;
};

}  // namespace sealane
