// Engine and gathering, on fakes: what is asked when, who shares it, what is kept, and what must be durable first.
#include "core/engine/engine.h"

#include <doctest/doctest.h>

#include "tests/unit/fakes.h"

namespace sealane {
namespace {

using dns::RrType;
using dns::Security;
using fakes::domain;
using fakes::run_until;
using Answer = std::shared_ptr<const Reply>;

constexpr Millis patient{4000};
constexpr Millis short_deadline{10};

const std::string enforce = "version: STSv1\r\nmode: enforce\r\nmx: mx.sts.test\r\nmax_age: 604800\r\n";

// An engine with all it stands on. dane.test: signed, one DANE host. sts.test: unsigned, one host, a policy that lists
// it.
struct Bench {
  Loop loop;
  std::shared_ptr<fakes::FakeClock> clock = std::make_shared<fakes::FakeClock>();
  fakes::FakeZone zone{loop};
  fakes::FakePolicyHosts hosts{loop, *clock};
  fakes::FakeDisk disk;
  std::vector<std::string> log;  // what an administrator sees: nothing of `debug`
  Config config;
  std::optional<Fault> ca_fault;
  bool refresh = false;
  std::unique_ptr<Engine> engine;

  Bench() {
    zone.add("dane.test", RrType::MX, Security::secure, {fakes::mx(10, "mx.dane.test")});
    zone.add("mx.dane.test", RrType::A, Security::secure, {fakes::a(1)});
    zone.add("_25._tcp.mx.dane.test", RrType::TLSA, Security::secure, {fakes::tlsa_3_1_1(7)});
    zone.add("sts.test", RrType::MX, Security::insecure, {fakes::mx(10, "mx.sts.test")});
    zone.add("mx.sts.test", RrType::A, Security::insecure, {fakes::a(2)});
    publish_policy("sts.test", "1");
    hosts.bodies["sts.test"] = enforce;
    start();
  }
  void publish_policy(const std::string& name, const std::string& id) {
    zone.add("_mta-sts." + name, RrType::TXT, Security::insecure, {fakes::txt("v=STSv1; id=" + id + ";")});
    zone.add("mta-sts." + name, RrType::A, Security::insecure, {fakes::a(3)});
  }
  // Also a restart: only the disk is kept.
  void start() {
    engine.reset();
    Adapters adapters;
    adapters.make_resolver = [this] { return zone.make_resolver(); };
    adapters.fetcher = hosts.make_fetcher();
    adapters.store = std::make_unique<fakes::FakeStore>(disk);
    adapters.ca_fault = ca_fault;
    adapters.clock = clock;
    adapters.refresh = refresh;
    engine = std::make_unique<Engine>(loop, config, std::move(adapters), [this](Level level, const std::string& line) {
      if (level != Level::debug) log.push_back(line);
    });
  }
  std::shared_ptr<Answer> ask(const std::string& name, Millis timeout = patient, std::uint16_t port = 25,
                              bool fresh = false) {
    auto answer = std::make_shared<Answer>();
    engine->ask(Question::parse(name, port, true, fresh), timeout,
                [answer](Answer reply) { *answer = std::move(reply); });
    return answer;
  }
  Decision decide(const std::string& name, Millis timeout = patient, std::uint16_t port = 25, bool fresh = false) {
    const auto answer = ask(name, timeout, port, fresh);
    REQUIRE(run_until(loop, [&] { return *answer != nullptr; }));
    return (*answer)->decision;
  }
  [[nodiscard]] bool wait(const std::function<bool()>& reached) { return run_until(loop, reached); }
  // What was due runs.
  void turn() {
    bool turned = false;
    loop.soon([&] { turned = true; });
    REQUIRE(wait([&] { return turned; }));
  }
  [[nodiscard]] const sts::PolicyState& stored(const std::string& name) { return disk.states[domain(name)]; }
  [[nodiscard]] long logged(const std::string& part) const {
    return std::count_if(log.begin(), log.end(),
                         [&part](const std::string& line) { return line.find(part) != std::string::npos; });
  }
};

TEST_CASE("lookups that do not depend on each other run at the same time: MX and TXT, all addresses, TLSA") {
  Bench b;
  b.zone.add("dane.test", RrType::MX, Security::secure,
             {fakes::mx(10, "mx.dane.test"), fakes::mx(20, "mx2.dane.test")});
  b.zone.add("mx2.dane.test", RrType::A, Security::secure, {fakes::a(4)});
  b.zone.add("_25._tcp.mx2.dane.test", RrType::TLSA, Security::secure, {fakes::tlsa_3_1_1(8)});
  b.zone.hold();
  const auto answer = b.ask("dane.test");
  const auto round = [&b](std::vector<LookupKey> expected) {
    REQUIRE(b.wait([&] { return b.zone.asked.size() >= expected.size(); }));
    std::sort(expected.begin(), expected.end());
    std::sort(b.zone.asked.begin(), b.zone.asked.end());
    CHECK(b.zone.asked == expected);
    b.zone.asked.clear();
    b.zone.release();
    b.zone.hold();
  };
  round({{domain("dane.test"), RrType::MX}, {domain("_mta-sts.dane.test"), RrType::TXT}});
  round({{domain("mx.dane.test"), RrType::A},
         {domain("mx.dane.test"), RrType::AAAA},
         {domain("mx2.dane.test"), RrType::A},
         {domain("mx2.dane.test"), RrType::AAAA}});
  round({{domain("_25._tcp.mx.dane.test"), RrType::TLSA}, {domain("_25._tcp.mx2.dane.test"), RrType::TLSA}});
  REQUIRE(b.wait([&] { return *answer != nullptr; }));
  CHECK((*answer)->decision.action == Action::deliver);
  CHECK((*answer)->decision.floor == Tls::dane);
  CHECK((*answer)->decision.complete);
  CHECK(b.zone.asked.empty());
}

TEST_CASE("a slow host does not hold up the lookups of another") {
  Bench b;
  b.zone.add("dane.test", RrType::MX, Security::secure,
             {fakes::mx(10, "mx.dane.test"), fakes::mx(20, "slow.dane.test")});
  b.zone.hold("slow.dane.test", RrType::A);
  const auto answer = b.ask("dane.test");
  CHECK(b.wait([&] { return b.zone.times_asked("_25._tcp.mx.dane.test", RrType::TLSA) == 1; }));
  CHECK(*answer == nullptr);
}

TEST_CASE("a question costs a bounded number of lookups, however many MX hosts there are") {
  Bench b;
  std::vector<Bytes> hosts;
  for (int i = 0; i < 200; ++i) {
    const std::string host = "mx" + std::to_string(i) + ".dane.test";
    hosts.push_back(fakes::mx(10, host));
    b.zone.add(host, RrType::A, Security::secure, {fakes::a(1)});
  }
  b.zone.add("dane.test", RrType::MX, Security::secure, hosts);
  const Decision decision = b.decide("dane.test");
  CHECK(decision.hosts.size() == 200);
  CHECK(decision.complete);
  CHECK(b.zone.asked.size() == 2 + 50 * 3);
}

TEST_CASE("questions for the same thing share one flight") {
  Bench b;
  const auto first = b.ask("dane.test");
  const auto second = b.ask("DANE.test.");
  REQUIRE(b.wait([&] { return *first && *second; }));
  CHECK(*first == *second);
  CHECK(b.zone.times_asked("dane.test", RrType::MX) == 1);
  CHECK(b.zone.times_asked("_25._tcp.mx.dane.test", RrType::TLSA) == 1);
}

TEST_CASE("a decision in memory asks nothing; an expired one is made again") {
  Bench b;
  b.decide("dane.test");
  b.decide("sts.test");
  b.zone.asked.clear();
  b.hosts.asked.clear();
  b.decide("dane.test");
  CHECK(b.decide("sts.test").floor == Tls::pkix);
  CHECK(b.zone.asked.empty());
  CHECK(b.hosts.asked.empty());
  b.clock->pass(Seconds{299});
  b.decide("dane.test");
  CHECK(b.zone.asked.empty());
  b.clock->pass(Seconds{1});
  b.decide("dane.test");
  CHECK(b.zone.times_asked("dane.test", RrType::MX) == 1);
}

TEST_CASE("a step of the wall clock makes no decision last longer") {
  Bench b;
  b.decide("dane.test");
  b.clock->set_wall(b.clock->wall() - std::chrono::hours{24});
  b.clock->pass(Seconds{300});
  b.zone.asked.clear();
  b.decide("dane.test");
  CHECK(b.zone.times_asked("dane.test", RrType::MX) == 1);
}

TEST_CASE("TTL 0 is good for the question that asked, and no other") {
  Bench b;
  b.zone.add("dane.test", RrType::MX, Security::secure, {fakes::mx(10, "mx.dane.test")}, 0);
  CHECK(b.decide("dane.test").floor == Tls::dane);
  CHECK(b.decide("dane.test").floor == Tls::dane);
  CHECK(b.zone.times_asked("dane.test", RrType::MX) == 2);
}

TEST_CASE("RFC 2308 §7: a failure is kept for a minute at most") {
  Bench b;
  b.zone.fail("dane.test", RrType::MX, dns::Failure::servfail);
  CHECK(b.decide("dane.test").reason == Reason::mx_failed);
  b.clock->pass(Seconds{59});
  b.decide("dane.test");
  CHECK(b.zone.times_asked("dane.test", RrType::MX) == 1);
  b.clock->pass(Seconds{1});
  b.decide("dane.test");
  CHECK(b.zone.times_asked("dane.test", RrType::MX) == 2);
}

TEST_CASE("the cache is bounded: the least recently used decision goes first") {
  Bench b;
  b.config.cache_entries = 2;
  b.start();
  b.decide("dane.test");
  b.decide("sts.test");
  b.decide("dane.test");
  b.decide("third.test");
  b.zone.asked.clear();
  b.decide("dane.test");
  CHECK(b.zone.asked.empty());
  b.decide("sts.test");
  CHECK(b.zone.times_asked("sts.test", RrType::MX) == 1);
}

TEST_CASE("the cache is bounded in octets too, which others choose") {
  Bench b;
  b.config.cache_bytes = 1;
  b.start();
  b.decide("dane.test");
  b.decide("dane.test");
  CHECK(b.zone.times_asked("dane.test", RrType::MX) == 2);
}

TEST_CASE("port and MX lookup belong to the question") {
  Bench b;
  b.decide("dane.test");
  b.decide("dane.test", patient, 587);
  CHECK(b.zone.times_asked("_587._tcp.mx.dane.test", RrType::TLSA) == 1);
  CHECK(b.decide("[dane.test]").hosts.at(0).host == "dane.test");
}

TEST_CASE("an address literal and a name that is none need no lookup") {
  Bench b;
  CHECK(b.decide("[192.0.2.1]").floor == Tls::opportunistic);
  CHECK(b.decide("-- -").reason == Reason::domain_invalid);
  CHECK(b.zone.asked.empty());
}

TEST_CASE("at the deadline the answer is what is known, and the lookups go on and fill the cache") {
  Bench b;
  b.zone.hold("mx.dane.test", RrType::A);
  const Decision late = b.decide("dane.test", short_deadline);
  CHECK(late.action == Action::defer);
  CHECK(late.reason == Reason::deadline);
  CHECK_FALSE(late.complete);
  CHECK(late.hosts.at(0).tls == Tls::skip);

  const auto again = b.ask("dane.test");  // joins the flight
  b.zone.release();
  REQUIRE(b.wait([&] { return *again != nullptr; }));
  CHECK((*again)->decision.floor == Tls::dane);
  CHECK(b.zone.times_asked("dane.test", RrType::MX) == 1);
  b.zone.asked.clear();
  CHECK(b.decide("dane.test").floor == Tls::dane);
  CHECK(b.zone.asked.empty());
}

TEST_CASE("a question waits no longer than the configured timeout, whatever it says") {
  Bench b;
  b.config.timeout = short_deadline;
  b.start();
  b.zone.hold();
  CHECK(b.decide("dane.test", Millis{3600000}).reason == Reason::deadline);
}

TEST_CASE("RFC 8461 §5.1: `fresh` goes past the cache, with a resolver of its own, and replaces what is kept") {
  Bench b;
  b.decide("dane.test");
  const int before = b.zone.resolvers;
  b.zone.add("_25._tcp.mx.dane.test", RrType::TLSA, Security::secure, {fakes::tlsa_3_1_1(9)});
  CHECK(b.decide("dane.test", patient, 25, true).hosts.at(0).tlsa.at(0).data.at(0) == 9);
  CHECK(b.zone.resolvers == before + 1);
  CHECK(b.zone.times_asked("dane.test", RrType::MX) == 2);
  CHECK(b.decide("dane.test").hosts.at(0).tlsa.at(0).data.at(0) == 9);
  CHECK(b.zone.times_asked("dane.test", RrType::MX) == 2);
}

TEST_CASE("an older flight does not replace what a later `fresh` question found") {
  Bench b;
  b.zone.hold("mx.dane.test", RrType::AAAA);
  const auto old = b.ask("dane.test");
  REQUIRE(b.wait([&] { return b.zone.waiting() == 1; }));
  b.clock->pass(Seconds{1});
  b.zone.hold_no_more();
  const Decision fresh = b.decide("dane.test", patient, 25, true);
  b.zone.release();
  REQUIRE(b.wait([&] { return *old != nullptr; }));
  b.zone.asked.clear();
  CHECK(b.decide("dane.test").decided == fresh.decided);
  CHECK(b.zone.asked.empty());
}

TEST_CASE("forget: nothing in memory is used again, not even what is on its way") {
  Bench b;
  b.zone.hold("mx.dane.test", RrType::A);
  const auto old = b.ask("dane.test");
  REQUIRE(b.wait([&] { return b.zone.waiting() == 1; }));
  b.engine->forget();
  b.zone.release();
  REQUIRE(b.wait([&] { return *old != nullptr; }));
  b.decide("dane.test");
  CHECK(b.zone.times_asked("dane.test", RrType::MX) == 2);
}

TEST_CASE("RFC 8461 §3.3: a policy is stored before anyone is answered by it") {
  Bench b;
  b.disk.hold_saves = true;
  const auto answer = b.ask("sts.test");
  REQUIRE(b.wait([&] { return !b.disk.waiting.empty(); }));
  CHECK(*answer == nullptr);
  const auto second = b.ask("sts.test", patient, 587);  // comes while it is not durable yet
  b.turn();
  b.turn();
  CHECK(*second == nullptr);
  CHECK(b.hosts.asked.size() == 1);
  b.disk.release();
  REQUIRE(b.wait([&] { return *answer && *second; }));
  CHECK((*answer)->decision.floor == Tls::pkix);
  CHECK((*second)->decision.floor == Tls::pkix);
  CHECK(b.stored("sts.test").policy->body == enforce);
  CHECK(b.hosts.addresses == std::vector<std::string>{"192.0.2.3"});
  CHECK((*answer)->evidence.answers.count({domain("mta-sts.sts.test"), RrType::A}) == 1);
}

TEST_CASE("RFC 8461 §5.1: a stored policy holds after a restart, whatever DNS and HTTPS say then") {
  Bench b;
  b.decide("sts.test");
  b.zone.fail("_mta-sts.sts.test", RrType::TXT, dns::Failure::servfail);
  b.zone.add("sts.test", RrType::MX, Security::insecure, {fakes::mx(10, "mx.evil.test")});
  b.zone.add("mx.evil.test", RrType::A, Security::insecure, {fakes::a(66)});
  b.hosts.bodies.clear();
  b.start();
  const Decision decision = b.decide("sts.test");
  CHECK(decision.action == Action::defer);
  CHECK(decision.reason == Reason::sts_mismatch);
}

TEST_CASE("RFC 8461 §10.2: a save that fails is said, and what was learned is enforced from memory") {
  Bench b;
  b.disk.save_error = "disk full";
  CHECK(b.decide("sts.test").floor == Tls::pkix);
  CHECK(b.logged("disk full") == 1);
  b.zone.add("sts.test", RrType::MX, Security::insecure, {fakes::mx(10, "mx.evil.test")});
  b.zone.add("mx.evil.test", RrType::A, Security::insecure, {fakes::a(66)});
  b.zone.fail("_mta-sts.sts.test", RrType::TXT, dns::Failure::timeout);
  b.clock->pass(Seconds{400});
  CHECK(b.decide("sts.test").reason == Reason::sts_mismatch);

  b.disk.save_error.clear();  // room again: it is written with the next question
  b.clock->pass(Seconds{61});
  b.decide("sts.test");
  CHECK(b.stored("sts.test").policy->body == enforce);
  CHECK(b.logged("can be written again") == 1);
}

TEST_CASE("a store that cannot be read: only DANE over a secure MX is used, and it is said once") {
  Bench b;
  b.disk.load_error = "malformed database";
  b.start();
  CHECK(b.decide("sts.test").reason == Reason::store);
  CHECK(b.decide("sts.test").action == Action::defer);
  CHECK(b.decide("dane.test").floor == Tls::dane);
  CHECK(b.hosts.asked.empty());
  CHECK(b.disk.saves == 0);
  CHECK(b.logged("malformed database") == 1);
  REQUIRE(b.engine->fault());
  CHECK(b.engine->fault()->reason == Reason::store);
}

TEST_CASE("RFC 8461 §3.3: a failed fetch is not repeated for five minutes, across restarts") {
  Bench b;
  b.hosts.bodies.clear();
  const Decision decision = b.decide("sts.test");
  CHECK(decision.action == Action::deliver);
  REQUIRE(decision.sts);
  CHECK(decision.sts->state == StsState::unavailable);
  CHECK(b.stored("sts.test").error == "HTTP status 404");
  CHECK(b.logged("HTTP status 404") == 1);
  b.start();
  b.clock->pass(Seconds{299});
  b.decide("sts.test");
  CHECK(b.hosts.asked.size() == 1);
  b.clock->pass(Seconds{61});
  b.decide("sts.test");
  CHECK(b.hosts.asked.size() == 2);
  CHECK(b.logged("HTTP status 404") == 1);  // once per change
}

TEST_CASE("RFC 8461 §3.3: a failed fetch is told once, unless the policy was withdrawn") {
  Bench b;
  b.decide("sts.test");
  const auto publish = [&b](const std::string& id, const std::string& mode) {
    b.publish_policy("sts.test", id);
    b.hosts.bodies.erase("sts.test");
    if (!mode.empty())
      b.hosts.bodies["sts.test"] = "version: STSv1\nmode: " + mode + "\nmx: mx.sts.test\nmax_age: 86400\n";
    b.clock->pass(Seconds{301});
    b.decide("sts.test");
  };
  publish("2", "");
  CHECK(b.logged("cannot be fetched: HTTP status 404") == 1);
  publish("3", "none");
  CHECK(b.logged("can be fetched again") == 1);
  publish("4", "");  // nobody misses it
  CHECK(b.logged("cannot be fetched") == 1);
}

TEST_CASE("a policy host without an address is a failed fetch, and says why") {
  Bench b;
  b.zone.fail("mta-sts.sts.test", RrType::A, dns::Failure::bogus);
  const Decision decision = b.decide("sts.test");
  REQUIRE(decision.sts);
  CHECK(decision.sts->error.find("mta-sts.sts.test A: bogus") != std::string::npos);
  CHECK(b.hosts.asked.empty());
  CHECK(b.stored("sts.test").attempted == b.clock->wall());
  CHECK(b.stored("sts.test").attempted_id == "1");
}

TEST_CASE("one family of the policy host's addresses is enough") {
  Bench b;
  b.zone.fail("mta-sts.sts.test", RrType::AAAA, dns::Failure::timeout);
  CHECK(b.decide("sts.test").floor == Tls::pkix);
}

TEST_CASE("concurrent questions for one policy domain fetch once") {
  Bench b;
  b.zone.add("sts.test", RrType::A, Security::insecure, {fakes::a(5)});
  b.hosts.hold();
  const auto smtp = b.ask("sts.test");
  const auto submission = b.ask("sts.test", patient, 587);
  const auto next_hop = b.ask("[sts.test]");
  const auto fresh = b.ask("sts.test", patient, 25, true);
  REQUIRE(b.wait([&] { return b.zone.times_asked("mta-sts.sts.test", RrType::AAAA) == 4; }));
  b.hosts.release();
  REQUIRE(b.wait([&] { return *smtp && *submission && *next_hop && *fresh; }));
  CHECK(b.hosts.asked.size() == 1);
  CHECK((*smtp)->decision.floor == Tls::pkix);
  CHECK((*submission)->decision.floor == Tls::pkix);
}

TEST_CASE("HTTPS is not waited for where every host is dane over a secure MX; the policy is stored when it comes") {
  Bench b;
  b.publish_policy("dane.test", "d1");
  b.hosts.bodies["dane.test"] = "version: STSv1\nmode: enforce\nmx: mx.dane.test\nmax_age: 86400\n";
  b.hosts.hold();
  const Decision decision = b.decide("dane.test");
  CHECK(decision.floor == Tls::dane);
  CHECK(decision.complete);
  REQUIRE(b.wait([&] { return b.hosts.waiting() == 1; }));
  b.decide("dane.test");
  CHECK(b.zone.times_asked("dane.test", RrType::MX) == 1);
  b.hosts.release();
  REQUIRE(b.wait([&] { return b.stored("dane.test").policy.has_value(); }));
  b.turn();
  CHECK(b.decide("dane.test").sts->state == StsState::valid);
  CHECK(b.zone.times_asked("dane.test", RrType::MX) == 1);
}

TEST_CASE("a fetch that is too slow for the deadline holds from the next question on") {
  Bench b;
  b.hosts.hold();
  const Decision late = b.decide("sts.test", short_deadline);
  CHECK_FALSE(late.complete);
  b.hosts.release();
  CHECK(b.decide("sts.test").floor == Tls::pkix);
  CHECK(b.hosts.asked.size() == 1);
}

TEST_CASE("RFC 8461 §3.3: a new id is fetched, and replaces the policy") {
  Bench b;
  b.decide("sts.test");
  b.publish_policy("sts.test", "2");
  b.hosts.bodies["sts.test"] = "version: STSv1\nmode: testing\nmx: mx.sts.test\nmax_age: 86400\n";
  b.clock->pass(Seconds{300});
  CHECK(b.decide("sts.test").floor == Tls::opportunistic);
  CHECK(b.stored("sts.test").policy->id == "2");
}

TEST_CASE("txt_seen is written once an hour at most") {
  Bench b;
  b.decide("sts.test");
  CHECK(b.disk.saves == 1);
  b.clock->pass(Seconds{1800});
  b.decide("sts.test");
  CHECK(b.disk.saves == 1);
  b.clock->pass(Seconds{1800});
  b.decide("sts.test");
  REQUIRE(b.wait([&] { return b.disk.saves == 2; }));
  CHECK(b.stored("sts.test").policy->txt_seen == b.clock->wall());
  CHECK(b.stored("sts.test").policy->fetched == b.clock->wall() - Seconds{3600});
}

TEST_CASE("faults of the installation: everything waits, nothing is looked up, and it is not remembered") {
  Bench b;
  Reason expected{};
  SUBCASE("no trust anchor") {
    b.zone.health = dns::Health::no_trust_anchor;
    expected = Reason::trust_anchor;
  }
  SUBCASE("a resolver of unknown health") {
    b.zone.health = dns::Health::unknown;
    expected = Reason::trust_anchor;
  }
  SUBCASE("a resolver that strips DNSSEC") {
    b.zone.health = dns::Health::no_dnssec;
    expected = Reason::resolver_no_dnssec;
  }
  SUBCASE("no CA certificate") {
    b.ca_fault = Fault{Reason::ca_file, "ca.pem: no certificate"};
    expected = Reason::ca_file;
  }
  SUBCASE("a clock in 1970") {
    b.clock->set_wall(WallTime{});
    expected = Reason::clock;
  }
  b.start();
  const WallTime then = b.clock->wall();
  const Decision decision = b.decide("dane.test");
  CHECK(decision.action == Action::defer);
  CHECK(decision.reason == expected);
  CHECK(b.zone.asked.empty());
  if (b.zone.health != dns::Health::unknown) {
    REQUIRE(b.engine->fault());
    CHECK(b.engine->fault()->reason == expected);
  }
  b.zone.health = dns::Health::ok;
  b.clock->set_wall(std::max(then, build_date()));
  b.ca_fault.reset();
  if (expected == Reason::ca_file) b.start();  // a CA file is read at start
  CHECK(b.decide("dane.test").floor == Tls::dane);
  CHECK_FALSE(b.engine->fault());
}

TEST_CASE("a question does not wait for a store that is slow: at its deadline it is deferred, and never plain") {
  Bench b;
  b.decide("dane.test");
  b.disk.hold_loads = true;
  CHECK(b.decide("dane.test").floor == Tls::dane);  // a miss never delays a hit
  const Decision late = b.decide("sts.test", short_deadline);
  CHECK(late.action == Action::defer);
  CHECK_FALSE(late.complete);
  b.disk.release();
  CHECK(b.decide("sts.test").floor == Tls::pkix);
}

TEST_CASE("the clock steps by ten years, in the process and across a restart: an enforced policy stays enforced") {
  const Seconds ten_years{315'576'000};
  for (const Seconds step : {ten_years, -ten_years}) {
    for (const bool restart : {false, true}) {
      CAPTURE(step.count());
      CAPTURE(restart);
      Bench b;
      b.clock->set_wall(b.clock->wall() + Seconds{631'152'000});  // twenty years on, so that back is after the build
      b.start();
      b.decide("sts.test");
      b.hosts.bodies.clear();
      b.zone.fail("_mta-sts.sts.test", RrType::TXT, dns::Failure::timeout);
      b.zone.add("sts.test", RrType::MX, Security::insecure, {fakes::mx(10, "mx.evil.test")});
      b.zone.add("mx.evil.test", RrType::A, Security::insecure, {fakes::a(66)});
      b.clock->pass(Seconds{86400});
      b.clock->set_wall(b.clock->wall() + step);
      if (restart) b.start();
      CHECK(b.decide("sts.test").reason == Reason::sts_mismatch);
      b.clock->pass(Seconds{6 * 86400 + 86400 + 100});  // nothing lives for ever
      CHECK(b.decide("sts.test").action == Action::deliver);
    }
  }
}

TEST_CASE(
    "RFC 8461 §10.2: a policy is refreshed without mail, and a decision in memory that rested on the old one goes") {
  Bench b;
  b.refresh = true;
  b.start();
  b.decide("sts.test");
  CHECK(b.decide("sts.test").floor == Tls::pkix);
  b.hosts.bodies["sts.test"] = "version: STSv1\nmode: testing\nmx: mx.sts.test\nmax_age: 86400\n";
  b.zone.asked.clear();
  b.clock->pass(Seconds{86400});
  REQUIRE(b.wait([&] { return b.hosts.asked.size() == 2; }));
  REQUIRE(b.wait([&] { return b.stored("sts.test").policy->body == b.hosts.bodies["sts.test"]; }));
  CHECK(b.zone.times_asked("_mta-sts.sts.test", RrType::TXT) == 0);  // whatever TXT says
  CHECK(b.zone.times_asked("mta-sts.sts.test", RrType::A) == 1);
  CHECK(b.decide("sts.test").floor == Tls::opportunistic);
}

TEST_CASE("purge and import weaken no enforced policy unless told to, and what they do is logged and holds at once") {
  Bench b;
  b.decide("sts.test");
  const sts::PolicyState before = b.stored("sts.test");
  std::optional<Result<std::string>> told;
  const auto ordered = [&told](Result<std::string> done) { told = std::move(done); };
  b.engine->purge(domain("sts.test"), false, ordered);
  REQUIRE(told);
  CHECK_FALSE(*told);
  CHECK(b.stored("sts.test").policy);

  sts::PolicyState weaker = before;
  b.clock->pass(Seconds{100});
  weaker.policy->body = "version: STSv1\nmode: none\nmax_age: 86400\n";
  weaker.policy->fetched = b.clock->wall();
  b.engine->import_policy(domain("sts.test"), weaker, false, ordered);
  CHECK_FALSE(*told);
  CHECK(b.stored("sts.test").policy->body == enforce);
  sts::PolicyState older = weaker;
  older.policy->fetched -= Seconds{86400};
  b.engine->import_policy(domain("sts.test"), older, true, ordered);
  CHECK(*told);  // said, and not done
  CHECK(b.stored("sts.test").policy->body == enforce);
  b.engine->import_policy(domain("sts.test"), weaker, true, ordered);
  CHECK(*told);
  CHECK(b.stored("sts.test").policy->body == weaker.policy->body);
  CHECK(b.logged("imported, though its policy is enforced until") == 1);
  CHECK(b.decide("sts.test").floor == Tls::opportunistic);

  b.engine->import_policy(domain("other.test"), before, false, ordered);
  CHECK(*told);
  CHECK(b.stored("other.test").policy->body == enforce);
  b.engine->purge(domain("other.test"), true, ordered);
  CHECK(*told);
  CHECK(b.disk.states.count(domain("other.test")) == 0);
  CHECK(b.logged("forgotten, though its policy is enforced until") == 1);
}

TEST_CASE("what one engine could not store, its successor knows (reload)") {
  Bench b;
  b.disk.save_error = "disk full";
  b.decide("sts.test");
  const auto before = std::move(b.engine);
  b.start();
  b.engine->take_over(*before);
  b.hosts.bodies.clear();
  b.zone.fail("_mta-sts.sts.test", RrType::TXT, dns::Failure::timeout);
  CHECK(b.decide("sts.test").floor == Tls::pkix);
}

TEST_CASE("an engine may go while questions are open; nobody is called any more") {
  Bench b;
  b.zone.hold();
  const auto waiting = b.ask("dane.test");
  const auto literal = b.ask("192.0.2.1");
  REQUIRE(b.wait([&] { return b.zone.waiting() == 2; }));
  const auto after = b.ask("192.0.2.1");
  CHECK(*literal != nullptr);
  b.engine.reset();
  b.zone.release();
  b.turn();
  CHECK(*waiting == nullptr);
  CHECK(*after == nullptr);
}

}  // namespace
}  // namespace sealane
