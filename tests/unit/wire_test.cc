// The agent's protocol: shims/wire/grammar.md.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <thread>

#include "shims/wire/client.h"
#include "shims/wire/codec.h"
#include "shims/wire/tls_words.h"
#include "tests/unit/temp_dir.h"

using namespace sealane::wire;
using namespace std::string_literals;

namespace {

std::string why_refused(std::string_view line) {
  std::string error;
  return parse_request(line, error) ? "accepted" : error;
}

RouteAnswer answer(std::vector<RouteHost> hosts, std::string others = "skip") {
  return {"example.org", "deliver", std::move(others), std::move(hosts), "1;token", "tlsa-usable"};
}

Mode mode_of(const RouteAnswer& a) {
  const auto route = parse_route(write_route(a));
  REQUIRE(route);
  return route->mode;
}

// A server for one connection that reads a line, sends `reply` as it stands and closes (or hangs until told).
class OneShot {
 public:
  explicit OneShot(std::string reply, bool hang = false) {
    listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un a{};
    a.sun_family = AF_UNIX;
    path_.copy(a.sun_path, path_.size());
    REQUIRE(::bind(listener_, reinterpret_cast<sockaddr*>(&a), sizeof a) == 0);
    REQUIRE(::listen(listener_, 1) == 0);
    REQUIRE(::pipe(release_) == 0);
    server_ = std::thread([this, reply = std::move(reply), hang] {
      const int fd = ::accept(listener_, nullptr, nullptr);
      char c = 0;
      while (::read(fd, &c, 1) == 1 && c != '\n') {
      }
      for (std::size_t at = 0; at < reply.size();) {
        const ssize_t n = ::send(fd, reply.data() + at, reply.size() - at, MSG_NOSIGNAL);
        if (n <= 0) break;
        at += static_cast<std::size_t>(n);
      }
      if (hang) (void)!::read(release_[0], &c, 1);
      ::close(fd);
    });
  }
  ~OneShot() {
    ::close(release_[1]);
    server_.join();
    ::close(release_[0]);
    ::close(listener_);
  }
  OneShot(const OneShot&) = delete;
  OneShot& operator=(const OneShot&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  const sealane::test::TempDir dir_;
  const std::string path_ = dir_.file("s");
  int listener_ = -1;
  int release_[2] = {-1, -1};
  std::thread server_;
};

}  // namespace

TEST_CASE("grammar, request: what is written is what is read") {
  Request r;
  r.verb = Verb::route;
  r.domain = "a b%\n\xc3\xbc.example";
  r.port = 587;
  r.mx = false;
  r.fresh = true;
  r.wait_ms = 1500;
  r.id = "1abc-00";
  const std::string line = write_request(r);
  CHECK(line == "1 ROUTE domain=a%20b%25%0A%C3%BC.example port=587 mx=no fresh=yes wait=1500 id=1abc-00\n");
  std::string error;
  const auto back = parse_request(std::string_view(line).substr(0, line.size() - 1), error);
  REQUIRE(back);
  CHECK(back->domain == r.domain);
  CHECK(back->port == 587);
  CHECK_FALSE(back->mx);
  CHECK(back->fresh);
  CHECK(back->wait_ms == 1500);
  CHECK(back->id == "1abc-00");
}

TEST_CASE("grammar, request: certificates keep their order") {
  Request r;
  r.verb = Verb::verify;
  r.demand = "1;x=+/";
  r.host = "mx.example.org";
  r.tls = "TLS1.3:X:256";
  r.certs = {"QUJD", "REVG"};
  r.domain = "not.a.key.of.VERIFY";
  const std::string line = write_request(r);
  CHECK(line == "1 VERIFY demand=1;x=+/ host=mx.example.org tls=TLS1.3:X:256 cert=QUJD cert=REVG\n");
  std::string error;
  const auto back = parse_request(std::string_view(line).substr(0, line.size() - 1), error);
  REQUIRE(back);
  CHECK(back->certs == r.certs);
  CHECK(back->demand == r.demand);
}

TEST_CASE("grammar, request: what shims without memory ask, and what all of them tell") {
  for (const std::string line :
       {"1 EVENT demand=1;x event=tcp:connect host=mx.example.org address=192.0.2.1",
        "1 EVENT demand=1;x event=tls:cert host=mx.example.org address=2001:db8::1 depth=31 cert=QUJD",
        "1 GATE domain=example.org demand=1;x host=mx.example.org address=192.0.2.1 tls=none cert=QUJD",
        "1 VERIFY demand=1;x host=mx.example.org tls=TLS1.3:X:256 cert=QUJD tested=yes",
        "1 REPORT domain=example.org demand=1;x host=mx.example.org outcome=refused reason=tls-failed "
        "detail=a%20%0Ab"}) {
    CAPTURE(line);
    std::string error;
    const auto request = parse_request(line, error);
    REQUIRE(request);
    CHECK(write_request(*request) == line + "\n");
  }
  CHECK(why_refused("1 EVENT demand=1 event=smtp:ehlo host=a.example address=192.0.2.1") == "bad value of event");
  CHECK(why_refused("1 EVENT demand=1 event=tls:cert host=a.example address=192.0.2.1 depth=32") ==
        "bad value of depth");
  CHECK(why_refused("1 EVENT demand=1 event=tls:cert host=a.example") == "no address");
  CHECK(why_refused("1 GATE domain=a.example demand=1 host=a.example address=192.0.2.1") == "no tls");
  CHECK(why_refused("1 VERIFY demand=1 host=a.example tls=none tested=perhaps") == "bad value of tested");
}

TEST_CASE("grammar, request: the version token") {
  CHECK(why_refused("1 QUERY domain=example.org") == "accepted");
  CHECK(why_refused("1.7 QUERY domain=example.org") == "accepted");
  CHECK(why_refused("1.7 QUERY domain=example.org colour=red") == "accepted");  // a newer minor has newer keys
  for (const char* bad :
       {"2 QUERY domain=a.example", "1. QUERY domain=a.example", "01 QUERY domain=a.example",
        "1.x QUERY domain=a.example", "QUERY domain=a.example", "", " ", "11 QUERY domain=a.example"}) {
    CAPTURE(bad);
    CHECK(why_refused(bad) == "unknown version, 1 is spoken here");
  }
}

TEST_CASE("grammar, request: malformed ones are refused, each with its reason") {
  CHECK(why_refused("1 DROP domain=a.example") == "unknown verb");
  CHECK(why_refused("1 query domain=a.example") == "unknown verb");
  CHECK(why_refused("1 QUERY") == "no domain");
  CHECK(why_refused("1 QUERY domain=") == "bad value of domain");
  CHECK(why_refused("1 QUERY domain") == "not key=value");
  CHECK(why_refused("1 QUERY =x") == "not key=value");
  CHECK(why_refused("1 QUERY  domain=a.example") == "not key=value");
  CHECK(why_refused("1 QUERY domain=a.example ") == "space at the end");
  CHECK(why_refused("1 QUERY domain=a.example domain=b.example") == "a key twice");
  CHECK(why_refused("1 QUERY domain=a.example colour=red") == "unknown key for this verb");
  CHECK(why_refused("1 QUERY domain=a.example cert=QQ==") == "unknown key for this verb");
  CHECK(why_refused("1 QUERY domain=%") == "bad value of domain");
  CHECK(why_refused("1 QUERY domain=%4") == "bad value of domain");
  CHECK(why_refused("1 QUERY domain=%G1") == "bad value of domain");
  CHECK(why_refused("1 QUERY domain=a\tb") == "bad value of domain");
  CHECK(why_refused("1 QUERY domain=a\r") == "bad value of domain");
  CHECK(why_refused("1 QUERY domain=\xc3\xbc") == "bad value of domain");
  CHECK(why_refused("1 QUERY domain=a\0b"s) == "bad value of domain");
  for (const char* port : {"0", "65536", "-1", "25x", "4294967321", "1000000000000"}) {
    CAPTURE(port);
    CHECK(why_refused("1 QUERY domain=a.example port="s + port) == "bad value of port");
  }
  CHECK(why_refused("1 QUERY domain=a.example mx=maybe") == "bad value of mx");
  CHECK(why_refused("1 QUERY domain=a.example wait=0") == "bad value of wait");
  CHECK(why_refused("1 QUERY domain=a.example wait=600001") == "bad value of wait");
  CHECK(why_refused("1 VERIFY host=a.example tls=none") == "no demand");
  CHECK(why_refused("1 REPORT domain=a.example host=mx.a.example outcome=eaten") == "bad value of outcome");
  std::string certs;
  for (int i = 0; i < 33; ++i) certs += " cert=QQ==";
  CHECK(why_refused("1 VERIFY demand=1 host=a.example tls=none" + certs) == "bad value of cert");
}

TEST_CASE("grammar, request: bounds by verb") {
  const std::string big(5000, 'a');
  CHECK(why_refused("1 QUERY domain=" + big) == "request too long");
  CHECK(why_refused("1 VERIFY demand=1 host=a.example tls=none cert=" + big) == "accepted");
  CHECK(longest_request("1 VERIFY demand=1") == 1048576);
  CHECK(longest_request("1.3 VERIFY") == 1048576);
  CHECK(longest_request("1 QUERY domain=VERIFY") == 4096);
  CHECK(longest_request("VERIFY") == 4096);
  CHECK(longest_request("") == 4096);
}

TEST_CASE("grammar, reply: what is written is what is read") {
  for (const Reply& r : {Reply{Status::ok, "", "{\"a\":1}"}, Reply{Status::ok, "", ""},
                         Reply{Status::temp, "busy", "too many questions"}, Reply{Status::perm, "no", ""},
                         Reply{Status::err, "", "unknown verb"}}) {
    const std::string line = write_reply(r);
    CAPTURE(line);
    REQUIRE(line.back() == '\n');
    const auto back = parse_reply(std::string_view(line).substr(0, line.size() - 1));
    REQUIRE(back);
    CHECK(back->status == r.status);
    CHECK(back->token == r.token);
    CHECK(back->text == r.text);
  }
  for (const char* bad : {"", "ok x", "OKAY", "TEMP", "HTTP/1.1 200 OK"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_reply(bad));
  }
  CHECK(write_reply({Status::ok, "", "two\nlines"}) == "ERR the answer does not fit a line\n");
  CHECK(write_reply({Status::ok, "", std::string(longest_reply, 'x')}) == "ERR the answer does not fit a line\n");
}

TEST_CASE("grammar, route: the mode is the weakest that every host allows") {
  using V = std::vector<RouteHost>;
  const RouteHost pkix{"mx1.example.org", "pkix"}, dane{"mx2.example.org", "dane"},
      encrypt{"mx3.example.org", "encrypt"}, plain{"mx4.example.org", "opportunistic"}, skip{"mx5.example.org", "skip"},
      odd{"mx6.example.org", "hologram"};
  CHECK(mode_of(answer(V{pkix})) == Mode::strict);
  CHECK(mode_of(answer(V{pkix, skip})) == Mode::strict);
  CHECK(mode_of(answer(V{pkix, dane})) == Mode::gated);
  CHECK(mode_of(answer(V{encrypt})) == Mode::gated);
  CHECK(mode_of(answer(V{plain}, "opportunistic")) == Mode::open);
  CHECK(mode_of(answer(V{plain}, "skip")) == Mode::gated);
  CHECK(mode_of(answer(V{plain}, "")) == Mode::gated);
  CHECK(mode_of(answer(V{plain, pkix}, "opportunistic")) == Mode::gated);
  CHECK(mode_of(answer(V{plain, skip}, "opportunistic")) == Mode::gated);
  CHECK(mode_of(answer(V{plain, odd}, "opportunistic")) == Mode::gated);
  CHECK(mode_of(answer(V{skip})) == Mode::defer);
  CHECK(mode_of(answer(V{odd})) == Mode::defer);
  CHECK(mode_of(answer(V{})) == Mode::defer);
  RouteAnswer a = answer(V{pkix});
  for (const char* action : {"", "DELIVER", "defer", "hold"}) {
    a.action = action;
    CHECK(mode_of(a) == Mode::defer);
  }
  a.action = "reject";
  CHECK(mode_of(a) == Mode::reject);
}

TEST_CASE("grammar, route: written as documented, and only host names that can mean nothing else") {
  const RouteAnswer a = answer({{"MX1.example.org", "pkix"},
                                {"mx2.example.org", "skip"},
                                {"1.2.3.4", "pkix"},
                                {"localhost", "pkix"},
                                {"*.example.org", "pkix"},
                                {"mx.example.org:24", "pkix"},
                                {"a..b.example", "pkix"},
                                {".example", "pkix"},
                                {"mx.example.7up", "pkix"},
                                {"mx example.org", "pkix"},
                                {"_dmarc.mx-3.example.org", "pkix"}});
  CHECK(
      write_route(a) ==
      "mode=strict dom=example.org hosts=mx1.example.org:_dmarc.mx-3.example.org demand=1;token text=tlsa-usable end");
  RouteAnswer only_odd = answer({{"localhost", "opportunistic"}}, "opportunistic");
  CHECK(mode_of(only_odd) == Mode::defer);
  RouteAnswer bad_token = a;
  bad_token.demand = "${run{/bin/sh}}";
  CHECK(mode_of(bad_token) == Mode::defer);
}

TEST_CASE("grammar, route: nothing that Exim could take for syntax gets through") {
  RouteAnswer a{
      "ex${run}\n ample.ORG", "defer", "skip", {}, "", "a;b [RFC 8461 4.1] ${run{x}} \"q\" = \n\t\\N \xc3\xbc"};
  const std::string out = write_route(a);
  CHECK(out.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:_-/()%=+ ") ==
        std::string::npos);
  const auto route = parse_route(out);
  REQUIRE(route);
  CHECK(route->domain == "ex%24%7Brun%7D%0A%20ample.org");
  CHECK(plain_text(route->text).substr(0, 20) == "a,b (RFC 8461 4.1) -");
  a.text = std::string(10000, 'x');
  CHECK(parse_route(write_route(a))->text.size() == 500);
  a.domain.clear();
  CHECK(parse_route(write_route(a))->domain == "-");
}

TEST_CASE("grammar, route: half an answer, or anything else, is no answer") {
  const std::string good = "mode=gated dom=example.org hosts=mx1.example.org:mx2.example.org demand=1;t text=why end";
  REQUIRE(parse_route(good));
  CHECK(parse_route(good)->hosts == std::vector<std::string>{"mx1.example.org", "mx2.example.org"});
  for (std::size_t n = 0; n < good.size(); ++n) {
    CAPTURE(n);
    CHECK_FALSE(parse_route(std::string_view(good).substr(0, n)));
  }
  for (const char* bad : {
           "mode=gated dom=example.org hosts=mx1.example.org demand=1;t text=why end ",
           " mode=gated dom=example.org hosts=mx1.example.org demand=1;t text=why end",
           "mode=gated dom=example.org hosts=mx1.example.org demand=1;t text=why end\n",
           "mode=gated dom=example.org  hosts=mx1.example.org demand=1;t text=why end",
           "dom=example.org mode=gated hosts=mx1.example.org demand=1;t text=why end",
           "mode=loose dom=example.org hosts=mx1.example.org demand=1;t text=why end",
           "mode=gated dom=Exämple.org hosts=mx1.example.org demand=1;t text=why end",
           "mode=gated dom=example.org hosts= demand=1;t text=why end",
           "mode=gated dom=example.org hosts=mx1.example.org: demand=1;t text=why end",
           "mode=gated dom=example.org hosts=:mx1.example.org demand=1;t text=why end",
           "mode=gated dom=example.org hosts=mx1.example.org::25 demand=1;t text=why end",
           "mode=gated dom=example.org hosts=mx1.example.org;mx2.example.org demand=1;t text=why end",
           "mode=gated dom=example.org hosts=MX1.example.org demand=1;t text=why end",
           "mode=gated dom=example.org hosts=10.0.0.1 demand=1;t text=why end",
           "mode=gated dom=example.org hosts=mx1.example.org demand=$t text=why end",
           "mode=gated dom=example.org hosts=mx1.example.org demand=1;t text=w{hy end",
           "mode=gated dom=example.org demand=1;t text=why end",
           "mode=defer dom=example.org hosts=mx1.example.org demand=1;t text=why end",
           "mode=gated dom=example.org text=why end",
       }) {
    CAPTURE(bad);
    CHECK_FALSE(parse_route(bad));
  }
}

TEST_CASE("grammar, verdict: pass is only ever said in so many words") {
  CHECK(write_verdict({true, "verified", "TLSA 3 1 1 matches"}) == "pass reason=verified text=TLSA+3+1+1+matches");
  CHECK(write_verdict({false, "cert-name", ""}) == "refuse reason=cert-name text=-");
  CHECK(write_verdict({true, "no reason", "x"}) == "refuse reason=tls-failed text=x");
  CHECK(parse_verdict("pass reason=verified text=ok")->pass);
  CHECK_FALSE(parse_verdict("refuse reason=cert-name text=pass")->pass);
  for (const char* bad :
       {"", "pass", "pass reason=verified", "pass reason=verified text=", "PASS reason=verified text=x",
        "pass reason=verified text=x y", "passed reason=verified text=x"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_verdict(bad));
  }
}

TEST_CASE("grammar, query: the readable form survives the line, whatever is in it") {
  const std::string text = "example.org: deliver\n  10 mx: 100% \xc3\xbc\n";
  const std::string out = write_text_answer({"deliver", "plain", text});
  CHECK(out.find('\n') == std::string::npos);
  const auto back = parse_text_answer(out);
  REQUIRE(back);
  CHECK(back->action == "deliver");
  CHECK(back->reason == "plain");
  CHECK(back->text == text);
  CHECK_FALSE(parse_text_answer("deliver plain two words"));
}

TEST_CASE("RFC 8461 §7.2, RFC 7672 §8.2: what MTAs say of TLS") {
  struct Case {
    const char* text;
    bool tls, recent, encrypted, authenticated;
  };
  for (const Case& c : {
           Case{"none", false, false, false, false},
           Case{"", false, false, false, false},
           Case{"TLS1.3:ECDHE_X25519__RSA_PSS_RSAE_SHA256__AES_256_GCM:256", true, true, true, true},
           Case{"TLS1.2:ECDHE_SECP256R1__RSA_SHA256__AES_256_GCM:256", true, true, true, true},
           Case{"TLS1.2:ECDHE-RSA-AES256-GCM-SHA384:256", true, true, true, true},
           Case{"TLSv1.3:TLS_AES_256_GCM_SHA384:256", true, true, true, true},
           Case{"TLS1.1:ECDHE_RSA_AES_256_CBC_SHA1:256", true, false, true, true},
           Case{"TLSv1:ECDHE-RSA-AES256-SHA:256", true, false, true, true},
           Case{"SSL3.0:RSA_AES_256_CBC_SHA1:256", true, false, true, true},
           Case{"DTLS1.2:ECDHE-RSA-AES256-GCM-SHA384:256", true, false, true, true},
           Case{"TLS1.20:ECDHE-RSA-AES256-GCM-SHA384:256", true, false, true, true},
           Case{"TLS1.2:DH_ANON__AES_256_CBC__SHA256:256", true, true, true, false},
           Case{"TLS1.2:ADH-AES256-GCM-SHA384:256", true, true, true, false},
           Case{"TLS1.2:AECDH-AES256-SHA:256", true, true, true, false},
           Case{"TLS1.2:TLS_DH_anon_WITH_AES_256_CBC_SHA:256", true, true, true, false},
           Case{"TLS1.2:RSA__NULL__SHA256:0", true, true, false, true},
           Case{"TLS1.2:NULL-SHA256:0", true, true, false, true},
           Case{"TLS1.3:TLS_SHA256_SHA256:0", true, true, false, true},
           Case{"TLS1.3", true, true, false, false},
           Case{"TLS1.3:", true, true, false, false},
           Case{"AES_256_GCM", true, false, false, false},
       }) {
    CAPTURE(c.text);
    const TlsWords words = read_tls_words(c.text);
    CHECK(words.tls == c.tls);
    CHECK(words.recent == c.recent);
    CHECK(words.encrypted == c.encrypted);
    CHECK(words.authenticated == c.authenticated);
  }
}

TEST_CASE("client: one request, one reply") {
  OneShot server("OK {}\n");
  Request r;
  r.verb = Verb::query;
  r.domain = "example.org";
  std::string error;
  const auto reply = call(server.path(), r, 5000, error);
  CAPTURE(error);
  REQUIRE(reply);
  CHECK(reply->status == Status::ok);
  CHECK(reply->text == "{}");
}

TEST_CASE("client: what is not one whole line is no reply") {
  const auto error_of = [](std::string reply) {
    OneShot server(std::move(reply));
    std::string error;
    CHECK_FALSE(exchange(server.path(), "1 QUERY domain=example.org\n", 5000, error));
    return error.substr(error.find(": ") + 2);
  };
  CHECK(error_of("") == "the agent closed without an answer");
  CHECK(error_of("OK half an ans") == "the agent sent half an answer");
  CHECK(error_of("OK one\nOK two\n") == "the agent sent more than was asked");
  CHECK(error_of("OK \0\n"s) == "the answer is malformed");
  CHECK(error_of(std::string(longest_reply + 1, 'x')) == "the answer is too long");
}

TEST_CASE("client: a hung agent costs the deadline, also while SIGALRM interrupts") {
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = [](int) {};
  REQUIRE(::sigaction(SIGALRM, &action, &before) == 0);
  itimerval every{{0, 5000}, {0, 5000}};
  itimerval off{};
  std::string error;
  {
    OneShot server("OK half", true);
    REQUIRE(::setitimer(ITIMER_REAL, &every, nullptr) == 0);
    const auto start = std::chrono::steady_clock::now();
    CHECK_FALSE(exchange(server.path(), "1 QUERY domain=example.org\n", 150, error));
    const auto took = std::chrono::steady_clock::now() - start;
    REQUIRE(::setitimer(ITIMER_REAL, &off, nullptr) == 0);
    CHECK(error == server.path() + ": the agent does not answer in time");
    CHECK(took >= std::chrono::milliseconds(150));
    CHECK(took < std::chrono::seconds(5));
  }
  REQUIRE(::sigaction(SIGALRM, &before, nullptr) == 0);
}

TEST_CASE("client: nobody there") {
  std::string error;
  CHECK_FALSE(exchange("/nonexistent/agent.sock", "1 QUERY domain=a.example\n", 1000, error));
  CHECK(error == "/nonexistent/agent.sock: cannot reach the agent: No such file or directory");
  CHECK_FALSE(exchange(std::string(200, 'x'), "1\n", 1000, error));
  CHECK_FALSE(exchange("", "1\n", 1000, error));
}
