// The pure side of OpenSMTPD's filter and table protocols.
#include <doctest/doctest.h>

#include <cstring>
#include <random>
#include <regex>
#include <set>

#include "shims/opensmtpd/arguments.h"
#include "shims/opensmtpd/filter_protocol.h"
#include "shims/opensmtpd/table_protocol.h"

using namespace sealane;
using namespace sealane::opensmtpd;

namespace {

constexpr Ports ports{20025, 20280};
const std::string question = "filter|0.6|1576146008.006099|smtp-in|rcpt-to|7641df9771b4ed00|1ef1c203cc576e5d|";

FilterInput ready_filter() {
  FilterInput input;
  CHECK(input.take("config|smtpd-version|6.8.0\nconfig|smtp-session-timeout|300\nconfig|ready\n").handshake);
  return input;
}

std::vector<RcptTo> ask(const std::string& line) { return ready_filter().take(line + "\n").questions; }

// A frame of OpenSMTPD up to 7.5.
std::string frame(std::uint32_t type, const std::string& payload) {
  const auto length = static_cast<std::uint16_t>(16 + payload.size());
  std::string out(16, '\0');
  std::memcpy(out.data(), &type, 4);
  std::memcpy(out.data() + 4, &length, 2);
  return out + payload;
}

std::string asked(std::uint32_t service, std::size_t parameters, const std::string& key) {
  std::string out(4 + sizeof parameters, '\0');
  std::memcpy(out.data(), &service, 4);
  std::memcpy(out.data() + 4, &parameters, sizeof parameters);
  return out + key;
}

std::string with_nul(const std::string& text) { return text + std::string(1, '\0'); }

std::string answer(int result, const std::string& text = {}) {
  std::string payload(4, '\0');
  std::memcpy(payload.data(), &result, 4);
  return frame(0, payload + text);
}

std::string url(const std::string& domain) { return "lmtp://127.0.0.1:" + std::to_string(port_for(domain, ports)); }

constexpr std::uint32_t open = 2, close = 3, update = 4, check = 5, lookup = 6, fetch = 7, relayhost = 0x200;

Table ready_table() {
  Table table(ports);
  CHECK(table.take("config|smtpd-version|7.6.0\nconfig|protocol|0.1\nconfig|tablename|sealane\nconfig|ready\n") ==
        "register|relayhost\nregister|ready\n");
  return table;
}

std::string say(const std::string& line) { return ready_table().take(line + "\n"); }

}  // namespace

TEST_CASE("filter: registers once, when smtpd is ready, and says nothing before") {
  FilterInput input;
  auto taken = input.take(question + "a@example.org\nconfig|protocol|0.7\nconfig|rea");
  CHECK_FALSE(taken.handshake);
  CHECK(taken.questions.empty());
  CHECK(input.take("dy\n").handshake);
  CHECK_FALSE(input.take("config|ready\n").handshake);
  CHECK(registration() == "register|filter|smtp-in|rcpt-to\nregister|ready\n");
}

TEST_CASE("filter: a question of protocol 0.6 and of 0.7, cut anywhere") {
  for (const char* version : {"0.5", "0.6", "0.7", "0.10"}) {
    std::string line = question + "some|body@Example.ORG\n";
    line.replace(7, 3, version);
    for (std::size_t cut = 0; cut <= line.size(); ++cut) {
      FilterInput input = ready_filter();
      auto questions = input.take(line.substr(0, cut)).questions;
      for (auto& more : input.take(line.substr(cut)).questions) questions.push_back(more);
      REQUIRE(questions.size() == 1);
      CHECK(questions[0].domain == "Example.ORG");
      CHECK(proceed(questions[0]) == "filter-result|7641df9771b4ed00|1ef1c203cc576e5d|proceed\n");
      CHECK(reject(questions[0], "550 no") == "filter-result|7641df9771b4ed00|1ef1c203cc576e5d|reject|550 no\n");
    }
  }
}

