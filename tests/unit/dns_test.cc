#include <doctest/doctest.h>

#include "core/dns/answer.h"
#include "core/dns/message.h"
#include "core/dns/name.h"

using namespace sealane;
using namespace sealane::dns;

namespace {

// Writes a response packet. Offsets of compression pointers are those of `size()`.
class Packet {
 public:
  explicit Packet(unsigned flags = 0x8180) { u16(0).u16(flags).u16(0).u16(0).u16(0).u16(0); }

  Packet& u8(unsigned v) {
    data_.push_back(static_cast<std::uint8_t>(v));
    return *this;
  }
  Packet& u16(unsigned v) { return u8(v >> 8U).u8(v & 0xffU); }
  Packet& u32(unsigned v) { return u16(v >> 16U).u16(v & 0xffffU); }
  Packet& raw(std::string_view octets) {
    data_.insert(data_.end(), octets.begin(), octets.end());
    return *this;
  }
  Packet& name(std::string_view dotted) {
    while (!dotted.empty()) {
      const auto dot = std::min(dotted.find('.'), dotted.size());
      u8(static_cast<unsigned>(dot)).raw(dotted.substr(0, dot));
      dotted.remove_prefix(std::min(dot + 1, dotted.size()));
    }
    return u8(0);
  }
  Packet& pointer(std::size_t offset) { return u16(0xc000U | static_cast<unsigned>(offset)); }

  Packet& question(std::string_view dotted, RrType type) {
    count(4);
    return name(dotted).u16(static_cast<unsigned>(type)).u16(1);
  }
  // What follows an owner name; `rdata` writes the RDATA.
  template <class Writer>
  Packet& body(RrType type, unsigned ttl, Writer rdata, unsigned rr_class = 1) {
    u16(static_cast<unsigned>(type)).u16(rr_class).u32(ttl).u16(0);
    const std::size_t start = size();
    rdata(*this);
    const std::size_t length = size() - start;
    data_[start - 2] = static_cast<std::uint8_t>(length >> 8U);
    data_[start - 1] = static_cast<std::uint8_t>(length);
    return *this;
  }
  Packet& answer(std::string_view owner) { return count(6).name(owner); }
  Packet& authority(std::string_view owner) { return count(8).name(owner); }
  Packet& cname(std::string_view owner, std::string_view target, unsigned ttl = 300) {
    return answer(owner).body(RrType::CNAME, ttl, [&](Packet& p) { p.name(target); });
  }
  Packet& a(std::string_view owner, unsigned ttl = 300, unsigned last = 1) {
    return answer(owner).body(RrType::A, ttl, [&](Packet& p) { p.u32(0xc0000200U + last); });
  }
  Packet& soa(std::string_view owner, unsigned ttl, unsigned minimum) {
    return authority(owner).body(RrType::SOA, ttl, [&](Packet& p) {
      p.name("ns.example").name("hostmaster.example").u32(1).u32(7200).u32(3600).u32(1209600).u32(minimum);
    });
  }
  Packet& count(std::size_t at) {
    ++data_[at + 1];
    return *this;
  }

  [[nodiscard]] std::size_t size() const { return data_.size(); }
  [[nodiscard]] Bytes& data() { return data_; }
  operator ByteView() const { return data_; }  // NOLINT(google-explicit-constructor)

 private:
  Bytes data_;
};

Domain domain(std::string_view text) { return Domain::parse(text).value(); }

Answer read(const Packet& packet, std::string_view name, RrType type) {
  auto answer = read_response(packet, domain(name), type);
  CHECK(answer.answered() == (answer.failure == Failure::none));
  if (!answer.answered()) {
    CHECK(answer.security == Security::bogus);
    CHECK_FALSE(answer.cause.empty());
  }
  return answer;
}

Bytes octets(std::string_view text) { return {text.begin(), text.end()}; }

}  // namespace

