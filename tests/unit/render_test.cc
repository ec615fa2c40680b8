#include "core/render/render.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "core/base/bytes.h"
#include "core/decide/decide.h"

namespace sealane {
namespace {

using dns::Answer;
using dns::RrType;
using Json = nlohmann::json;

const WallTime now = parse_rfc3339("2026-01-02T03:00:00Z").value();
const std::string body = "version: STSv1\nmode: enforce\nmx: *.example.org\nmax_age: 604800\n";

dane::TlsaRecord tlsa(const std::string& text) { return dane::parse_tlsa_text(text).value(); }

HostDecision dane_host(const std::string& name, std::uint16_t preference) {
  HostDecision host;
  host.host = host.expanded = host.sni = host.tlsa_base = name;
  host.name = Domain::parse(name).value();
  host.preference = preference;
  host.tls = Tls::dane;
  host.reason = Reason::tlsa_usable;
  host.names = {name, "example.org"};
  host.tlsa = {tlsa("3 1 1 " + std::string(64, '9'))};
  host.addresses = {"192.0.2.1", "2001:db8::1"};
  host.address_dnssec = dns::Security::secure;
  host.expires = now + Seconds{245};
  return host;
}

HostDecision skipped_host(const std::string& name, std::uint16_t preference, Reason reason, const std::string& detail) {
  HostDecision host;
  host.host = host.expanded = host.sni = name;
  host.preference = preference;
  host.reason = reason;
  host.detail = detail;
  host.transient = true;
  host.expires = now + Seconds{60};
  return host;
}

Decision dane_decision() {
  Decision d;
  d.domain = d.next_hop = "example.org";
  d.action = Action::deliver;
  d.reason = Reason::tlsa_usable;
  d.mechanism = Mechanism::dane;
  d.floor = Tls::dane;
  d.mx_dnssec = dns::Security::secure;
  d.complete = true;
  d.decided = now;
  d.expires = now + Seconds{245};
  d.hosts = {dane_host("mx1.example.org", 10)};
  return d;
}

StsView enforced() {
  StsView sts;
  sts.state = StsState::valid;
  sts.id = "20260101";
  sts.policy = sts::parse_policy(body).value();
  sts.fetched = now - Seconds{3600};
  sts.txt_seen = now;
  sts.expires = now + Seconds{601200};
  sts.refresh_after = now + Seconds{82800};
  return sts;
}

Decision mismatch_decision() {
  Decision d;
  d.domain = d.next_hop = "example.org";
  d.reason = Reason::sts_mismatch;
  d.detail = "mx.evil.test matches no mx of policy id 20260101";
  d.mechanism = Mechanism::sts;
  d.mx_dnssec = dns::Security::insecure;
  d.complete = true;
  d.decided = now;
  d.expires = now + Seconds{60};
  d.hosts = {skipped_host("mx.evil.test", 5, Reason::sts_mismatch, d.detail)};
  d.sts = enforced();
  return d;
}

Answer answer(dns::Outcome outcome, dns::Security security, std::vector<Bytes> rdata = {}) {
  Answer a;
  a.outcome = outcome;
  a.security = security;
  a.failure = dns::Failure::none;
  a.rdata = std::move(rdata);
  a.ttl = 300;
  return a;
}

LookupKey key(const std::string& name, RrType type) { return {Domain::parse(name).value(), type}; }

// "mx1.example.org" behind `front` octets, uncompressed.
Bytes name_rdata(Bytes front = {}) {
  for (const std::string label : {"mx1", "example", "org"}) {
    front.push_back(static_cast<std::uint8_t>(label.size()));
    front.insert(front.end(), label.begin(), label.end());
  }
  front.push_back(0);
  return front;
}

// Something of everything.
Evidence full_evidence() {
  Evidence e;
  e.question = Question::parse("example.org", 26, true, true);
  e.now = now;
  e.rules.dane_insecure_mx = false;
  e.rules.override = Override{
      "example.org = pkix match=*.example.net", OverrideKind::pkix, {MxPattern::parse("*.example.net").value()}};
  e.store_fault = Fault{Reason::store, "disk I/O error"};
  e.answers[key("example.org", RrType::MX)] = answer(dns::Outcome::data, dns::Security::secure, {name_rdata({0, 10})});
  Answer aliased = answer(dns::Outcome::data, dns::Security::insecure, {{192, 0, 2, 1}});
  aliased.aliases = {"a.example.net", "b.example.net"};
  aliased.cause = "no DS for example.net";
  e.answers[key("mx1.example.org", RrType::A)] = aliased;
  e.answers[key("mx1.example.org", RrType::AAAA)] = answer(dns::Outcome::nodata, dns::Security::secure);
  e.answers[key("mx1.example.org", RrType::CNAME)] = answer(dns::Outcome::data, dns::Security::secure, {name_rdata()});
  e.answers[key("_26._tcp.mx1.example.org", RrType::TLSA)] =
      dns::failed(dns::Failure::timeout, "no answer from 192.0.2.53");
  e.answers[key("_mta-sts.example.org", RrType::TXT)] = answer(dns::Outcome::nxdomain, dns::Security::insecure);
  e.stored.policy = sts::StoredPolicy{"20260101", body, now - Seconds{3600}, now - Seconds{60}};
  e.stored.attempted = now - Seconds{3600};
  e.stored.attempted_id = "20260101";
  e.stored.error = "status 404";
  e.fetch = sts::FetchResult{now, "20260102", "", "connection refused"};
  return e;
}

Json evidence_object(const Evidence& e) { return Json::parse(explain_json(Decision{}, e)).at("evidence"); }

void check_one_line(const std::string& text) {
  CAPTURE(text);
  for (const char c : text) CHECK((c >= 0x20 && c < 0x7f));
}

// Pointers to all fields of an object, at every depth.
void collect(const Json& value, const Json::json_pointer& at, std::vector<Json::json_pointer>& fields) {
  if (value.is_array() && !value.empty()) collect(value[0], at / 0, fields);
  if (!value.is_object()) return;
  for (const auto& item : value.items()) {
    fields.push_back(at / item.key());
    collect(item.value(), at / item.key(), fields);
  }
}

std::vector<Json::json_pointer> fields_of(const Json& object) {
  std::vector<Json::json_pointer> fields;
  collect(object, Json::json_pointer{}, fields);
  return fields;
}

}  // namespace

TEST_CASE("interfaces.md: the JSON of a decision, field by field and in order") {
  Decision d = dane_decision();
  d.hosts[0].tlsa_unused = {{"1 1 1 ab", "usage 1 is not for SMTP"}};
  d.hosts[0].failed = {"AAAA: timeout"};
  d.sts = enforced();
  CHECK(
      decision_json(d) ==
      R"({"schema":1,"domain":"example.org","port":25,"action":"deliver","reason":"tlsa-usable","rule":"RFC 7672 2.2",)"
      R"("detail":null,"mechanism":"dane","floor":"dane","mx_dnssec":"secure","implicit":false,)"
      R"("next_hop":"example.org","others":"skip","override":null,"complete":true,)"
      R"("decided":"2026-01-02T03:00:00Z","expires":"2026-01-02T03:04:05Z",)"
      R"("hosts":[{"host":"mx1.example.org","preference":10,"tls":"dane","would":null,"reason":"tlsa-usable",)"
      R"("rule":"RFC 7672 2.2","detail":null,"transient":false,"expanded":"mx1.example.org",)"
      R"("sni":"mx1.example.org","names":["mx1.example.org","example.org"],"tlsa_base":"mx1.example.org",)"
      R"("tlsa":["3 1 1 9999999999999999999999999999999999999999999999999999999999999999"],)"
      R"("tlsa_unused":[{"rr":"1 1 1 ab","why":"usage 1 is not for SMTP"}],)"
      R"("addresses":["192.0.2.1","2001:db8::1"],"address_dnssec":"secure","failed":["AAAA: timeout"],)"
      R"("expires":"2026-01-02T03:04:05Z"}],)"
      R"("sts":{"state":"valid","id":"20260101","mode":"enforce","max_age":604800,"mx":["*.example.org"],)"
      R"("fetched":"2026-01-02T02:00:00Z","txt_seen":"2026-01-02T03:00:00Z","expires":"2026-01-09T02:00:00Z",)"
      R"("refresh_after":"2026-01-03T02:00:00Z","error":null}})");
}

TEST_CASE("the zero value renders as the strictest decision, in the same shape") {
  CHECK(decision_json(Decision{}) ==
        R"({"schema":1,"domain":"","port":25,"action":"defer","reason":"deadline","rule":null,"detail":null,)"
        R"("mechanism":"none","floor":"skip","mx_dnssec":"bogus","implicit":false,"next_hop":"","others":"skip",)"
        R"("override":null,"complete":false,"decided":"1970-01-01T00:00:00Z","expires":"1970-01-01T00:00:00Z",)"
        R"("hosts":[],"sts":null})");
}

TEST_CASE("JSON: override, would, a failed policy") {
  Decision d = dane_decision();
  d.override_rule = "example.org = encrypt";
  d.hosts[0].would = Tls::skip;
  d.sts = StsView{};
  d.sts->error = "_mta-sts.example.org TXT: servfail";
  const Json object = Json::parse(decision_json(d));
  CHECK(object["override"] == "example.org = encrypt");
  CHECK(object["hosts"][0]["would"] == "skip");
  CHECK(object["sts"]["state"] == "unavailable");
  CHECK(object["sts"]["mode"].is_null());
  CHECK(object["sts"]["max_age"].is_null());
  CHECK(object["sts"]["fetched"].is_null());
  CHECK(object["sts"]["mx"].empty());
  CHECK(object["sts"]["error"] == "_mta-sts.example.org TXT: servfail");
}

TEST_CASE("two reference names stay a list: no pair of strings turns into a field") {
  Decision d = dane_decision();
  d.hosts[0].names = {"a", "b"};
  d.hosts[0].addresses = {"a", "b"};
  const Json host = Json::parse(decision_json(d))["hosts"][0];
  CHECK(host["names"] == Json::array({"a", "b"}));
  CHECK(host["addresses"] == Json::array({"a", "b"}));
}

TEST_CASE("octets that are not UTF-8 never throw, and the output is valid") {
  Decision d = mismatch_decision();
  d.domain = d.detail = d.next_hop = d.override_rule = "\xff\xc0\x80 \n\x1b[31m";
  d.hosts[0].host = d.hosts[0].detail = d.domain;
  d.hosts[0].failed = {d.domain};
  d.sts->error = d.sts->id = d.domain;
  const std::string json = decision_json(d);
  CHECK(valid_utf8(json) == json);
  CHECK(json.find('\n') == std::string::npos);
  CHECK_FALSE(Json::parse(json, nullptr, false).is_discarded());
  check_one_line(log_line(d));
  Evidence e = full_evidence();
  e.question.text = d.domain;
  for (auto& [name, found] : e.answers) {
    found.cause = d.domain;
    found.aliases = {d.domain};
    found.rdata = {{1, 2, 3}, Bytes{0xff, 0x0a}};
  }
  e.stored.attempted_id = e.stored.error = e.fetch->id = e.fetch->error = d.domain;
  for (const std::string& text : {decision_text(d), explain_text(d, e)}) {
    for (const char c : text) CHECK((c == '\n' || (c >= 0x20 && c < 0x7f)));
    CHECK(text.back() == '\n');
  }
}

TEST_CASE("log line: one per decision, for grep, ending in the rule") {
  CHECK(log_line(mismatch_decision()) ==
        "example.org deferred: sts-mismatch: mx.evil.test matches no mx of policy id 20260101 [RFC 8461 4.1]");
  CHECK(log_line(dane_decision()) == "example.org deliver: tlsa-usable: dane to mx1.example.org [RFC 7672 2.2]");

  Decision reject;
  reject.domain = "nosuch.example";
  reject.action = Action::reject;
  reject.reason = Reason::nxdomain;
  CHECK(log_line(reject) == "nosuch.example rejected: nxdomain: the domain does not exist [RFC 5321 5.1]");

  Decision fault;
  fault.domain = "example.org";
  fault.reason = Reason::clock;
  CHECK(log_line(fault) ==
        "example.org deferred: clock: the clock of this machine is before the release date of this software");
}

TEST_CASE("log line: every host that is tried, and every one that is not, with the reason") {
  Decision d = dane_decision();
  d.hosts.push_back(dane_host("mx2.example.org", 10));
  d.hosts.push_back(skipped_host("mx3.example.org", 20, Reason::tlsa_bogus, ""));
  HostDecision plain = skipped_host("mx4.example.org", 30, Reason::tlsa_none, "");
  plain.tls = Tls::opportunistic;
  plain.would = Tls::pkix;
  d.hosts.push_back(plain);
  d.override_rule = "example.org = encrypt";
  CHECK(log_line(d) ==
        "example.org deliver: tlsa-usable: dane to mx1.example.org, mx2.example.org; not mx3.example.org (tlsa-bogus); "
        "opportunistic to mx4.example.org (testing: pkix) (override example.org = encrypt) [RFC 7672 2.2]");

  for (int i = 0; i < 50; ++i) d.hosts.push_back(plain);
  CHECK(log_line(d).find("; and 46 more (override") != std::string::npos);
}

TEST_CASE("RFC 7672 §2.2.1: DANE behind an insecure MX is not presented as more than it is") {
  Decision d = dane_decision();
  d.mx_dnssec = dns::Security::insecure;
  CHECK(log_line(d) == "example.org deliver: tlsa-usable: dane, mx insecure, to mx1.example.org [RFC 7672 2.2]");
  CHECK(decision_text(d).find("10 mx1.example.org: dane, mx insecure:") != std::string::npos);
  CHECK(explain_text(d, full_evidence()).find("10 mx1.example.org: dane, mx insecure\n") != std::string::npos);
}

TEST_CASE("text of a decision: short and readable") {
  Decision d = dane_decision();
  d.hosts.push_back(skipped_host("mx2.example.org", 20, Reason::tlsa_bogus, "bad signature"));
  CHECK(decision_text(d) ==
        "example.org: deliver; mechanism dane; MX secure\n"
        "  TLSA records authenticate the host [tlsa-usable, RFC 7672 2.2]\n"
        "  10 mx1.example.org: dane: TLSA records authenticate the host [tlsa-usable, RFC 7672 2.2]\n"
        "  20 mx2.example.org: skip: the TLSA answer fails DNSSEC validation, the host must not be used: bad signature "
        "[tlsa-bogus, RFC 7672 2.1.2]\n"
        "  remedy: the receiving domain must repair its DNSSEC signatures\n");

  CHECK(decision_text(mismatch_decision()) ==
        "example.org: defer; mechanism sts; MX insecure\n"
        "  the host is not listed in the MTA-STS policy: mx.evil.test matches no mx of policy id 20260101 "
        "[sts-mismatch, RFC 8461 4.1]\n"
        "  5 mx.evil.test: skip: the host is not listed in the MTA-STS policy: mx.evil.test matches no mx of policy id "
        "20260101 [sts-mismatch, RFC 8461 4.1]\n"
        "  MTA-STS: mode enforce, id 20260101, mx *.example.org, in force until 2026-01-09T02:00:00Z\n"
        "  remedy: either the MX records are forged or the receiving domain forgot to list the host in its policy\n");
}

TEST_CASE("text of a policy that is kept, or that could not be had") {
  Decision d = mismatch_decision();
  d.sts->state = StsState::cached;
  d.sts->error = "status 404";
  CHECK(decision_text(d).find("in force until 2026-01-09T02:00:00Z, as kept from before; status 404\n") !=
        std::string::npos);
  d.sts = StsView{};
  d.sts->error = "status 404";
  CHECK(decision_text(d).find("MTA-STS: no policy could be had, and none was kept from before; status 404\n") !=
        std::string::npos);
  d.sts->state = StsState::invalid;
  CHECK(decision_text(d).find("MTA-STS: what is published is invalid, and no policy was kept from before; status") !=
        std::string::npos);
  d.sts->state = StsState::pending;
  CHECK(decision_text(d).find("MTA-STS: the policy is not known yet; status 404\n") != std::string::npos);
}

TEST_CASE("explain: decision, hosts, every lookup with its DNSSEC status, cause and TTL, policy, remedy last") {
  Decision d = mismatch_decision();
  d.hosts.push_back(dane_host("mx1.example.org", 10));
  d.hosts[1].expanded = "b.example.net";
  d.hosts[1].would = Tls::pkix;
  d.hosts[1].failed = {"AAAA: timeout"};
  d.hosts[1].tlsa_unused = {{"1 1 1 ab", "usage 1 is not for SMTP"}};
  Evidence e = full_evidence();
  e.question = Question::parse("[example.org]", 25, true, true);
  CHECK(explain_text(d, e) ==
        R"(example.org: defer; mechanism sts; MX insecure
  why: the host is not listed in the MTA-STS policy: mx.evil.test matches no mx of policy id 20260101 [sts-mismatch, RFC 8461 4.1]
  asked: [example.org], port 25, as a next hop (no MX lookup), past all caches
  decided 2026-01-02T03:00:00Z, good until 2026-01-02T03:01:00Z
  a host that is not listed here: skip

Hosts, best first

  5 mx.evil.test: skip
    why: the host is not listed in the MTA-STS policy: mx.evil.test matches no mx of policy id 20260101 [sts-mismatch, RFC 8461 4.1]

  10 mx1.example.org: dane, mx insecure
    why: TLSA records authenticate the host [tlsa-usable, RFC 7672 2.2]
    testing: were the policy in mode enforce, this would be pkix
    alias of: b.example.net
    addresses: 192.0.2.1, 2001:db8::1; secure
    failed: AAAA: timeout
    TLSA base: mx1.example.org
    TLSA: 3 1 1 9999999999999999999999999999999999999999999999999999999999999999
    TLSA not used: 1 1 1 ab: usage 1 is not for SMTP
    certificate for: mx1.example.org, example.org; asked for with SNI mx1.example.org

Lookups
  _26._tcp.mx1.example.org TLSA: failed: timeout (no answer from 192.0.2.53), TTL 0 s
  _mta-sts.example.org TXT: no such name, insecure, TTL 300 s
  example.org MX: answered, secure, TTL 300 s
    10 mx1.example.org
  mx1.example.org A: answered, insecure (no DS for example.net), TTL 300 s
    alias of a.example.net
    alias of b.example.net
    192.0.2.1
  mx1.example.org CNAME: answered, secure, TTL 300 s
    mx1.example.org
  mx1.example.org AAAA: no such record, secure, TTL 300 s

Policy
  MTA-STS: mode enforce, id 20260101, mx *.example.org, in force until 2026-01-09T02:00:00Z
  fetched 2026-01-02T02:00:00Z, its id last seen 2026-01-02T03:00:00Z, refreshed after 2026-01-03T02:00:00Z
  last HTTPS fetch before this question: 2026-01-02T02:00:00Z, for id 20260101: status 404
  HTTPS fetch of this question: 2026-01-02T03:00:00Z, for id 20260102: connection refused

Remedy
  either the MX records are forged or the receiving domain forgot to list the host in its policy
)");
}

TEST_CASE("explain: records of each type, and many of them, are bounded and readable") {
  Evidence e;
  e.question = Question::parse("example.org");
  e.answers[key("example.org", RrType::TXT)] =
      answer(dns::Outcome::data, dns::Security::insecure, {{3, 'a', '\n', 'b'}, {9, 'x'}});
  e.answers[key("example.org", RrType::TLSA)] =
      answer(dns::Outcome::data, dns::Security::secure, {{3, 1, 1, 0xab}, {3, 1}});
  e.answers[key("example.org", RrType::A)] =
      answer(dns::Outcome::data, dns::Security::secure, std::vector<Bytes>(50, Bytes{192, 0, 2, 7}));
  const std::string text = explain_text(Decision{}, e);
  CHECK(text.find("    \"a\\x0ab\"\n    \\# 2 0978\n") != std::string::npos);
  CHECK(text.find("    3 1 1 ab\n    \\# 2 0301\n") != std::string::npos);
  CHECK(text.find("    192.0.2.7\n    and 30 more\n") != std::string::npos);
}

TEST_CASE("evidence to JSON and back is the same evidence") {
  const Evidence e = full_evidence();
  const Decision d = decide(e).decision;
  const std::string json = explain_json(d, e);
  CHECK(json.rfind(R"({"schema":1,"decision":{"schema":1,"domain":"example.org",)", 0) == 0);
  const auto read = evidence_from_json(json);
  REQUIRE_MESSAGE(read, read.error().text());
  CHECK(explain_json(d, *read) == json);
  CHECK(decision_json(decide(*read).decision) == decision_json(d));

  const auto alone = evidence_from_json(evidence_object(e).dump());
  REQUIRE_MESSAGE(alone, alone.error().text());
  CHECK(explain_json(d, *alone) == json);

  REQUIRE(read->answers.size() == e.answers.size());
  for (const auto& [name, found] : e.answers) {
    const Answer& back = read->answers.at(name);
    CHECK(back.outcome == found.outcome);
    CHECK(back.security == found.security);
    CHECK(back.failure == found.failure);
    CHECK(back.cause == found.cause);
    CHECK(back.aliases == found.aliases);
    CHECK(back.rdata == found.rdata);
    CHECK(back.ttl == found.ttl);
  }
  CHECK(read->question.port == 26);
  CHECK(read->question.fresh);
  CHECK(read->stored.policy->body == body);
  CHECK(read->stored.policy->fetched == e.stored.policy->fetched);
  CHECK(read->stored.policy->txt_seen == e.stored.policy->txt_seen);
  CHECK_FALSE(read->rules.dane_insecure_mx);
  CHECK(read->rules.override->kind == OverrideKind::pkix);
  CHECK(read->rules.override->match.at(0).text() == "*.example.net");
}

TEST_CASE(
    "evidence to JSON and back: nothing known, a fault, an address literal, no domain, a body that is not UTF-8") {
  Evidence fault;
  fault.question = Question::parse("[smart.example]");
  fault.fault = Fault{Reason::trust_anchor, "/usr/share/dns/root.key: no such file"};
  Evidence literal;
  literal.question = Question::parse("[IPv6:2001:db8::1]");
  Evidence invalid;
  invalid.question = Question::parse("\xff..\n");
  Evidence octets;
  octets.question = Question::parse("example.org");
  octets.fetch = sts::FetchResult{now, "1", "version: STSv1\n\xff\n", ""};
  for (const Evidence& e : {Evidence{}, fault, literal, invalid, octets}) {
    const std::string json = explain_json(Decision{}, e);
    const auto read = evidence_from_json(json);
    REQUIRE_MESSAGE(read, read.error().text());
    CHECK(explain_json(Decision{}, *read) == json);
    CHECK(read->question.mx == e.question.mx);
    CHECK(read->question.address_literal == e.question.address_literal);
    if (e.fetch) CHECK(read->fetch->body == e.fetch->body);
  }
}

TEST_CASE("evidence with a field that this version does not know is read all the same") {
  Json object = evidence_object(full_evidence());
  const std::string before =
      evidence_from_json(object.dump()).map([](const Evidence& e) { return explain_json(Decision{}, e); }).value();
  object["new"] = {{"deep", Json::array({1, 2.5, nullptr})}};
  object["answers"][0]["new"] = true;
  object["question"]["new"] = "x";
  const auto read = evidence_from_json(object.dump());
  REQUIRE_MESSAGE(read, read.error().text());
  CHECK(explain_json(Decision{}, *read) == before);
}

TEST_CASE("evidence is never weaker for what is lost: each field that is missing is an error") {
  const Json object = evidence_object(full_evidence());
  const auto fields = fields_of(object);
  REQUIRE(fields.size() >= 40);
  for (const auto& field : fields) {
    Json damaged = object;
    damaged.at(field.parent_pointer()).erase(field.back());
    const auto read = evidence_from_json(damaged.dump());
    CHECK_MESSAGE(!read, field.to_string());
    if (!read) check_one_line(read.error().text());
  }
}

TEST_CASE("evidence: a value of another type is an error, whatever the field") {
  const Json object = evidence_object(full_evidence());
  for (const auto& field : fields_of(object)) {
    for (const Json& other : {Json(-1), Json(1.5), Json(Json::array({Json::array()})), Json(1e300)}) {
      Json damaged = object;
      damaged.at(field) = other;
      const auto read = evidence_from_json(damaged.dump());
      CHECK_MESSAGE(!read, field.to_string(), " ", other.dump());
    }
  }
}

TEST_CASE("evidence: unknown and contradictory values are errors that name the place") {
  const auto error_of = [](const char* pointer, const Json& value) {
    Json object = evidence_object(full_evidence());
    object.at(Json::json_pointer(pointer)) = value;
    const auto read = evidence_from_json(object.dump());
    return read ? std::string("read") : read.error().what;
  };
  // answers[0] is a lookup that timed out, answers[2] an answer with data.
  CHECK(error_of("/answers/0/failure", "sulking") == ".answers[0].failure has the unknown value \"sulking\"");
  CHECK(error_of("/answers/0/type", "ZZ") == ".answers[0].type has the unknown value \"ZZ\"");
  CHECK(error_of("/answers/0/name", "a..b") == ".answers[0].name has the unknown value \"a..b\"");
  CHECK(error_of("/answers/0/failure", "none") ==
        ".answers[0] has an outcome and a failure that contradict each other");
  CHECK(error_of("/answers/0/security", "secure") ==
        ".answers[0] has an outcome and a security that contradict each other");
  CHECK(error_of("/answers/2/security", "bogus") ==
        ".answers[2] has an outcome and a security that contradict each other");
  CHECK(error_of("/answers/2/rdata", Json::array()) ==
        ".answers[2] has an outcome and rdata that contradict each other");
  CHECK(error_of("/answers/2/rdata", Json::array({"0g"})) == ".answers[2].rdata[0] has the unknown value \"0g\"");
  CHECK(error_of("/answers/2/ttl", 4294967296U * 2U) ==
        ".answers[2].ttl is not a whole number from 0 to 4294967295" + std::string(""));
  CHECK(error_of("/question/port", 65536) == ".question.port is not a whole number from 0 to 65535");
  CHECK(error_of("/question/domain", "example.com") == ".question.domain is not what .question.text says");
  CHECK(error_of("/question/address_literal", true) == ".question.address_literal is not what .question.text says");
  CHECK(error_of("/now", "yesterday") == ".now is not a time such as 2026-01-02T03:04:05Z");
  CHECK(error_of("/rules/override/kind", "weak") == ".rules.override.kind has the unknown value \"weak\"");
  CHECK(error_of("/rules/override/match/0", "*.*") == ".rules.override.match[0] has the unknown value \"*.*\"");
  CHECK(error_of("/store_fault/reason", "weather") == ".store_fault.reason has the unknown value \"weather\"");

  Json twice = evidence_object(full_evidence());
  twice["answers"].push_back(twice["answers"][0]);
  const auto read = evidence_from_json(twice.dump());
  REQUIRE_FALSE(read);
  CHECK(read.error().what == ".answers[6] answers a question that was answered before");

  const auto newer = evidence_from_json(R"({"schema":2,"evidence":{}})");
  REQUIRE_FALSE(newer);
  CHECK(newer.error().text() == "evidence: schema is not 1; read it with the version that wrote it");
}

TEST_CASE("evidence: every truncation, and octets changed at random, end in evidence or a one-line error") {
  const std::string json = explain_json(mismatch_decision(), full_evidence());
  for (std::size_t length = 0; length < json.size(); length += 7) {
    const auto read = evidence_from_json(std::string_view(json).substr(0, length));
    REQUIRE_FALSE(read);
    check_one_line(read.error().text());
  }
  std::mt19937 random(7672);
  std::uniform_int_distribution<std::size_t> position(0, json.size() - 1);
  std::uniform_int_distribution<int> octet(0, 255);
  int refused = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string damaged = json;
    for (int i = 0; i < 3; ++i) damaged[position(random)] = static_cast<char>(octet(random));
    const auto read = evidence_from_json(damaged);
    if (read) {
      CHECK_FALSE(decision_json(decide(*read).decision).empty());
    } else {
      ++refused;
      check_one_line(read.error().text());
    }
  }
  CHECK(refused > 1000);
}

