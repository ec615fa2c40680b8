// Deciding in this process, with the agent's code and store.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/config/config.h"
#include "core/decide/evidence.h"
#include "core/engine/engine.h"

namespace sealane::cli {

// Asks all `questions` at the same time and gives each reply, in their order, as soon as it and all before it are
// known. `wait` is the deadline of each.
void ask_here(const Config& config, const std::vector<Question>& questions, Millis wait,
              const std::function<void(const Reply&)>& each);

// Written only by its owner: what root or a passer-by creates in its place would shut the agent out.
[[nodiscard]] StoreUse store_use(const std::string& path);

}  // namespace sealane::cli
