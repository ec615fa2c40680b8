// PolicyFetcher by libcurl's multi interface on our loop. The one user of libcurl is curl_fetcher.cc.
#pragma once

#include "core/base/loop.h"
#include "core/config/config.h"
#include "core/sts/fetcher.h"

namespace sealane::sts {

// Fails (of: the file) where the CA file loads no certificate; the file is read here and never again. Does not own
// `loop` or `clock`, which must outlive it. Not usable after fork(). RFC 8461 §3.3 leaves no choice of `port`: only a
// test, which cannot listen on 443, passes another.
[[nodiscard]] Result<std::unique_ptr<PolicyFetcher>> make_curl_fetcher(Loop& loop, const Clock& clock,
                                                                       const Config& config, std::uint16_t port = 443);

// Addresses that no public policy host has: loopback, private, link-local, multicast, unspecified, reserved, and what
// embeds an IPv4 address of these kinds or hides one (mapped). Also whatever is no address at all.
[[nodiscard]] bool is_private_address(const std::string& address);

}  // namespace sealane::sts
