// The object that Exim loads, called as Exim calls it: dlopen, dlsym, (yield, argc, argv).
#include <dlfcn.h>
#include <doctest/doctest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "shims/exim/base64.h"
#include "shims/wire/codec.h"
#include "tests/unit/temp_dir.h"

using namespace sealane;
using namespace std::string_literals;

namespace {

constexpr int ok = 0;
constexpr int fail = 2;

const char* object_path() {
  const char* path = std::getenv("SEALANE_EXIM_OBJECT");
  REQUIRE_MESSAGE(path != nullptr, "SEALANE_EXIM_OBJECT must name sealane-exim.so");
  return path;
}

struct Answer {
  int status = -1;
  std::string text;
};

using Function = int (*)(unsigned char**, int, unsigned char**);

Function function(const std::string& name) {
  static void* handle = ::dlopen(object_path(), RTLD_LAZY);
  REQUIRE_MESSAGE(handle != nullptr, ::dlerror());
  auto* found = reinterpret_cast<Function>(::dlsym(handle, name.c_str()));
  REQUIRE_MESSAGE((found != nullptr), name);
  return found;
}

Answer call(const std::string& name, std::vector<std::string> arguments) {
  std::vector<unsigned char*> argv;
  for (std::string& argument : arguments) argv.push_back(reinterpret_cast<unsigned char*>(argument.data()));
  argv.push_back(nullptr);
  unsigned char* yield = nullptr;
  const int status = function(name)(&yield, static_cast<int>(arguments.size()), argv.data());
  return {status, yield == nullptr ? "" : reinterpret_cast<const char*>(yield)};
}

using Folder = test::TempDir;

// An agent that answers each request line with what `reply` makes of it; no line end is added.
class Agent {
 public:
  using Reply = std::function<std::string(const wire::Request&)>;

  explicit Agent(Reply reply) : reply_(std::move(reply)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path().copy(address.sun_path, path().size());
    listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(listener_, 16) == 0);
    server_ = std::thread([this] { serve(); });
  }
  ~Agent() {
    ::shutdown(listener_, SHUT_RDWR);
    server_.join();
    ::close(listener_);
  }
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  [[nodiscard]] std::string backend() const { return "agent:" + path(); }
  [[nodiscard]] int asked() const { return asked_; }
  // Of the requests, those whose verdict somebody waits for.
  [[nodiscard]] int verified() const { return verified_; }
  // The next that nobody waits for: it may still be under way.
  [[nodiscard]] std::string reported() {
    std::unique_lock lock(mutex_);
    REQUIRE(came_.wait_for(lock, std::chrono::seconds(30), [this] { return !reports_.empty(); }));
    std::string first = reports_.front();
    reports_.pop_front();
    return first;
  }

 private:
  [[nodiscard]] std::string path() const { return folder_.path() + "/agent.sock"; }
  void serve() {
    for (int fd = -1; (fd = ::accept(listener_, nullptr, nullptr)) >= 0; ::close(fd)) {
      std::string line;
      for (char c = 0; ::read(fd, &c, 1) == 1 && c != '\n';) line += c;
      std::string error;
      const auto request = wire::parse_request(line, error);
      ++asked_;
      if (request && (request->verb == wire::Verb::report || request->tested)) {
        const std::lock_guard lock(mutex_);
        reports_.push_back(request->tested ? "tested " + request->host
                                           : request->outcome + ' ' + request->reason + ' ' + request->host + ' ' +
                                                 request->detail);
        came_.notify_one();
      } else if (request && request->verb == wire::Verb::verify) {
        ++verified_;
      }
      const std::string text = request ? reply_(*request) : "ERR " + error + "\n";
      if (::send(fd, text.data(), text.size(), MSG_NOSIGNAL) < 0) continue;
    }
  }

  Folder folder_;
  Reply reply_;
  int listener_ = -1;
  std::atomic<int> asked_ = 0, verified_ = 0;
  std::mutex mutex_;
  std::condition_variable came_;
  std::deque<std::string> reports_;
  std::thread server_;
};

