// Names as they stand in packets and RDATA (RFC 1035 §3.1, §4.1.4): any octets, lower case, bounded.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/domain/domain.h"

namespace sealane::dns {

// Most specific first, each 1 to 63 octets of any value, ASCII letters in lower case (RFC 4343); none: the root. At
// most 255 octets on the wire.
using Labels = std::vector<std::string>;

enum class Pointers : bool { refused, followed };

// Reads one name and leaves `reader` behind it. Pointers may only lead backwards, and at most 126 times. Nothing:
// malformed, and `reader` is of no further use.
[[nodiscard]] std::optional<Labels> read_name(ByteReader& reader, Pointers pointers);

[[nodiscard]] Labels labels_of(const Domain& domain);
void append_wire(Bytes& out, const Labels& name);  // uncompressed

// "mx1.example.org"; octets that a host name does not have as \DDD (RFC 1035 §5.1); "." for the root.
[[nodiscard]] std::string to_text(const Labels& name);

}  // namespace sealane::dns
