// The pure parts of the relay, its journal, and what it asks of the kernel.
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <random>
#include <set>
#include <thread>

#include "core/render/render.h"
#include "shims/relay/body.h"
#include "shims/relay/command.h"
#include "shims/relay/connections.h"
#include "shims/relay/context.h"
#include "shims/relay/journal.h"
#include "shims/relay/own_hosts.h"
#include "shims/relay/peer.h"
#include "shims/relay/port.h"
#include "shims/relay/reply.h"
#include "shims/relay/workers.h"
#include "tests/unit/temp_dir.h"

using namespace sealane;
using namespace sealane::relay;

namespace {

using Folder = test::TempDir;

// The message that is read from `input`, and what is left behind its end; "(open)" if it has no end.
struct Taken {
  std::string message, rest;
};
Taken take(const std::string& input, std::size_t cut) {
  DataReader reader;
  Taken out;
  std::size_t used = reader.take(std::string_view(input).substr(0, cut), out.message);
  if (!reader.ended()) {
    CHECK(used == std::min(cut, input.size()));
    used += reader.take(std::string_view(input).substr(used), out.message);
  }
  out.rest = reader.ended() ? input.substr(used) : "(open)";
  return out;
}

std::string stuffed(const std::string& message, std::size_t cut) {
  DotStuffer stuffer;
  std::string out;
  stuffer.put(std::string_view(message).substr(0, cut), out);
  stuffer.put(std::string_view(message).substr(std::min(cut, message.size())), out);
  return out;
}

bool clean(const std::string& text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r' && (i + 1 == text.size() || text[i + 1] != '\n')) return false;
    if (text[i] == '\n' && (i == 0 || text[i - 1] != '\r')) return false;
  }
  return true;
}

constexpr WallTime day_one{Seconds{1800000000}};

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

Key key(const std::string& text) { return delivery_key(Digest{}, text); }

HostDecision host(const std::string& name, std::uint16_t preference, Tls tls = Tls::opportunistic) {
  HostDecision out;
  out.host = out.expanded = name;
  out.preference = preference;
  out.tls = tls;
  return out;
}

}  // namespace

TEST_CASE("only CR LF . CR LF ends a message, wherever the input is cut (RFC 5321 §4.1.1.4)") {
  struct Case {
    std::string input, message, rest;
  };
  const std::vector<Case> cases = {
      {".\r\nQUIT\r\n", "", "QUIT\r\n"},
      {"a\r\n.\r\nMAIL", "a\r\n", "MAIL"},
      {"a\r\n..\r\n.\r\n", "a\r\n.\r\n", ""},
      {"a\r\n...b\r\n.\r\n", "a\r\n..b\r\n", ""},
      {"a\n.\n", "a\r\n.\r\n", "(open)"},
      {"a\n.\nMAIL FROM:<x>\r\n.\r\n", "a\r\n.\r\nMAIL FROM:<x>\r\n", ""},
      {"a\n.\r\nMAIL\r\n.\r\n", "a\r\n.\r\nMAIL\r\n", ""},
      {"a\r\n.\nMAIL\r\n.\r\n", "a\r\n\r\nMAIL\r\n", ""},
      {"a\r.\rMAIL\r\n.\r\n", "a . MAIL\r\n", ""},
      {"a\r\n.\rMAIL\r\n.\r\n", "a\r\n MAIL\r\n", ""},
      {"a\r.\r\nMAIL\r\n.\r\n", "a .\r\nMAIL\r\n", ""},
      {"a\r\r\n.\r\n", "a \r\n", ""},
      {"a\r\n\r.\r\n.\r\n", "a\r\n .\r\n", ""},
      {"a\r\n.\r\r\nx\r\n.\r\n", "a\r\n \r\nx\r\n", ""},
      {std::string("a\0\r\n.\r\n", 7), std::string("a\0\r\n", 4), ""},
      {"a\r\n.", "a\r\n", "(open)"},
      {"a\r\n.\r", "a\r\n", "(open)"},
  };
  for (const Case& one : cases) {
    CAPTURE(one.input);
    for (std::size_t cut = 0; cut <= one.input.size(); ++cut) {
      CAPTURE(cut);
      const Taken taken = take(one.input, cut);
      CHECK(taken.message == one.message);
      CHECK(taken.rest == one.rest);
    }
  }
}