TEST_CASE("words of an answer: both ways, and nothing for words that are none") {
  for (const auto value : {Security::bogus, Security::insecure, Security::secure}) {
    CHECK(security_from_text(to_text(value)) == value);
  }
  for (const auto value : {Outcome::failed, Outcome::nxdomain, Outcome::nodata, Outcome::data}) {
    CHECK(outcome_from_text(to_text(value)) == value);
  }
  for (const auto value : {Failure::unknown, Failure::none, Failure::bogus, Failure::servfail, Failure::refused,
                           Failure::timeout, Failure::malformed, Failure::loop}) {
    CHECK(failure_from_text(to_text(value)) == value);
  }
  CHECK_FALSE(security_from_text("Secure"));
  CHECK_FALSE(outcome_from_text(""));
  CHECK_FALSE(failure_from_text("time-out"));
}

TEST_CASE("RFC 3597 §5: types without a name are TYPEn") {
  CHECK(to_text(RrType::TLSA) == "TLSA");
  CHECK(to_text(static_cast<RrType>(99)) == "TYPE99");
  CHECK(rr_type_from_text("TYPE52") == RrType::TLSA);
  CHECK(rr_type_from_text("MX") == RrType::MX);
  for (const auto* bad : {"", "mx", "TYPE", "TYPE65536", "TYPE-1", "TYPE1x", "TYPE000001"}) {
    CAPTURE(bad);
    CHECK_FALSE(rr_type_from_text(bad));
  }
}

TEST_CASE("an answer starts as a failure, and a failure is never secure") {
  const Answer untouched;
  CHECK_FALSE(untouched.answered());
  CHECK(untouched.security == Security::bogus);
  const Answer answer = failed(Failure::timeout, "no reply");
  CHECK_FALSE(answer.answered());
  CHECK_FALSE(answer.is_secure());
  CHECK(answer.failure == Failure::timeout);
  CHECK(answer.cause == "no reply");
}

TEST_CASE("RFC 1035 §3.3.9: MX RDATA") {
  const auto mx = parse_mx(octets(std::string_view("\0\x0a\3MX1\7example\0", 15)));
  REQUIRE(mx);
  CHECK(mx->preference == 10);
  CHECK(mx->name == "mx1.example");
  REQUIRE(mx->host);
  CHECK(mx->host->text() == "mx1.example");
}

TEST_CASE("RFC 7505 §3: the null MX names the root and no host") {
  const auto mx = parse_mx(octets(std::string_view("\0\0\0", 3)));
  REQUIRE(mx);
  CHECK(mx->name == ".");
  CHECK_FALSE(mx->host);
}

TEST_CASE("an MX name with an octet that no host name has is shown escaped and yields no host") {
  struct Case {
    std::string_view rdata;
    std::string_view shown;
  };
  for (const Case& c :
       {Case{{"\0\1\5a.b@c\4test\0", 14}, "a\\046b\\064c.test"}, Case{{"\0\1\3a\0b\4test\0", 12}, "a\\000b.test"},
        Case{{"\0\1\2a\n\4test\0", 11}, "a\\010.test"}, Case{{"\0\1\2\xc3\xa4\4test\0", 11}, "\\195\\164.test"}}) {
    const auto mx = parse_mx(octets(c.rdata));
    REQUIRE(mx);
    CHECK(mx->name == c.shown);
    CHECK_FALSE(mx->host);
  }
}

TEST_CASE("MX RDATA that is cut short, too long or compressed is malformed") {
  for (const std::string_view bad : {std::string_view(""),
                                     {"\0", 1},
                                     {"\0\1", 2},
                                     {"\0\1\3mx", 5},
                                     {"\0\1\2mx", 5},
                                     {"\0\1\2mx\0x", 7},
                                     {"\0\1\xc0\x0c", 4},
                                     {"\0\1\x40x\0", 5}}) {
    CHECK_FALSE(parse_mx(octets(bad)));
  }
}

