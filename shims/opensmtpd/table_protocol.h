// The table's side of OpenSMTPD's two table protocols. Pure.
//
// Up to 7.5 smtpd speaks imsg: frames of a 16-octet header in the byte order of the machine, and a payload. From 7.6 it
// speaks lines, smtpd-tables(7). The first octet tells which: lines begin with "config|", frames with their type, which
// is PROC_TABLE_OPEN. smtpd waits for each answer and ends on a wrong one, so every question that can be told from
// rubbish is answered, and nothing else is written. "Not found" would bounce mail: it is never said.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sealane::opensmtpd {

struct Ports {
  std::uint16_t first, last;  // both included
};

// Which port of the relay takes the mail of a domain; the same at all times and on all machines. Letters of both cases
// are the same, and a trailing dot counts for nothing.
[[nodiscard]] std::uint16_t port_for(std::string_view domain, Ports ports);

class Table {
 public:
  explicit Table(Ports ports) : ports_(ports) {}

  // Octets from smtpd, cut anywhere; gives what is to be written to it now.
  [[nodiscard]] std::string take(std::string_view octets);
  // True once lines have been seen: answers go to standard output. Else they go to descriptor 0, which is a socket.
  [[nodiscard]] bool speaks_lines() const { return mode_ == Mode::lines; }

  static constexpr std::size_t longest_line = 65536;

 private:
  enum class Mode : unsigned char { unknown, lines, frames, deaf };
  void take_lines(std::string& out);
  void take_frames(std::string& out);
  [[nodiscard]] std::string answer_line(std::string_view line);
  [[nodiscard]] std::string relay_url(std::string_view domain) const;

  Ports ports_;
  Mode mode_ = Mode::unknown;
  std::string unread_;
  bool too_long_ = false;    // the line that is being read
  bool registered_ = false;  // lines
};

}  // namespace sealane::opensmtpd
