// Decisions in memory, least recently used out first. Internal to core/engine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>

#include "core/engine/engine.h"

namespace sealane {

// What makes two questions the same.
struct QuestionKey {
  Domain domain;
  std::uint16_t port;
  bool mx;
  friend auto operator<=>(const QuestionKey&, const QuestionKey&) = default;
};

// Bounded by number and by octets: a policy or a TLSA RRset may be 64 KiB, and others choose its size.
class DecisionCache {
 public:
  DecisionCache(std::size_t max_entries, std::size_t max_octets) : max_entries_(max_entries), max_octets_(max_octets) {}

  // Nothing: not there, or expired.
  [[nodiscard]] std::shared_ptr<const Reply> find(const QuestionKey& key, MonoTime now);
  // Replaces what is there, unless that was decided later. Good before `until`, by the monotonic clock: no step of the
  // wall clock makes it last longer.
  void put(const QuestionKey& key, std::shared_ptr<const Reply> reply, MonoTime until, MonoTime now);
  void clear();
  // All that was decided for `domain`.
  void forget(const Domain& domain);

 private:
  struct Entry {
    QuestionKey key;
    std::shared_ptr<const Reply> reply;
    MonoTime until;
    std::size_t octets;
  };
  using Entries = std::list<Entry>;  // most recently used first
  void erase(Entries::iterator entry);

  std::size_t max_entries_;
  std::size_t max_octets_;
  std::size_t octets_ = 0;
  Entries entries_;
  std::map<QuestionKey, Entries::iterator> index_;
};

}  // namespace sealane
