// What `sealane check` says, from what was seen. Certificates and connections are the laboratory's
// (tests/lab/checks.py).
#include <doctest/doctest.h>

#include <algorithm>

#include "core/decide/decide.h"
#include "shims/cli/check/judge.h"
#include "tests/unit/fakes.h"

namespace sealane::check {
namespace {

using dns::RrType;
using dns::Security;

class Accepting final : public Verifier {
 public:
  [[nodiscard]] Verdict verify(const Demand&, std::span<const Bytes>, WallTime) const override {
    return {true, Reason::verified, "fake"};
  }
};

// example.org, insecure, with two hosts and a policy that lists one of them.
struct Scene {
  Evidence evidence;
  Live live;

  Scene() {
    evidence.question = Question::parse("example.org");
    evidence.now = build_date() + Seconds{1000};
    add("example.org", RrType::MX, {fakes::mx(10, "mx1.example.org"), fakes::mx(20, "mx2.example.org")});
    for (const std::string host : {"mx1.example.org", "mx2.example.org"}) {
      add(host, RrType::A, {fakes::a(1)});
      add(host, RrType::AAAA, {});
    }
    add("_mta-sts.example.org", RrType::TXT, {fakes::txt("v=STSv1; id=2;")});
    add("mta-sts.example.org", RrType::A, {fakes::a(2)});
    fetch("mode: enforce\nmx: mx1.example.org\nmax_age: 1209600\n");
  }
  void add(const std::string& name, RrType type, std::vector<Bytes> rdata) {
    dns::Answer answer;
    answer.outcome = rdata.empty() ? dns::Outcome::nodata : dns::Outcome::data;
    answer.failure = dns::Failure::none;
    answer.security = Security::insecure;
    answer.rdata = std::move(rdata);
    answer.ttl = 300;
    evidence.answers[{fakes::domain(name), type}] = answer;
  }
  void fetch(const std::string& lines) {
    evidence.fetch = sts::FetchResult{evidence.now, "2", "version: STSv1\n" + lines, ""};
  }
  std::vector<Remark> remarks() {
    live.decision = decide(evidence).decision;
    live.evidence = evidence;
    return judge(live, Accepting());
  }
  // How many of this weight are about `of` and say `part`, in the fault or in the remedy.
  long said(Weight weight, const std::string& of, const std::string& part) {
    const auto all = remarks();
    return std::count_if(all.begin(), all.end(), [&](const Remark& r) {
      return r.weight == weight && r.of == of && (r.what + "; " + r.remedy).find(part) != std::string::npos;
    });
  }
  long findings() {
    const auto all = remarks();
    return std::count_if(all.begin(), all.end(), [](const Remark& r) { return r.weight == Weight::finding; });
  }
};

TEST_CASE("RFC 8461 §4.1: an MX host that the policy does not list") {
  Scene scene;
  CHECK(scene.said(Weight::finding, "mx2.example.org", "senders do not deliver to it") == 1);
  CHECK(scene.said(Weight::finding, "mx2.example.org", "add \"mx: mx2.example.org\"") == 1);
  CHECK(scene.findings() == 1);
  scene.fetch("mode: testing\nmx: mx1.example.org\nmax_age: 1209600\n");
  CHECK(scene.said(Weight::finding, "mx2.example.org", "in mode enforce") == 1);
  CHECK(scene.said(Weight::note, "example.org", "mode testing") == 1);
  scene.fetch("mode: enforce\nmx: *.example.org\nmax_age: 1209600\n");
  CHECK(scene.findings() == 0);
}

TEST_CASE("a pattern for a host that is no MX is a note") {
  Scene scene;
  scene.fetch("mode: enforce\nmx: *.example.org\nmx: old.example.net\nmax_age: 1209600\n");
  CHECK(scene.said(Weight::note, "example.org", "the policy lists old.example.net") == 1);
  CHECK(scene.findings() == 0);
}

TEST_CASE("RFC 8461 §3.1: a policy that changed under its old id") {
  Scene scene;
  scene.fetch("mode: enforce\nmx: *.example.org\nmax_age: 1209600\n");
  const auto store = [&scene](const std::string& id, const std::string& body) {
    scene.evidence.stored.policy = sts::StoredPolicy{id, body, scene.evidence.now - Seconds{3600}, WallTime{}};
  };
  store("2", scene.evidence.fetch->body);
  CHECK(scene.findings() == 0);
  store("1", "version: STSv1\nmode: testing\nmx: *.example.org\nmax_age: 1209600\n");
  CHECK(scene.findings() == 0);
  store("2", "version: STSv1\nmode: testing\nmx: *.example.org\nmax_age: 1209600\n");
  CHECK(scene.said(Weight::finding, "example.org", "the policy has changed, but its id has not") == 1);
  CHECK(scene.findings() == 1);
}

TEST_CASE("RFC 8461 §3.3: a policy host that is delegated by CNAME, without the certificate") {
  Scene scene;
  scene.evidence.fetch = sts::FetchResult{scene.evidence.now, "2", "", "certificate is for host.provider.test"};
  CHECK(scene.said(Weight::finding, "mta-sts.example.org", "its web server must answer with status 200") == 1);
  auto& address = scene.evidence.answers[{fakes::domain("mta-sts.example.org"), RrType::A}];
  address.aliases = {"sts.provider.test"};
  CHECK(scene.said(Weight::finding, "mta-sts.example.org",
                   "alias of sts.provider.test, whose web server must have a certificate for mta-sts.example.org") ==
        1);
  CHECK(scene.findings() == 1);
}

TEST_CASE("RFC 8461 §3.1: a TXT record that is none") {
  Scene scene;
  scene.evidence.fetch.reset();
  scene.add("_mta-sts.example.org", RrType::TXT, {fakes::txt("v=STSv1; id=2;;")});
  CHECK(scene.said(Weight::finding, "_mta-sts.example.org", "publish exactly one record") == 1);
}

TEST_CASE("RFC 8461 §3.4: a subdomain without a policy, whose parent has one") {
  Scene scene;
  scene.evidence.fetch.reset();
  scene.add("_mta-sts.example.org", RrType::TXT, {});
  CHECK(scene.findings() == 0);
  scene.live.parent = "org";
  CHECK(scene.said(Weight::finding, "example.org", "that of org is not for it") == 1);
}

TEST_CASE("RFC 8461 §3.2: a short max_age") {
  Scene scene;
  scene.fetch("mode: enforce\nmx: *.example.org\nmax_age: 3600\n");
  CHECK(scene.said(Weight::finding, "example.org", "max_age is 3600 seconds") == 1);
}

TEST_CASE("RFC 7672 §2.2.1: DANE with unsigned MX records, and for one host of two") {
  Scene scene;
  scene.fetch("mode: enforce\nmx: *.example.org\nmax_age: 1209600\n");
  for (const auto type : {RrType::A, RrType::AAAA}) {
    scene.evidence.answers[{fakes::domain("mx1.example.org"), type}].security = Security::secure;
  }
  scene.add("_25._tcp.mx1.example.org", RrType::TLSA, {fakes::tlsa_3_1_1(7)});
  scene.evidence.answers[{fakes::domain("_25._tcp.mx1.example.org"), RrType::TLSA}].security = Security::secure;
  CHECK(scene.said(Weight::finding, "example.org", "its MX records are not signed") == 1);
  CHECK(scene.findings() == 1);  // the policy demands a certificate of the other host
  scene.evidence.rules.mta_sts = false;
  CHECK(scene.said(Weight::finding, "mx2.example.org", "has no TLSA records where other hosts") == 1);
}

TEST_CASE("connections: each stage is told, once per address, and no route is nobody's fault") {
  Scene scene;
  scene.fetch("mode: enforce\nmx: *.example.org\nmax_age: 1209600\n");
  const auto connect = [&scene](Stage stage, const std::string& address) {
    Connection connection;
    connection.host = "mx1.example.org";
    connection.address = address;
    connection.stage = stage;
    connection.error = "why";
    scene.live.connections.push_back(connection);
  };
  connect(Stage::no_route, "2001:db8::1");
  CHECK(scene.findings() == 0);
  CHECK(scene.said(Weight::note, "mx1.example.org [2001:db8::1]", "no route") == 1);
  connect(Stage::no_connection, "192.0.2.1");
  connect(Stage::no_smtp, "192.0.2.2");
  connect(Stage::no_starttls, "192.0.2.3");
  connect(Stage::starttls_refused, "192.0.2.4");
  connect(Stage::tls_failed, "192.0.2.5");
  CHECK(scene.findings() == 5);
  CHECK(scene.said(Weight::finding, "mx1.example.org [192.0.2.1]", "accepts no connection: why") == 1);
  CHECK(scene.said(Weight::finding, "mx1.example.org [192.0.2.3]", "did not offer STARTTLS") == 1);
}

TEST_CASE("RFC 8461 §7.2: TLS 1.1 is a finding, whatever is demanded") {
  Scene scene;
  scene.fetch("mode: enforce\nmx: *.example.org\nmax_age: 1209600\n");
  Connection connection;
  connection.host = "mx1.example.org";
  connection.stage = Stage::tls;
  connection.version = "TLSv1.1";
  scene.live.connections.push_back(connection);
  CHECK(scene.findings() == 1);
  CHECK(verdict_of(scene.live, connection, Accepting()).reason == Reason::tls_version);
  scene.fetch("mode: none\nmax_age: 1209600\n");
  CHECK(scene.said(Weight::finding, "mx1.example.org []", "TLSv1.1") == 1);
  CHECK(verdict_of(scene.live, connection, Accepting()).ok);
}

}  // namespace
}  // namespace sealane::check