std::string route_line(const std::string& domain, const std::string& tls = "dane") {
  return wire::write_route({domain, "deliver", "skip", {{"mx1." + domain, tls}}, "1;token", domain + " is fine"});
}

std::string ok_line(const std::string& text) { return "OK " + text + "\n"; }

// As a certificate looks from outside: one DER SEQUENCE. Verdicts of these tests do not look inside.
std::string der(const std::string& content) { return "\x30"s + static_cast<char>(content.size()) + content; }
std::string base64(const std::string& octets) { return exim::base64_encoded(octets); }

const std::string cipher = "TLS1.3:ECDHE_X25519__RSA_PSS_RSAE_SHA256__AES_256_GCM:256";

// One connection as Exim makes it: events, then the gate.
struct Session {
  std::string backend;
  std::string domain = "example.org";
  std::string host = "mx1.example.org";
  std::string address = "192.0.2.1";
  std::string address_data = route_line("example.org");

  [[nodiscard]] Answer connect() const {
    return call("sealane_exim_event", {backend, "tcp:connect", "", address_data, host, address, ""});
  }
  [[nodiscard]] Answer certificate(const std::string& depth, const std::string& text) const {
    return call("sealane_exim_event", {backend, "tls:cert", depth, address_data, host, address, text});
  }
  [[nodiscard]] Answer gate(const std::string& leaf, const std::string& with = cipher) const {
    return call("sealane_exim_gate", {backend, domain, host, address, with, leaf, address_data});
  }
};

// Agrees with a leaf that is der("good"), needs TLS, and is told TLS 1.2 or later.
std::string strict_verdict(const wire::Request& request) {
  const bool modern = request.tls.compare(0, 6, "TLS1.3") == 0;
  const bool good = modern && !request.certs.empty() && request.certs[0] == base64(der("good"));
  return ok_line(
      wire::write_verdict({good, good ? "verified" : "tlsa-mismatch", good ? "as it must be" : "another key"}));
}

std::string output_of(const std::string& command) {
  FILE* pipe = ::popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string out;
  std::array<char, 4096> buffer{};
  for (std::size_t n = 0; (n = ::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) out.append(buffer.data(), n);
  REQUIRE(::pclose(pipe) == 0);
  return out;
}

const std::string functions[] = {"sealane_exim_route", "sealane_exim_event", "sealane_exim_gate",
                                 "sealane_exim_require_tls"};

}  // namespace

TEST_CASE("the object exports its five functions and nothing else, and needs libc alone") {
  std::string names = output_of("nm -D --defined-only --format=just-symbols '"s + object_path() + "' | sort");
  CHECK(names ==
        "sealane_exim_event\nsealane_exim_gate\nsealane_exim_report\nsealane_exim_require_tls\nsealane_exim_route\n");
  const std::string needed =
      output_of("readelf -d '"s + object_path() + "' | sed -n 's/.*NEEDED.*\\[\\(.*\\)\\]/\\1/p'");
  for (std::size_t at = 0; at < needed.size();) {
    const std::size_t end = needed.find('\n', at);
    const std::string library = needed.substr(at, end - at);
    const bool libc = library == "libc.so.6" || library.compare(0, 3, "ld-") == 0;
    CHECK_MESSAGE(libc, library);
    at = end + 1;
  }
}

TEST_CASE("wrong numbers of arguments, null pointers and over-long arguments never let anything pass") {
  for (const std::string& name : functions) {
    CAPTURE(name);
    for (const std::size_t count : {0U, 1U, 2U, 5U, 6U, 8U}) {
      const Answer answer = call(name, std::vector<std::string>(count, "agent:/nowhere"));
      CHECK((answer.status == fail || !answer.text.empty()));
      CHECK((answer.status == ok || answer.status == fail));
    }
    for (const std::size_t count : {3U, 4U, 7U}) {
      std::vector<std::string> arguments(count, std::string(200000, 'a'));
      const Answer answer = call(name, arguments);
      CHECK((answer.status == fail || !answer.text.empty()));
    }
    unsigned char* yield = nullptr;
    std::array<unsigned char*, 8> none{};
    for (const int count : {3, 4, 7}) {
      const int status = function(name)(&yield, count, none.data());
      CHECK((status == fail || *yield != 0));
    }
    const int status = function(name)(&yield, 7, nullptr);
    CHECK((status == fail || *yield != 0));
  }
}

