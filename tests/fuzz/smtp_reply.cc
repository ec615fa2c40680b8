// Replies of servers: however they come in pieces, the same replies, and bounded.
#include "core/smtp/reply.h"
#include "tests/fuzz/fuzz.h"

using namespace sealane;
using fuzz::must;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string input(fuzz::text_of(data, size));
  std::string whole = input;
  std::string pieces;
  std::size_t fed = 0;
  smtp::ReplyReader at_once;
  smtp::ReplyReader by_octet;
  for (;;) {
    const auto reply = at_once.take(whole);
    if (!reply) {
      must(!reply.error().what.empty() && reply.error().what.size() < 1000, "an error says what, in bounded words");
      return 0;
    }
    if (!*reply) {
      must(whole.size() <= smtp::longest_line, "what is kept of half a line is bounded");
      return 0;
    }
    must((*reply)->code >= 200 && (*reply)->code < 600 && !(*reply)->lines.empty(), "a reply has a code and a line");
    must((*reply)->text().size() < 2100, "its text is bounded");
    for (const char c : (*reply)->text()) must(c >= ' ' && c < 0x7f, "and printable");

    // Octet by octet: nothing before the last octet of it, then the same.
    for (const std::size_t end = input.size() - whole.size(); fed < end; ++fed) {
      pieces += input[fed];
      const auto part = by_octet.take(pieces);
      must(part.has_value(), "a good reply is good in pieces");
      must(part->has_value() == (fed + 1 == end), "a reply ends with its last octet");
      if (*part) must((*part)->code == (*reply)->code && (*part)->lines == (*reply)->lines, "and is the same");
    }
  }
}
