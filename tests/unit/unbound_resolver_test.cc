// The resolver against a small authoritative root that signs what it is told to, on the loop of the test.
#include "core/dns/unbound_resolver.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <openssl/evp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <map>
#include <set>

#include "core/dns/name.h"

using namespace sealane;
using namespace sealane::dns;

namespace {

constexpr auto type_rrsig = static_cast<RrType>(46);
constexpr auto type_nsec = static_cast<RrType>(47);

void put16(Bytes& out, unsigned v) {
  out.push_back(static_cast<std::uint8_t>(v >> 8U));
  out.push_back(static_cast<std::uint8_t>(v));
}
void put32(Bytes& out, std::uint64_t v) {
  put16(out, static_cast<unsigned>(v >> 16U) & 0xffffU);
  put16(out, static_cast<unsigned>(v) & 0xffffU);
}
void put(Bytes& out, ByteView more) { out.insert(out.end(), more.begin(), more.end()); }

Bytes wire(std::string_view dotted) {
  Bytes out;
  while (!dotted.empty()) {
    const auto dot = std::min(dotted.find('.'), dotted.size());
    out.push_back(static_cast<std::uint8_t>(dot));
    put(out, as_bytes(dotted.substr(0, dot)));
    dotted.remove_prefix(std::min(dot + 1, dotted.size()));
  }
  out.push_back(0);
  return out;
}

// The name at `reader`, in lower case; empty for the root.
std::string dotted(ByteReader& reader) {
  const std::string text = to_text(read_name(reader, Pointers::refused).value());
  return text == "." ? std::string{} : text;
}

Bytes mx(unsigned preference, std::string_view host) {
  Bytes out;
  put16(out, preference);
  put(out, wire(host));
  return out;
}

// An Ed25519 key of the root (RFC 8080).
class Key {
 public:
  explicit Key(std::uint8_t seed) {
    const Bytes secret(32, seed);
    key_.reset(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, secret.data(), secret.size()));
    std::array<std::uint8_t, 32> open{};
    std::size_t size = open.size();
    REQUIRE(EVP_PKEY_get_raw_public_key(key_.get(), open.data(), &size) == 1);
    dnskey_ = {1, 1, 3, 15};  // RFC 4034 §2.1: flags 257, protocol, algorithm
    put(dnskey_, open);
  }
  [[nodiscard]] const Bytes& dnskey() const { return dnskey_; }
  [[nodiscard]] std::string anchor() const {
    return ". IN DNSKEY 257 3 15 " + base64(ByteView(dnskey_).subspan(4)) + "\n";
  }
  // The RDATA of the RRSIG over an RRset (RFC 4034 §3.1.8.1).
  [[nodiscard]] Bytes sign(const std::string& owner, RrType type, unsigned ttl, std::vector<Bytes> rdata) const {
    const auto now = static_cast<std::uint64_t>(
        std::chrono::duration_cast<Seconds>(std::chrono::system_clock::now().time_since_epoch()).count());
    Bytes rrsig;
    put16(rrsig, static_cast<unsigned>(type));
    rrsig.push_back(15);
    rrsig.push_back(owner.empty() ? std::uint8_t{0}
                                  : static_cast<std::uint8_t>(std::count(owner.begin(), owner.end(), '.') + 1));
    put32(rrsig, ttl);
    put32(rrsig, now + 86400);
    put32(rrsig, now - 86400);
    put16(rrsig, tag());
    rrsig.push_back(0);  // signer: the root
    Bytes data = rrsig;
    std::sort(rdata.begin(), rdata.end());
    for (const Bytes& one : rdata) {
      put(data, wire(owner));
      put16(data, static_cast<unsigned>(type));
      put16(data, 1);
      put32(data, ttl);
      put16(data, static_cast<unsigned>(one.size()));
      put(data, one);
    }
    const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> md(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    std::array<std::uint8_t, 64> signature{};
    std::size_t size = signature.size();
    REQUIRE(EVP_DigestSignInit(md.get(), nullptr, nullptr, nullptr, key_.get()) == 1);
    REQUIRE(EVP_DigestSign(md.get(), signature.data(), &size, data.data(), data.size()) == 1);
    put(rrsig, signature);
    return rrsig;
  }

 private:
  [[nodiscard]] unsigned tag() const {  // RFC 4034 appendix B
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < dnskey_.size(); ++i) sum += i % 2 != 0 ? dnskey_[i] : std::uint32_t{dnskey_[i]} << 8U;
    return (sum + (sum >> 16U)) & 0xffffU;
  }