TEST_CASE("filter: what is no question of ours is passed over") {
  for (const char* line : {
           "",
           "filter",
           "filter|0.6",
           "filter|0.6|1|smtp-in|rcpt-to",
           "filter|0.6|1|smtp-in|rcpt-to|12|34",
           "filter|0.6|1|smtp-out|rcpt-to|12|34|a@b",
           "filter|0.6|1|smtp-in|mail-from|12|34|a@b",
           "filter|0.6|1|smtp-in|data-line|12|34|a@b",
           "filter|0.4|1|smtp-in|rcpt-to|12|34|a@b",
           "filter|1.0|1|smtp-in|rcpt-to|12|34|a@b",
           "filter|0.|1|smtp-in|rcpt-to|12|34|a@b",
           "filter|0.6|1|smtp-in|rcpt-to||34|a@b",
           "filter|0.6|1|smtp-in|rcpt-to|12|3x|a@b",
           "filter|0.6|1|smtp-in|rcpt-to|12345678901234567|34|a@b",
           "filter|0.6|1|smtp-in|rcpt-to|0x12|34|a@b",
           "report|0.6|1|smtp-in|link-connect|12|x|y|z",
           "Filter|0.6|1|smtp-in|rcpt-to|12|34|a@b",
       }) {
    CAPTURE(line);
    CHECK(ask(line).empty());
  }
}

TEST_CASE("filter: an address without a domain, and a very long one, are still answered") {
  REQUIRE(ask(question + "postmaster").size() == 1);
  CHECK(ask(question + "postmaster")[0].domain.empty());
  REQUIRE(ask(question).size() == 1);
  REQUIRE(ask(question + "a@" + std::string(5000, 'x')).size() == 1);
  CHECK(ask(question + "a@" + std::string(5000, 'x'))[0].domain.size() == 256);
}

TEST_CASE("filter: a line without end costs a bounded amount of memory, and the next one is read") {
  FilterInput input = ready_filter();
  for (int i = 0; i < 100; ++i) CHECK(input.take(question + std::string(65536, 'x')).questions.empty());
  CHECK(input.take("\n").questions.empty());
  CHECK(input.take(question + "a@b.test\n").questions.size() == 1);
}

TEST_CASE("filter: only what no retry will change is refused, with the codes of RFC 7505 and RFC 3463") {
  CHECK(refusal("reject", "null-mx", "a.test")->substr(0, 18) == "556 5.1.10 a.test:");
  CHECK(refusal("reject", "nxdomain", "a.test")->substr(0, 17) == "550 5.1.2 a.test:");
  CHECK(refusal("reject", "no-address", "a.test")->substr(0, 17) == "550 5.4.4 a.test:");
  CHECK(refusal("reject", "mx-numeric", "a.test")->substr(0, 17) == "550 5.4.4 a.test:");
  CHECK(refusal("reject", "domain-invalid", "a..b")->substr(0, 15) == "553 5.1.3 a..b:");
  for (const char* reason : {"null-mx", "nxdomain", "tlsa-bogus", "limit", "", "mx-contradicts-policy"}) {
    CHECK_FALSE(refusal("defer", reason, "a.test"));
    CHECK_FALSE(refusal("deliver", reason, "a.test"));
    CHECK_FALSE(refusal("", reason, "a.test"));
  }
  CHECK_FALSE(refusal("reject", "tlsa-bogus", "a.test"));
  const auto hostile = refusal("reject", "nxdomain", std::string("a\n\r|\0\xff", 6) + std::string(300, 'x'));
  REQUIRE(hostile);
  CHECK(std::regex_match(*hostile, std::regex("550 5\\.1\\.2 [ -~]{1,190}")));
}

