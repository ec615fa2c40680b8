// Replies of servers, as any server may send them.
#include <doctest/doctest.h>

#include "core/smtp/reply.h"

namespace sealane::smtp {
namespace {

Result<std::optional<Reply>> take_reply(std::string& unread) { return ReplyReader().take(unread); }

// All of `text` at once; the code, or 0 for an error, or -1 while more is wanted.
int code_of(std::string text) {
  const auto reply = take_reply(text);
  if (!reply) return 0;
  return *reply ? (*reply)->code : -1;
}

TEST_CASE("RFC 5321 §4.2: one line, several lines, and no more than one reply is taken") {
  std::string unread = "250-mx.example.org\r\n250-STARTTLS\r\n250 SIZE 1000\r\n354 go on\r\n22";
  auto reply = take_reply(unread);
  REQUIRE(reply);
  REQUIRE(*reply);
  CHECK((*reply)->code == 250);
  CHECK((*reply)->lines == std::vector<std::string>{"mx.example.org", "STARTTLS", "SIZE 1000"});
  CHECK((*reply)->text() == "250 mx.example.org / STARTTLS / SIZE 1000");
  reply = take_reply(unread);
  REQUIRE(reply);
  REQUIRE(*reply);
  CHECK((*reply)->code == 354);
  CHECK_FALSE((*reply)->good());
  CHECK(unread == "22");
  reply = take_reply(unread);
  REQUIRE(reply);
  CHECK_FALSE(*reply);
  CHECK(unread == "22");
}

TEST_CASE("a reply that comes octet by octet is the same reply") {
  const std::string whole = "220-a\r\n220 b\r\n";
  ReplyReader reader;
  std::string unread;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    unread += whole[i];
    const auto reply = reader.take(unread);
    REQUIRE(reply);
    REQUIRE(reply->has_value() == (i + 1 == whole.size()));
    if (*reply) CHECK((*reply)->lines == std::vector<std::string>{"a", "b"});
  }
  unread = "250 c\r\n";  // nothing of it is left for the next one
  CHECK((*reader.take(unread).value()).lines == std::vector<std::string>{"c"});
}

TEST_CASE("RFC 5321 §4.1.1.1: keywords of EHLO, in any case, whole, and not in the first line") {
  std::string unread = "250-STARTTLS.example.org\r\n250-starttls\r\n250-SIZED 10\r\n250 PIPELINING x\r\n";
  const auto reply = take_reply(unread);
  REQUIRE(reply);
  REQUIRE(*reply);
  CHECK((*reply)->offers("STARTTLS"));
  CHECK((*reply)->offers("PIPELINING"));
  CHECK_FALSE((*reply)->offers("SIZE"));
  unread = "250 STARTTLS\r\n";
  CHECK_FALSE((*take_reply(unread).value()).offers("STARTTLS"));
}

TEST_CASE("what is no reply ends the conversation with a reason") {
  CHECK(code_of("SSH-2.0-OpenSSH\r\n") == 0);
  CHECK(code_of("\r\n") == 0);
  CHECK(code_of("25\r\n") == 0);
  CHECK(code_of("150 early\r\n") == 0);
  CHECK(code_of("650 late\r\n") == 0);
  CHECK(code_of("2500 four digits\r\n") == 0);
  CHECK(code_of("250-a\r\n251 b\r\n") == 0);
  CHECK(code_of("250") == -1);
  CHECK(code_of("250\r\n") == 250);
  CHECK(code_of("250\n") == 250);
  CHECK(code_of(std::string("250 a\0b\r\n", 9)) == 250);
}

TEST_CASE("a reply is bounded, whether it ends or not") {
  CHECK(code_of("250 " + std::string(longest_line - 5, 'x')) == -1);
  CHECK(code_of("250 " + std::string(longest_line, 'x')) == 0);
  CHECK(code_of("250 " + std::string(longest_line, 'x') + "\r\n") == 0);
  std::string endless;
  while (endless.size() <= longest_reply) endless += "250-more\r\n";
  CHECK(code_of(endless) == 0);
  CHECK(code_of(endless + "250 end\r\n") == 0);
}

TEST_CASE("text for a log is printable and bounded") {
  std::string unread = "550 \x1b[31mred\xff\r\n";
  CHECK((*take_reply(unread).value()).text() == "550 \\x1b[31mred\\xff");
  Reply reply{550, std::vector<std::string>(1000, "line")};
  CHECK(reply.text().size() < 600);
}

}  // namespace
}  // namespace sealane::smtp
