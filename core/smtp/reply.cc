#include "core/smtp/reply.h"

#include <strings.h>

#include <algorithm>

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

Result<std::optional<Reply>> take_reply(std::string& unread) {
  Reply reply;
  std::size_t at = 0;
  for (;;) {
    const std::size_t end = unread.find('\n', at);
    if (std::min(end, unread.size()) - at > longest_line) return failure("the server sent an over-long line");
    if (unread.size() > longest_reply && end == std::string::npos) return failure("the server's reply is too long");
    if (end == std::string::npos) return std::optional<Reply>();
    if (end > longest_reply) return failure("the server's reply is too long");
    std::string_view line(unread.data() + at, end - at);
    at = end + 1;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);

    const int code = code_of(line);
    const bool last = line.size() == 3 || (line.size() > 3 && line[3] == ' ');
    if (code == 0 || (!last && line[3] != '-')) {
      return failure("the server does not speak SMTP: " + printable(line, 80));
    }
    if (reply.code != 0 && reply.code != code) {
      return failure("the server's reply has two codes: " + printable(line, 80));
    }
    reply.code = code;
    reply.lines.emplace_back(line.substr(std::min<std::size_t>(4, line.size())));
    if (last) {
      unread.erase(0, at);
      return std::optional<Reply>(std::move(reply));
    }
  }
}

}  // namespace sealane::smtp