  struct Free {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  };
  std::unique_ptr<EVP_PKEY, Free> key_;
  Bytes dnskey_;
};

// The whole name space in one zone, on 127.0.0.1. A name that has no data is answered with an NSEC of its own, so that
// there is no NXDOMAIN.
class NameServer {
 public:
  enum class Habit { signs, strips, strips_absence, servfail, mute };

  NameServer(Loop& loop, const Key& key) : key_(key) {
    fd_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    REQUIRE(bind(fd_, reinterpret_cast<sockaddr*>(&address), length) == 0);
    REQUIRE(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length) == 0);
    port_ = ntohs(address.sin_port);
    add("", RrType::DNSKEY, key.dnskey());
    add("", RrType::NS, wire("ns"));
    Bytes soa = wire("ns");
    put(soa, wire("hostmaster"));
    for (const unsigned v : {1U, 7200U, 3600U, 1209600U, 60U}) put32(soa, v);
    add("", RrType::SOA, soa);
    watch_ = loop.watch(fd_, Loop::readable, [this](unsigned) { serve(); });
  }
  ~NameServer() { close(fd_); }
  NameServer(const NameServer&) = delete;
  NameServer& operator=(const NameServer&) = delete;

  [[nodiscard]] std::string address() const { return "127.0.0.1@" + std::to_string(port_); }
  void add(const std::string& name, RrType type, Bytes rdata) { data_[{name, type}].push_back(std::move(rdata)); }

  Habit habit = Habit::signs;
  std::map<std::string, Habit> habit_of;  // names with a habit of their own
  std::set<RrType> unknown_types;         // answered with SERVFAIL
  std::set<std::string> delegated;        // unsigned zones
  std::vector<std::pair<std::string, RrType>> questions;

 private:
  void serve() {
    std::array<std::uint8_t, 4096> buffer{};
    sockaddr_storage peer{};
    socklen_t peer_length = sizeof peer;
    const auto size = recvfrom(fd_, buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&peer), &peer_length);
    if (size < 12) return;
    const Bytes reply = answer(ByteView(buffer).first(static_cast<std::size_t>(size)));
    if (!reply.empty()) sendto(fd_, reply.data(), reply.size(), 0, reinterpret_cast<sockaddr*>(&peer), peer_length);
  }

  Bytes answer(ByteView query) {
    ByteReader reader(query);
    reader.seek(12);
    const std::string name = dotted(reader);
    const auto type = static_cast<RrType>(*reader.u16());
    reader.u16();
    const std::size_t question_end = reader.offset();
    questions.emplace_back(name, type);
    const auto own = habit_of.find(name);
    Habit now = own == habit_of.end() ? habit : own->second;
    if (unknown_types.count(type) != 0) now = Habit::servfail;
    if (now == Habit::mute) return {};

    answers_ = authorities_ = 0;
    Bytes body;
    if (now != Habit::servfail) fill(body, name, type, now);
    Bytes reply(query.begin(), query.begin() + 2);
    put16(reply, now == Habit::servfail ? 0x8182 : 0x8180);
    for (const unsigned count : {1U, answers_, authorities_, 1U}) put16(reply, count);
    put(reply, query.subspan(12, question_end - 12));
    put(reply, body);
    put(reply, Bytes{0, 0, 41, 0x10, 0, 0, 0, 0x80, 0, 0, 0});  // OPT with DO (RFC 6891 §6.1)
    return reply;
  }

  void fill(Bytes& body, std::string name, RrType type, Habit now) {
    for (int hops = 0; hops < 12; ++hops) {
      const auto alias = data_.find({name, RrType::CNAME});
      if (alias == data_.end() || type == RrType::CNAME) break;
      rrset(body, answers_, name, RrType::CNAME, now);
      ByteReader target(alias->second.front());
      name = dotted(target);
    }
    if (data_.count({name, type}) != 0) return rrset(body, answers_, name, type, now);
    rrset(body, authorities_, "", RrType::SOA, now);
    if (now == Habit::signs) nsec(body, name);
  }

  void rrset(Bytes& body, unsigned& count, const std::string& name, RrType type, Habit now) {
    const auto& rdata = data_.at({name, type});
    for (const Bytes& one : rdata) record(body, count, name, type, one);
    if (now != Habit::strips && signed_name(name)) {
      record(body, count, name, type_rrsig, key_.sign(name, type, ttl, rdata));
    }
  }

  // RFC 4034 §4.1: nothing but what is there, up to the very next name.
  void nsec(Bytes& body, const std::string& name) {
    if (!signed_name(name) && delegated.count(name) == 0) return;
    Bytes rdata{1, 0};
    put(rdata, wire(name));
    std::array<std::uint8_t, 7> bits{};
    const auto set = [&](RrType type) {
      const auto n = static_cast<unsigned>(type);
      bits.at(n / 8) = static_cast<std::uint8_t>(bits.at(n / 8) | (0x80U >> (n % 8)));
    };
    set(type_rrsig);
    set(type_nsec);
    if (delegated.count(name) != 0) set(RrType::NS);
    for (const auto& entry : data_) {
      if (entry.first.first == name) set(entry.first.second);
    }
    rdata.push_back(0);
    rdata.push_back(static_cast<std::uint8_t>(bits.size()));
    put(rdata, bits);
    record(body, authorities_, name, type_nsec, rdata);
    record(body, authorities_, name, type_rrsig, key_.sign(name, type_nsec, ttl, {rdata}));
  }

  [[nodiscard]] bool signed_name(const std::string& name) const {
    return std::none_of(delegated.begin(), delegated.end(),
                        [&](const std::string& zone) { return name == zone || name.ends_with('.' + zone); });
  }

  void record(Bytes& body, unsigned& count, const std::string& name, RrType type, const Bytes& rdata) {
    ++count;
    put(body, wire(name));
    put16(body, static_cast<unsigned>(type));
    put16(body, 1);
    put32(body, ttl);
    put16(body, static_cast<unsigned>(rdata.size()));
    put(body, rdata);
  }

  static constexpr unsigned ttl = 300;
  const Key& key_;
  int fd_ = -1;
  int port_ = 0;
  std::map<std::pair<std::string, RrType>, std::vector<Bytes>> data_;
  unsigned answers_ = 0;
  unsigned authorities_ = 0;
  Loop::Watch watch_;
};

