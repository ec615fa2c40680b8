// The filter's side of smtpd-filters(7), protocol 0.5 to 0.x. Pure.
//
// smtpd ends when a filter says one wrong word. So nothing is ever written but the registration, once, and one answer
// to each question that was understood; whatever else comes in is passed over.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sealane::opensmtpd {

// A recipient to be judged. `session` and `token`: 1 to 16 hexadecimal digits, to be given back as they are. The token
// is the same for a whole phase: one question is told from another by its session, which has one open at a time.
struct RcptTo {
  std::string session, token;
  std::string domain;  // behind the last @, as given; empty: the address has none
};

class FilterInput {
 public:
  struct Taken {
    bool handshake = false;  // registration() is to be written now
    std::vector<RcptTo> questions;
  };
  // Octets from smtpd, cut anywhere. A line of more than longest_line octets is passed over.
  [[nodiscard]] Taken take(std::string_view octets);

  static constexpr std::size_t longest_line = 65536;

 private:
  void take_line(Taken& taken);
  std::string line_;
  bool too_long_ = false;
  bool registered_ = false;
};

// All for smtpd's hands, line ends included.
[[nodiscard]] std::string_view registration();
[[nodiscard]] std::string proceed(const RcptTo& question);
[[nodiscard]] std::string reject(const RcptTo& question, std::string_view reply);

// The reply to a recipient at `domain` where the decision is one that no retry will change: null MX, no such domain, no
// address, an address for a host name, no domain at all. Nothing: let it proceed. `action` and `reason` are the words
// of the decision. Printable ASCII, 200 octets at most.
[[nodiscard]] std::optional<std::string> refusal(std::string_view action, std::string_view reason,
                                                 std::string_view domain);

}  // namespace sealane::opensmtpd