TEST_CASE("whatever it is given, the report is empty and succeeds: anything else would refuse the host") {
  for (const std::size_t count : {0U, 4U, 5U, 6U, 8U}) {
    for (const std::size_t size : {0U, 10U, 200000U}) {
      const Answer answer = call("sealane_exim_report", std::vector<std::string>(count, std::string(size, 'a')));
      CHECK(answer.status == ok);
      CHECK(answer.text.empty());
    }
  }
}

TEST_CASE("binary arguments give text of a harmless alphabet") {
  std::string binary;
  for (int c = 1; c < 256; ++c) binary += static_cast<char>(c);
  const std::string allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:-/()+ =%_[]*";
  for (const std::string& name : functions) {
    for (const std::size_t count : {3U, 4U, 7U}) {
      for (std::vector<std::string> arguments : {std::vector<std::string>(count, binary.substr(0, 60)),
                                                 std::vector<std::string>(count, binary.substr(120, 60))}) {
        for (const char* backend : {"", "agent:/nowhere"}) {
          if (*backend != 0) arguments[0] = backend;
          const Answer answer = call(name, arguments);
          CAPTURE(name);
          CHECK(answer.text.find_first_not_of(allowed) == std::string::npos);
        }
      }
    }
  }
}

TEST_CASE("a route is handed on unchanged, and asked for once") {
  Agent agent([](const wire::Request& request) {
    CHECK(request.id == "1aBcDe-000000-00");
    CHECK(request.wait_ms > 0);
    return ok_line(route_line(request.domain));
  });
  for (int i = 0; i < 3; ++i) {
    const Answer answer = call("sealane_exim_route", {agent.backend(), "once.example", "1aBcDe-000000-00", "first"});
    CHECK(answer.status == ok);
    CHECK(answer.text == route_line("once.example"));
  }
  CHECK(agent.asked() == 1);
}

TEST_CASE("RFC 8461 5.1: another attempt asks past all caches") {
  Agent agent([](const wire::Request& request) {
    return ok_line(wire::write_route({request.domain, "defer", "", {}, "", request.fresh ? "fresh" : "cached"}));
  });
  CHECK(call("sealane_exim_route", {agent.backend(), "fresh.example", "", "first"}).text.find("text=cached") !=
        std::string::npos);
  CHECK(call("sealane_exim_route", {agent.backend(), "fresh.example", "", "again"}).text.find("text=fresh") !=
        std::string::npos);
}

TEST_CASE("RFC 7672 2.2: a smart host is asked about without MX records, at its port") {
  std::string asked;
  Agent agent([&](const wire::Request& request) {
    asked += request.domain + (request.mx ? " mx " : " no-mx ") + std::to_string(request.port) + '\n';
    return ok_line(route_line(request.domain));
  });
  const auto route = [&](const std::string& port) {
    return call("sealane_exim_route", {agent.backend(), "hop.example.org", "1abc", "first", port});
  };
  CHECK(route("587").status == ok);
  CHECK(route("25").status == ok);
  CHECK(call("sealane_exim_route", {agent.backend(), "hop.example.org", "1abc", "first"}).status == ok);
  CHECK(asked == "hop.example.org no-mx 587\nhop.example.org no-mx 25\nhop.example.org mx 25\n");
  for (const char* bad : {"", "0", "65536", "123456", "25x", "-1", " 25", "smtp"}) {
    CAPTURE(bad);
    CHECK(route(bad).status == fail);
  }
}

