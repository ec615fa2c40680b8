// Exceptions stop here: every function of the C interface runs its body in one of these.
#pragma once

#include <new>
#include <utility>

#include "sealane.h"

namespace sealane {

// The status that `body` returns; of an exception, SEALANE_E_MEMORY or SEALANE_E_INTERNAL.
template <class Body>
[[nodiscard]] int guarded(Body&& body) noexcept {
  try {
    return std::forward<Body>(body)();
  } catch (const std::bad_alloc&) {
    return SEALANE_E_MEMORY;
  } catch (...) {
    return SEALANE_E_INTERNAL;
  }
}

}  // namespace sealane
