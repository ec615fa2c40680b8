// The rules against tests/golden/decisions.txt: adding a case is a few lines there. How a case reads is told at its
// top.
#include "core/decide/decide.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "core/config/config.h"
#include "core/decide/sts_rules.h"
#include "tests/unit/vectors.h"

namespace sealane {
namespace {

using dns::Answer;
using dns::RrType;

const WallTime now = parse_rfc3339("2026-11-30T12:00:00Z").value();

struct Case {
  std::string title;
  int line = 0;
  std::vector<std::pair<std::string, std::string>> given;  // key, value; in order
  std::vector<std::string> expect;
};

std::vector<std::string> words(const std::string& text, char separator = ' ') {
  std::vector<std::string> list;
  std::istringstream in(text);
  for (std::string word; std::getline(in, word, separator);) {
    if (!word.empty()) list.push_back(word);
  }
  return list;
}

std::vector<Case> read_cases(const std::string& path) {
  std::ifstream in(path);
  std::vector<Case> cases;
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.empty() || line[0] == '#') continue;
    if (line.rfind("== ", 0) == 0) {
      cases.push_back({line.substr(3), number, {}, {}});
    } else if (line.rfind("= ", 0) == 0) {
      cases.back().expect.push_back(line.substr(2));
    } else {
      const auto colon = line.find(": ");
      REQUIRE_MESSAGE(colon != std::string::npos, "line ", number, ": ", line);
      cases.back().given.emplace_back(line.substr(0, colon), line.substr(colon + 2));
    }
  }
  return cases;
}

Bytes wire_name(const std::string& name) {
  Bytes wire;
  if (name != ".") {
    for (std::string label : words(name, '.')) {
      const auto escape = label.find("\\046");  // a dot inside a label
      if (escape != std::string::npos) label.replace(escape, 4, ".");
      wire.push_back(static_cast<std::uint8_t>(label.size()));
      wire.insert(wire.end(), label.begin(), label.end());
    }
  }
  wire.push_back(0);
  return wire;
}

std::string expand_tlsa(std::string text) {
  const std::map<std::string, std::string> shorthand = {
      {"ee", "3 1 1 " + std::string(64, 'a')},       {"ee2", "3 1 1 " + std::string(64, 'b')},
      {"ee512", "3 1 2 " + std::string(128, 'c')},   {"ta", "2 0 1 " + std::string(64, 'd')},
      {"pkix-ee", "1 1 1 " + std::string(64, 'a')},  {"pkix-ta", "0 0 1 " + std::string(64, 'a')},
      {"short", "3 1 1 " + std::string(62, 'a')},    {"type9", "3 1 9 " + std::string(64, 'a')},
      {"selector9", "3 9 1 " + std::string(64, 'a')}};
  const auto found = shorthand.find(text);
  return found == shorthand.end() ? text : found->second;
}