TEST_CASE("what is no answer is a deferral that says why") {
  const std::string good = ok_line(route_line("example.org"));
  const struct {
    const char* what;
    std::string reply;
  } cases[] = {
      {"nothing", ""},
      {"no line end", good.substr(0, good.size() - 1)},
      {"half", good.substr(0, good.size() / 2) + "\n"},
      {"no final word", good.substr(0, good.size() - 5) + "\n"},
      {"more after it", good + good},
      {"another domain", ok_line(route_line("example.net"))},
      {"rubbish", "\x01\x02\x03\n"},
      {"a verdict", "OK pass reason=verified text=yes\n"},
      {"TEMP", "TEMP busy too many questions\n"},
      {"PERM", "PERM domain not one\n"},
      {"ERR", "ERR what?\n"},
  };
  for (const auto& c : cases) {
    CAPTURE(std::string(c.what));
    Agent agent([&](const wire::Request&) { return c.reply; });
    const Answer answer = call("sealane_exim_route", {agent.backend(), "example.org", "id", "first"});
    CHECK(answer.status == ok);
    const auto route = wire::parse_route(answer.text);
    REQUIRE(route);
    CHECK(route->mode == wire::Mode::defer);
    CHECK(route->domain == "example.org");
    CHECK(wire::plain_text(route->text).find("example.org deferred: no decision: ") == 0);
  }
}

TEST_CASE("a name with octets outside the grammar can be rejected") {
  Agent agent([](const wire::Request& request) {
    return ok_line(wire::write_route({request.domain, "reject", "", {}, "", "domain-invalid"}));
  });
  const Answer answer = call("sealane_exim_route", {agent.backend(), "B\xff!.example.", "id", "first"});
  CHECK(answer.text == "mode=reject dom=b%FF%21.example text=domain-invalid end");
}

TEST_CASE("a missing socket and a malformed back end defer in words") {
  for (const char* backend : {"agent:/nowhere/agent.sock", "agent:relative", "", "agents", "fork:relative",
                              "fork:/lib:/config:/state:/more"}) {
    CAPTURE(backend);
    const auto route = wire::parse_route(call("sealane_exim_route", {backend, "example.org", "id", "first"}).text);
    REQUIRE(route);
    CHECK(route->mode == wire::Mode::defer);
  }
}

TEST_CASE("RFC 7672 2.2: a chain that is as demanded passes event and gate") {
  Agent agent(strict_verdict);
  const Session session{agent.backend()};
  CHECK(session.connect().text.empty());
  CHECK(session.certificate("1", base64(der("authority"))).text.empty());
  CHECK(agent.asked() == 0);
  const Answer event = session.certificate("0", base64(der("good")));
  CHECK(event.status == ok);
  CHECK(event.text.empty());
  const Answer gate = session.gate(base64(der("good")));
  CHECK(gate.status == ok);
  CHECK(gate.text.empty());
  CHECK(agent.verified() == 1);
}

TEST_CASE("RFC 8460 4.3: how a connection ended is told, once, and nothing is refused by it") {
  Agent agent(strict_verdict);
  const Session session{agent.backend()};
  const auto report = [&](const std::string& reason) {
    const Answer told =
        call("sealane_exim_report", {session.backend, session.address_data, session.host, reason, "a\nb"});
    CHECK(told.status == ok);
    CHECK(told.text.empty());
  };
  CHECK(session.connect().text.empty());
  report("starttls-missing");
  CHECK(agent.reported() == "refused starttls-missing mx1.example.org a\nb");
  REQUIRE(session.certificate("0", base64(der("good"))).text.empty());
  report("tls-failed");  // Exim's words for a verdict that was given: nobody hears of it
  REQUIRE(session.gate(base64(der("good"))).status == ok);
  CHECK(agent.reported() == "delivered verified mx1.example.org ");
  call("sealane_exim_report", {"agent:/nonexistent/agent.sock", session.address_data, session.host, "tls-failed", ""});
}

TEST_CASE("RFC 8461 5: where nothing is demanded, a chain is shown and refuses nothing, whatever the agent says") {
  Agent agent(strict_verdict);
  Session session{agent.backend()};
  session.address_data = wire::write_route(
      {"example.org", "deliver", "opportunistic", {{"mx1.example.org", "opportunistic"}}, "1;t", "-"});
  CHECK(session.connect().text.empty());
  CHECK(session.certificate("0", base64(der("other"))).text.empty());
  CHECK(agent.reported() == "tested mx1.example.org");
  CHECK(session.gate(base64(der("other"))).status == fail);  // nobody agreed
}

