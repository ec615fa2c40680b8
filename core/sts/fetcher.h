// The seam to HTTPS (RFC 8461 §3.3).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/domain/domain.h"
#include "core/sts/lifecycle.h"

namespace sealane::sts {

class PolicyFetcher {
 public:
  using Done = std::function<void(FetchResult)>;
  virtual ~PolicyFetcher() = default;

  // Fetches https://mta-sts.DOMAIN/.well-known/mta-sts.txt from `addresses` (text, from validated lookups; never empty)
  // and calls `done` once from the loop, never from within this call, within https_timeout. `id` is carried through.
  // Success: the body parses as a policy. Destroying the fetcher drops what is under way without calling `done`.
  virtual void fetch(const Domain& policy_domain, const std::vector<std::string>& addresses, std::string id,
                     Done done) = 0;
};

}  // namespace sealane::sts
