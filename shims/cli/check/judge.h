// `sealane check`: what the receiving domain should mend. Pure.
#pragma once

#include <string>
#include <vector>

#include "shims/cli/check/live.h"

namespace sealane::check {

enum class Weight : unsigned char { finding, note };  // a note is worth knowing and no mistake

struct Remark {
  Weight weight = Weight::finding;
  std::string of;      // the domain, host or address concerned
  std::string what;    // in words, no full stop
  std::string remedy;  // what to do; empty only for notes
  std::string rule;    // RFC section; may be empty
};

// The verdict on one connection as its host's demand has it. Opportunistic hosts are verified too: no TLS at all is
// then the only thing that is wrong.
[[nodiscard]] Verdict verdict_of(const Live& live, const Connection& connection, const Verifier& verifier);

// `verifier`: with the trusted CAs.
[[nodiscard]] std::vector<Remark> judge(const Live& live, const Verifier& verifier);

}  // namespace sealane::check
