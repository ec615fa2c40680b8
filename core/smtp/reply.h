// Replies of SMTP and LMTP servers (RFC 5321 §4.2). Pure; the server is not trusted.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"

namespace sealane::smtp {

struct Reply {
  int code = 0;                    // 200 to 599; 0: none
  std::vector<std::string> lines;  // the text behind the code, raw but without its line end; at least one

  [[nodiscard]] bool good() const { return code >= 200 && code < 300; }
  // One line for a log: "250 first / second", printable, at most 2100 octets.
  [[nodiscard]] std::string text() const;
  // Of a reply to EHLO (RFC 5321 §4.1.1.1): is `keyword`, in upper case, among the lines after the first?
  [[nodiscard]] bool offers(std::string_view keyword) const;
};

// RFC 5321 §4.5.3.1.5 says 512 octets a line; servers send more, and a bound is all that is needed.
inline constexpr std::size_t longest_line = 4096;
inline constexpr std::size_t longest_reply = 65536;

// Puts replies together, however they come in pieces, at a cost that is linear in their length.
class ReplyReader {
 public:
  // Takes whole lines off the front of `unread`, up to the end of one reply; nothing: more must be read. An error: this
  // is no reply (a malformed line, codes that differ within it, too long), and nothing more can be made of the
  // connection. A bare LF ends a line too: nothing follows from it here.
  [[nodiscard]] Result<std::optional<Reply>> take(std::string& unread);

 private:
  [[nodiscard]] Result<bool> add(std::string_view line);  // whether it was the last one
  Reply reply_;                                           // as far as it has come
  std::size_t octets_ = 0;
};

}  // namespace sealane::smtp