Bytes rdata_of(RrType type, const std::string& text) {
  if (type == RrType::MX) {
    const auto parts = words(text);
    const auto preference = static_cast<std::uint16_t>(std::stoul(parts.at(0)));
    Bytes rdata{static_cast<std::uint8_t>(preference >> 8U), static_cast<std::uint8_t>(preference & 255U)};
    const Bytes name = wire_name(parts.at(1));
    rdata.insert(rdata.end(), name.begin(), name.end());
    return rdata;
  }
  if (type == RrType::TXT) {
    Bytes rdata{static_cast<std::uint8_t>(text.size())};
    rdata.insert(rdata.end(), text.begin(), text.end());
    return rdata;
  }
  if (type == RrType::TLSA) {
    if (text.rfind("\\#", 0) == 0) return from_hex(words(text).size() > 1 ? words(text)[1] : "").value();
    const auto record = dane::parse_tlsa_text(expand_tlsa(text));
    REQUIRE_MESSAGE(record, text);
    Bytes rdata{record->usage, record->selector, record->matching_type};
    rdata.insert(rdata.end(), record->data.begin(), record->data.end());
    return rdata;
  }
  if (type == RrType::A) {
    Bytes rdata;
    for (const auto& octet : words(text, '.')) rdata.push_back(static_cast<std::uint8_t>(std::stoul(octet)));
    return rdata;
  }
  if (type == RrType::AAAA) return Bytes{0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return wire_name(text);  // CNAME
}

// "NAME TYPE STATUS[/TTL] [->ALIAS…] DATA[ | DATA…]"; see the top of the golden file.
std::pair<LookupKey, Answer> read_zone_line(const std::string& line) {
  auto parts = words(line);
  REQUIRE_MESSAGE(parts.size() >= 3, line);
  LookupKey key{Domain::parse(parts[0]).value(), dns::rr_type_from_text(parts[1]).value()};
  std::string status = parts[2];
  std::uint32_t ttl = 300;
  if (const auto slash = status.find('/'); slash != std::string::npos) {
    ttl = static_cast<std::uint32_t>(std::stoul(status.substr(slash + 1)));
    status.resize(slash);
  }
  if (const auto failure = dns::failure_from_text(status)) return {key, dns::failed(*failure, "")};
  Answer answer;
  answer.security = dns::security_from_text(status).value();
  answer.failure = dns::Failure::none;
  answer.ttl = ttl;
  std::size_t next = 3;
  while (next < parts.size() && parts[next].rfind("->", 0) == 0) answer.aliases.push_back(parts[next++].substr(2));
  std::string rest;
  for (; next < parts.size(); ++next) rest += (rest.empty() ? "" : " ") + parts[next];
  if (rest == "-" || rest == "!") {
    answer.outcome = rest == "-" ? dns::Outcome::nodata : dns::Outcome::nxdomain;
    return {key, answer};
  }
  answer.outcome = dns::Outcome::data;
  for (std::string item : words(rest, '|')) {
    while (!item.empty() && item.front() == ' ') item.erase(0, 1);
    while (!item.empty() && item.back() == ' ') item.pop_back();
    answer.rdata.push_back(rdata_of(key.type, item));
  }
  return {key, answer};
}

std::map<std::string, std::string> options(const std::string& text) {
  std::map<std::string, std::string> map;
  for (const auto& word : words(text)) {
    const auto equals = word.find('=');
    map[word.substr(0, equals)] = equals == std::string::npos ? "" : word.substr(equals + 1);
  }
  return map;
}

// "enforce mx=a,b max_age=600"
std::string policy_body(const std::string& text) {
  const auto map = options(text);
  std::string body = "version: STSv1\nmode: " + words(text).at(0) + "\nmax_age: ";
  body += map.count("max_age") != 0 ? map.at("max_age") : "604800";
  body += "\n";
  if (map.count("mx") != 0) {
    for (const auto& mx : words(map.at("mx"), ',')) body += "mx: " + mx + "\n";
  }
  return body;
}

struct Replay {
  Evidence evidence;
  std::map<LookupKey, Answer> zone;
  std::set<std::string> pending;  // "NAME TYPE"
  std::optional<sts::FetchResult> fetch;
  dns::Security absent = dns::Security::secure;  // of what no line speaks of
  int rounds = 0;
  bool fetch_asked = false;
  bool fetch_needed = false;
  std::set<std::string> asked;

  Decision run() {
    for (;;) {
      Outcome outcome = decide(evidence);
      bool progress = false;
      for (const LookupKey& key : outcome.wanted.lookups) {
        const std::string text = key.name.text() + " " + dns::to_text(key.type);
        asked.insert(text);
        if (pending.count(text) != 0) continue;
        Answer none;
        none.outcome = dns::Outcome::nodata;
        none.security = absent;
        none.failure = dns::Failure::none;
        none.ttl = 300;
        const auto found = zone.find(key);
        evidence.answers.emplace(key, found == zone.end() ? none : found->second);
        progress = true;
      }
      if (outcome.wanted.fetch) {
        fetch_asked = true;
        fetch_needed = outcome.wanted.fetch_needed;
        if (!progress && fetch && !evidence.fetch && outcome.wanted.fetch_needed) {
          evidence.fetch = fetch;
          evidence.fetch->id = outcome.wanted.fetch_id;
          progress = true;
        }
      }
      if (!progress) return outcome.decision;
      ++rounds;
      REQUIRE(rounds < 20);
    }
  }
};

Replay make_replay(const Case& c) {
  Replay replay;
  Evidence& evidence = replay.evidence;
  evidence.now = now;
  std::uint16_t port = 25;
  bool mx = true;
  bool fresh = false;
  std::string name = "example.org";
  for (const auto& [key, value] : c.given) {
    if (key == "ask") {
      const auto parts = words(value);
      name = parts.empty() ? value : parts.at(0);
      const auto map = options(value);
      mx = map.count("no-mx") == 0;
      fresh = map.count("fresh") != 0;
      if (map.count("port") != 0) port = static_cast<std::uint16_t>(std::stoul(map.at("port")));
    } else if (key == "use") {  // a usual zone, whose lines the case's own may replace
      const std::string mx_status = value == "signed" ? "secure" : "insecure";
      const std::string host_status = value == "unsigned" ? "insecure" : "secure";
      replay.absent = dns::security_from_text(host_status).value();
      replay.zone.insert(read_zone_line("example.org MX " + mx_status + " 10 mx.example.org"));
      replay.zone.insert(read_zone_line("mx.example.org A " + host_status + " 192.0.2.1"));
    } else if (key == "zone") {
      const auto line = read_zone_line(value);
      replay.zone.insert_or_assign(line.first, line.second);
    } else if (key == "absent") {
      replay.absent = dns::security_from_text(value).value();
    } else if (key == "pending") {
      replay.pending.insert(value);
    } else if (key == "stored") {  // "enforce id=1 age=60 attempt=60 mx=… max_age=…"
      const auto map = options(value);
      const Seconds age{std::stol(map.count("age") != 0 ? map.at("age") : "3600")};
      const Seconds attempt{std::stol(map.count("attempt") != 0 ? map.at("attempt") : std::to_string(age.count()))};
      evidence.stored.policy = sts::StoredPolicy{map.at("id"), policy_body(value), now - age, now - age};
      evidence.stored.attempted = now - attempt;
      evidence.stored.attempted_id = map.at("id");
      if (map.count("attempt_id") != 0) {  // a later attempt, which failed
        evidence.stored.attempted_id = map.at("attempt_id");
        evidence.stored.error = "status 404";
      }
    } else if (key == "attempted") {  // a failed fetch, nothing stored: "id=1 age=60"
      const auto map = options(value);
      evidence.stored.attempted = now - Seconds{std::stol(map.at("age"))};
      evidence.stored.attempted_id = map.at("id");
      evidence.stored.error = "status 404";
    } else if (key == "fetch") {
      sts::FetchResult result;
      result.started = now + Seconds{1};
      if (value.rfind("error", 0) == 0) {
        result.error = value;
      } else {
        result.body = policy_body(value);
      }
      replay.fetch = result;
    } else if (key == "set") {
      if (value == "dane=off") evidence.rules.dane = false;
      if (value == "mta_sts=off") evidence.rules.mta_sts = false;
      if (value == "dane_insecure_mx=opportunistic") evidence.rules.dane_insecure_mx = false;
    } else if (key == "override") {
      const auto config = parse_config("[override]\n" + value + "\n", "test");
      REQUIRE_MESSAGE(config, config.error().text());
      evidence.rules.override = config->override_for(Domain::parse("example.org").value());
      REQUIRE(evidence.rules.override);
    } else if (key == "fault") {
      evidence.fault = Fault{reason_from_text(value).value(), "text"};
    } else if (key == "store") {
      evidence.store_fault = Fault{Reason::store, value};
    } else {
      FAIL("line ", c.line, ": unknown key ", key);
    }
  }
  evidence.question = Question::parse(name, port, mx, fresh);
  return replay;
}

// What a line of expectation can name.
std::map<std::string, std::string> facts(const Decision& d, const Replay& replay) {
  const auto yes_no = [](bool b) { return std::string(b ? "yes" : "no"); };
  std::map<std::string, std::string> map;
  map["action"] = to_text(d.action);
  map["reason"] = to_text(d.reason);
  map["mechanism"] = to_text(d.mechanism);
  map["mx"] = to_text(d.mx_dnssec);
  map["others"] = to_text(d.others);
  map["floor"] = to_text(d.floor);
  map["implicit"] = yes_no(d.implicit);
  map["complete"] = yes_no(d.complete);
  map["next_hop"] = d.next_hop;
  map["hosts"] = std::to_string(d.hosts.size());
  map["sts"] = d.sts ? std::string(to_text(d.sts->state)) : "null";
  map["ttl"] = std::to_string((d.expires - d.decided).count());
  map["fetch"] = !replay.fetch_asked ? "no" : replay.fetch_needed ? "needed" : "aside";
  map["rounds"] = std::to_string(replay.rounds);
  return map;
}

std::map<std::string, std::string> facts(const HostDecision& h) {
  std::map<std::string, std::string> map;
  map["tls"] = to_text(h.tls);
  map["reason"] = to_text(h.reason);
  map["would"] = h.would ? std::string(to_text(*h.would)) : "null";
  map["sni"] = h.sni;
  map["base"] = h.tlsa_base;
  map["tlsa"] = std::to_string(h.tlsa.size());
  map["unused"] = std::to_string(h.tlsa_unused.size());
  map["addresses"] = std::to_string(h.addresses.size());
  map["dnssec"] = to_text(h.address_dnssec);
  map["failed"] = std::to_string(h.failed.size());
  map["preference"] = std::to_string(h.preference);
  for (const auto& name : h.names) map["names"] += (map["names"].empty() ? "" : ",") + name;
  return map;
}

void check_facts(const std::string& line, const std::map<std::string, std::string>& have, std::size_t skip_words) {
  const auto parts = words(line);
  for (std::size_t i = skip_words; i < parts.size(); ++i) {
    const auto equals = parts[i].find('=');
    REQUIRE_MESSAGE(equals != std::string::npos, line);
    const auto key = parts[i].substr(0, equals);
    REQUIRE_MESSAGE(have.count(key) != 0, line);
    CHECK_MESSAGE(have.at(key) == parts[i].substr(equals + 1), line, ": ", key, " is ", have.at(key));
  }
}

void check(const Case& c) {
  Replay replay = make_replay(c);
  const Decision d = replay.run();
  REQUIRE_MESSAGE(!c.expect.empty(), "a case without expectation");
  for (const std::string& line : c.expect) {
    const auto parts = words(line);
    if (parts.at(0) == "asked" || parts.at(0) == "unasked") {  // "asked NAME TYPE"
      const bool asked = replay.asked.count(parts.at(1) + " " + parts.at(2)) != 0;
      CHECK_MESSAGE(asked == (parts[0] == "asked"), line);
    } else if (parts.at(0) == "host") {  // "host N NAME key=value…"
      const auto index = std::stoul(parts.at(1));
      REQUIRE_MESSAGE(index < d.hosts.size(), line);
      CHECK_MESSAGE(d.hosts[index].host == parts.at(2), line, ": host is ", d.hosts[index].host);
      check_facts(line, facts(d.hosts[index]), 3);
    } else {
      check_facts(line, facts(d, replay), 0);
    }
  }
}

}  // namespace

