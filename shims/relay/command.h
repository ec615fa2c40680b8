// Commands of an LMTP client (RFC 2033, RFC 5321 §4.1.1). Pure.
#pragma once

#include <string>
#include <string_view>

namespace sealane::relay {

enum class Verb : unsigned char { unknown, lhlo, mail, rcpt, data, rset, noop, quit };

struct Command {
  Verb verb = Verb::unknown;
  std::string error;    // MAIL, RCPT: the reply to refuse with ("501 5.1.7 …"); empty: well-formed
  std::string address;  // MAIL, RCPT: without the angle brackets; of MAIL it may be empty
  std::string domain;   // of `address`: behind the last @, in lower case
};

inline constexpr std::size_t longest_command = 2048;
inline constexpr std::size_t longest_address = 512;

// A line without its CR LF. Whatever it holds, an address that comes out is printable ASCII, without CR, LF, NUL, space
// (but in a quoted local part) or angle bracket: it can be sent on as it is.
[[nodiscard]] Command read_command(std::string_view line);

}  // namespace sealane::relay