TEST_CASE(
    "100,000 random bodies: what leaves has no bare CR or LF, no line of one dot, and comes out again as it was") {
  std::mt19937 random(1);
  for (int i = 0; i < 100000; ++i) {
    std::string input;
    for (std::size_t n = random() % 24; n > 0; --n) input += "\r\n.a"[random() % 4];
    std::string message;
    DataReader reader;
    reader.take(input, message);
    if (!reader.ended()) reader.take("\r\n.\r\n", message);
    if (!reader.ended()) reader.take("x\r\n.\r\n", message);
    REQUIRE(reader.ended());
    REQUIRE(clean(message));
    const std::string sent = stuffed(message, random() % 24);
    REQUIRE(clean(sent));
    REQUIRE(("\n" + sent).find("\n.\r\n") == std::string::npos);
    std::string again;
    DataReader other;
    REQUIRE(other.take(sent + ".\r\n", again) == sent.size() + 3);
    REQUIRE(again == message);
  }
}

TEST_CASE("commands: addresses come out clean or not at all") {
  const Command mail = read_command("mail from:<a.b@Example.ORG> BODY=8BITMIME SIZE=12");
  CHECK(mail.verb == Verb::mail);
  CHECK(mail.error.empty());
  CHECK(mail.address == "a.b@Example.ORG");
  CHECK(mail.domain == "example.org");
  CHECK(read_command("MAIL FROM:<>").error.empty());
  CHECK(read_command("RCPT TO: <a@b.test>").address == "a@b.test");
  CHECK(read_command("RCPT TO:<\"a > b@c\"@d.test>").address == "\"a > b@c\"@d.test");
  CHECK(read_command("RCPT TO:<\"a > b@c\"@d.test>").domain == "d.test");
  CHECK(read_command("RCPT TO:<a@[192.0.2.1]>").domain == "[192.0.2.1]");
  CHECK(read_command("RCPT TO:<a|b!c/d=e@x.test>").error.empty());
  for (const char* line : {"RCPT TO:<>", "RCPT TO:", "RCPT TO:a@b", "RCPT TO:<a@b", "RCPT TO:<@b>", "RCPT TO:<a@>",
                           "RCPT TO:<a b@c>", "RCPT TO:<a@b c>", "RCPT TO:<a@b> NOTIFY=NEVER", "RCPT TO:<\"a@b>",
                           "RCPT TO:<a\\@b>", "MAIL FROM:<a>", "MAIL FROM:<a@b> AUTH=x", "RCPT TO:<a@b>x",
                           "RCPT TO:<a@\xc3\xa4.test>", "RCPT TO:<a@b\x7f>", "RCPT TO:<a\t@b>", "RCPT TO:<a@<b>"}) {
    CAPTURE(line);
    CHECK_FALSE(read_command(line).error.empty());
    CHECK(read_command(line).address.empty());
  }
  for (const std::string& line :
       std::vector<std::string>{"GET / HTTP/1.1", "", "EHLO x", "HELO x", "DATA x", "MAIL", "RCPT TO:<a@b>\rDATA",
                                "RCPT TO:<a@b>\nDATA", std::string("RCPT TO:<a\0@b>", 14), "\xff"}) {
    CHECK(read_command(line).verb == Verb::unknown);
  }
  CHECK(read_command("data ").verb == Verb::data);
  CHECK(read_command("RCPT TO:<" + std::string(600, 'a') + "@b.test>").error.substr(0, 3) == "501");
}

TEST_CASE("100,000 random commands give no address that could say more than one line") {
  std::mt19937 random(2);
  const std::string letters = "abcRCPT TO:<>@\"\\\r\n.\t \x80\xff";
  for (int i = 0; i < 100000; ++i) {
    std::string line = i % 2 == 0 ? "RCPT TO:<" : "MAIL FROM:<";
    for (std::size_t n = random() % 20; n > 0; --n) line += letters[random() % letters.size()];
    const std::string address = read_command(line + ">").address;
    REQUIRE(std::all_of(address.begin(), address.end(), [](char c) { return c >= ' ' && c < 0x7f; }));
    REQUIRE((address.find(' ') == std::string::npos || address[0] == '"'));
  }
}