TEST_CASE("golden decisions") {
  const char* path = std::getenv("SEALANE_GOLDEN");
  REQUIRE(path != nullptr);
  const auto cases = read_cases(std::string(path) + "/decisions.txt");
  REQUIRE(cases.size() >= 100);
  for (const Case& c : cases) {
    INFO("line ", c.line, ": ", c.title);
    check(c);
  }
}

TEST_CASE("every discovery and names vector") {
  const auto cases = read_cases(std::string(std::getenv("SEALANE_GOLDEN")) + "/vectors.txt");
  // Of an HTTPS connection, not of a decision: https-001 looks at the server name (curl_fetcher_test.cc).
  const std::string elsewhere = "names-008";
  std::size_t checked = 0;
  for (const std::string kind : {"discovery", "names"}) {
    for (const test::Json& vector : test::vectors_of_kind(kind)) {
      const auto id = vector.at("id").get<std::string>();
      if (id == elsewhere) continue;
      const std::string title =
          id + ": " + vector.at("input").get<std::string>() + " => " + vector.at("expect").get<std::string>();
      const auto found = std::find_if(cases.begin(), cases.end(), [&](const Case& c) { return c.title == title; });
      REQUIRE_MESSAGE(found != cases.end(), "no case is titled ", title);
      INFO("line ", found->line, ": ", title);
      check(*found);
      ++checked;
    }
  }
  CHECK(checked == cases.size());
}

