// How connections ended, counted in memory until the store is told: a delivery never waits for a disk.
#pragma once

#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "core/store/store.h"

namespace sealane::agent {

class Outcomes {
 public:
  // Of different ones between two takes. More are not counted: what is lost is a number in a report.
  static constexpr std::size_t most = 10000;

  void note(TlsOutcome outcome);
  // What was noted since the last take.
  [[nodiscard]] std::vector<TlsOutcome> take();

 private:
  using Key = std::tuple<std::string, std::string, std::string, std::string, std::uint32_t, std::int64_t>;
  std::map<Key, TlsOutcome> counted_;
};

}  // namespace sealane::agent