TEST_CASE("RFC 1035 §3.1: a name has at most 255 octets, a label at most 63") {
  std::string name = {0, 1};
  for (int i = 0; i < 3; ++i) name += '\x3f' + std::string(63, 'a');
  const std::string fits = name + '\x3d' + std::string(61, 'a') + '\0';
  const std::string too_long = name + '\x3e' + std::string(62, 'a') + '\0';
  CHECK(parse_mx(octets(fits)));
  CHECK_FALSE(parse_mx(octets(too_long)));
}

TEST_CASE("RFC 8461 §3.1: the strings of a TXT record are joined without a space") {
  CHECK(parse_txt(octets("\3v=S\4TSv1")) == "v=STSv1");
  CHECK(parse_txt(octets(std::string_view("\0\1a\0", 4))) == "a");
  CHECK(parse_txt(octets(std::string_view("\0", 1))) == "");
  CHECK(parse_txt(octets(std::string_view("\3a\0b", 4))) == std::string("a\0b", 3));
  for (const auto* bad : {"", "\1", "\5abc", "\1ab"}) CHECK_FALSE(parse_txt(octets(bad)));
}

TEST_CASE("RFC 5952 §4: addresses as text") {
  CHECK(parse_address(Bytes{192, 0, 2, 1}) == "192.0.2.1");
  CHECK(parse_address(Bytes{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}) == "2001:db8::1");
  CHECK_FALSE(parse_address(Bytes{192, 0, 2}));
  CHECK_FALSE(parse_address(Bytes(5)));
  CHECK_FALSE(parse_address(Bytes{}));
}

TEST_CASE("RFC 1035 §4: the RRset asked for, whatever the case of its owner, with the least TTL") {
  Packet p;
  p.question("Mail.Example", RrType::A).a("mail.example", 300, 1).a("MAIL.example", 200, 2).a("other.example", 5, 3);
  const auto answer = read(p, "mail.example", RrType::A);
  CHECK(answer.outcome == Outcome::data);
  CHECK(answer.security == Security::insecure);
  CHECK(answer.ttl == 200);
  CHECK(answer.rdata == std::vector<Bytes>{{192, 0, 2, 1}, {192, 0, 2, 2}});
  CHECK(answer.aliases.empty());
}

TEST_CASE("RFC 1035 §4.1.4: compressed names, also in MX RDATA, come out whole") {
  Packet p;
  p.question("example.org", RrType::MX).count(6);
  p.pointer(12).body(RrType::MX, 60, [](Packet& q) { q.u16(10).u8(3).raw("Mx1").pointer(12); });
  const auto answer = read(p, "example.org", RrType::MX);
  REQUIRE(answer.rdata.size() == 1);
  CHECK(answer.rdata[0] == octets(std::string_view("\0\x0a\3mx1\7example\3org\0", 19)));
  CHECK(parse_mx(answer.rdata[0])->name == "mx1.example.org");
}

TEST_CASE("an MX with a dot inside a label stays apart from the name it imitates") {
  Packet p;
  p.question("example", RrType::MX).answer("example").body(RrType::MX, 60, [](Packet& q) {
    q.u16(10).u8(3).raw("a.b").name("test");
  });
  const auto answer = read(p, "example", RrType::MX);
  REQUIRE(answer.rdata.size() == 1);
  CHECK(parse_mx(answer.rdata[0])->name == "a\\046b.test");
}

TEST_CASE("RFC 3597 §4: RDATA of later types is taken as it stands") {
  Packet p;
  p.question("_25._tcp.mx.example", RrType::TLSA).answer("_25._tcp.mx.example").body(RrType::TLSA, 60, [](Packet& q) {
    q.u8(3).u8(1).u8(1).raw("\xc0\x0c\xff");
  });
  CHECK(read(p, "_25._tcp.mx.example", RrType::TLSA).rdata == std::vector<Bytes>{{3, 1, 1, 0xc0, 0x0c, 0xff}});
}

