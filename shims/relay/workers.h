// Threads for what blocks. One that is done waits a moment for more: making a new one for each session and each domain
// costs more than most of what they do.
#pragma once

#include <functional>
#include <memory>

namespace sealane::relay {

// Thread-safe. There is no bound here: Slots are taken before. Tasks do not throw.
class Workers {
 public:
  Workers();
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Begins at once, on a thread of its own. False: there is none.
  [[nodiscard]] bool run(std::function<void()> task);

 private:
  struct State;  // outlives this object as long as threads use it
  const std::shared_ptr<State> state_;
};

}  // namespace sealane::relay
