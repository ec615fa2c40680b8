#include <doctest/doctest.h>

#include <map>

#include "core/sts/lifecycle.h"
#include "core/sts/policy.h"
#include "core/sts/txt_record.h"
#include "tests/unit/vectors.h"

using namespace sealane;
using namespace sealane::sts;
using sealane::test::Json;
using sealane::test::vectors_of_kind;

namespace {

std::string to_text(TxtKind kind) {
  switch (kind) {
    case TxtKind::valid:
      return "valid";
    case TxtKind::not_sts:
      return "not-sts";
    case TxtKind::invalid:
      return "invalid";
  }
  return "";
}

constexpr const char* good_policy = "version: STSv1\nmode: enforce\nmx: mail.example.com\nmax_age: 86400\n";

// Two vectors are too long for the file and are abridged there.
std::string input_of_policy(const Json& vector) {
  const std::string id = vector.at("id");
  const std::string input = vector.at("input");
  std::string whole;
  if (id == "sts_policy-131") {
    whole = good_policy;
    for (int i = 0; i < 200; ++i) whole += "mx: m" + std::to_string(i) + ".example.com\n";
    REQUIRE(whole.size() == 4155);
  } else if (id == "sts_policy-132") {
    whole = good_policy + ("x: " + std::string(70000, 'a')) + '\n';
    REQUIRE(whole.size() == 70069);
  } else {
    REQUIRE(input.find(" octets of the same pattern") == std::string::npos);
    return input;
  }
  const std::size_t cut = input.find("...(+");
  REQUIRE(cut != std::string::npos);
  REQUIRE(whole.starts_with(input.substr(0, cut)));
  return whole;
}

WallTime at(long seconds) { return WallTime{Seconds{1'800'000'000 + seconds}}; }

std::string body(const std::string& mode, long max_age) {
  return "version: STSv1\nmode: " + mode + "\nmx: mail.example.com\nmax_age: " + std::to_string(max_age) + "\n";
}

Policy policy_of(const StoredPolicy& stored) {
  auto policy = parse_policy(stored.body);
  REQUIRE(policy.has_value());
  return *policy;
}

bool is_in_force(const PolicyState& state, WallTime now) {
  return state.policy && in_force(*state.policy, policy_of(*state.policy), now);
}

// Fetched at at(0) for the id "1", in force for a day.
PolicyState stored_enforce() { return after_fetch({}, FetchResult{at(0), "1", body("enforce", 86400), ""}, at(1)); }

FetchResult failed_fetch(WallTime started, const std::string& id) { return {started, id, "", "HTTP status 500"}; }

}  // namespace

// ---- §3.1: TXT records
// ------------------------------------------------------------------------------------------------

TEST_CASE("RFC 8461 §3.1: the sts_txt vectors") {
  for (const Json& v : vectors_of_kind("sts_txt")) {
    CAPTURE(v.at("id").get<std::string>());
    const TxtRecord record = parse_txt_record(v.at("input").get<std::string>());
    CHECK(to_text(record.kind) == v.at("expect").get<std::string>());
    CHECK((record.kind == TxtKind::valid) == !record.id.empty());
    CHECK((record.kind == TxtKind::invalid) == !record.error.empty());
  }
}

TEST_CASE("RFC 8461 §3.1: the sts_txt_rrset vectors") {
  for (const Json& v : vectors_of_kind("sts_txt_rrset")) {
    CAPTURE(v.at("id").get<std::string>());
    std::vector<std::string> records;
    for (const Json& record : v.at("input")) {
      if (record == "NXDOMAIN") continue;  // no RRset at all
      std::string joined;
      if (record.is_array()) {
        for (const Json& part : record) joined += part.get<std::string>();
      } else {
        joined = record.get<std::string>();
      }
      records.push_back(joined);
    }
    const TxtRecord selected = select_txt_record(records);
    const std::string expect = v.at("expect");
    if (expect.starts_with("valid:")) {
      CHECK(selected.kind == TxtKind::valid);
      CHECK(selected.id == expect.substr(6));
    } else {
      REQUIRE(expect.starts_with("none"));
      CHECK(selected.kind != TxtKind::valid);
    }
  }
}

TEST_CASE("RFC 8461 §3.1: a second v=STSv1 record means no record") {
  CHECK(select_txt_record({"v=STSv1; id=1;", "v=STSv1; id=1;"}).kind == TxtKind::invalid);
  CHECK(select_txt_record({"v=STSv10; id=2;", "v=STSv1; id=1;"}).id == "1");
  CHECK(select_txt_record({"v=STSv10; id=2;"}).kind == TxtKind::not_sts);
  CHECK(select_txt_record({"v=spf1 -all"}).kind == TxtKind::not_sts);
}

TEST_CASE("RFC 8461 §3.1: the ABNF to the last octet") {
  struct Case {
    std::string text, id;  // no id: invalid
  };
  for (const Case& c : std::vector<Case>{
           {"v=STSv1;id=a", "a"},
           {"v=STSv1;id=a ; ", "a"},  // *WSP on both sides of the delimiter at the end
           {"v=STSv1; x=1; id=a; y=2", "a"},
           {"v=STSv1; id=12345678901234567890123456789012", "12345678901234567890123456789012"},
           {"v=STSv1; id=a; id=b", "a"},          // the first of duplicates
           {"v=STSv1; id=a; id=bad-value", "a"},  // … which is an extension by the grammar
           {"v=STSv1; id=bad-value; id=a", ""},   // … even if malformed
           {"v=STSv1; id=a; id=", ""},            // … and what is ignored must still follow the grammar
           {"v=STSv1; id=a;;", ""},
           {"v=STSv1;; id=a", ""},
           {"v=STSv1; id=a\t", ""},
           {"v=STSv1; id=a\n", ""},
           {"v=STSv1; id =a", ""},
           {"v=STSv1; id=a x=1", ""},
           {"v=STSv1; id=", ""},
           {"v=STSv1; id", ""},
           {"v=STSv1; =a; id=a", ""},
           {"v=STSv1;", ""},
           {"v=STSv1; id=a; x=\x80", ""},
       }) {
    CAPTURE(c.text);
    const TxtRecord record = parse_txt_record(c.text);
    CHECK(record.kind == (c.id.empty() ? TxtKind::invalid : TxtKind::valid));
    CHECK(record.id == c.id);
  }
}

TEST_CASE("a TXT record as long as the DNS allows is read in one pass") {
  std::string text = "v=STSv1; id=a";
  while (text.size() < 65000) text += ";x=1";
  CHECK(parse_txt_record(text).kind == TxtKind::valid);
  CHECK(parse_txt_record("v=STSv1;" + std::string(65000, ' ')).kind == TxtKind::invalid);
  CHECK(parse_txt_record("v=STSv1;" + std::string(65000, ';')).error.size() < 300);
}

// ---- §3.2: policies
// ---------------------------------------------------------------------------------------------------

TEST_CASE("RFC 8461 §3.2: the sts_policy vectors") {
  for (const Json& v : vectors_of_kind("sts_policy")) {
    CAPTURE(v.at("id").get<std::string>());
    const auto policy = parse_policy(input_of_policy(v));
    const std::string expect = v.at("expect");
    REQUIRE((expect == "valid" || expect == "invalid"));
    CAPTURE(policy ? "" : policy.error().what);
    REQUIRE(policy.has_value() == (expect == "valid"));
    if (!policy || !v.contains("decoded")) continue;
    const Json& decoded = v.at("decoded");
    CHECK(to_text(policy->mode) == decoded.at("mode").get<std::string>());
    CHECK(policy->max_age == decoded.at("max_age").get<std::uint32_t>());
    std::vector<std::string> mx;
    for (const MxPattern& pattern : policy->mx) mx.push_back(pattern.text());
    CHECK(mx == decoded.at("mx").get<std::vector<std::string>>());
  }
}

TEST_CASE("RFC 8461 §3.2: the media vectors") {
  for (const Json& v : vectors_of_kind("media")) {
    CAPTURE(v.at("id").get<std::string>());
    const std::string expect = v.at("expect");
    REQUIRE((expect == "accept" || expect == "reject"));
    CHECK(is_policy_media_type(v.at("input").get<std::string>()) == (expect == "accept"));
  }
  CHECK(is_policy_media_type("Text/PLAIN"));
  CHECK_FALSE(is_policy_media_type(""));
  CHECK_FALSE(is_policy_media_type("; charset=utf-8"));
  CHECK_FALSE(is_policy_media_type("text/plain charset=utf-8"));
}

TEST_CASE("RFC 8461 §3.2: what a body may look like beyond the ABNF, and no more") {
  struct Case {
    std::string text;
    bool valid;
  };
  for (const Case& c : std::vector<Case>{
           {"\n \t \r\n version:\tSTSv1\t\n\tmode: none \r\nmax_age:1", true},
           {"version: STSv1\nmode: none\nmax_age: 1\r", false},  // CR alone ends no line
           {"version: STSv1\rmode: none\rmax_age: 1\r", false},
           {"version: STSv1\nmode: none\nmax_age: 1\f\n", false},
           {std::string("version: STSv1\nmode: none\nmax_age: 1\n") + '\0', false},
           {"version: STSv1\nmode: none\nmax_age: 1\nx: \xff\n", false},
           {"version: STSv1\nmode: none\nmax_age: 1\nx: \xc0\x80\n", false},
           {"version: STSv1\nmode: none\nmax_age: 1\nx: a  b\n", true},
           {"# a comment\nversion: STSv1\nmode: none\nmax_age: 1\n", false},
           {"version: STSv1\nMode: none\nmax_age: 1\n", false},  // %s: keys are case-sensitive
           {"version: STSv1\nmode: none\nmax_age:\n", false},
           {"version: STSv1\nmode: none\nmax_age: +1\n", false},
           {"version: STSv1\nmode: none\nmax_age: 1.0\n", false},
           {"version: STSv1\nmode: none\nmax_age: 0000000001\n", true},
           {"<html>version: STSv1\nmode: none\nmax_age: 1\n", false},
       }) {
    CAPTURE(c.text);
    CHECK(parse_policy(c.text).has_value() == c.valid);
  }
}

TEST_CASE("RFC 8461 §3.2: of duplicate keys other than mx the first counts, even if malformed") {
  CHECK_FALSE(parse_policy("version: STSv1\nmode: Enforce\nmode: none\nmax_age: 1\n").has_value());
  CHECK_FALSE(parse_policy("version: STSv2\nversion: STSv1\nmode: none\nmax_age: 1\n").has_value());
  CHECK(parse_policy("version: STSv1\nmode: none\nmax_age: 1\nmax_age: never\n")->max_age == 1);
  // What is ignored must still be a field by the grammar.
  CHECK_FALSE(parse_policy("version: STSv1\nmode: none\nmax_age: 1\nmax_age:\n").has_value());
}

TEST_CASE("a policy in which no pattern can match is invalid; one that can is enough") {
  const std::string head = "version: STSv1\nmode: enforce\nmax_age: 1\n";
  CHECK_FALSE(parse_policy(head + "mx: 192.0.2.1\n").has_value());
  CHECK_FALSE(parse_policy(head + "mx: 192.0.2.1\nmx: *.0.2.1\n").has_value());
  CHECK(parse_policy(head + "mx: 192.0.2.1\nmx: mail.example\n").has_value());
  // Mode none needs no mx, but one that is there must be well formed.
  CHECK(parse_policy("version: STSv1\nmode: none\nmax_age: 1\nmx: 192.0.2.1\n").has_value());
  CHECK_FALSE(parse_policy("version: STSv1\nmode: none\nmax_age: 1\nmx: https://mail.example\n").has_value());
}

TEST_CASE("an error names its line and shows no raw octet of the body") {
  const auto error = [](const std::string& text) {
    auto policy = parse_policy(text);
    REQUIRE_FALSE(policy.has_value());
    CHECK(std::all_of(policy.error().what.begin(), policy.error().what.end(),
                      [](char c) { return c >= ' ' && c < 0x7f; }));
    CHECK(policy.error().what.size() < 400);
    return policy.error();
  };
  CHECK(error("version: STSv1\n\nmode: on\n").line == 3);
  CHECK(error("version: STSv1\r\nmode\r\n").line == 2);
  CHECK(error("version: STSv1\nmx: \x1b[31m" + std::string(5000, 'x') + "\n").line == 2);
  CHECK(error("version: STSv1\nmode: none\n").line == 0);
  CHECK(error("version: STSv1\nmode: none\n").what == "no max_age");
  CHECK(error("version: STSv1\nmode: testing\nmax_age: 1\n").what == "no mx, which mode testing needs");
}

TEST_CASE("RFC 8461 §3.3: 65,536 octets and not one more") {
  const std::string start = std::string(good_policy) + "x: ";
  const std::string filled = start + std::string(max_policy_octets - start.size(), 'a');
  CHECK(parse_policy(filled).has_value());
  CHECK_FALSE(parse_policy(filled + 'a').has_value());
  CHECK_FALSE(parse_policy(filled + '\n').has_value());
}

TEST_CASE("RFC 8461 §4.1: a policy allows a host that any of its patterns matches") {
  const auto policy = parse_policy("version: STSv1\nmode: enforce\nmax_age: 1\nmx: a.example\nmx: *.b.example\n");
  REQUIRE(policy.has_value());
  CHECK(policy->allows(*Domain::parse("a.example")));
  CHECK(policy->allows(*Domain::parse("mx.b.example")));
  CHECK_FALSE(policy->allows(*Domain::parse("b.example")));
  CHECK_FALSE(Policy{}.allows(*Domain::parse("a.example")));
}

// ---- §3.3, §5.1, §10.2: life cycle
// ------------------------------------------------------------------------------------

TEST_CASE("state-001, RFC 8461 §3.3: a stored policy applies whatever TXT and HTTPS do") {
  const PolicyState state = stored_enforce();
  CHECK(is_in_force(state, at(86400)));
  CHECK(is_in_force(after_fetch(state, failed_fetch(at(3600), "1"), at(3601)), at(86400)));
}

TEST_CASE("state-002, RFC 8461 §3.3: a failed fetch for a new id keeps the policy and waits five minutes for that id") {
  const PolicyState state = after_fetch(stored_enforce(), failed_fetch(at(1000), "2"), at(1010));
  REQUIRE(state.policy.has_value());
  CHECK(state.policy->id == "1");
  CHECK(is_in_force(state, at(1010)));
  CHECK_FALSE(fetch_on_txt(state, "2", at(1299)));
  CHECK(fetch_on_txt(state, "2", at(1300)));
  CHECK(fetch_on_txt(state, "3", at(1010)));        // per id
  CHECK_FALSE(fetch_on_txt(state, "1", at(1010)));  // the one that we have
}

TEST_CASE("state-003, RFC 8461 §8.3: mode none replaces enforce at once") {
  CHECK(fetch_on_txt(stored_enforce(), "2", at(10)));
  const PolicyState state = after_fetch(stored_enforce(), FetchResult{at(10), "2", body("none", 60), ""}, at(11));
  CHECK(policy_of(*state.policy).mode == Mode::none);
  CHECK(state.policy->id == "2");
  CHECK(state.policy->txt_seen == at(10));
}

TEST_CASE("state-004, RFC 8461 §3.2: an unchanged id neither fetches nor extends the life") {
  const PolicyState state = stored_enforce();
  CHECK_FALSE(fetch_on_txt(state, "1", at(86400)));
  CHECK(fetch_on_txt(state, "1", at(86401)));
  CHECK(expires(*state.policy, policy_of(*state.policy), at(50000)) == at(86400));
}

TEST_CASE("state-005, RFC 8461 §10.2: refreshed after min(24 h, max_age/2), and the refresh starts a new life") {
  const auto refresh = [](long max_age) {
    const StoredPolicy stored{"1", body("enforce", max_age), at(0), at(0)};
    return refresh_after(stored, policy_of(stored));
  };
  CHECK(refresh(86400) == at(43200));
  CHECK(refresh(172800) == at(86400));
  CHECK(refresh(31557600) == at(86400));
  CHECK(refresh(0) == at(0));
  const PolicyState state =
      after_fetch(stored_enforce(), FetchResult{at(43200), "1", body("enforce", 86400), ""}, at(43201));
  CHECK(is_in_force(state, at(43200 + 86400)));
  CHECK(state.policy->txt_seen == at(0));  // no TXT record was seen for it
}

TEST_CASE("state-006, RFC 8461 §5.1: a policy is over once max_age has passed") {
  const PolicyState state = after_fetch(stored_enforce(), failed_fetch(at(86300), "1"), at(86301));
  CHECK(is_in_force(state, at(86400)));
  CHECK_FALSE(is_in_force(state, at(86401)));
  CHECK_FALSE(fetch_on_txt(state, "1", at(86401)));  // the refresh has just failed
  CHECK(fetch_on_txt(state, "1", at(86600)));
}

TEST_CASE("state-007, RFC 8461 §3.2: max_age 0 serves the moment of its fetch alone") {
  const PolicyState state = after_fetch({}, FetchResult{at(0), "1", body("enforce", 0), ""}, at(0));
  CHECK(is_in_force(state, at(0)));
  CHECK_FALSE(is_in_force(state, at(1)));
  CHECK(fetch_on_txt(state, "1", at(1)));
}

TEST_CASE("state-008, RFC 8461 §3.2: the longest life is 31,557,600 seconds") {
  const PolicyState state = after_fetch({}, FetchResult{at(0), "1", body("enforce", 9'999'999'999), ""}, at(0));
  CHECK(is_in_force(state, at(31557600)));
  CHECK_FALSE(is_in_force(state, at(31557601)));
}

TEST_CASE("state-009, RFC 8461 §3.3: a first fetch that fails leaves no policy and is repeated after five minutes") {
  CHECK(fetch_on_txt({}, "1", at(0)));
  const PolicyState state = after_fetch({}, failed_fetch(at(0), "1"), at(60));
  CHECK_FALSE(state.policy.has_value());
  CHECK(state.error == "HTTP status 500");
  CHECK_FALSE(fetch_on_txt(state, "1", at(299)));
  CHECK(fetch_on_txt(state, "1", at(300)));
}

TEST_CASE("a mismatch or a refused certificate fetches, but not within five minutes of any attempt") {
  CHECK(fetch_on_failure({}, at(0)));
  CHECK_FALSE(fetch_on_failure(stored_enforce(), at(299)));  // a good one counts too
  CHECK(fetch_on_failure(stored_enforce(), at(300)));
  CHECK_FALSE(fetch_on_failure(after_fetch(stored_enforce(), failed_fetch(at(400), "9"), at(401)), at(699)));
}

TEST_CASE("state-012: a step of the clock drops no policy, makes none eternal and stops no fetch") {
  const PolicyState state = stored_enforce();
  const Policy policy = policy_of(*state.policy);
  // Set back by ten years: in force, but never for longer than max_age from now.
  const WallTime before = at(-315'360'000);
  CHECK(in_force(*state.policy, policy, before));
  CHECK(expires(*state.policy, policy, before) == before + Seconds{86400});
  CHECK(fetch_on_failure(state, before));
  CHECK(fetch_on_txt(after_fetch(state, failed_fetch(at(0), "2"), at(1)), "2", before));
  // A good fetch then replaces what claims to come from the future.
  const PolicyState replaced =
      after_fetch(state, FetchResult{before, "1", body("testing", 60), ""}, before + Seconds{1});
  CHECK(replaced.policy->fetched == before);
  CHECK(policy_of(*replaced.policy).mode == Mode::testing);
}

TEST_CASE("only a fetch that started later replaces a policy, and then all of it, whatever its id") {
  const PolicyState state = after_fetch({}, FetchResult{at(100), "2", body("enforce", 600), ""}, at(101));
  for (const long started : {50L, 100L}) {
    const PolicyState kept = after_fetch(state, FetchResult{at(started), "1", body("none", 600), ""}, at(120));
    CHECK(kept.policy->id == "2");
    CHECK(policy_of(*kept.policy).mode == Mode::enforce);
    CHECK(kept.attempted_id == "1");
  }
  const PolicyState replaced = after_fetch(state, FetchResult{at(101), "", body("none", 60), ""}, at(120));
  CHECK(replaced.policy->id.empty());
  CHECK(replaced.policy->fetched == at(101));
  CHECK(replaced.policy->txt_seen == WallTime{});
  CHECK(replaced.policy->body == body("none", 60));
}

TEST_CASE("a stored body that no longer parses is fetched again") {
  PolicyState state = stored_enforce();
  state.policy->body = "garbage";
  CHECK(fetch_on_txt(state, "1", at(10)));
}

// The rest of the vectors of kind "state" is about other parts: each must have a home.
TEST_CASE("every state vector is either a case above or the business of another part") {
  const std::map<std::string, std::string> elsewhere{
      {"state-010", "engine: fresh"},
      {"state-011", "store"},
      {"state-013", "store: eviction"},
      {"state-014", "engine: single flight"},
      {"state-015", "engine: expiry"},
      {"state-016", "dns: ttl"},
      {"state-017", "dns: negative answers"},
      {"state-018", "decide"},
      {"state-019", "decide"},
      {"state-020", "decide"},
      {"state-021", "decide"},
      {"state-022", "verify"},
      {"state-023", "verify"},
      {"state-024", "decide"},
      {"state-025", "decide"},
      {"state-026", "decide"},
      {"state-027", "decide"},
      {"state-028", "decide"},
      {"state-029", "decide"},
  };
  for (const Json& v : vectors_of_kind("state")) {
    const std::string id = v.at("id");
    CAPTURE(id);
    CHECK((id <= "state-009" || id == "state-012" || elsewhere.contains(id)));
  }
}
