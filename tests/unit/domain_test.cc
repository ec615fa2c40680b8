#include "core/domain/domain.h"

#include <doctest/doctest.h>

#include "core/domain/mx_pattern.h"
#include "tests/unit/vectors.h"

using sealane::Domain;
using sealane::MxPattern;

namespace {

Domain domain(const std::string& text) {
  auto parsed = Domain::parse(text);
  REQUIRE_MESSAGE(parsed.has_value(), text);
  return *parsed;
}

std::string label(std::size_t length) { return std::string(length, 'a'); }

// 253 octets: three labels of 63 and one of 61.
std::string longest_name() { return label(63) + '.' + label(63) + '.' + label(63) + '.' + label(61); }

}  // namespace

TEST_CASE("a name is kept in lower case, without one trailing dot") {
  struct Case {
    std::string input, text;
  };
  for (const Case& c : std::vector<Case>{
           {"example.org", "example.org"},
           {"Example.ORG.", "example.org"},
           {"localhost", "localhost"},
           {"_dmarc.mail_1.example", "_dmarc.mail_1.example"},
           {"1.2.3.4", "1.2.3.4"},
           {"-odd-.example", "-odd-.example"},
           {longest_name(), longest_name()},
           {longest_name() + '.', longest_name()},
       }) {
    CAPTURE(c.input);
    CHECK(domain(c.input).text() == c.text);
  }
}

TEST_CASE("ASCII does not pass through IDNA: names that libidn2 refuses exist") {
  CHECK(domain("ab--cd.example").text() == "ab--cd.example");
  CHECK(domain("xn--zzzzzzzzzzzz.example").text() == "xn--zzzzzzzzzzzz.example");
}

TEST_CASE("UTS 46, non-transitional: other input becomes A-labels") {
  struct Case {
    std::string input, text;
  };
  for (const Case& c : std::vector<Case>{
           {"b\u00fccher.example", "xn--bcher-kva.example"},
           {"B\u00dcCHER.example", "xn--bcher-kva.example"},
           {"bu\u0308cher.example", "xn--bcher-kva.example"},  // normalised
           {"stra\u00dfe.example", "xn--strae-oqa.example"},   // transitional would say strasse
           {"example\u3002org", "example.org"},                // ideographic full stop
           {"b\u00fccher\uff0eexample\uff61",
            "xn--bcher-kva.example"},            // full-width and half-width ones, at the end too
           {"\uff45xample.org", "example.org"},  // full-width letter
           {"_dmarc.b\u00fccher.example.", "_dmarc.xn--bcher-kva.example"},
       }) {
    CAPTURE(c.input);
    CHECK(domain(c.input).text() == c.text);
  }
}

TEST_CASE("what is no name is refused in one line that shows the input escaped") {
  struct Case {
    std::string input, why;
  };
  const std::string nul("exam\0ple.org", 12);
  for (const Case& c : std::vector<Case>{
           {"", "empty name"},
           {".", "empty label"},
           {"..", "empty label"},
           {".example.org", "empty label"},
           {"example..org", "empty label"},
           {"example.org..", "empty label"},
           {"\u3002", "empty label"},
           {nul, "NUL"},
           {"b\u00fc" + nul, "NUL"},
           {label(64) + ".example", "63 octets"},
           {longest_name() + 'a', "253 octets"},
           {label(100000), "253 octets"},
           {"exa mple.org", "an octet other"},
           {"example.org\n", "an octet other"},
           {"example.org\r\nx", "an octet other"},
           {"[192.0.2.1]", "an octet other"},
           {"user@example.org", "an octet other"},
           {"*.example.org", "an octet other"},
           {"exa\\mple.org", "an octet other"},
           {"exam\xffple.org", "internationalised"},
           {"\xc3", "internationalised"},
           {"\u2028.example", "internationalised"},
           {"\uff20.example", "an octet other"},  // full-width "@", which UTS 46 maps
       }) {
    const auto parsed = Domain::parse(c.input);
    CAPTURE(c.input.substr(0, 80));
    REQUIRE_FALSE(parsed.has_value());
    const std::string line = parsed.error().text();
    CHECK(line.find(c.why) != std::string::npos);
    CHECK(line.size() < 1400);
    CHECK(std::all_of(line.begin(), line.end(), [](char ch) { return ch >= ' ' && ch < 0x7f; }));
  }
  CHECK(Domain::parse(nul).error().of == "exam\\x00ple.org");
}

