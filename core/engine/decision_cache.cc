#include "core/engine/decision_cache.h"

#include <iterator>
#include <utility>

namespace sealane {

namespace {

// Roughly what an entry takes: the parts whose size others choose, twice where the decision repeats the evidence.
std::size_t octets_of(const Reply& reply) {
  constexpr std::size_t node = 64;  // of a container, and of a short string
  std::size_t octets = sizeof(Reply) + reply.decision.hosts.size() * (sizeof(HostDecision) + 8 * node);
  for (const auto& [key, answer] : reply.evidence.answers) {
    octets += sizeof key + sizeof answer + key.name.text().size() + answer.cause.size() + 2 * node;
    octets += answer.aliases.size() * 4 * node;
    for (const Bytes& rdata : answer.rdata) octets += 2 * (rdata.size() + node);
  }
  if (reply.evidence.stored.policy) octets += 2 * reply.evidence.stored.policy->body.size();
  if (reply.evidence.fetch) octets += 2 * reply.evidence.fetch->body.size();
  return octets;
}

}  // namespace

std::shared_ptr<const Reply> DecisionCache::find(const QuestionKey& key, MonoTime now) {
  const auto found = index_.find(key);
  if (found == index_.end()) return nullptr;
  if (found->second->until <= now) {
    erase(found->second);
    return nullptr;
  }
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->reply;
}

void DecisionCache::put(const QuestionKey& key, std::shared_ptr<const Reply> reply, MonoTime until, MonoTime now) {
  if (const auto found = index_.find(key); found != index_.end()) {
    // A question that asked `fresh` may overtake an older flight.
    if (found->second->until > now && found->second->reply->decision.decided > reply->decision.decided) return;
    erase(found->second);
  }
  if (until <= now) return;  // a TTL of zero is good for the question that asked, and no other
  const std::size_t octets = octets_of(*reply);
  entries_.push_front({key, std::move(reply), until, octets});
  index_.emplace(key, entries_.begin());
  octets_ += octets;
  while (entries_.size() > max_entries_ || octets_ > max_octets_) erase(std::prev(entries_.end()));
}

void DecisionCache::clear() {
  index_.clear();
  entries_.clear();
  octets_ = 0;
}

void DecisionCache::forget(const Domain& domain) {
  auto at = index_.lower_bound({domain, 0, false});
  while (at != index_.end() && at->first.domain == domain) erase((at++)->second);
}

void DecisionCache::erase(Entries::iterator entry) {
  octets_ -= entry->octets;
  index_.erase(entry->key);
  entries_.erase(entry);
}

}  // namespace sealane
