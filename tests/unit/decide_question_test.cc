#include <doctest/doctest.h>

#include <set>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/decide/decision.h"
#include "core/decide/evidence.h"

namespace sealane {
namespace {

const std::vector<Reason> all_reasons = {
#define SEALANE_REASON(name, token, rule, result_type, sentence, remedy) Reason::name,
#include "core/decide/reasons.def"
#undef SEALANE_REASON
};

bool only(std::string_view text, std::string_view alphabet) {
  return !text.empty() && text.find_first_not_of(alphabet) == std::string_view::npos;
}

}  // namespace

TEST_CASE("a domain is asked for with its MX records, at the port and as fresh as was said") {
  const Question plain = Question::parse("Example.ORG.");
  REQUIRE(plain.domain);
  CHECK(plain.domain->text() == "example.org");
  CHECK(plain.text == "Example.ORG.");
  CHECK(plain.mx);
  CHECK_FALSE(plain.fresh);
  CHECK_FALSE(plain.address_literal);
  CHECK(plain.port == 25);

  const Question next_hop = Question::parse("smart.example", 587, false, true);
  REQUIRE(next_hop.domain);
  CHECK(next_hop.port == 587);
  CHECK_FALSE(next_hop.mx);
  CHECK(next_hop.fresh);
}

TEST_CASE("brackets around a name mean that no MX is looked up") {
  const Question question = Question::parse("[Smart.example]");
  REQUIRE(question.domain);
  CHECK(question.domain->text() == "smart.example");
  CHECK_FALSE(question.mx);
  CHECK_FALSE(question.address_literal);
}

TEST_CASE("RFC 5321 §4.1.3: address literals, and addresses without brackets") {
  for (const char* text : {"[192.0.2.1]", "[IPv6:2001:db8::1]", "[ipv6:2001:DB8::1]", "[2001:db8::1]", "192.0.2.1",
                           "2001:db8::1", "::ffff:192.0.2.1"}) {
    CAPTURE(text);
    const Question question = Question::parse(text);
    CHECK(question.address_literal);
    CHECK_FALSE(question.domain);
    CHECK(question.text == text);
  }
}

TEST_CASE("what is neither a name nor an address makes a question without a domain") {
  const std::vector<std::string> inputs = {"",
                                           ".",
                                           "[]",
                                           "[",
                                           "]",
                                           "a..b",
                                           "exa mple.org",
                                           "[IPv6:192.0.2.1]",
                                           "[IPv6:]",
                                           "[192.0.2.1",
                                           "192.0.2.1]",
                                           "[[192.0.2.1]]",
                                           "2001:db8::1%eth0",
                                           "user@example.org",
                                           "example.org:25",
                                           std::string("example.org\0", 12),
                                           std::string("192.0.2.1\0", 10),
                                           std::string("[IPv6:::1\0]", 11),
                                           "\xff\xfe.org",
                                           std::string(64, 'a') + ".org",
                                           std::string(100000, 'a')};
  for (const std::string& input : inputs) {
    CAPTURE(input.substr(0, 80));
    const Question question = Question::parse(input);
    CHECK_FALSE(question.domain);
    CHECK_FALSE(question.address_literal);
    CHECK(valid_utf8(question.text) == question.text);
    CHECK(question.text.size() < 4000);
  }
}

TEST_CASE("an over-long input does not become a name by being cut, not even when its text is asked for again") {
  // Soft hyphens vanish in UTS 46, so that what is left after a cut could be a name.
  std::string input = "a";
  while (input.size() < 3000) input += "\xc2\xad";
  const Question question = Question::parse(input);
  CHECK_FALSE(question.domain);
  CHECK_FALSE(Question::parse(question.text).domain);
}

TEST_CASE("every reason has a token of its own, a sentence and, where a rule is cited, its RFC section") {
  const std::set<std::string_view> result_types = {// RFC 8460 §4.3
                                                   "",
                                                   "starttls-not-supported",
                                                   "certificate-host-mismatch",
                                                   "certificate-expired",
                                                   "certificate-not-trusted",
                                                   "validation-failure",
                                                   "tlsa-invalid",
                                                   "dnssec-invalid",
                                                   "dane-required",
                                                   "sts-policy-fetch-error",
                                                   "sts-policy-invalid",
                                                   "sts-webpki-invalid"};
  std::set<std::string_view> tokens;
  for (const Reason reason : all_reasons) {
    const ReasonText& text = describe(reason);
    CAPTURE(text.token);
    CHECK(only(text.token, "abcdefghijklmnopqrstuvwxyz-"));
    CHECK(tokens.insert(text.token).second);
    if (!text.rule.empty()) {  // "RFC 7672 2.2"; that the section exists is for tests/lint/citations.py
      CHECK(text.rule.substr(0, 4) == "RFC ");
      CHECK(only(text.rule.substr(4, 4), "0123456789"));
      CHECK(text.rule.substr(8, 1) == " ");
      CHECK(only(text.rule.substr(9), "0123456789."));
    }
    CHECK(result_types.count(text.result_type) == 1);
    REQUIRE_FALSE(text.sentence.empty());
    CHECK(text.sentence.back() != '.');
    CHECK((text.remedy.empty() || text.remedy.back() != '.'));
    CHECK(reason_from_text(text.token) == reason);
  }
  CHECK(tokens.size() == all_reasons.size());
}

TEST_CASE("an unknown reason reads as none, and a value outside the list as the zero value") {
  CHECK_FALSE(reason_from_text("tlsa"));
  CHECK_FALSE(reason_from_text(""));
  CHECK(to_text(static_cast<Reason>(250)) == to_text(Reason{}));
  CHECK(Reason{} == Reason::deadline);
}

TEST_CASE("tokens of a decision; a value outside the list reads as the strictest") {
  CHECK(to_text(Action::deliver) == "deliver");
  CHECK(to_text(Action::reject) == "reject");
  CHECK(to_text(Action::defer) == "defer");
  CHECK(to_text(static_cast<Action>(9)) == "defer");
  CHECK(to_text(Mechanism::dane) == "dane");
  CHECK(to_text(Mechanism::sts) == "sts");
  CHECK(to_text(Mechanism::none) == "none");
  CHECK(to_text(Others::opportunistic) == "opportunistic");
  CHECK(to_text(static_cast<Others>(9)) == "skip");
  CHECK(to_text(static_cast<Tls>(9)) == "skip");
  CHECK(to_text(StsState::valid) == "valid");
  CHECK(to_text(StsState::cached) == "cached");
  CHECK(to_text(StsState::invalid) == "invalid");
  CHECK(to_text(StsState::pending) == "pending");
  CHECK(to_text(StsState::unavailable) == "unavailable");
  CHECK(to_text(OverrideKind::none) == "none");
  CHECK(to_text(OverrideKind::encrypt) == "encrypt");
  CHECK(to_text(OverrideKind::pkix) == "pkix");
  CHECK(to_text(static_cast<OverrideKind>(9)) == "dane");
  for (const char* token : {"dane", "pkix", "encrypt", "opportunistic", "skip"}) {
    REQUIRE(tls_from_text(token));
    CHECK(to_text(*tls_from_text(token)) == token);
  }
  CHECK_FALSE(tls_from_text("none"));
  CHECK_FALSE(tls_from_text("DANE"));
}

}  // namespace sealane