TEST_CASE("filter: whatever 100,000 random lines say, the answers are those that smtpd knows") {
  std::mt19937 random(7);
  const std::vector<std::string> words = {
      "filter",   "report", "config",           "ready",    "0.6", "0.7", "smtp-in",
      "rcpt-to",  "1",      "7641df9771b4ed00", "a@b.test", "",    "\r",  std::string(1, '\0'),
      "\xff\xfe", "@"};
  FilterInput input = ready_filter();
  const std::regex good("filter-result\\|[0-9a-fA-F]{1,16}\\|[0-9a-fA-F]{1,16}\\|proceed\n");
  std::size_t answered = 0;
  for (int i = 0; i < 100000; ++i) {
    std::string line;
    if (i % 4 == 0) {
      for (std::size_t n = random() % 40; n > 0; --n) line += static_cast<char>(random());
    } else if (i % 4 == 1) {
      line = question + "a@b.test";
      line[random() % line.size()] = static_cast<char>(random());
    } else {
      for (std::size_t n = random() % 9; n > 0; --n) line += words[random() % words.size()] + "|";
    }
    const auto taken = input.take(line + (i % 7 == 0 ? "" : "\n"));
    CHECK_FALSE(taken.handshake);
    for (const RcptTo& one : taken.questions) {
      if (!std::regex_match(proceed(one), good)) FAIL(line);
      ++answered;
    }
  }
  CHECK(answered > 1000);
}

TEST_CASE("table: a port is a pure function of the domain, and domains spread over the range") {
  CHECK(port_for("example.org", ports) == port_for("EXAMPLE.org.", ports));
  CHECK(port_for("x", {25, 25}) == 25);
  CHECK(port_for("x", {65535, 65535}) == 65535);
  std::set<std::uint16_t> used;
  for (int i = 0; i < 4000; ++i) {
    const auto port = port_for("domain" + std::to_string(i) + ".test", ports);
    CHECK((port >= ports.first && port <= ports.last));
    used.insert(port);
  }
  CHECK(used.size() == 256);
}

TEST_CASE("table: lines") {
  const std::string head = "table|0.1|1713795082.354255|sealane|";
  CHECK(ready_table().speaks_lines());
  CHECK(say(head + "lookup|relayhost|e5862859|example.org") ==
        "lookup-result|e5862859|found|" + url("example.org") + "\n");
  CHECK(say(head + "check|relayhost|e5862859|example.org") == "check-result|e5862859|found\n");
  CHECK(say(head + "fetch|relayhost|e5862859") == "fetch-result|e5862859|found|" + url("") + "\n");
  CHECK(say(head + "update|e5862859") == "update-result|e5862859|ok\n");
  CHECK(say(head + "lookup|relayhost|e5862859|a|b").substr(0, 29) == "lookup-result|e5862859|found|");
  CHECK(say(head + "lookup|relayhost|e5862859|").substr(0, 29) == "lookup-result|e5862859|found|");
  CHECK(say(head + "lookup|alias|e5862859|root").substr(0, 29) == "lookup-result|e5862859|error|");
  for (const std::string& line : std::vector<std::string>{"", "table", "config|ready", head + "lookup|relayhost",
                                                          head + "lookup|relayhost||x", head + "dump|relayhost|12|x",
                                                          head + "update|1|2\x01", head + "update|a b", "tables|1|2"}) {
    CAPTURE(line);
    const std::string said = say(line);
    CHECK((said.empty() || said == "update-result|1|ok\n"));
  }
  Table early(ports);
  CHECK(early.take("config|protocol|0.1\n" + head + "update|12\n").empty());
}

TEST_CASE("table: frames") {
  Table table(ports);
  CHECK(table.take(frame(open, std::string(2052, '\0'))) == frame(0, ""));
  CHECK_FALSE(table.speaks_lines());
  CHECK(table.take(frame(lookup, asked(relayhost, 0, with_nul("example.org")))) ==
        answer(1, with_nul(url("example.org"))));
  CHECK(table.take(frame(check, asked(relayhost, 0, with_nul("example.org")))) == answer(1));
  CHECK(table.take(frame(fetch, asked(relayhost, 0, ""))) == answer(1, with_nul(url(""))));
  CHECK(table.take(frame(update, "")) == answer(1));
  CHECK(table.take(frame(close, "")).empty());
  CHECK(table.take(frame(lookup, asked(1, 0, with_nul("root")))) == answer(-1));
  CHECK(table.take(frame(lookup, asked(relayhost, 1, with_nul("root")))) == answer(-1));
  CHECK(table.take(frame(lookup, asked(relayhost, 0, "no end"))) == answer(-1));
  CHECK(table.take(frame(lookup, "")) == answer(-1));
  CHECK(table.take(frame(99, "")).empty());
  const std::string two = frame(update, "") + frame(lookup, asked(relayhost, 0, with_nul("a.test")));
  for (std::size_t cut = 0; cut <= two.size(); ++cut) {
    Table again(ports);
    CHECK(again.take(frame(open, "")) == frame(0, ""));
    std::string said = again.take(two.substr(0, cut));
    said += again.take(two.substr(cut));
    CHECK(said == answer(1) + answer(1, with_nul(url("a.test"))));
  }
}