TEST_CASE("RFC 1035 §4.1.4: a pointer to itself, forwards, or into a loop is malformed") {
  for (const int variant : {0, 1, 2, 3}) {
    CAPTURE(variant);
    Packet p;
    p.question("example", RrType::A).count(6);
    const std::size_t here = p.size();
    if (variant == 0) p.pointer(here);
    if (variant == 1) p.pointer(here + 2);
    if (variant == 2) p.u8(1).raw("a").pointer(here);
    if (variant == 3) p.pointer(0x3fff);
    p.body(RrType::A, 60, [](Packet& q) { q.u32(1); });
    CHECK(read(p, "example", RrType::A).failure == Failure::malformed);
  }
}

TEST_CASE("a chain of more than 126 pointers is malformed, one of 126 is not") {
  for (const unsigned pointers : {126U, 127U}) {
    Packet p;
    p.question("example", RrType::A);
    // A record whose RDATA is a ladder of pointers, each to the one before it, the first to the name asked for.
    std::size_t top = 12;
    p.answer("ladder").body(RrType::TXT, 60, [&](Packet& q) {
      for (unsigned i = 1; i < pointers; ++i) {
        const std::size_t rung = q.size();
        q.pointer(top);
        top = rung;
      }
    });
    p.count(6).pointer(top).body(RrType::A, 60, [](Packet& q) { q.u32(1); });
    const auto answer = read(p, "example", RrType::A);
    CHECK(answer.failure == (pointers == 126 ? Failure::none : Failure::malformed));
  }
}

TEST_CASE("a packet cut short anywhere is malformed, never read beyond its end") {
  Packet p;
  p.question("example.org", RrType::MX).count(6);
  p.pointer(12).body(RrType::MX, 60, [](Packet& q) { q.u16(10).u8(3).raw("mx1").pointer(12); });
  p.soa("example.org", 60, 60);
  REQUIRE(read(p, "example.org", RrType::MX).has_data());
  const Bytes whole = p.data();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));  // exact, for the sanitizer
    CHECK(read_response(cut, domain("example.org"), RrType::MX).failure == Failure::malformed);
  }
}

TEST_CASE("a packet in which any octet is changed never passes for secure, and never crashes the reader") {
  Packet p;
  p.question("example.org", RrType::MX).cname("example.org", "b.example.org").count(6);
  p.pointer(12).body(RrType::MX, 60, [](Packet& q) { q.u16(10).u8(3).raw("mx1").pointer(12); });
  p.soa("example.org", 60, 60);
  const Bytes whole = p.data();
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (const std::uint8_t value : Bytes{0x00, 0x01, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xff}) {
      Bytes changed = whole;
      changed[i] = value;
      const auto answer = read_response(changed, domain("example.org"), RrType::MX);
      CHECK(answer.is_secure() == false);
      CHECK(answer.answered() == (answer.failure == Failure::none));
    }
  }
}

TEST_CASE("RDATA that is longer or shorter than its names is malformed") {
  for (const unsigned extra : {0U, 1U}) {
    Packet p;
    p.question("example", RrType::MX).answer("example").body(RrType::MX, 60, [&](Packet& q) {
      q.u16(10);
      if (extra == 1) q.name("mx.example").u8(0);
    });
    CHECK(read(p, "example", RrType::MX).failure == Failure::malformed);
  }
}

TEST_CASE("only a whole response to the question asked is read") {
  struct Case {
    const char* why;
    unsigned flags;
    const char* name;
    RrType type;
  };
  for (const Case& c :
       {Case{"a query", 0x0100, "example", RrType::A}, Case{"truncated", 0x8380, "example", RrType::A},
        Case{"another opcode", 0xa980, "example", RrType::A}, Case{"another name", 0x8180, "other", RrType::A},
        Case{"another type", 0x8180, "example", RrType::AAAA}}) {
    CAPTURE(c.why);
    Packet p(c.flags);
    p.question(c.name, c.type).a("example");
    CHECK(read(p, "example", RrType::A).failure == Failure::malformed);
  }
  Packet none;
  CHECK(read(none, "example", RrType::A).failure == Failure::malformed);
  Packet two;
  two.question("example", RrType::A).question("example", RrType::A).a("example");
  CHECK(read(two, "example", RrType::A).failure == Failure::malformed);
  CHECK(read_response(Bytes(65536), domain("example"), RrType::A).failure == Failure::malformed);
}