TEST_CASE("a server's words become one line of one code") {
  const auto line = [](int code, std::vector<std::string> lines) {
    return mirrored(smtp::Reply{code, std::move(lines)}, "mx.test").line();
  };
  CHECK(line(550, {"5.1.1 no such user"}) == "550 5.1.1 mx.test said: 550 5.1.1 no such user\r\n");
  CHECK(line(250, {"OK"}).substr(0, 10) == "250 2.0.0 ");
  CHECK(line(251, {"2.1.5 forwarded"}).substr(0, 10) == "250 2.1.5 ");
  CHECK(line(452, {"4.2.2 full"}).substr(0, 10) == "452 4.2.2 ");
  CHECK(line(421, {"4.3.2 bye"}).substr(0, 10) == "451 4.3.2 ");
  CHECK(line(354, {"go ahead"}).substr(0, 10) == "451 4.0.0 ");
  CHECK(line(550, {"4.1.1 contradiction"}).substr(0, 10) == "550 5.0.0 ");
  CHECK(line(550, {"5.1 x"}).substr(0, 10) == "550 5.0.0 ");
  CHECK(line(550, {"5.1.1.1 x"}).substr(0, 10) == "550 5.0.0 ");
  CHECK(line(550, {}).substr(0, 10) == "550 5.0.0 ");
  const std::string hostile = line(550, {"a\r\n250 OK\0\xff", std::string(5000, 'x')});
  CHECK(hostile.size() < 600);
  CHECK(std::count(hostile.begin(), hostile.end(), '\n') == 1);
  CHECK(std::all_of(hostile.begin(), hostile.end() - 2, [](char c) { return c >= ' ' && c < 0x7f; }));
  CHECK(Reply{}.line() == "451 4.0.0 no result\r\n");
}

TEST_CASE("large messages are kept in a file without a name, and come out as they went in") {
  const Folder folder;
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1000}, Body::most_in_memory, 3 * Body::most_in_memory + 7}) {
    CAPTURE(size);
    Body body(folder.path());
    std::string whole;
    std::mt19937 random(9);
    while (whole.size() < size) {
      std::string part;
      for (std::size_t n = std::min<std::size_t>(size - whole.size(), 5000); n > 0; --n) {
        part += static_cast<char>(random() % 127);
      }
      REQUIRE(body.add(part));
      whole += part;
    }
    body.end();
    CHECK(body.size() == size);
    CHECK_FALSE(body.eight_bit());
    Hash hash;
    hash.add(whole);
    CHECK(body.digest() == hash.end());
    std::string read;
    bool good = true;
    for (std::string part = "x"; !part.empty() && good; read += part) part = body.read(read.size(), 7777, good);
    CHECK(good);
    CHECK(read == whole);
    CHECK(std::filesystem::is_empty(folder.path()));
  }
  Body nowhere(folder.file("missing"));
  CHECK_FALSE(nowhere.add(std::string(Body::most_in_memory + 1, 'x')));
  Body octets(folder.path());
  REQUIRE(octets.add("caf\xc3\xa9\r\n"));
  CHECK(octets.eight_bit());
}

TEST_CASE("the mail server's own name of a message is found in the topmost Received header") {
  const Folder folder;
  const auto id = [&](const std::string& text) {
    Body body(folder.path());
    REQUIRE(body.add(text));
    return body.id();
  };
  CHECK(id("Received: from localhost (client.test [local])\r\n\tby client.test (OpenSMTPD) with ESMTPA id 1a2b3c4d\r\n"
           "\tfor <a@b.test>;\r\n\tWed, 25 Nov 2026\r\nSubject: x id y\r\n") == "1a2b3c4d");
  CHECK(id("Received: by x\r\nSubject: an id 7\r\n").empty());
  CHECK(id("Subject: x\r\nReceived: by x id 7;\r\n").empty());
  CHECK(id("Received: by x id \x01z;\r\n") == "\\x01z");
  CHECK(id("").empty());
}

