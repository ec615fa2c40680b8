#include "core/smtp/reply.h"

#include <strings.h>

#include <algorithm>
#include <utility>

#include "core/base/bytes.h"

namespace sealane::smtp {

namespace {

constexpr std::size_t most_shown = 512;  // octets of a reply

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// RFC 5321 §4.2: Reply-code = %x32-35 %x30-35 %x30-39; a second digit above 5 is seen in the wild and means no harm.
int code_of(std::string_view line) {
  if (line.size() < 3 || line[0] < '2' || line[0] > '5' || !is_digit(line[1]) || !is_digit(line[2])) return 0;
  return (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
}

}  // namespace

std::string Reply::text() const {
  std::string text = std::to_string(code);
  for (std::size_t i = 0; i < lines.size() && text.size() <= most_shown; ++i) text += (i == 0 ? " " : " / ") + lines[i];
  return printable(text, most_shown);
}

bool Reply::offers(std::string_view keyword) const {
  return lines.size() > 1 && std::any_of(lines.begin() + 1, lines.end(), [keyword](const std::string& line) {
           return line.size() >= keyword.size() && ::strncasecmp(line.data(), keyword.data(), keyword.size()) == 0 &&
                  (line.size() == keyword.size() || line[keyword.size()] == ' ');
         });
}

Result<bool> ReplyReader::add(std::string_view line) {
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  const int code = code_of(line);
  const bool last = line.size() == 3 || (line.size() > 3 && line[3] == ' ');
  if (code == 0 || (!last && line[3] != '-')) return failure("the server does not speak SMTP: " + printable(line, 80));
  if (reply_.code != 0 && reply_.code != code) {
    return failure("the server's reply has two codes: " + printable(line, 80));
  }
  reply_.code = code;
  reply_.lines.emplace_back(line.substr(std::min<std::size_t>(4, line.size())));
  return last;
}

Result<std::optional<Reply>> ReplyReader::take(std::string& unread) {
  std::size_t at = 0;
  for (;;) {
    const std::size_t end = unread.find('\n', at);
    const std::size_t length = std::min(end, unread.size()) - at;
    if (length > longest_line) return failure("the server sent an over-long line");
    if (octets_ + length > longest_reply) return failure("the server's reply is too long");
    if (end == std::string::npos) {
      unread.erase(0, at);
      return std::optional<Reply>();
    }
    const auto last = add({unread.data() + at, length});
    if (!last) return tl::make_unexpected(last.error());
    octets_ += length + 1;
    at = end + 1;
    if (!*last) continue;
    unread.erase(0, at);
    octets_ = 0;
    return std::optional<Reply>(std::exchange(reply_, {}));
  }
}

}  // namespace sealane::smtp