TEST_CASE("table: after a frame that cannot be, nothing is said any more") {
  Table table(ports);
  CHECK(table.take(frame(open, "")) == frame(0, ""));
  std::string bad = frame(update, "");
  bad[4] = 3;  // shorter than its header
  CHECK(table.take(bad + frame(update, "")).empty());
  CHECK(table.take(frame(update, "")).empty());
}

TEST_CASE("table: 100,000 random lines and as many random frames get nothing but known answers") {
  std::mt19937 random(11);
  const std::vector<std::string> words = {"table",
                                          "0.1",
                                          "lookup",
                                          "check",
                                          "update",
                                          "fetch",
                                          "relayhost",
                                          "alias",
                                          "e5862859",
                                          "a.test",
                                          "",
                                          "\r",
                                          std::string(1, '\0'),
                                          "\xff"};
  const std::regex good(
      "((lookup|fetch)-result\\|[0-9A-Za-z]+\\|(found\\|lmtp://127\\.0\\.0\\.1:20[0-9]{3}|error\\|[ a-z]+)"
      "|check-result\\|[0-9A-Za-z]+\\|(found|error\\|[ a-z]+)|update-result\\|[0-9A-Za-z]+\\|ok)\n");
  Table lines = ready_table();
  for (int i = 0; i < 100000; ++i) {
    std::string line;
    if (i % 3 == 0) {
      for (std::size_t n = random() % 40; n > 0; --n) line += static_cast<char>(random());
    } else {
      line = "table|0.1|1.2|sealane|";
      for (std::size_t n = random() % 5; n > 0; --n) line += words[random() % words.size()] + "|";
    }
    const std::string said = lines.take(line + "\n");
    for (std::size_t at = 0; at < said.size();) {
      const std::size_t end = said.find('\n', at) + 1;
      if (!std::regex_match(said.substr(at, end - at), good)) FAIL(line);
      at = end;
    }
  }
  std::size_t deaf = 0;
  for (int i = 0; i < 100000; ++i) {
    Table frames(ports);
    CHECK(frames.take(frame(open, "")) == frame(0, ""));
    std::string input =
        frame(static_cast<std::uint32_t>(random() % 9), asked(random() % 2 == 0 ? relayhost : 1, 0, "a"));
    for (std::size_t n = random() % 4; n > 0; --n) input[random() % input.size()] = static_cast<char>(random());
    const std::string said = frames.take(input);
    deaf += said.empty();
    // Whole frames of the type OK, and a result of 1 or -1.
    for (std::size_t at = 0; at < said.size();) {
      std::uint16_t length = 0;
      std::uint32_t type = 1;
      REQUIRE(said.size() - at >= 16);
      std::memcpy(&type, said.data() + at, 4);
      std::memcpy(&length, said.data() + at + 4, 2);
      CHECK(type == 0);
      REQUIRE(length >= 16);
      REQUIRE(said.size() - at >= length);
      if (length > 16) {
        int result = 0;
        std::memcpy(&result, said.data() + at + 16, 4);
        CHECK((result == 1 || result == -1));
      }
      at += length;
    }
  }
  CHECK(deaf < 100000);
}

TEST_CASE("exempt domains: by name, and all below one") {
  Exempt exempt;
  CHECK(exempt.add("Example.org"));
  CHECK(exempt.add(".lan.test"));
  CHECK_FALSE(exempt.add("--verbose me"));
  CHECK_FALSE(exempt.add(""));
  CHECK_FALSE(exempt.add("."));
  const auto holds = [&](const char* name) { return exempt.holds(Domain::parse(name).value()); };
  CHECK(holds("example.org"));
  CHECK_FALSE(holds("sub.example.org"));
  CHECK(holds("a.lan.test"));
  CHECK_FALSE(holds("lan.test"));
}