TEST_CASE("RFC 7672 2.2: a chain that is not refuses the host with the reason") {
  Agent agent(strict_verdict);
  const Session session{agent.backend()};
  CHECK(session.connect().text.empty());
  const Answer event = session.certificate("0", base64(der("other")));
  CHECK(event.status == ok);  // FAIL would let the connection go on
  CHECK(event.text == "sealane: example.org mx1.example.org refused: tlsa-mismatch: another key");
  CHECK(session.gate(base64(der("other"))).status == fail);
}

TEST_CASE("the gate fails unless the event of this very connection agreed on this leaf and purpose") {
  Agent agent(strict_verdict);
  const Session session{agent.backend()};
  const std::string good = base64(der("good"));
  const auto agreed = [&] {
    REQUIRE(session.connect().text.empty());
    REQUIRE(session.certificate("0", good).text.empty());
  };
  SUBCASE("no event") {
    CHECK(session.connect().text.empty());
    CHECK(session.gate(good).status == fail);
  }
  SUBCASE("a new connection") {
    agreed();
    CHECK(session.connect().text.empty());
    CHECK(session.gate(good).status == fail);
  }
  SUBCASE("another leaf") {
    agreed();
    CHECK(session.gate(base64(der("gooe"))).status == fail);
  }
  SUBCASE("an absent certificate, as Exim writes it") {
    agreed();
    CHECK(session.gate(base64("tls_out_peercert")).status == fail);
    CHECK(session.gate("").status == fail);
  }
  SUBCASE("no TLS") {
    agreed();
    CHECK(session.gate(good, "").status == fail);
  }
  SUBCASE("RFC 8461 7.2: an old version of TLS") {
    agreed();
    CHECK(session.gate(good, "TLS1.1:ECDHE_X25519__AES_256_CBC__SHA1:256").status == fail);
    CHECK(session.gate(good, "unheard of").status == fail);
  }
  SUBCASE("an anonymous suite") {
    agreed();
    CHECK(session.gate(good, "TLS1.2:DH_ANON_AES_256_CBC_SHA1:256").status == fail);
    CHECK(agent.asked() == 2);  // again, with these words
  }
  SUBCASE("another host, address, demand or domain") {
    agreed();
    const std::string other_demand =
        wire::write_route({"example.org", "deliver", "skip", {{"mx1.example.org", "dane"}}, "1;other", "fine"});
    for (const auto change : {&Session::host, &Session::address, &Session::address_data, &Session::domain}) {
      Session other = session;
      other.*change = change == &Session::address_data ? other_demand : "other.example";
      CHECK(other.gate(good).status == fail);
    }
  }
  SUBCASE("the same, unchanged") {
    agreed();
    CHECK(session.gate(good).status == ok);
  }
}

TEST_CASE("an answer for another domain passes neither event nor gate") {
  Agent agent(strict_verdict);
  Session session{agent.backend()};
  session.domain = "enforced.example";
  CHECK(session.connect().text.empty());
  CHECK(session.certificate("0", base64(der("good"))).text.empty());
  CHECK(session.gate(base64(der("good"))).status == fail);
  for (const char* data :
       {"", "mode=defer dom=example.org text=no end", "mode=gated dom=example.org hosts=mx1.example.org"}) {
    session.address_data = data;
    CHECK(session.connect().text.empty());
    CHECK(!session.certificate("0", base64(der("good"))).text.empty());
    CHECK(session.gate(base64(der("good"))).status == fail);
  }
}

TEST_CASE("where the demand is met without TLS, the gate passes and TLS is not required") {
  Agent agent([](const wire::Request& request) {
    const bool none = request.tls == "none" && request.certs.empty();
    return ok_line(wire::write_verdict({none, none ? "verified" : "tls-failed", "-"}));
  });
  const Session session{agent.backend()};
  CHECK(session.connect().text.empty());
  CHECK(session.gate("", "").status == ok);
  CHECK(call("sealane_exim_require_tls", {agent.backend(), session.address_data, session.host}).text.empty());
}