TEST_CASE("RFC 1035 §4.1.1: rcodes other than NOERROR and NXDOMAIN are failures, whatever the packet holds") {
  for (unsigned rcode = 1; rcode < 16; ++rcode) {
    if (rcode == 3) continue;
    CAPTURE(rcode);
    Packet p(0x8180 | rcode);
    p.question("example", RrType::A).a("example").soa("example", 60, 60);
    CHECK(read(p, "example", RrType::A).failure == (rcode == 5 ? Failure::refused : Failure::servfail));
  }
}

TEST_CASE("records of another class are not used") {
  Packet p;
  p.question("example", RrType::A)
      .answer("example")
      .body(
          RrType::A, 60, [](Packet& q) { q.u32(1); }, 3);
  CHECK(read(p, "example", RrType::A).outcome == Outcome::nodata);
}

TEST_CASE("RFC 2181 §8: a TTL with the highest bit set is zero") {
  Packet p;
  p.question("example", RrType::A).a("example", 0x80000001);
  CHECK(read(p, "example", RrType::A).ttl == 0);
}

TEST_CASE("RFC 1034 §3.6.2: aliases are followed in any order of records, and their TTL counts") {
  Packet p;
  p.question("a.example", RrType::A)
      .a("c.example", 300)
      .cname("B.example", "c.example", 50)
      .cname("a.example", "B.EXAMPLE");
  const auto answer = read(p, "a.example", RrType::A);
  CHECK(answer.has_data());
  CHECK(answer.aliases == std::vector<std::string>{"b.example", "c.example"});
  CHECK(answer.ttl == 50);
}

TEST_CASE("RFC 6672 §3.1: of a DNAME the synthesised CNAME is enough") {
  Packet p;
  p.question("a.old.example", RrType::A).answer("old.example").body(static_cast<RrType>(39), 300, [](Packet& q) {
    q.name("new.example");
  });
  p.cname("a.old.example", "a.new.example", 0).a("a.new.example");
  const auto answer = read(p, "a.old.example", RrType::A);
  CHECK(answer.has_data());
  CHECK(answer.aliases == std::vector<std::string>{"a.new.example"});
}

TEST_CASE("asked for CNAME, the alias itself is the answer and is not followed") {
  Packet p;
  p.question("a.example", RrType::CNAME).cname("a.example", "b.example").cname("b.example", "c.example");
  const auto answer = read(p, "a.example", RrType::CNAME);
  CHECK(answer.rdata == std::vector<Bytes>{octets(std::string_view("\1b\7example\0", 11))});
  CHECK(answer.aliases.empty());
}

TEST_CASE("eight aliases are followed, nine are a failure") {
  for (const unsigned hops : {8U, 9U}) {
    Packet p;
    p.question("n0.example", RrType::A);
    for (unsigned i = 0; i < hops; ++i) {
      p.cname("n" + std::to_string(i) + ".example", "n" + std::to_string(i + 1) + ".example");
    }
    p.a("n" + std::to_string(hops) + ".example");
    const auto answer = read(p, "n0.example", RrType::A);
    if (hops == 8) {
      CHECK(answer.has_data());
      CHECK(answer.aliases.size() == 8);
    } else {
      CHECK(answer.failure == Failure::loop);
    }
  }
}

TEST_CASE("aliases that form a loop are a failure, not an absence") {
  Packet self;
  self.question("a.example", RrType::A).cname("a.example", "A.example");
  CHECK(read(self, "a.example", RrType::A).failure == Failure::loop);
  Packet ring;
  ring.question("a.example", RrType::A).cname("a.example", "b.example").cname("b.example", "a.example");
  CHECK(read(ring, "a.example", RrType::A).failure == Failure::loop);
}

