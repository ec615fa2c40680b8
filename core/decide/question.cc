#include <arpa/inet.h>
#include <strings.h>

#include "core/base/bytes.h"
#include "core/decide/evidence.h"

namespace sealane {
namespace {

// No name in the DNS is longer in UTF-8; a longer input is cut and is no name.
constexpr std::size_t max_octets = 1024;

bool is_address(int family, const std::string& text) {
  // inet_pton stops at a NUL, which no address holds.
  if (text.find('\0') != std::string::npos) return false;
  in6_addr address{};  // room for either family
  return inet_pton(family, text.c_str(), &address) == 1;
}

// RFC 5321 §4.1.3: "IPv6:" before an address in brackets, in either case. People leave it out; nothing else it could
// be.
bool is_address_in_brackets(const std::string& text) {
  constexpr std::string_view tag = "IPv6:";
  if (strncasecmp(text.c_str(), tag.data(), tag.size()) == 0) return is_address(AF_INET6, text.substr(tag.size()));
  return is_address(AF_INET, text) || is_address(AF_INET6, text);
}

}  // namespace

Question Question::parse(std::string_view input, std::uint16_t port, bool mx, bool fresh) {
  Question question;
  question.port = port;
  question.mx = mx;
  question.fresh = fresh;
  if (input.size() > max_octets) {
    // The dots keep what is left from being a name of its own, should it be parsed again.
    question.text = valid_utf8(input.substr(0, max_octets)) + "...";
    return question;
  }
  question.text = valid_utf8(input);

  std::string name(input);
  if (name.size() >= 2 && name.front() == '[' && name.back() == ']') {
    name = name.substr(1, name.size() - 2);
    question.address_literal = is_address_in_brackets(name);
    question.mx = false;
  } else {
    question.address_literal = is_address(AF_INET, name) || is_address(AF_INET6, name);
  }
  if (question.address_literal) return question;
  if (auto domain = Domain::parse(name)) question.domain = std::move(*domain);
  return question;
}

}  // namespace sealane