TEST_CASE("TLS is required wherever it is not known to be needless") {
  Agent agent(strict_verdict);
  const Session session{agent.backend()};
  for (const std::string& backend : std::vector{agent.backend(), "agent:/nowhere"s, "nonsense"s}) {
    const Answer answer = call("sealane_exim_require_tls", {backend, session.address_data, session.host});
    CHECK(answer.status == ok);
    CHECK(answer.text == "*");
  }
  CHECK(call("sealane_exim_require_tls", {agent.backend(), "half an answer", session.host}).text == "*");
}

TEST_CASE("certificates that cannot be read, and chains without end, refuse the host") {
  Agent agent(strict_verdict);
  const Session session{agent.backend()};
  CHECK(session.connect().text.empty());
  for (const std::string& text :
       {""s, "!!!!"s, "MAMBAf"s, "MAMBAf9="s, base64("tls_out_peercert"), base64(der("x") + "y"), base64("\x30"s),
        base64("\x30\x84\x01\x01\x01\x01"s), std::string(100000, 'A')}) {
    CAPTURE(text.substr(0, 40));
    CHECK(!session.certificate("0", text).text.empty());
    CHECK(session.gate(text).status == fail);
  }
  for (const char* depth : {"32", "33", "4294967296", "99999999999999999999", "-1", "", "1x"}) {
    CAPTURE(depth);
    CHECK(!session.certificate(depth, base64(der("good"))).text.empty());
  }
  for (int depth = 31; depth > 0; --depth)
    CHECK(session.certificate(std::to_string(depth), base64(der("ca"))).text.empty());
  CHECK(session.certificate("0", base64(der("good"))).text.empty());
  CHECK(session.gate(base64(der("good"))).status == ok);
}

TEST_CASE("an agent that is dead, or speaks nonsense, verifies nothing") {
  for (const std::string& reply : {""s, "OK\n"s, "OK pass\n"s, "OK passed reason=verified text=yes\n"s,
                                   "TEMP busy later\n"s, "OK pass reason=verified text=yes"s}) {
    CAPTURE(reply);
    Agent agent([&](const wire::Request&) { return reply; });
    const Session session{agent.backend()};
    CHECK(session.connect().text.empty());
    CHECK(!session.certificate("0", base64(der("good"))).text.empty());
    CHECK(session.gate(base64(der("good"))).status == fail);
    CHECK(session.gate("", "").status == fail);
  }
}

TEST_CASE("other events are none of ours") {
  for (const char* name : {"msg:delivery", "smtp:connect", "tls:certificate", ""}) {
    const Answer answer = call("sealane_exim_event", {"nonsense", name, std::string(5000, 'x'), "", "", "", ""});
    CHECK(answer.status == ok);
    CHECK(answer.text.empty());
  }
}

TEST_CASE("the fork back end without libsealane or without a state folder of its own defers, and leaves no child") {
  Folder state;
  REQUIRE(::chmod(state.path().c_str(), 0700) == 0);
  const auto why = [](const std::string& backend) {
    const auto route = wire::parse_route(call("sealane_exim_route", {backend, "example.org", "id", "first"}).text);
    REQUIRE(route);
    CHECK(route->mode == wire::Mode::defer);
    return wire::plain_text(route->text);
  };
  CHECK(why("fork:::/nowhere/state").find("No such file") != std::string::npos);
  if (::geteuid() == 0) {
    CHECK(why("fork:::" + state.path()).find("belongs to root") != std::string::npos);
    REQUIRE(::chown(state.path().c_str(), 65534, 65534) == 0);
  }
  CHECK(why("fork:/nowhere/libsealane.so.0::" + state.path()).find("libsealane") != std::string::npos);
  REQUIRE(::chmod(state.path().c_str(), 0777) == 0);
  CHECK(why("fork:/nowhere/x.so::" + state.path()).find("others may write") != std::string::npos);

  Session session{"fork:/nowhere/libsealane.so.0::" + state.path()};
  CHECK(session.connect().text.empty());
  CHECK(!session.certificate("0", base64(der("good"))).text.empty());
  CHECK(session.gate(base64(der("good"))).status == fail);
  errno = 0;
  CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
  CHECK(errno == ECHILD);
}