TEST_CASE("labels off the wire: other octets make no name") {
  const auto from = [](const std::vector<std::string>& labels) { return Domain::from_labels(labels); };
  REQUIRE(from({"MX1", "Example", "org"}).has_value());
  CHECK(from({"MX1", "Example", "org"})->text() == "mx1.example.org");
  CHECK(from({"_25", "_tcp", "mx"}).has_value());
  CHECK_FALSE(from({}).has_value());
  CHECK_FALSE(from({"mx.evil", "org"}).has_value());
  CHECK_FALSE(from({"mx", "", "org"}).has_value());
  CHECK_FALSE(from({std::string("m\0x", 3), "org"}).has_value());
  CHECK_FALSE(from({"mx\n", "org"}).has_value());
  CHECK_FALSE(from({"b\u00fccher", "example"}).has_value());
  CHECK_FALSE(from({label(64), "org"}).has_value());
  CHECK(from({label(63), label(63), label(63), label(61)}).has_value());
  CHECK_FALSE(from({label(63), label(63), label(63), label(62)}).has_value());
}

TEST_CASE("is_below: strictly, and by whole labels") {
  CHECK(domain("a.b.example").is_below(domain("b.example")));
  CHECK(domain("a.b.example").is_below(domain("example")));
  CHECK_FALSE(domain("b.example").is_below(domain("b.example")));
  CHECK_FALSE(domain("ab.example").is_below(domain("b.example")));
  CHECK_FALSE(domain("example").is_below(domain("b.example")));
}

TEST_CASE("looks_like_address: the last label is all digits") {
  CHECK(domain("192.0.2.1").looks_like_address());
  CHECK(domain("mx.example.1").looks_like_address());
  CHECK(domain("42").looks_like_address());
  CHECK_FALSE(domain("1.2.3.4a").looks_like_address());
  CHECK_FALSE(domain("4.example").looks_like_address());
}

TEST_CASE("prefixed: nothing if the name would be too long for the DNS") {
  CHECK(domain("mx.example").prefixed("_25._tcp")->text() == "_25._tcp.mx.example");
  const Domain just_fits = domain(label(63) + '.' + label(63) + '.' + label(63) + '.' + label(52));  // 244 octets
  CHECK(just_fits.prefixed("_25._tcp").has_value());
  CHECK_FALSE(just_fits.prefixed("_465._tcp").has_value());
}

TEST_CASE("RFC 8461 §4.1: the mx_match vectors") {
  for (const auto& v : sealane::test::vectors_of_kind("mx_match")) {
    CAPTURE(v.at("id").get<std::string>());
    const auto pattern = MxPattern::parse(v.at("input").get<std::string>());
    REQUIRE(pattern.has_value());
    const std::string expect = v.at("expect");
    const bool want = expect == "match";
    REQUIRE((want || expect == "no-match"));
    CHECK(pattern->matches(domain(v.at("host").get<std::string>())) == want);
  }
}

TEST_CASE("RFC 8461 §3.2: an mx pattern is a domain, or \"*.\" before one") {
  CHECK(MxPattern::parse("*.Example.COM.")->text() == "*.example.com");
  CHECK(MxPattern::parse("mail_1.example.com")->text() == "mail_1.example.com");
  for (const std::string text : {"",
                                 "*",
                                 "*.",
                                 "*..",
                                 "**.example",
                                 "*.*.example",
                                 "mail.*.example",
                                 "m*.example",
                                 ".example",
                                 "example..com",
                                 "mail.example-",
                                 "-mail.example",
                                 "mail-.example",
                                 "m.-mail.example",
                                 "https://mail.example",
                                 "mail.example:25",
                                 "[192.0.2.1]",
                                 "2001:db8::1",
                                 "mail example",
                                 "*.b\u00fccher.example",
                                 "example\u3002com"}) {
    CAPTURE(text);
    CHECK_FALSE(MxPattern::parse(text).has_value());
  }
}

TEST_CASE("a pattern that looks like an address is kept and matches nothing") {
  const auto pattern = MxPattern::parse("192.0.2.1");
  REQUIRE(pattern.has_value());
  CHECK_FALSE(pattern->can_match());
  CHECK_FALSE(pattern->matches(domain("192.0.2.1")));
  CHECK_FALSE(MxPattern::parse("*.0.2.1")->matches(domain("192.0.2.1")));
  CHECK(MxPattern::parse("mail.example")->can_match());
}