TEST_CASE("journal: what was delivered is known after the end of the process, and forgotten after its life") {
  const Folder folder;
  const std::vector<Key> two = {key("a@x.test"), key("b@x.test")};
  std::vector<std::string> told;
  const LogSink log = [&](Level, const std::string& line) { told.push_back(line); };
  {
    auto journal = Journal::open(folder.path(), log, day_one);
    REQUIRE(journal);
    CHECK((*journal)->claim(two[0]) == Journal::Claim::mine);
    CHECK((*journal)->claim(two[0]) == Journal::Claim::elsewhere);
    (*journal)->sending(two, "message 12 id=ab", "x.test", day_one);
    CHECK((*journal)->delivered(two, day_one));
    (*journal)->release(two[0]);
    CHECK((*journal)->claim(two[0]) == Journal::Claim::delivered);
    CHECK((*journal)->claim(key("c@x.test")) == Journal::Claim::mine);
    const auto second = Journal::open(folder.path(), log, day_one);
    REQUIRE_FALSE(second);
    CHECK(second.error().what == "another relay is running");
    (*journal)->sending(std::vector<Key>{key("open@x.test")}, "message 34", "x.test", day_one);
    (*journal)->sending(std::vector<Key>{key("refused@x.test")}, "message 56", "x.test", day_one);
    (*journal)->failed(std::vector<Key>{key("refused@x.test")}, day_one);
  }
  CHECK(told.empty());
  std::ofstream(folder.file("journal"), std::ios::app) << "D 0123";  // of a crash
  {
    auto journal = Journal::open(folder.path(), log, day_one + Journal::life - Seconds{1});
    REQUIRE(journal);
    CHECK((*journal)->claim(two[0]) == Journal::Claim::delivered);
    CHECK((*journal)->claim(two[1]) == Journal::Claim::delivered);
    CHECK((*journal)->claim(key("refused@x.test")) == Journal::Claim::mine);
    CHECK((*journal)->claim(key("open@x.test")) == Journal::Claim::mine);  // none is worse than two
    REQUIRE(told.size() == 1);
    CHECK(told[0].find("message 34 x.test") != std::string::npos);
  }
  {
    auto journal = Journal::open(folder.path(), log, day_one + Journal::life);
    REQUIRE(journal);
    CHECK((*journal)->claim(two[0]) == Journal::Claim::mine);
    CHECK((*journal)->size() == 0);
  }
  CHECK(told.size() == 1);
}

TEST_CASE("journal: rubbish in the file is passed over, and a clock that was wrong keeps nothing for ever") {
  const Folder folder;
  const std::string one = hex(key("a"));
  std::ofstream(folder.file("journal")) << "\n\nD\nD x\nX " << one << " 1800000000\nD " << one.substr(1)
                                        << "g 1800000000\nD " << hex(key("b")) << " 99999999999\nD " << hex(key("c"))
                                        << " nothing\n"
                                        << std::string(5000, 'z') << "\nD " << one << " 1800000000\n";
  const LogSink log = [](Level, const std::string&) {};
  {
    auto journal = Journal::open(folder.path(), log, day_one);
    REQUIRE(journal);
    CHECK((*journal)->size() == 2);
    CHECK((*journal)->claim(key("a")) == Journal::Claim::delivered);
    CHECK((*journal)->claim(key("b")) == Journal::Claim::delivered);
  }
  CHECK((*Journal::open(folder.path(), log, day_one + Journal::life))->size() == 0);
}

