// A DNS response packet (RFC 1035 §4) to what we need of it. Never throws; bounded: 64 KiB, compression pointers only
// backwards and at most 126 of them a name, at most 8 CNAME hops, no recursion.
#pragma once

#include "core/dns/answer.h"

namespace sealane::dns {

inline constexpr std::size_t max_cname_hops = 8;

// Follows the CNAME chain of the answer section from `name` and gathers the RRset of `type` at its end. The result's
// `security` is left at `insecure` for an answer: the caller knows it. Rcodes other than NOERROR and NXDOMAIN, a loop,
// a chain that is too long and a malformed packet are failures.
[[nodiscard]] Answer read_response(ByteView packet, const Domain& name, RrType type);

// Whether an RRSIG came with the answer: tells signatures that do not fit from signatures that were taken away.
[[nodiscard]] bool has_signatures(ByteView packet);

}  // namespace sealane::dns