TEST_CASE("RFC 2181 §10.1: two targets of one alias, or data beside it, are malformed") {
  Packet two;
  two.question("a.example", RrType::A).cname("a.example", "b.example").cname("a.example", "c.example").a("b.example");
  CHECK(read(two, "a.example", RrType::A).failure == Failure::malformed);
  Packet beside;
  beside.question("a.example", RrType::A).cname("a.example", "b.example").a("a.example").a("b.example");
  CHECK(read(beside, "a.example", RrType::A).failure == Failure::malformed);
  Packet twice;
  twice.question("a.example", RrType::A).cname("a.example", "b.example").cname("a.example", "b.example").a("b.example");
  CHECK(read(twice, "a.example", RrType::A).has_data());
}

TEST_CASE("a chain that leads nowhere is an absence at its end") {
  Packet p;
  p.question("a.example", RrType::A).cname("a.example", "b.example", 40).soa("example", 60, 60);
  const auto answer = read(p, "a.example", RrType::A);
  CHECK(answer.outcome == Outcome::nodata);
  CHECK(answer.aliases == std::vector<std::string>{"b.example"});
  CHECK(answer.ttl == 40);
}

TEST_CASE("RFC 2308 §2.1: NXDOMAIN speaks of the end of the chain") {
  Packet p(0x8183);
  p.question("a.example", RrType::MX).cname("a.example", "gone.test").soa("test", 60, 60);
  const auto answer = read(p, "a.example", RrType::MX);
  CHECK(answer.outcome == Outcome::nxdomain);
  CHECK(answer.aliases == std::vector<std::string>{"gone.test"});
  Packet contradiction(0x8183);
  contradiction.question("a.example", RrType::A).a("a.example");
  CHECK(read(contradiction, "a.example", RrType::A).failure == Failure::malformed);
}

TEST_CASE("RFC 2308 §5: an absence lives min(SOA TTL, MINIMUM), an hour at most, and not at all without SOA") {
  struct Case {
    const char* soa_owner;
    unsigned ttl;
    unsigned minimum;
    std::uint32_t expect;
  };
  for (const Case& c : {Case{"example", 300, 60, 60}, Case{"example", 60, 300, 60}, Case{"example", 86400, 86400, 3600},
                        Case{"example", 0, 300, 0}, Case{"EXAMPLE", 70, 80, 70}, Case{"", 70, 80, 70},
                        Case{"a.example", 70, 80, 70}, Case{"other", 70, 80, 0}, Case{"b.a.example", 70, 80, 0}}) {
    CAPTURE(c.soa_owner);
    Packet p(0x8183);
    p.question("a.example", RrType::MX).soa(c.soa_owner, c.ttl, c.minimum);
    const auto answer = read(p, "a.example", RrType::MX);
    CHECK(answer.outcome == Outcome::nxdomain);
    CHECK(answer.ttl == c.expect);
  }
  Packet without;
  without.question("a.example", RrType::MX);
  const auto answer = read(without, "a.example", RrType::MX);
  CHECK(answer.outcome == Outcome::nodata);
  CHECK(answer.ttl == 0);
}

TEST_CASE("RFC 4035 §3.1: an RRSIG in the answer is seen, one elsewhere or none is not") {
  const auto rrsig = static_cast<RrType>(46);
  const auto empty = [](Packet&) {};
  Packet with;
  with.question("", RrType::DNSKEY).answer("").body(rrsig, 60, empty);
  CHECK(has_signatures(with));
  Packet without;
  without.question("", RrType::DNSKEY).answer("").body(RrType::DNSKEY, 60, empty).authority("").body(rrsig, 60, empty);
  CHECK_FALSE(has_signatures(without));
  CHECK_FALSE(has_signatures(Bytes{}));
}