TEST_CASE("the zero value is the safe one") {
  const Decision decision;
  CHECK(decision.action == Action::defer);
  CHECK(decision.mx_dnssec == dns::Security::bogus);
  CHECK(decision.others == Others::skip);
  CHECK(decision.floor == Tls::skip);
  CHECK(HostDecision{}.tls == Tls::skip);
  CHECK_FALSE(Answer{}.answered());
}

TEST_CASE(
    "decision.md, limits: fifty hosts are looked at, the others are skipped and keep the domain from being given up") {
  Replay replay;
  replay.evidence.now = now;
  replay.evidence.question = Question::parse("example.org");
  Answer mx;
  mx.outcome = dns::Outcome::data;
  mx.security = dns::Security::insecure;
  mx.failure = dns::Failure::none;
  mx.ttl = 300;
  for (int i = 0; i < 200; ++i)
    mx.rdata.push_back(rdata_of(RrType::MX, "10 m" + std::to_string(1000 + i) + ".example.org"));
  replay.zone[{Domain::parse("example.org").value(), RrType::MX}] = mx;
  const Decision decision = replay.run();
  REQUIRE(decision.hosts.size() == 200);
  CHECK(decision.hosts[49].reason == Reason::addr_none);
  CHECK(decision.hosts[50].reason == Reason::limit);
  CHECK(decision.action == Action::defer);
  CHECK(replay.asked.size() == 2 + 2 * max_hosts);
}

}  // namespace sealane