TEST_CASE("journal: many threads at once, and all of it is on the disk") {
  const Folder folder;
  const LogSink log = [](Level, const std::string&) {};
  {
    auto journal = Journal::open(folder.path(), log, day_one);
    REQUIRE(journal);
    std::vector<std::thread> threads;
    for (int i = 0; i < 16; ++i) {
      threads.emplace_back([&, i] {
        for (int j = 0; j < 50; ++j) {
          const std::vector<Key> keys = {key(std::to_string(i) + "-" + std::to_string(j))};
          (*journal)->sending(keys, "m", "d", day_one);
          (*journal)->delivered(keys, day_one);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    const std::string file = read_file(folder.file("journal"));
    CHECK(std::count(file.begin(), file.end(), '\n') == 1600);
  }
  CHECK((*Journal::open(folder.path(), log, day_one))->size() == 800);
}

TEST_CASE("the peer of a connection: its uid, what it has not read, and that it has gone; also without netlink") {
  bool netlink = false;
  SUBCASE("netlink") { netlink = true; }
  SUBCASE("/proc/net/tcp alone") {}
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in here{};
  here.sin_family = AF_INET;
  here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof here;
  REQUIRE(::bind(listener, reinterpret_cast<sockaddr*>(&here), size) == 0);
  REQUIRE(::listen(listener, 1) == 0);
  REQUIRE(::getsockname(listener, reinterpret_cast<sockaddr*>(&here), &size) == 0);
  const int client = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(::connect(client, reinterpret_cast<sockaddr*>(&here), size) == 0);
  const int server = ::accept(listener, nullptr, nullptr);
  const PeerWatch watch(server, netlink);
  CHECK(watch.look().established);
  CHECK(watch.look().uid == ::getuid());
  CHECK(watch.look().inode != 0);
  const auto soon = [](int ms) { return std::chrono::steady_clock::now() + Millis{ms}; };
  CHECK(watch.wait_until_read(soon(1000)));
  REQUIRE(::send(server, "hello", 5, 0) == 5);
  CHECK_FALSE(watch.wait_until_read(soon(20)));
  CHECK(watch.look().unread == 5);
  std::thread reader([client] {
    char buffer[8];
    (void)!::read(client, buffer, sizeof buffer);
  });
  CHECK(watch.wait_until_read(soon(10000)));
  reader.join();
  ::close(client);
  CHECK_FALSE(watch.look().established);
  CHECK_FALSE(watch.wait_until_read(soon(10000)));
  ::close(server);
  ::close(listener);
  const PeerWatch none(server);
  CHECK_FALSE(none.look().established);
}

// A server that accepts and says nothing of its own.
class Server {
 public:
  Server() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    here_.sin_family = AF_INET;
    here_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof here_;
    REQUIRE(::bind(listener_, reinterpret_cast<sockaddr*>(&here_), size) == 0);
    REQUIRE(::listen(listener_, 8) == 0);
    REQUIRE(::getsockname(listener_, reinterpret_cast<sockaddr*>(&here_), &size) == 0);
  }
  ~Server() { ::close(listener_); }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // A connection to it, and its own end.
  [[nodiscard]] std::pair<Open, int> open(const Demand& demand) const {
    const auto now = std::chrono::steady_clock::now();
    smtp::ConnectError error;
    Open out;
    out.client = smtp::Client::connect("127.0.0.1", ntohs(here_.sin_port), now + Seconds{10}, error);
    REQUIRE(out.client);
    out.demand = demand;
    out.since = now;
    return {std::move(out), ::accept(listener_, nullptr, nullptr)};
  }

 private:
  int listener_;
  sockaddr_in here_{};
};

std::string read_all(int fd) {
  std::string out;
  char buffer[64];
  for (ssize_t n = 0; (n = ::read(fd, buffer, sizeof buffer)) > 0;) out.append(buffer, static_cast<std::size_t>(n));
  ::close(fd);
  return out;
}

Demand demand_for(std::uint8_t octet) {
  Demand demand;
  demand.host = "mx.a.test";
  demand.tls = Tls::dane;
  demand.tlsa = {dane::TlsaRecord{3, 1, 1, Bytes(32, octet)}};
  return demand;
}

TEST_CASE(
    "a kept connection is for the same domain, address and demand, to the last TLSA record, and for one at a time") {
  const Server server;
  Connections connections;
  const auto now = std::chrono::steady_clock::now();
  auto [open, end] = server.open(demand_for(7));
  connections.keep("a.test", "127.0.0.1", std::move(open), now);
  Demand weaker = demand_for(7);
  weaker.tls = Tls::opportunistic;
  CHECK_FALSE(connections.take("b.test", "127.0.0.1", demand_for(7), now));
  CHECK_FALSE(connections.take("a.test", "127.0.0.2", demand_for(7), now));
  CHECK_FALSE(connections.take("a.test", "127.0.0.1", demand_for(8), now));
  CHECK_FALSE(connections.take("a.test", "127.0.0.1", weaker, now));
  auto taken = connections.take("a.test", "127.0.0.1", demand_for(7), now);
  REQUIRE(taken);
  CHECK(taken->messages == 1);
  CHECK_FALSE(connections.take("a.test", "127.0.0.1", demand_for(7), now));
  taken.reset();
  CHECK(read_all(end).empty());
}

TEST_CASE("a kept connection ends after a moment, an age, a number of messages, and when too many are kept") {
  const Server server;
  Connections connections;
  const auto now = std::chrono::steady_clock::now();
  const Demand demand = demand_for(7);
  auto [idle, idle_end] = server.open(demand);
  connections.keep("a.test", "127.0.0.1", std::move(idle), now);
  CHECK_FALSE(connections.take("a.test", "127.0.0.1", demand, now + Connections::idle));
  pollfd p{connections.timer(), POLLIN, 0};
  CHECK(::poll(&p, 1, 10000) == 1);
  connections.end_old(now + Connections::idle);
  CHECK(read_all(idle_end) == "QUIT\r\n");
  auto [old, old_end] = server.open(demand);
  old.since = now;
  connections.keep("a.test", "127.0.0.1", std::move(old), now + Connections::age);
  CHECK(read_all(old_end) == "QUIT\r\n");
  auto [used, used_end] = server.open(demand);
  used.messages = Connections::messages - 1;
  connections.keep("a.test", "127.0.0.1", std::move(used), now);
  CHECK(read_all(used_end) == "QUIT\r\n");
  std::vector<int> ends;
  for (std::size_t i = 0; i <= Connections::most; ++i) {
    auto [open, end] = server.open(demand);
    ends.push_back(end);
    connections.keep("a.test", "127.0.0.1", std::move(open), now);
  }
  CHECK(read_all(ends.front()) == "QUIT\r\n");
  connections.end_old(now + Connections::idle);
  for (std::size_t i = 1; i < ends.size(); ++i) CHECK(read_all(ends[i]) == "QUIT\r\n");
}

TEST_CASE("a server that has closed, or says something unasked, gets no second message over that connection") {
  const Server server;
  Connections connections;
  const auto now = std::chrono::steady_clock::now();
  const Demand demand = demand_for(7);
  auto [closed, closed_end] = server.open(demand);
  connections.keep("a.test", "127.0.0.1", std::move(closed), now);
  ::close(closed_end);
  auto [loud, loud_end] = server.open(demand);
  connections.keep("a.test", "127.0.0.1", std::move(loud), now);
  REQUIRE(::send(loud_end, "421 bye\r\n", 9, 0) == 9);
  CHECK_FALSE(connections.take("a.test", "127.0.0.1", demand, now));
  ::close(loud_end);
}

TEST_CASE("a port lets in a few at once, more while nothing ends, and one by one what has no message") {
  Port port;
  MonoTime now = std::chrono::steady_clock::now();
  for (unsigned i = 0; i < Port::freely; ++i) {
    CHECK(port.room(now) == 1);
    port.begin_session(now);
    CHECK(port.room(now) == 0);  // what it is for is not known yet
    port.begin_transaction(now);
  }
  const MonoTime began = now;
  CHECK(port.room(now) == 0);
  now += Port::stall;
  CHECK(port.room(now) == Port::freely / 2);
  port.end_transaction(began, now);
  CHECK(port.room(now) == 0);
  CHECK(port.room(now + Port::stall) == 1);
  port.end_session(now);
  CHECK(port.room(now) == 1);
  // All hang: a hundred are in before three seconds are over, and those that take long do not keep others out.
  unsigned sessions = Port::freely - 1;
  const MonoTime hang = now;
  while (sessions < 100) {
    now += Port::stall;
    for (unsigned room = port.room(now); room > 0; --room, ++sessions) {
      port.begin_session(now);
      port.begin_transaction(now);
    }
  }
  CHECK(now - hang < Seconds{3});
  CHECK(port.room(now + Port::long_time) == 1);
}

TEST_CASE("workers: every task begins at once, whatever the others wait for, and threads are used again") {
  Workers workers;
  std::mutex mutex;
  std::condition_variable changed;
  std::set<std::thread::id> threads;
  unsigned begun = 0, ended = 0;
  bool go_on = false;
  const auto task = [&] {
    std::unique_lock lock(mutex);
    threads.insert(std::this_thread::get_id());
    ++begun;
    changed.notify_all();
    changed.wait(lock, [&] { return go_on; });
    ++ended;
    changed.notify_all();
  };
  for (int i = 0; i < 50; ++i) REQUIRE(workers.run(task));
  std::unique_lock lock(mutex);
  REQUIRE(changed.wait_for(lock, Seconds{60}, [&] { return begun == 50; }));
  CHECK(threads.size() == 50);
  go_on = true;
  changed.notify_all();
  REQUIRE(changed.wait_for(lock, Seconds{60}, [&] { return ended == 50; }));
  for (int i = 0; i < 200; ++i) {
    lock.unlock();
    REQUIRE(workers.run(task));
    lock.lock();
    REQUIRE(changed.wait_for(lock, Seconds{60}, [&] { return ended == 51U + static_cast<unsigned>(i); }));
  }
  CHECK(threads.size() < 150);
}

TEST_CASE("MX hosts: in order, equal ones drawn, none that is no better than this machine (RFC 5321 §5.1)") {
  std::mt19937 random(4);
  const auto nobody = [](const std::string&) { return false; };
  Decision decision;
  decision.hosts = {host("a", 10), host("b", 20), host("c", 20), host("d", 30, Tls::skip), host("e", 40)};
  std::set<std::string> orders;
  for (int i = 0; i < 100; ++i) {
    std::string order;
    for (const HostDecision& one : candidates(decision, nobody, random).hosts) order += one.host;
    orders.insert(order);
  }
  CHECK(orders == std::set<std::string>{"abce", "acbe"});
  const auto self = [](const std::string& name) { return name == "b"; };
  const Candidates better = candidates(decision, self, random);
  REQUIRE(better.hosts.size() == 1);
  CHECK(better.hosts[0].host == "a");
  CHECK_FALSE(better.we_are_best);
  CHECK(candidates(
            decision, [](const std::string& name) { return name == "a"; }, random)
            .we_are_best);
  decision.hosts[2].addresses = {"192.0.2.9"};
  CHECK(candidates(
            decision, [](const std::string& name) { return name == "192.0.2.9"; }, random)
            .hosts.size() == 1);
  // A better host that must be skipped is a reason to wait, not to bounce.
  decision.hosts = {host("a", 10, Tls::skip), host("b", 20)};
  CHECK(candidates(decision, self, random).hosts.empty());
  CHECK_FALSE(candidates(decision, self, random).we_are_best);
  CHECK(in_turn({"192.0.2.1", "192.0.2.2", "2001:db8::1"}) ==
        std::vector<std::string>{"2001:db8::1", "192.0.2.1", "192.0.2.2"});
  CHECK(is_own_address("127.3.4.5"));
  CHECK(is_own_address("::1"));
  CHECK(is_own_address("0.0.0.0"));
  CHECK_FALSE(is_own_address("192.0.2.77"));
  CHECK_FALSE(is_own_address("mx.test"));
}

TEST_CASE("failures are remembered for a while, slots are bounded") {
  Failures failures;
  CHECK_FALSE(failures.recent("a.test"));
  failures.remember("a.test", later("4.4.1", "down"));
  REQUIRE(failures.recent("a.test"));
  CHECK(failures.recent("a.test")->text == "down");
  failures.forget("a.test");
  CHECK_FALSE(failures.recent("a.test"));
  Slots slots(1);
  const auto now = std::chrono::steady_clock::now();
  CHECK(slots.take(now));
  CHECK_FALSE(slots.take(now));
  CHECK_FALSE(slots.drain(now));
  slots.give_back();
  CHECK(slots.drain(now));
}

TEST_CASE("a decision is read back as it was written, and what is missing or unknown never weakens it") {
  Decision decision;
  decision.domain = "a.test";
  decision.action = Action::deliver;
  decision.reason = Reason::tlsa_usable;
  HostDecision one = host("mx.a.test", 10, Tls::dane);
  one.sni = "mx.a.test";
  one.names = {"mx.a.test", "a.test"};
  one.tlsa = {dane::TlsaRecord{3, 1, 1, Bytes(32, 7)}};
  one.addresses = {"192.0.2.1", "2001:db8::1"};
  decision.hosts = {one};
  const std::string json = decision_json(decision);
  const auto read = decision_from_json(json);
  REQUIRE(read);
  CHECK(read->action == Action::deliver);
  REQUIRE(read->hosts.size() == 1);
  CHECK(read->hosts[0].tls == Tls::dane);
  CHECK(read->hosts[0].names == one.names);
  CHECK(read->hosts[0].tlsa == one.tlsa);
  CHECK(read->hosts[0].addresses == one.addresses);
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string text = json;
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    return decision_from_json(text.replace(at, from.size(), to));
  };
  CHECK(changed("\"deliver\"", "\"perhaps\"")->action == Action::defer);
  CHECK(changed("\"tls\":\"dane\"", "\"tls\":\"none\"")->hosts[0].tls == Tls::skip);
  CHECK_FALSE(changed("\"tls\":\"dane\",", ""));
  CHECK_FALSE(changed("\"action\":\"deliver\",", ""));
  CHECK_FALSE(changed("3 1 1 07", "3 1 1 zz"));
  CHECK_FALSE(changed("\"addresses\":[", "\"addresses\":[7,"));
  CHECK_FALSE(decision_from_json("rubbish"));
  CHECK_FALSE(decision_from_json("[]"));
  CHECK_FALSE(decision_from_json(json.substr(0, json.size() - 1)));
}