using Habit = NameServer::Habit;

// A file that goes with the test.
class TempFile {
 public:
  explicit TempFile(const std::string& text) {
    const int fd = mkstemp(path_.data());
    REQUIRE(fd >= 0);
    close(fd);
    write(text);
  }
  ~TempFile() { unlink(path_.c_str()); }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;
  void write(const std::string& text) const { std::ofstream(path_) << text; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_ = "/tmp/sealane-test-XXXXXX";
};

Domain domain(std::string_view text) { return Domain::parse(text).value(); }

struct Fixture {
  Fixture() {
    config.resolver = ResolverMode::addresses;
    config.resolver_addresses = {server.address()};
    config.trust_anchor = anchor.path();
    config.root_hints = hints.path();
    config.resolv_conf = resolv_conf.path();
    config.dns_timeout = Millis{3000};
  }

  std::unique_ptr<Resolver>& open() {
    resolver = make_unbound_resolver(loop, config,
                                     [this](Level level, const std::string& line) { log.emplace_back(level, line); });
    return resolver;
  }

  void run_until(const bool& finished) {
    run_until([&] { return finished; });
  }
  // Runs the loop until `finished` says so; fails after a bound.
  void run_until(const std::function<bool()>& finished) {
    bool late = false;
    const auto bound = loop.after(Millis{20000}, [&] {
      late = true;
      loop.stop();
    });
    while (!finished() && !late) {
      const auto poll = loop.after(Millis{2}, [&] { loop.stop(); });
      loop.run();
    }
    REQUIRE_FALSE(late);
  }