TEST_CASE("evidence: rubbish, deep nesting and size are refused at bounded cost") {
  const std::string deep(200000, '[');
  std::string deep_object;
  for (int i = 0; i < 100000; ++i) deep_object += R"({"a":)";
  // Keys enough to make a search from end to end felt.
  std::string keys = "{";
  for (int i = 0; keys.size() < 1000000; ++i) keys += "\"" + std::to_string(i) + "\":0,";
  keys += "\"x\":0}";
  const std::vector<std::string> inputs = {"",
                                           " ",
                                           "null",
                                           "[]",
                                           "{}",
                                           "1e999",
                                           "\"\\ud800\"",
                                           "\xff\xfe",
                                           std::string(10, '\0'),
                                           "{\"evidence\":[]}",
                                           "{\"evidence\":{\"question\":[]}}",
                                           "{\"schema\":\"1\"}",
                                           deep,
                                           deep + std::string(200000, ']'),
                                           deep_object,
                                           keys,
                                           std::string(2U << 20U, ' ')};
  for (const std::string& input : inputs) {
    CAPTURE(input.substr(0, 40));
    const auto read = evidence_from_json(input);
    REQUIRE_FALSE(read);
    check_one_line(read.error().text());
    CHECK(read.error().of == "evidence");
  }
  CHECK(evidence_from_json(deep).error().what == "nested more than 32 deep");
  CHECK(evidence_from_json(std::string(2U << 20U, ' ')).error().what == "more than 1048576 octets");
  CHECK(evidence_from_json("{\"a\":[}").error().what == "not JSON, at octet 7");

  // A bracket in a string is no nesting.
  Json object = evidence_object(full_evidence());
  object["stored"]["error"] = "\\\"" + std::string(100, '[');
  CHECK(evidence_from_json(object.dump()));
}

}  // namespace sealane
