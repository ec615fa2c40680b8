// The agent: its socket (bounds, order, patience), its verbs, and how it starts and stops.
#include "shims/agent/agent.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "shims/agent/listener.h"
#include "shims/agent/systemd.h"
#include "shims/agent/verbs.h"
#include "shims/wire/client.h"
#include "tests/unit/fakes.h"
#include "tests/unit/temp_dir.h"

namespace sealane::agent {
namespace {

using dns::RrType;
using dns::Security;
using fakes::run_until;

struct Folder : test::TempDir {
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(file(name)) << text;
    return file(name);
  }
};

std::string read_file(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// A client that never blocks: what it has received is looked at between turns of the loop.
class Client {
 public:
  explicit Client(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, path.size());
    REQUIRE(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  ~Client() { close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // As much as the socket takes.
  std::size_t send(std::string_view text) const {
    const ssize_t n = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
    return n < 0 ? 0 : static_cast<std::size_t>(n);
  }
  void finish() const { ::shutdown(fd_, SHUT_WR); }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  const std::string& received() {
    char buffer[65536];
    for (;;) {
      const ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
      if (n > 0) {
        received_.append(buffer, static_cast<std::size_t>(n));
        continue;
      }
      if (n == 0 || (errno != EAGAIN && errno != EINTR)) closed_ = true;
      return received_;
    }
  }
  bool closed() {
    received();
    return closed_;
  }
  long lines() {
    received();
    return std::count(received_.begin(), received_.end(), '\n');
  }

 private:
  int fd_;
  std::string received_;
  bool closed_ = false;
};

// A listener whose handler answers "OK DOMAIN", keeps the answer for later where the domain begins with "later", and
// answers at length where it begins with "long".
struct Socket {
  Folder folder;
  std::string path = folder.file("agent.sock");
  Loop loop;
  std::vector<std::string> log;
  std::vector<std::pair<std::string, Listener::Answer>> kept;
  std::unique_ptr<Listener> listener;

  explicit Socket(ListenerLimits limits = {}) {
    const auto fd = listen_at(path);
    REQUIRE(fd);
    listener = std::make_unique<Listener>(
        loop, *fd, limits,
        [this](const wire::Request& request, const Peer& peer, Listener::Answer answer) {
          CHECK(peer.pid == ::getpid());
          CHECK(peer.uid == ::getuid());
          if (request.domain.rfind("later", 0) == 0) {
            kept.emplace_back(request.domain, std::move(answer));
          } else if (request.domain.rfind("long", 0) == 0) {
            answer({wire::Status::ok, "", std::string(900000, 'x')});
          } else {
            answer({wire::Status::ok, "", request.domain});
          }
        },
        [this](Level, const std::string& line) { log.push_back(line); });
  }
  [[nodiscard]] bool wait(const std::function<bool()>& reached) { return run_until(loop, reached); }
  [[nodiscard]] bool logged(const std::string& part) const {
    return std::any_of(log.begin(), log.end(), [&](const auto& line) { return line.find(part) != std::string::npos; });
  }
};

std::string query(const std::string& domain) { return "1 QUERY domain=" + domain + "\n"; }

}  // namespace

TEST_CASE("socket: mode 0660, and gone files are replaced, others are not") {
  const Folder folder;
  const std::string path = folder.file("s");
  const mode_t before = ::umask(0);
  auto first = listen_at(path);
  ::umask(before);
  REQUIRE(first);
  struct stat there {};
  REQUIRE(::stat(path.c_str(), &there) == 0);
  CHECK((there.st_mode & 07777U) == 0660);

  const auto second = listen_at(path);
  REQUIRE_FALSE(second);
  CHECK(second.error().what == "another agent answers there");
  ::close(*first);  // as after a crash: the file stays
  const auto third = listen_at(path);
  REQUIRE(third);
  ::close(*third);

  const auto file = listen_at(folder.write("file", "kept"));
  REQUIRE_FALSE(file);
  CHECK(file.error().what == "is there and is no socket");
  CHECK(read_file(folder.file("file")) == "kept");
  CHECK_FALSE(listen_at(folder.file("no/such/folder")));
  CHECK_FALSE(listen_at(folder.file(std::string(200, 'x'))));
}

TEST_CASE("socket: pipelined requests are answered in order, whenever their answers come") {
  Socket s;
  Client client(s.path);
  client.send(query("later.1") + query("b") + query("later.2") + query("d"));
  REQUIRE(s.wait([&] { return s.kept.size() == 2; }));
  CHECK(client.received().empty());
  s.kept[1].second({wire::Status::ok, "", "two"});
  s.kept[1].second({wire::Status::ok, "", "twice"});  // an answer is given once
  CHECK(client.received().empty());
  s.kept[0].second({wire::Status::ok, "", "one"});
  REQUIRE(s.wait([&] { return client.lines() == 4; }));
  CHECK(client.received() == "OK one\nOK b\nOK two\nOK d\n");
}

TEST_CASE("socket: a request may come in pieces") {
  Socket s;
  Client client(s.path);
  for (const char c : query("a.example")) {
    client.send({&c, 1});
    s.loop.soon([&] { s.loop.stop(); });
    s.loop.run();
  }
  REQUIRE(s.wait([&] { return client.lines() == 1; }));
  CHECK(client.received() == "OK a.example\n");
}

TEST_CASE("socket: more requests than may be open wait in the socket, none is lost") {
  ListenerLimits limits;
  limits.open_requests = 2;
  Socket s(limits);
  Client client(s.path);
  std::string all;
  for (int i = 0; i < 5; ++i) all += query("later." + std::to_string(i));
  client.send(all);
  for (std::size_t i = 0; i < 5; ++i) {
    REQUIRE(s.wait([&] { return s.kept.size() > i; }));
    CHECK(s.kept.size() <= i + 2);
    s.kept[i].second({wire::Status::ok, "", s.kept[i].first});
  }
  REQUIRE(s.wait([&] { return client.lines() == 5; }));
  CHECK(client.received() == "OK later.0\nOK later.1\nOK later.2\nOK later.3\nOK later.4\n");
}

TEST_CASE("socket: a malformed request ends its own connection, after what came before it, and no other") {
  Socket s;
  Client good(s.path);
  Client bad(s.path);
  good.send("1 QUERY domain=half");
  bad.send(query("later") + "rubbish\n" + query("never"));
  REQUIRE(s.wait([&] { return s.kept.size() == 1; }));
  CHECK(s.logged("malformed request"));
  CHECK(s.logged("pid " + std::to_string(::getpid())));
  s.kept[0].second({wire::Status::ok, "", "first"});
  REQUIRE(s.wait([&] { return bad.closed(); }));
  CHECK(bad.received() == "OK first\nERR unknown version, 1 is spoken here\n");
  good.send(".example\n");
  REQUIRE(s.wait([&] { return good.lines() == 1; }));
  CHECK(good.received() == "OK half.example\n");
}

TEST_CASE("socket: a line that does not end is refused at its bound, which depends on the verb") {
  Socket s;
  Client client(s.path);
  client.send("1 QUERY domain=" + std::string(4096, 'a'));
  REQUIRE(s.wait([&] { return client.closed(); }));
  CHECK(client.received() == "ERR request too long\n");

  Client longer(s.path);
  const std::string start = "1 VERIFY host=a.example tls=none demand=" + std::string(100000, 'a');
  std::size_t sent = 0;
  REQUIRE(s.wait([&] {
    sent += longer.send(std::string_view(start).substr(sent));
    return sent == start.size();
  }));
  longer.send("\n");
  REQUIRE(s.wait([&] { return longer.lines() == 1; }));
  CHECK(longer.received() == "OK\n");

  Client endless(s.path);
  std::string flood = "1 VERIFY host=a.example tls=none demand=";
  REQUIRE(s.wait([&] {
    endless.send(flood);
    flood = std::string(65536, 'a');
    return endless.closed();
  }));
  CHECK(endless.received() == "ERR request too long\n");
}

TEST_CASE("socket: a client that shuts down its side gets its answers, then the end; half a request is none") {
  Socket s;
  Client client(s.path);
  client.send(query("later") + query("b"));
  client.finish();
  REQUIRE(s.wait([&] { return s.kept.size() == 1; }));
  s.kept[0].second({wire::Status::ok, "", "a"});
  REQUIRE(s.wait([&] { return client.closed(); }));
  CHECK(client.received() == "OK a\nOK b\n");

  Client half(s.path);
  half.send("1 QUERY domain=b.example");
  half.finish();
  REQUIRE(s.wait([&] { return half.closed(); }));
  CHECK(half.received() == "ERR half a request\n");
  CHECK(s.wait([&] { return s.listener->clients() == 0; }));
}

TEST_CASE("socket: a client that has gone is forgotten, and its answer with it") {
  Socket s;
  {
    Client client(s.path);
    client.send(query("later") + query("b"));
    REQUIRE(s.wait([&] { return s.kept.size() == 1; }));
  }
  s.kept[0].second({wire::Status::ok, "", "nobody"});
  CHECK(s.wait([&] { return s.listener->clients() == 0; }));
  s.kept[0].second({wire::Status::ok, "", "nobody"});

  Client client(s.path);
  client.send(query("later.2"));
  REQUIRE(s.wait([&] { return s.kept.size() == 2; }));
  s.listener.reset();
  s.kept[1].second({wire::Status::ok, "", "no listener"});
  CHECK(client.closed());
}

TEST_CASE("socket: a long answer is written as the client reads it") {
  Socket s;
  Client client(s.path);
  client.send(query("long.1") + query("long.2") + query("c"));
  REQUIRE(s.wait([&] { return client.lines() == 3; }));
  CHECK(client.received().size() == 2 * (900000 + 4) + 5);
}

TEST_CASE("socket: a client that does not read its answer is dropped") {
  ListenerLimits limits;
  limits.patience = Millis{100};
  Socket s(limits);
  Client deaf(s.path);
  deaf.send(query("long"));
  REQUIRE(s.wait([&] { return s.logged("it does not read its answer"); }));
  CHECK(s.wait([&] { return deaf.closed(); }));
  CHECK(deaf.received().size() < 900000);
}

TEST_CASE("socket: idle and slow clients are dropped, one that waits for us is not") {
  ListenerLimits limits;
  limits.patience = Millis{100};
  Socket s(limits);
  Client idle(s.path);
  Client slow(s.path);
  Client waiting(s.path);
  waiting.send(query("later"));
  slow.send("1 QUERY");
  REQUIRE(s.wait([&] {
    slow.send(" ");  // an octet now and then is no progress
    return slow.closed() && idle.closed();
  }));
  CHECK(s.logged("its request did not end"));
  CHECK_FALSE(waiting.closed());
  REQUIRE(s.kept.size() == 1);
  s.kept[0].second({wire::Status::ok, "", "patience"});
  REQUIRE(s.wait([&] { return waiting.lines() == 1; }));
  CHECK(waiting.received() == "OK patience\n");
}

TEST_CASE("socket: as many clients as are allowed; the one idle for longest makes room, a busy one does not") {
  ListenerLimits limits;
  limits.clients = 2;
  limits.room_after = Millis{50};
  limits.retry = Millis{10};
  Socket s(limits);
  Client busy(s.path);
  busy.send(query("later"));
  Client idle(s.path);
  REQUIRE(s.wait([&] { return s.kept.size() == 1 && s.listener->clients() == 2; }));
  Client third(s.path);
  third.send(query("c"));
  REQUIRE(s.wait([&] { return third.lines() == 1; }));
  CHECK(idle.closed());
  CHECK_FALSE(busy.closed());
  CHECK(s.listener->clients() == 2);
}

TEST_CASE("socket: without descriptors new clients wait, and are served when there are some") {
  ListenerLimits limits;
  limits.retry = Millis{10};
  Socket s(limits);
  Client first(s.path);
  first.send(query("a"));
  REQUIRE(s.wait([&] { return first.lines() == 1; }));
  Client second(s.path);
  second.send(query("b"));
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const int next = ::dup(0);
  REQUIRE(next >= 0);
  ::close(next);
  const rlimit none{static_cast<rlim_t>(next), before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  const bool told = s.wait([&] { return s.logged("cannot accept a client"); });
  first.send(query("c"));
  const bool goes_on = s.wait([&] { return first.lines() == 2; });
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(told);
  CHECK(goes_on);
  CHECK(s.wait([&] { return second.lines() == 1; }));
  CHECK(s.log.size() == 1);  // said once, not at every attempt
}

namespace {

// Says of a chain what the test wants.
class FakeVerifier final : public Verifier {
 public:
  Verdict verdict{true, Reason::verified, "as the test wants"};
  mutable std::vector<std::size_t> chains;  // length of each that was shown
  [[nodiscard]] Verdict verify(const Demand& demand, std::span<const Bytes> chain, WallTime) const override {
    chains.push_back(chain.size());
    if (demand.tls != Tls::opportunistic && chain.empty()) return {false, Reason::cert_missing, "no certificate"};
    return verdict;
  }
};

// dane.test: signed, one DANE host. plain.test: unsigned.
struct Desk {
  Loop loop;
  std::shared_ptr<fakes::FakeClock> clock = std::make_shared<fakes::FakeClock>();
  fakes::FakeZone zone{loop};
  fakes::FakePolicyHosts hosts{loop, *clock};
  fakes::FakeDisk disk;
  std::vector<std::string> log;
  Verbs verbs{[this](Level, const std::string& line) { log.push_back(line); }};
  FakeVerifier* verifier = nullptr;
  Backend backend;
  Peer peer{4711, 100};

  Desk() {
    zone.add("dane.test", RrType::MX, Security::secure, {fakes::mx(10, "mx.dane.test")});
    zone.add("mx.dane.test", RrType::A, Security::secure, {fakes::a(1)});
    zone.add("_25._tcp.mx.dane.test", RrType::TLSA, Security::secure, {fakes::tlsa_3_1_1(7)});
    zone.add("plain.test", RrType::MX, Security::insecure, {fakes::mx(10, "mx.plain.test")});
    zone.add("mx.plain.test", RrType::A, Security::insecure, {fakes::a(2)});
    Adapters adapters;
    adapters.make_resolver = [this] { return zone.make_resolver(); };
    adapters.fetcher = hosts.make_fetcher();
    adapters.store = std::make_unique<fakes::FakeStore>(disk);
    adapters.clock = clock;
    backend.clock = clock;
    backend.engine = std::make_unique<Engine>(loop, backend.config, std::move(adapters), nullptr);
    auto fake = std::make_unique<FakeVerifier>();
    verifier = fake.get();
    backend.verifier = std::move(fake);
    verbs.use(backend);
  }
  wire::Reply ask(const std::string& line) {
    std::string error;
    const auto request = wire::parse_request(line, error);
    CAPTURE(error);
    REQUIRE(request);
    std::optional<wire::Reply> reply;
    verbs.handle(*request, peer, [&](const wire::Reply& given) { reply = given; });
    REQUIRE(run_until(loop, [&] { return reply.has_value(); }));
    return *reply;
  }
  wire::Route route(const std::string& domain) {
    const auto reply = ask("1 ROUTE domain=" + domain + " id=1abc-0001");
    REQUIRE(reply.status == wire::Status::ok);
    const auto parsed = wire::parse_route(reply.text);
    CAPTURE(reply.text);
    REQUIRE(parsed);
    return *parsed;
  }
  wire::VerdictAnswer verify(const std::string& demand, const std::string& rest) {
    const auto reply = ask("1 VERIFY demand=" + demand + " host=mx.dane.test " + rest);
    REQUIRE(reply.status == wire::Status::ok);
    const auto verdict = wire::parse_verdict(reply.text);
    REQUIRE(verdict);
    return *verdict;
  }
};

const std::string good_tls = "tls=TLS1.3:ECDHE_X25519__RSA_PSS_RSAE_SHA256__AES_256_GCM:256";

}  // namespace

TEST_CASE("QUERY: the JSON of the decision, and one log line with the message id") {
  Desk desk;
  const auto reply = desk.ask("1 QUERY domain=dane.test id=1abc-0001");
  CHECK(reply.status == wire::Status::ok);
  CHECK(reply.text.rfind("{\"schema\":1,\"domain\":\"dane.test\"", 0) == 0);
  REQUIRE(desk.log.size() == 1);
  CHECK(desk.log[0].rfind("dane.test ", 0) == 0);
  CHECK(desk.log[0].find(" id=1abc-0001") != std::string::npos);
  const auto text = wire::parse_text_answer(desk.ask("1 QUERY domain=dane.test as=text").text);
  REQUIRE(text);
  CHECK(text->action == "deliver");
  CHECK(text->reason == "tlsa-usable");
  CHECK(text->text.find("mx.dane.test") != std::string::npos);
}

TEST_CASE("QUERY: bad names are decisions too") {
  Desk desk;
  const auto reply = desk.ask("1 QUERY domain=a..b%0A%00%FF");
  CHECK(reply.status == wire::Status::ok);
  CHECK(reply.text.find("\"action\":\"reject\",\"reason\":\"domain-invalid\"") != std::string::npos);
  CHECK(desk.log.at(0).find('\n') == std::string::npos);
  CHECK(desk.route("a..b").mode == wire::Mode::reject);
}

TEST_CASE("ROUTE: hosts, demand and mode, and the demand reads back as what was decided") {
  Desk desk;
  const auto dane = desk.route("dane.test");
  CHECK(dane.mode == wire::Mode::gated);
  CHECK(dane.hosts == std::vector<std::string>{"mx.dane.test"});
  const auto demands = read_token(dane.demand);
  REQUIRE(demands);
  CHECK(demands->domain == "dane.test");
  REQUIRE(demands->hosts.size() == 1);
  CHECK(demands->hosts[0].tls == Tls::dane);
  CHECK(desk.route("PLAIN.test").mode == wire::Mode::open);
  CHECK(desk.route("PLAIN.test").domain == "plain.test");
  desk.zone.fail("broken.test", RrType::MX, dns::Failure::servfail);
  CHECK(desk.route("broken.test").mode == wire::Mode::defer);
}

TEST_CASE("wait: an answer comes at the request's own deadline") {
  Desk desk;
  desk.zone.hold();
  const auto reply = desk.ask("1 ROUTE domain=dane.test wait=20");
  CHECK(wire::parse_route(reply.text)->mode == wire::Mode::defer);
}

TEST_CASE("VERIFY: the verifier is shown the chain, leaf first, and its word is passed on") {
  Desk desk;
  const std::string demand = desk.route("dane.test").demand;
  const auto pass = desk.verify(demand, good_tls + " cert=QUJD cert=REVG");
  CHECK(pass.pass);
  CHECK(pass.reason == "verified");
  CHECK(desk.verifier->chains == std::vector<std::size_t>{2});
  desk.verifier->verdict = {false, Reason::tlsa_mismatch, "no record matches\n[x]"};
  desk.log.clear();
  const auto refuse = desk.verify(demand, good_tls + " cert=QUJD id=1abc-0001");
  CHECK_FALSE(refuse.pass);
  CHECK(refuse.reason == "tlsa-mismatch");
  CHECK(refuse.text == "no+record+matches-(x)");
  REQUIRE(desk.log.size() == 1);
  CHECK(desk.log[0] ==
        "dane.test refused: mx.dane.test: tlsa-mismatch: no record matches\\x0a[x] [RFC 7672 3.1] id=1abc-0001");
}

TEST_CASE("VERIFY: without TLS no chain counts, and no refusal is logged for what may be asked ahead") {
  Desk desk;
  const std::string demand = desk.route("dane.test").demand;
  desk.log.clear();
  CHECK_FALSE(desk.verify(demand, "tls=none cert=QUJD").pass);
  CHECK(desk.verifier->chains == std::vector<std::size_t>{0});
  CHECK(desk.log.empty());
  CHECK_FALSE(desk.verify(demand, good_tls).pass);  // TLS, and no certificate
}

TEST_CASE("VERIFY: what cannot be read is never a pass") {
  Desk desk;
  const std::string demand = desk.route("dane.test").demand;
  CHECK(desk.ask("1 VERIFY demand=rubbish host=mx.dane.test " + good_tls + " cert=QUJD").status == wire::Status::perm);
  CHECK(desk.ask("1 VERIFY demand=" + demand + " host=mx.dane.test " + good_tls + " cert=QUJ").status ==
        wire::Status::perm);
  desk.verifier->verdict.ok = true;
  const auto other = desk.ask("1 VERIFY demand=" + demand + " host=mx.evil.test tls=none");
  CHECK_FALSE(wire::parse_verdict(other.text)->pass);
}

TEST_CASE(
    "RFC 8461 §7.2, RFC 7672 §8.2: TLS that is old, null or anonymous is refused where the host is to be "
    "authenticated") {
  const auto refused = [](Tls demand, const char* words) {
    Demand d;
    d.tls = demand;
    const auto verdict = judge_tls(wire::read_tls_words(words), std::span(&d, 1));
    if (verdict) CHECK_FALSE(verdict->ok);
    return verdict ? std::optional(verdict->reason) : std::nullopt;
  };
  const char* const good = "TLS1.2:ECDHE-RSA-AES256-GCM-SHA384:256";
  const char* const old = "TLS1.1:ECDHE-RSA-AES256-SHA:256";
  const char* const null = "TLS1.2:NULL-SHA256:0";
  const char* const anonymous = "TLS1.2:ADH-AES256-GCM-SHA384:256";
  for (const Tls demand : {Tls::dane, Tls::pkix}) {
    CHECK_FALSE(refused(demand, good));
    CHECK(refused(demand, old) == Reason::tls_version);
    CHECK(refused(demand, null) == Reason::tls_failed);
    CHECK(refused(demand, anonymous) == Reason::tls_failed);
  }
  CHECK_FALSE(refused(Tls::encrypt, old));
  CHECK_FALSE(refused(Tls::encrypt, anonymous));
  CHECK(refused(Tls::encrypt, null) == Reason::tls_failed);
  CHECK_FALSE(refused(Tls::opportunistic, null));
  CHECK_FALSE(refused(Tls::dane, "none"));  // the verifier's to refuse
}

TEST_CASE("RFC 8461 §5.1: after a refused connection the next question goes past all caches, once") {
  Desk desk;
  const std::string demand = desk.route("dane.test").demand;
  CHECK(desk.route("dane.test").mode == wire::Mode::gated);
  CHECK(desk.zone.times_asked("dane.test", RrType::MX) == 1);
  desk.verifier->verdict = {false, Reason::tlsa_mismatch, "no record matches"};
  CHECK_FALSE(desk.verify(demand, good_tls + " cert=QUJD").pass);
  desk.route("dane.test");
  CHECK(desk.zone.times_asked("dane.test", RrType::MX) == 2);
  desk.route("dane.test");
  CHECK(desk.zone.times_asked("dane.test", RrType::MX) == 2);
  CHECK(desk.ask("1 REPORT domain=Dane.test host=mx.dane.test outcome=refused reason=tls-failed").status ==
        wire::Status::ok);
  desk.route("dane.test");
  CHECK(desk.zone.times_asked("dane.test", RrType::MX) == 3);
}

// A delivery process of Exim without dlfunc, towards mx.dane.test.
struct Delivery {
  Desk desk;
  std::string demand = desk.route("dane.test").demand;
  std::string to = " demand=" + demand + " host=mx.dane.test address=192.0.2.1";

  bool passes(const std::string& line) {
    const auto reply = desk.ask(line);
    const auto verdict = wire::parse_verdict(reply.text);
    return reply.status == wire::Status::ok && verdict && verdict->pass;
  }
  bool connect() { return passes("1 EVENT event=tcp:connect" + to); }
  bool shows(int depth, const std::string& cert) {
    return passes("1 EVENT event=tls:cert" + to + " depth=" + std::to_string(depth) + " cert=" + cert);
  }
  bool mail(const std::string& cert = "QUJD", const std::string& domain = "DANE.test",
            const std::string& tls = good_tls) {
    return passes("1 GATE domain=" + domain + to + ' ' + tls + " cert=" + cert);
  }
};

TEST_CASE(
    "EVENT and GATE: the chain of one connection is judged as a whole, and the gate wants the leaf that was agreed "
    "on") {
  Delivery delivery;
  CHECK(delivery.connect());
  CHECK(delivery.shows(1, "REVG"));
  CHECK(delivery.desk.verifier->chains.empty());
  CHECK(delivery.shows(0, "QUJD"));
  CHECK(delivery.desk.verifier->chains == std::vector<std::size_t>{2});
  CHECK(delivery.mail());
  CHECK_FALSE(delivery.mail("REVG"));
  CHECK_FALSE(delivery.mail("QUJD", "plain.test"));
  CHECK_FALSE(delivery.mail("QUJD", "dane.test", "tls=none"));
  CHECK_FALSE(delivery.mail("QUJD", "dane.test", "tls=TLS1.1:ECDHE_RSA__AES_256_CBC__SHA1:256"));
}

TEST_CASE("EVENT and GATE: without an event that agreed, on this connection and for this host, no mail") {
  Delivery delivery;
  CHECK_FALSE(delivery.mail());
  CHECK(delivery.shows(0, "QUJD"));
  delivery.desk.peer = {4712, 100};
  CHECK_FALSE(delivery.mail());
  delivery.desk.peer = {4711, 101};
  CHECK_FALSE(delivery.mail());
  delivery.desk.peer = {4711, 100};
  CHECK(delivery.mail());
  delivery.to = " demand=" + delivery.demand + " host=mx.dane.test address=192.0.2.2";
  CHECK_FALSE(delivery.mail());
  delivery.to = " demand=" + delivery.demand + " host=mx.dane.test address=192.0.2.1";
  CHECK(delivery.connect());
  CHECK_FALSE(delivery.mail());
  delivery.desk.verifier->verdict = {false, Reason::tlsa_mismatch, "no record matches"};
  CHECK_FALSE(delivery.shows(0, "QUJD"));
  delivery.desk.verifier->verdict = {true, Reason::verified, ""};
  CHECK_FALSE(delivery.mail());
}

TEST_CASE("EVENT: what cannot be read, and a process that cannot be told from others, is never a pass") {
  Delivery delivery;
  CHECK_FALSE(delivery.shows(0, "QUJ"));
  CHECK_FALSE(delivery.passes("1 EVENT event=tls:cert" + delivery.to));
  CHECK_FALSE(delivery.shows(0, std::string(100000, 'A')));
  CHECK_FALSE(
      delivery.passes("1 EVENT event=tls:cert demand=rubbish host=mx.dane.test address=192.0.2.1 depth=0 cert=QUJD"));
  delivery.desk.peer = {};
  CHECK_FALSE(delivery.connect());
  CHECK_FALSE(delivery.shows(0, "QUJD"));
}

TEST_CASE("Connections: bounded in number and in octets; what was not told of for longest goes first") {
  Connections connections;
  const Connections::Purpose purpose{"demand", "host", "address"};
  for (pid_t pid = 1; pid <= 1001; ++pid) {
    REQUIRE(connections.certificate({pid, 1}, 0, "QUJD"));
    connections.agree({pid, 1}, purpose);
  }
  CHECK_FALSE(connections.agreed_on({1, 1}, purpose, "QUJD"));
  CHECK(connections.agreed_on({2, 1}, purpose, "QUJD"));
  const std::string large(80000, 'A');
  for (std::size_t depth = 0; depth < wire::most_certificates; ++depth) {
    for (pid_t pid = 2001; pid < 2009; ++pid) REQUIRE(connections.certificate({pid, 1}, depth, large));
  }
  CHECK_FALSE(connections.agreed_on({1001, 1}, purpose, "QUJD"));
  std::size_t kept = 0;
  for (pid_t pid = 2001; pid < 2009; ++pid) kept += connections.chain({pid, 1}).size();
  CHECK(kept * large.size() <= Connections::most_octets);
  CHECK_FALSE(connections.chain({2008, 1}).empty());
  CHECK_FALSE(connections.certificate({1, 1}, wire::most_certificates, "QUJD"));
}

TEST_CASE("REPORT: one log line; what names no domain is refused") {
  Desk desk;
  CHECK(desk.ask("1 REPORT domain=dane.test host=mx.dane.test outcome=delivered id=1abc-0001").status ==
        wire::Status::ok);
  CHECK(desk.log == std::vector<std::string>{"dane.test delivered by mx.dane.test id=1abc-0001"});
  CHECK(desk.ask("1 REPORT domain=a..b host=x outcome=delivered").status == wire::Status::perm);
}

TEST_CASE("RFC 8460 §4.3: how connections ended is counted by domain, mechanism, host, result and who told it") {
  Desk desk;
  const std::string demand = desk.route("dane.test").demand;
  const std::string told = "1 REPORT domain=dane.test host=mx.dane.test outcome=refused demand=" + demand + " reason=";
  CHECK(desk.ask(told + "starttls-missing detail=no%20offer").status == wire::Status::ok);
  CHECK(desk.ask(told + "starttls-missing").status == wire::Status::ok);
  CHECK(desk.ask(told + "out-of-coffee").status == wire::Status::perm);
  CHECK(desk.ask("1 REPORT domain=plain.test host=mx.plain.test outcome=refused reason=tls-failed demand=" + demand)
            .status == wire::Status::perm);
  desk.verifier->verdict = {false, Reason::tlsa_mismatch, "no record matches"};
  CHECK_FALSE(desk.verify(demand, good_tls + " cert=QUJD").pass);
  CHECK_FALSE(desk.verify(demand, "tls=none").pass);  // asked ahead
  desk.peer.uid = 101;
  CHECK(desk.ask("1 REPORT domain=dane.test host=mx.dane.test outcome=delivered reason=verified demand=" + demand)
            .status == wire::Status::ok);
  // Nothing is demanded of it, so that nothing can be told.
  const std::string plain = desk.route("plain.test").demand;
  CHECK(desk.ask("1 REPORT domain=plain.test host=mx.plain.test outcome=refused reason=tls-failed demand=" + plain)
            .status == wire::Status::ok);
  CHECK(desk.disk.outcomes.empty());
  desk.verbs.record_outcomes();
  std::vector<std::string> counted;
  for (const TlsOutcome& outcome : desk.disk.outcomes) {
    counted.push_back(outcome.domain + ' ' + outcome.mechanism + ' ' + outcome.host + ' ' + outcome.result + ' ' +
                      std::to_string(outcome.teller) + ' ' + std::to_string(outcome.attempts) + ' ' + outcome.detail);
  }
  CHECK(counted == std::vector<std::string>{"dane.test dane mx.dane.test starttls-missing 100 2 ",
                                            "dane.test dane mx.dane.test tlsa-mismatch 100 1 no record matches",
                                            "dane.test dane mx.dane.test verified 101 1 "});
  desk.verbs.record_outcomes();
  CHECK(desk.disk.outcomes.size() == 3);  // once
}

TEST_CASE("Outcomes: bounded; what is counted already is counted on") {
  Outcomes outcomes;
  for (std::size_t i = 0; i <= Outcomes::most; ++i) {
    outcomes.note({"d" + std::to_string(i) + ".test", "dane", "mx.test", "verified", 0, 1, WallTime{}, ""});
  }
  outcomes.note({"d0.test", "dane", "mx.test", "verified", 0, 1, WallTime{}, ""});
  const auto taken = outcomes.take();
  CHECK(taken.size() == Outcomes::most);
  CHECK(taken.front().attempts == 2);
  CHECK(outcomes.take().empty());
}

TEST_CASE_FIXTURE(Delivery, "EVENT and GATE: each session is counted once, what follows on a verdict is not") {
  connect();
  REQUIRE(shows(0, "QUJD"));
  REQUIRE(mail());
  desk.verifier->verdict = {false, Reason::tlsa_mismatch, "no record matches"};
  connect();
  REQUIRE_FALSE(shows(0, "QUJD"));
  CHECK(desk.ask("1 REPORT domain=dane.test host=mx.dane.test outcome=refused reason=tls-failed demand=" + demand)
            .status == wire::Status::ok);  // Exim's words for the refusal
  desk.verbs.record_outcomes();
  REQUIRE(desk.disk.outcomes.size() == 2);
  CHECK(desk.disk.outcomes[0].result == "tlsa-mismatch");
  CHECK(desk.disk.outcomes[0].attempts == 1);
  CHECK(desk.disk.outcomes[1].result == "verified");
  CHECK(desk.disk.outcomes[1].attempts == 1);
}

TEST_CASE("systemd: readiness goes to NOTIFY_SOCKET, by path and by abstract name") {
  const Folder folder;
  for (const bool abstract : {false, true}) {
    const std::string name = (abstract ? "@" : "") + folder.file("notify");
    const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    name.copy(address.sun_path, name.size());
    if (abstract) address.sun_path[0] = '\0';
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(::setenv("NOTIFY_SOCKET", name.c_str(), 1) == 0);
    notify_systemd("READY=1");
    ::unsetenv("NOTIFY_SOCKET");
    char buffer[64];
    const ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
    ::close(fd);
    REQUIRE(n > 0);
    CHECK(std::string(buffer, static_cast<std::size_t>(n)) == "READY=1");
  }
  notify_systemd("READY=1");  // not started by systemd: nothing happens
}

TEST_CASE("systemd: the watchdog is told thrice in its time, and only where it asks") {
  CHECK_FALSE(watchdog_interval());
  ::setenv("WATCHDOG_USEC", "30000000", 1);
  CHECK(watchdog_interval() == Millis{10000});
  ::setenv("WATCHDOG_PID", "1", 1);
  CHECK_FALSE(watchdog_interval());
  ::setenv("WATCHDOG_PID", std::to_string(::getpid()).c_str(), 1);
  CHECK(watchdog_interval() == Millis{10000});
  for (const char* rubbish : {"", "x", "-5", "2999", "30000000s", "99999999999999999999"}) {
    ::setenv("WATCHDOG_USEC", rubbish, 1);
    CHECK_FALSE(watchdog_interval());
  }
  ::unsetenv("WATCHDOG_USEC");
  ::unsetenv("WATCHDOG_PID");
}

TEST_CASE("systemd: a socket that is meant for another process is not taken") {
  ::setenv("LISTEN_FDS", "1", 1);
  ::setenv("LISTEN_PID", "1", 1);
  const auto other = socket_from_systemd();
  ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
  ::setenv("LISTEN_FDS", "2", 1);
  const auto two = socket_from_systemd();
  ::unsetenv("LISTEN_FDS");
  ::unsetenv("LISTEN_PID");
  REQUIRE(other);
  CHECK_FALSE(other->has_value());
  CHECK_FALSE(two);
}

TEST_CASE("systemd: the one listening Unix socket is taken over, and anything else is refused") {
  const Folder folder;
  const auto take_over = [](int fd) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      if (::dup2(fd, 3) != 3) ::_exit(9);
      ::setenv("LISTEN_FDS", "1", 1);
      ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
      const auto taken = socket_from_systemd();
      if (!taken) ::_exit(1);
      const bool good = taken->has_value() && **taken == 3 && (::fcntl(3, F_GETFD) & FD_CLOEXEC) != 0 &&
                        (::fcntl(3, F_GETFL) & O_NONBLOCK) != 0 && ::getenv("LISTEN_FDS") == nullptr;
      ::_exit(good ? 0 : 2);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  const auto listening = listen_at(folder.file("s"));
  REQUIRE(listening);
  CHECK(take_over(*listening) == 0);
  ::close(*listening);
  const int other = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  CHECK(take_over(other) == 1);
  ::close(other);
}

TEST_CASE("the file of trust anchors") {
  const Folder folder;
  const std::string ds = ". IN DS 20326 8 2 e06d44b80b8f1d39a95c0b0d7c65d08458e880409bbc683457104237c7f8ec8d\n";
  CHECK(check_trust_anchor(folder.write("ds", ds)));
  CHECK(check_trust_anchor(folder.write("autotrust", "; autotrust\n.\t172800\tIN\tDNSKEY\t257 3 8 AwEA ;{id = 1}\n")));
  CHECK_FALSE(check_trust_anchor(folder.write("empty", "")));
  CHECK_FALSE(check_trust_anchor(folder.write("comment", ";. IN DS 20326 8 2 e06d\n")));
  CHECK_FALSE(check_trust_anchor(folder.write("other", "example.org. IN DS 20326 8 2 e06d\n")));
  const auto gone = check_trust_anchor(folder.file("gone"));
  REQUIRE_FALSE(gone);
  CHECK_FALSE(gone.error().remedy.empty());
}

namespace {

// The agent in a process of its own, without a name server that answers, its standard error read here.
class Process {
 public:
  explicit Process(const std::string& settings = "") {
    folder_.write("root.key", ". IN DS 20326 8 2 e06d44b80b8f1d39a95c0b0d7c65d08458e880409bbc683457104237c7f8ec8d\n");
    configure("store = " + folder_.file("store.db") + "\nsocket = " + socket() + "\ntrust_anchor = " +
              folder_.file("root.key") + "\nresolver = 127.0.0.1@1\ndns_timeout = 1s\n" + settings);
  }
  ~Process() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    if (log_fd_ >= 0) ::close(log_fd_);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void configure(const std::string& text) { config_ = folder_.write("sealane.conf", text); }
  void start() {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      ::dup2(ends[1], STDERR_FILENO);
      ::close(ends[1]);
      ::_exit(run(config_));
    }
    ::close(ends[1]);
    log_fd_ = ends[0];
  }
  void signal(int number) const { ::kill(pid_, number); }
  // Reads its log until that holds `part`; false if it never comes.
  bool logs(const std::string& part) {
    return read_until([&] { return log_.find(part) != std::string::npos; });
  }
  // The exit status; -1: it does not end, or not by itself.
  int end() {
    if (read_until([] { return false; }) || !log_ended_) return -1;
    int status = 0;
    REQUIRE(::waitpid(pid_, &status, 0) == pid_);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  [[nodiscard]] const std::string& log() const { return log_; }
  [[nodiscard]] std::string socket() const { return folder_.file("agent.sock"); }
  [[nodiscard]] bool answers() const {
    std::string error;
    return wire::exchange(socket(), "1 QUERY domain=[192.0.2.1]\n", 5000, error).has_value();
  }
  [[nodiscard]] const Folder& folder() const { return folder_; }

 private:
  template <class Reached>
  bool read_until(Reached reached) {
    const wire::Deadline bound(20000);
    while (!reached()) {
      char buffer[4096];
      if (log_ended_ || !bound.wait(log_fd_, POLLIN)) return false;
      const ssize_t n = ::read(log_fd_, buffer, sizeof buffer);
      if (n > 0) log_.append(buffer, static_cast<std::size_t>(n));
      log_ended_ = n <= 0;
    }
    return true;
  }

  Folder folder_;
  std::string config_;
  pid_t pid_ = -1;
  int log_fd_ = -1;
  std::string log_;
  bool log_ended_ = false;
};

constexpr int bad_config = 78;

}  // namespace

TEST_CASE("agent: it does not start on a bad configuration, without a trust anchor, or with an empty CA file") {
  Process unknown_key("colour = red\n");
  unknown_key.start();
  CHECK(unknown_key.end() == bad_config);
  CHECK(unknown_key.log().find("colour") != std::string::npos);

  Process no_anchor;
  std::filesystem::remove(no_anchor.folder().file("root.key"));
  no_anchor.start();
  CHECK(no_anchor.end() == bad_config);
  CHECK(no_anchor.log().find("no trust anchor") != std::string::npos);

  const Folder folder;
  Process empty_ca("ca_file = " + folder.write("ca.pem", "") + "\n");
  empty_ca.start();
  CHECK(empty_ca.end() == bad_config);
  CHECK(empty_ca.log().find("ca.pem") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(empty_ca.socket()));
}

TEST_CASE("agent: it answers, keeps the old configuration where the new one is bad, and stops cleanly") {
  Process agent;
  const std::string good = read_file(agent.folder().file("sealane.conf"));
  agent.start();
  REQUIRE(agent.logs("listening on"));
  CHECK(agent.answers());
  agent.configure(good + "colour = red\n");
  agent.signal(SIGHUP);
  CHECK(agent.logs("not reloaded, the old configuration stays"));
  CHECK(agent.answers());
  agent.configure(good + "timeout = 3s\n");
  agent.signal(SIGHUP);
  CHECK(agent.logs("reloaded\n"));
  CHECK(agent.answers());
  agent.signal(SIGTERM);
  CHECK(agent.end() == 0);
  CHECK_FALSE(std::filesystem::exists(agent.socket()));
}

TEST_CASE("agent: a CA file that changes is noticed; a bad one keeps the old; its administrator may order a reload") {
  const Folder folder;
  const std::string ca = folder.file("ca.pem");
  std::filesystem::copy_file("/etc/ssl/certs/ca-certificates.crt", ca);
  const std::string admin = folder.file("admin.sock");
  Process agent("ca_file = " + ca + "\nadmin_socket = " + admin + "\n");
  agent.start();
  REQUIRE(agent.logs("listening on"));
  REQUIRE(agent.answers());
  std::filesystem::rename(folder.write("empty.pem", "\n"), ca);
  CHECK(agent.logs(ca + " has changed"));
  CHECK(agent.logs("not reloaded, the old configuration stays"));
  CHECK(agent.answers());
  std::string error;
  const auto order = [&](const std::string& path, const std::string& line) {
    return wire::exchange(path, "1 " + line + "\n", 5000, error).value_or(error);
  };
  CHECK(order(admin, "RELOAD").rfind("PERM refused", 0) == 0);
  struct stat socket {};
  REQUIRE(::stat(admin.c_str(), &socket) == 0);
  CHECK((socket.st_mode & 0777U) == 0600);
  CHECK(order(admin, "QUERY domain=a.example") == "ERR unknown verb");
  CHECK(order(agent.socket(), "RELOAD") == "ERR unknown verb");
  CHECK(order(agent.socket(), "PURGE domain=a.example") == "ERR unknown verb");
  std::filesystem::remove(ca);
  std::filesystem::copy_file("/etc/ssl/certs/ca-certificates.crt", ca);
  CHECK(agent.logs("reloaded\n"));
  CHECK(order(admin, "RELOAD") == "OK reloaded");
  agent.signal(SIGTERM);
  CHECK(agent.end() == 0);
  CHECK_FALSE(std::filesystem::exists(admin));
}

}  // namespace sealane::agent