  Health ready() {
    if (!resolver) open();
    bool done = false;
    resolver->when_ready([&] { done = true; });
    run_until(done);
    return resolver->health();
  }

  Answer ask(std::string_view name, RrType type) {
    if (!resolver) open();
    std::optional<Answer> got;
    bool done = false;
    resolver->lookup(domain(name), type, [&](Answer answer) {
      CHECK_FALSE(done);
      got = std::move(answer);
      done = true;
    });
    CHECK_FALSE(done);  // never from within the call
    run_until(done);
    return *got;
  }

  [[nodiscard]] bool text_has(std::string_view part) const {
    return resolver->health_text().find(part) != std::string::npos;
  }

  Key key{1};
  Key other_key{2};
  Loop loop;
  NameServer server{loop, key};
  NameServer second{loop, key};
  TempFile anchor{key.anchor()};
  TempFile hints{". 3600 NS a.root.\na.root. 3600 A 192.0.2.1\n"};  // RFC 5737: nobody is there
  TempFile resolv_conf{""};
  Config config;
  std::vector<std::pair<Level, std::string>> log;
  std::unique_ptr<Resolver> resolver;
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "signed data and signed absence are secure, aliases included") {
  server.add("example.org", RrType::MX, mx(10, "mx.example.org"));
  server.add("alias.example.org", RrType::CNAME, wire("www.example.org"));
  server.add("www.example.org", RrType::A, Bytes{192, 0, 2, 1});
  const auto found = ask("example.org", RrType::MX);
  CHECK(found.is_secure());
  CHECK(found.has_data());
  CHECK(found.rdata == std::vector<Bytes>{mx(10, "mx.example.org")});
  CHECK(found.ttl == 300);
  const auto absent = ask("_25._tcp.mx.example.org", RrType::TLSA);
  CHECK(absent.outcome == Outcome::nodata);
  CHECK(absent.is_secure());
  CHECK(absent.ttl == 60);
  const auto alias = ask("alias.example.org", RrType::A);
  CHECK(alias.is_secure());
  CHECK(alias.aliases == std::vector<std::string>{"www.example.org"});
  CHECK(resolver->health() == Health::ok);
  CHECK(text_has(server.address()));
}

TEST_CASE_FIXTURE(Fixture, "RFC 4035 §4.3: an unsigned zone is insecure, data and absence alike") {
  server.delegated = {"plain"};
  server.add("plain", RrType::MX, mx(10, "mx.plain"));
  const auto found = ask("plain", RrType::MX);
  CHECK(found.has_data());
  CHECK(found.security == Security::insecure);
  const auto absent = ask("mx.plain", RrType::AAAA);
  CHECK(absent.outcome == Outcome::nodata);
  CHECK(absent.security == Security::insecure);
}

TEST_CASE_FIXTURE(Fixture, "an alias out of an unsigned zone makes the whole answer insecure") {
  server.delegated = {"plain"};
  server.add("www.plain", RrType::CNAME, wire("www.example.org"));
  server.add("www.example.org", RrType::A, Bytes{192, 0, 2, 1});
  const auto found = ask("www.plain", RrType::A);
  CHECK(found.has_data());
  CHECK(found.security == Security::insecure);
}

TEST_CASE_FIXTURE(Fixture, "RFC 4035 §5.5: a missing signature is bogus, a failure and not an answer") {
  server.add("example.org", RrType::A, Bytes{192, 0, 2, 1});
  server.habit_of["example.org"] = Habit::strips;
  const auto found = ask("example.org", RrType::A);
  CHECK(found.failure == Failure::bogus);
  CHECK(found.security == Security::bogus);
  CHECK(found.rdata.empty());
  CHECK_FALSE(found.cause.empty());
}

TEST_CASE_FIXTURE(Fixture, "RFC 7646: below a negative trust anchor nothing is bogus, and the cause is told") {
  config.insecure = {domain("corp.example")};
  server.add("mx.corp.example", RrType::A, Bytes{192, 0, 2, 1});
  server.habit_of["mx.corp.example"] = Habit::strips;
  const auto found = ask("mx.corp.example", RrType::A);
  CHECK(found.has_data());
  CHECK(found.security == Security::insecure);
  CHECK(found.cause.find("corp.example") != std::string::npos);
}

TEST_CASE_FIXTURE(Fixture, "SERVFAIL is a failure, although libunbound shows it as an insecure absence") {
  server.habit_of["example.org"] = Habit::servfail;
  const auto found = ask("example.org", RrType::MX);
  CHECK(found.failure == Failure::servfail);
  CHECK(found.security == Security::bogus);
  CHECK(resolver->health() == Health::ok);
}

TEST_CASE_FIXTURE(Fixture, "a lookup without an answer fails at dns_timeout, and others are not held up") {
  config.dns_timeout = Millis{800};
  server.habit_of["slow.example"] = Habit::mute;
  server.add("quick.example", RrType::A, Bytes{192, 0, 2, 1});
  REQUIRE(ready() == Health::ok);
  std::string order;
  bool done = false;
  const auto started = std::chrono::steady_clock::now();
  resolver->lookup(domain("slow.example"), RrType::A, [&](Answer answer) {
    CHECK(answer.failure == Failure::timeout);
    order += "slow ";
    done = true;
  });
  resolver->lookup(domain("quick.example"), RrType::A, [&](Answer answer) {
    CHECK(answer.has_data());
    order += "quick ";
  });
  run_until(done);
  CHECK(order == "quick slow ");
  CHECK(std::chrono::steady_clock::now() - started < std::chrono::seconds{5});
}

TEST_CASE_FIXTURE(Fixture, "an answer that comes after the time-out touches nothing, and serves the next question") {
  config.dns_timeout = Millis{800};
  server.add("slow.example", RrType::A, Bytes{192, 0, 2, 1});
  REQUIRE(ready() == Health::ok);
  server.habit_of["slow.example"] = Habit::mute;
  REQUIRE(ask("slow.example", RrType::A).failure == Failure::timeout);
  server.habit_of.clear();  // libunbound repeats its question by itself
  Answer again;
  for (int i = 0; i < 20 && !again.answered(); ++i) again = ask("slow.example", RrType::A);
  CHECK(again.is_secure());
}

TEST_CASE_FIXTURE(Fixture, "nine aliases are a failure although libunbound follows eleven") {
  for (int i = 0; i < 9; ++i) {
    server.add("n" + std::to_string(i) + ".example", RrType::CNAME, wire("n" + std::to_string(i + 1) + ".example"));
  }
  server.add("n9.example", RrType::A, Bytes{192, 0, 2, 1});
  CHECK(ask("n1.example", RrType::A).is_secure());
  CHECK(ask("n0.example", RrType::A).failure == Failure::loop);
}

TEST_CASE_FIXTURE(Fixture, "libunbound's built-in local zones are lifted: the DNS is asked for every name") {
  for (const auto* name : {"localhost", "example.test", "example.onion", "host.home.arpa", "example.invalid",
                           "1.0.0.127.in-addr.arpa", "1.0.0.10.in-addr.arpa"}) {
    CAPTURE(name);
    server.add(name, RrType::MX, mx(10, "mx.example.org"));
    const auto found = ask(name, RrType::MX);
    CHECK(found.is_secure());
    CHECK(found.rdata == std::vector<Bytes>{mx(10, "mx.example.org")});
  }
}

TEST_CASE_FIXTURE(Fixture, "no trust anchor, no question: a missing, empty or useless file is told at once") {
  SUBCASE("missing") { config.trust_anchor = "/nonexistent/root.key"; }
  SUBCASE("a folder") { config.trust_anchor = "/"; }
  SUBCASE("empty") { anchor.write(""); }
  SUBCASE("only comments") { anchor.write("; . IN DNSKEY 257 3 15 AAAA\n"); }
  SUBCASE("an anchor for another name") { anchor.write("example. IN DS 1 15 2 " + std::string(64, 'a') + "\n"); }
  SUBCASE("cut short") { anchor.write(". IN DNSKEY\n"); }
  CHECK(ready() == Health::no_trust_anchor);
  CHECK(text_has(config.trust_anchor));
  CHECK(text_has("trust_anchor"));
  CHECK(server.questions.empty());
  const auto found = ask("example.org", RrType::MX);
  CHECK_FALSE(found.answered());
  CHECK(found.security == Security::bogus);
  REQUIRE_FALSE(log.empty());
  CHECK(log.front().first == Level::error);
}

TEST_CASE_FIXTURE(Fixture, "a trust anchor that does not match the root's key is the anchor's fault") {
  SUBCASE("another key") { anchor.write(other_key.anchor()); }
  SUBCASE("no key at all") { anchor.write(". IN DNSKEY 257 3 15 !!!!\n"); }
  CHECK(ready() == Health::no_trust_anchor);
  CHECK_FALSE(ask("example.org", RrType::MX).answered());
}

TEST_CASE_FIXTURE(Fixture, "an anchor of an unknown algorithm validates nothing and is not taken for one") {
  anchor.write(". IN DS 12345 250 2 " + std::string(64, 'a') + "\n");
  server.add("example.org", RrType::A, Bytes{192, 0, 2, 1});
  CHECK(ready() == Health::no_trust_anchor);
  CHECK_FALSE(ask("example.org", RrType::A).answered());
}

TEST_CASE_FIXTURE(Fixture, "a name server that strips DNSSEC is named, with the remedy") {
  SUBCASE("signatures") { server.habit = Habit::strips; }
  SUBCASE("proofs of absence") { server.habit = Habit::strips_absence; }
  SUBCASE("whole types of records") { server.unknown_types = {RrType::DNSKEY}; }
  CHECK(ready() == Health::no_dnssec);
  CHECK(text_has(server.address()));
  CHECK(text_has("resolver = recursive"));
  CHECK_FALSE(ask("example.org", RrType::MX).answered());
}

TEST_CASE_FIXTURE(Fixture, "name servers that fail the probe are dropped, the others are used") {
  second.habit = Habit::strips;
  config.resolver_addresses = {second.address(), server.address()};
  server.add("example.org", RrType::A, Bytes{192, 0, 2, 1});
  CHECK(ready() == Health::ok);
  second.questions.clear();
  CHECK(ask("example.org", RrType::A).is_secure());
  CHECK(second.questions.empty());
  CHECK(text_has("not used: " + second.address()));
  REQUIRE(log.size() == 1);
  CHECK(log.front().first == Level::warning);
}

TEST_CASE_FIXTURE(Fixture, "resolver = system takes the name servers of resolv.conf") {
  config.resolver = ResolverMode::system;
  resolv_conf.write("# nameserver 192.0.2.7\nsearch example\nnameserver " + server.address() + " # ours\nnameserver\n");
  server.add("example.org", RrType::A, Bytes{192, 0, 2, 1});
  CHECK(ask("example.org", RrType::A).is_secure());
  CHECK(text_has("name servers: " + server.address()));
}

TEST_CASE_FIXTURE(Fixture, "an outage is not called stripping, and nothing is asked unvalidated") {
  config.dns_timeout = Millis{800};
  server.habit = Habit::mute;
  server.delegated = {"plain"};
  server.add("plain", RrType::A, Bytes{192, 0, 2, 1});
  CHECK(ready() == Health::ok);
  CHECK(text_has("does not answer"));
  const auto found = ask("plain", RrType::A);
  CHECK(found.failure == Failure::timeout);

  // It is probed again soon, not only hourly.
  server.habit = Habit::signs;
  Answer again;
  for (int i = 0; i < 1000 && !again.answered(); ++i) {
    bool later = false;
    const auto pause = loop.after(Millis{10}, [&] { later = true; });
    run_until(later);
    again = ask("plain", RrType::A);
  }
  CHECK(again.has_data());
  CHECK(text_has("name servers: " + server.address()));
}

TEST_CASE_FIXTURE(Fixture, "resolver = auto: name servers that strip and no way to the root is no DNSSEC") {
  config.dns_timeout = Millis{800};
  config.resolver = ResolverMode::automatic;
  resolv_conf.write("nameserver " + server.address() + "\n");
  server.habit = Habit::strips;
  CHECK(ready() == Health::no_dnssec);
  CHECK(text_has(server.address()));
  CHECK(text_has("recursion from the root"));
}

TEST_CASE_FIXTURE(Fixture, "of two name servers one may fall silent") {
  config.resolver_addresses = {server.address(), second.address()};
  for (NameServer* one : {&server, &second}) one->add("example.org", RrType::A, Bytes{192, 0, 2, 1});
  REQUIRE(ready() == Health::ok);
  CHECK(log.front().first == Level::info);
  server.habit = Habit::mute;
  CHECK(ask("example.org", RrType::A).is_secure());
}

TEST_CASE_FIXTURE(Fixture, "a name server that comes back is used again, and lookups under way are not lost") {
  config.resolver_addresses = {server.address(), second.address()};
  config.dns_timeout = Millis{2500};
  second.habit = Habit::mute;
  server.habit_of["slow.example"] = Habit::mute;
  REQUIRE(ready() == Health::ok);
  REQUIRE(text_has("not used: " + second.address()));
  second.habit = Habit::signs;
  bool done = false;
  resolver->lookup(domain("slow.example"), RrType::A, [&](Answer answer) {
    CHECK(answer.failure == Failure::timeout);
    done = true;
  });
  run_until([&] { return done && text_has("name servers: " + server.address() + ", " + second.address()); });
  CHECK(log.back().first == Level::info);
}

TEST_CASE_FIXTURE(Fixture, "a resolver that begins to strip leaves bogus answers, never insecure ones") {
  server.add("example.org", RrType::A, Bytes{192, 0, 2, 1});
  REQUIRE(ready() == Health::ok);
  server.habit = Habit::strips;
  CHECK(ask("example.org", RrType::A).failure == Failure::bogus);
  CHECK(ask("example.org", RrType::MX).failure == Failure::bogus);
}

TEST_CASE_FIXTURE(Fixture, "many lookups at once are all answered, each once") {
  constexpr int count = 600;
  for (int i = 0; i < count; ++i) server.add("n" + std::to_string(i) + ".example", RrType::A, Bytes{192, 0, 2, 1});
  open();
  int answered = 0;
  bool done = false;
  for (int i = 0; i < count; ++i) {
    resolver->lookup(domain("n" + std::to_string(i) + ".example"), RrType::A, [&](Answer answer) {
      CHECK(answer.is_secure());
      done = ++answered == count;
    });
  }
  run_until(done);
  CHECK(answered == count);
}

TEST_CASE_FIXTURE(Fixture, "destroying the resolver drops what is under way, in every state") {
  server.habit_of["slow.example"] = Habit::mute;
  bool called = false;
  const auto never = [&](Answer) { called = true; };
  SUBCASE("while probing") { open()->lookup(domain("slow.example"), RrType::A, never); }
  SUBCASE("while asking") {
    REQUIRE(ready() == Health::ok);
    resolver->lookup(domain("slow.example"), RrType::A, never);
  }
  SUBCASE("while refusing") {
    config.trust_anchor = "/nonexistent/root.key";
    open()->lookup(domain("slow.example"), RrType::A, never);
  }
  resolver.reset();
  bool later = false;
  const auto pause = loop.after(Millis{50}, [&] { later = true; });
  run_until(later);
  CHECK_FALSE(called);
}

TEST_CASE_FIXTURE(Fixture, "the resolver may be destroyed from inside its own callbacks") {
  server.add("example.org", RrType::A, Bytes{192, 0, 2, 1});
  bool done = false;
  SUBCASE("of a lookup") {
    open()->lookup(domain("example.org"), RrType::A, [&](Answer) {
      resolver.reset();
      done = true;
    });
  }
  SUBCASE("of when_ready") {
    open()->when_ready([&] {
      resolver.reset();
      done = true;
    });
  }
  SUBCASE("of a refused lookup") {
    config.trust_anchor = "/nonexistent/root.key";
    open()->lookup(domain("example.org"), RrType::A, [&](Answer) {
      resolver.reset();
      done = true;
    });
  }
  run_until(done);
  CHECK_FALSE(resolver);
}
