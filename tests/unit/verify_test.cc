#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "core/verify/demand.h"
#include "core/verify/verifier.h"

using namespace sealane;

namespace {

// ---- A small certificate authority

const WallTime now = std::chrono::sys_days{std::chrono::year{2026} / 6 / 1};
constexpr Seconds day{86400};

using Key = std::shared_ptr<EVP_PKEY>;
using Cert = std::shared_ptr<X509>;

Key new_key() {
  Key key(EVP_EC_gen("P-256"), EVP_PKEY_free);
  REQUIRE(key);
  return key;
}

Key new_rsa_key(unsigned bits) {
  Key key(EVP_RSA_gen(bits), EVP_PKEY_free);
  REQUIRE(key);
  return key;
}

struct Identity {
  Key key;
  Cert cert;
};

struct Spec {
  std::string cn{};
  std::vector<std::string> dns{};
  std::vector<std::string> ip{};
  std::string email{};
  bool ca = false;
  long path_length = -1;  // none
  std::string usage{};    // extended key usage
  Seconds from = -10 * day, until = 10 * day;
  Key key{};
  const EVP_MD* digest = EVP_sha256();
};

void add_name(GENERAL_NAMES* names, int type, const std::string& octets) {
  GENERAL_NAME* name = GENERAL_NAME_new();
  ASN1_STRING* value = ASN1_STRING_type_new(type == GEN_IPADD ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);
  ASN1_STRING_set(value, octets.data(), static_cast<int>(octets.size()));
  GENERAL_NAME_set0_value(name, type, value);
  sk_GENERAL_NAME_push(names, name);
}

void add_names(X509* cert, const Spec& spec) {
  GENERAL_NAMES* names = GENERAL_NAMES_new();
  for (const std::string& name : spec.dns) add_name(names, GEN_DNS, name);
  if (!spec.email.empty()) add_name(names, GEN_EMAIL, spec.email);
  for (const std::string& address : spec.ip) {
    std::string octets(4, '\0');
    REQUIRE(inet_pton(AF_INET, address.c_str(), octets.data()) == 1);
    add_name(names, GEN_IPADD, octets);
  }
  if (sk_GENERAL_NAME_num(names) > 0) X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT);
  GENERAL_NAMES_free(names);
}

// `issuer` null: signed with its own key.
Identity issue(const Spec& spec, const Identity* issuer) {
  static long serial = 0;
  Identity identity{spec.key ? spec.key : new_key(), Cert(X509_new(), X509_free)};
  X509* cert = identity.cert.get();
  X509_set_version(cert, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(cert), ++serial);
  ASN1_TIME_set(X509_getm_notBefore(cert), (now + spec.from).time_since_epoch().count());
  ASN1_TIME_set(X509_getm_notAfter(cert), (now + spec.until).time_since_epoch().count());
  X509_set_pubkey(cert, identity.key.get());
  X509_NAME* subject = X509_get_subject_name(cert);
  if (!spec.cn.empty()) {
    X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(spec.cn.data()), static_cast<int>(spec.cn.size()),
                               -1, 0);
  }
  X509_set_issuer_name(cert, X509_get_subject_name(issuer != nullptr ? issuer->cert.get() : cert));
  if (spec.ca) {
    BASIC_CONSTRAINTS* constraints = BASIC_CONSTRAINTS_new();
    constraints->ca = 1;
    if (spec.path_length >= 0) {
      constraints->pathlen = ASN1_INTEGER_new();
      ASN1_INTEGER_set(constraints->pathlen, spec.path_length);
    }
    X509_add1_ext_i2d(cert, NID_basic_constraints, constraints, 1, X509V3_ADD_DEFAULT);
    BASIC_CONSTRAINTS_free(constraints);
  }
  if (!spec.usage.empty()) {
    X509_EXTENSION* usage = X509V3_EXT_conf_nid(nullptr, nullptr, NID_ext_key_usage, spec.usage.c_str());
    X509_add_ext(cert, usage, -1);
    X509_EXTENSION_free(usage);
  }
  add_names(cert, spec);
  REQUIRE(X509_sign(cert, (issuer != nullptr ? issuer->key : identity.key).get(), spec.digest) > 0);
  return identity;
}

Bytes der_of(const Identity& identity) {
  unsigned char* out = nullptr;
  const int length = i2d_X509(identity.cert.get(), &out);
  REQUIRE(length > 0);
  Bytes der(out, out + length);
  OPENSSL_free(out);
  return der;
}

Bytes spki_of(const Identity& identity) {
  unsigned char* out = nullptr;
  const int length = i2d_PUBKEY(identity.key.get(), &out);
  REQUIRE(length > 0);
  Bytes der(out, out + length);
  OPENSSL_free(out);
  return der;
}

std::vector<Bytes> chain_of(std::initializer_list<Identity> identities) {
  std::vector<Bytes> chain;
  for (const Identity& identity : identities) chain.push_back(der_of(identity));
  return chain;
}

std::string pem_file(std::initializer_list<Identity> identities) {
  std::string path = "/tmp/sealane-verify-XXXXXX";
  const int fd = mkstemp(path.data());
  REQUIRE(fd >= 0);
  FILE* file = fdopen(fd, "w");
  for (const Identity& identity : identities) PEM_write_X509(file, identity.cert.get());
  fclose(file);
  return path;
}

// ---- What is demanded

dane::TlsaRecord record(int usage, int selector, int type, const Identity& identity) {
  Bytes data = selector == 0 ? der_of(identity) : spki_of(identity);
  if (type != 0) {
    Bytes digest(EVP_MAX_MD_SIZE);
    unsigned length = 0;
    EVP_Digest(data.data(), data.size(), digest.data(), &length, type == 1 ? EVP_sha256() : EVP_sha512(), nullptr);
    digest.resize(length);
    data = digest;
  }
  return {static_cast<std::uint8_t>(usage), static_cast<std::uint8_t>(selector), static_cast<std::uint8_t>(type), data};
}

using Records = std::vector<dane::TlsaRecord>;
using Names = std::vector<std::string>;

// As a decision would hold them: sorted out by usability and digest agility.
Records agreed(const Records& records) {
  std::vector<Bytes> rdata;
  for (const dane::TlsaRecord& item : records) {
    Bytes octets{item.usage, item.selector, item.matching_type};
    octets.insert(octets.end(), item.data.begin(), item.data.end());
    rdata.push_back(octets);
  }
  return dane::sort_rrset(rdata).usable;
}

const std::string mx = "mx1.example.com";

Demand dane_demand(const Records& records, const Names& names = {mx}) {
  return {mx, mx, Tls::dane, names, mx, records};
}
Demand pkix_demand(const Names& names = {mx}) { return {mx, mx, Tls::pkix, names, mx, {}}; }
Demand plain_demand(Tls tls) { return {mx, mx, tls, {}, mx, {}}; }

// root -> intermediate -> leaf
struct Pki {
  Identity root = issue({.cn = "Root", .ca = true}, nullptr);
  Identity intermediate = issue({.cn = "Intermediate", .ca = true}, &root);
  Identity leaf = issue({.cn = "leaf", .dns = {mx}}, &intermediate);
  Identity other_root = issue({.cn = "Other root", .ca = true}, nullptr);
  Identity self_signed = issue({.cn = "whatever", .dns = {mx}}, nullptr);
  Identity stranger = issue({.cn = "stranger", .dns = {mx}}, nullptr);
  std::string ca_file = pem_file({root});
  std::unique_ptr<Verifier> verifier = std::move(make_openssl_verifier(ca_file).value());

  ~Pki() { unlink(ca_file.c_str()); }

  [[nodiscard]] Identity leaf_with(Spec spec) const { return issue(spec, &intermediate); }
  // With the anchor, as RFC 7672 §3.1.2 wants it.
  [[nodiscard]] std::vector<Bytes> full(const Identity& end) const { return chain_of({end, intermediate, root}); }
  // Without the root, as servers usually present it.
  [[nodiscard]] std::vector<Bytes> usual(const Identity& end) const { return chain_of({end, intermediate}); }
  [[nodiscard]] Verdict verify(const Demand& demand, const std::vector<Bytes>& chain) const {
    return verifier->verify(demand, chain, now);
  }
};

const Pki& pki() {
  static const Pki one;
  return one;
}

#define CHECK_VERIFIED(verdict)                \
  do {                                         \
    const Verdict checked = (verdict);         \
    CAPTURE(checked.text);                     \
    CHECK(checked.ok);                         \
    CHECK(checked.reason == Reason::verified); \
  } while (false)

#define CHECK_REFUSED(verdict, why)                 \
  do {                                              \
    const Verdict checked = (verdict);              \
    CAPTURE(checked.text);                          \
    CHECK_FALSE(checked.ok);                        \
    CHECK(to_text(checked.reason) == to_text(why)); \
  } while (false)

// ---- The tlsa_auth vectors, whose inputs are words: what each comes to

std::map<std::string, std::function<Verdict()>> scenarios() {
  const Pki& p = pki();
  const Records intermediate_ta{record(2, 0, 1, p.intermediate)};
  const Records root_ta{record(2, 0, 1, p.root)};
  const auto with = [&p](const Spec& spec, const Records& records, const Names& names = {mx}) {
    return p.verify(dane_demand(records, names), p.full(p.leaf_with(spec)));
  };
  return {
      {"tlsa_auth-001",
       [&p] { return p.verify(dane_demand({record(3, 1, 1, p.self_signed)}), chain_of({p.self_signed})); }},
      {"tlsa_auth-002",
       [&p] {
         const Identity expired = issue({.dns = {mx}, .from = -20 * day, .until = -10 * day}, nullptr);
         return p.verify(dane_demand({record(3, 1, 1, expired)}), chain_of({expired}));
       }},
      {"tlsa_auth-003",
       [&p] {
         const Identity other = issue({.dns = {"another.example.net"}}, nullptr);
         return p.verify(dane_demand({record(3, 1, 1, other)}), chain_of({other}));
       }},
      {"tlsa_auth-004", [&p] { return p.verify(dane_demand({record(3, 1, 1, p.intermediate)}), p.full(p.leaf)); }},
      {"tlsa_auth-005", [&p, intermediate_ta] { return p.verify(dane_demand(intermediate_ta), p.usual(p.leaf)); }},
      {"tlsa_auth-006", [&p, root_ta] { return p.verify(dane_demand(root_ta), p.usual(p.leaf)); }},
      {"tlsa_auth-007", [&p] { return p.verify(dane_demand({record(2, 0, 0, p.root)}), p.usual(p.leaf)); }},
      {"tlsa_auth-008", [with, root_ta] { return with({.dns = {"another.example.net"}}, root_ta); }},
      {"tlsa_auth-009",
       [with, root_ta] { return with({.dns = {mx}, .from = -20 * day, .until = -10 * day}, root_ta); }},
      {"tlsa_auth-010",
       [with, root_ta] {
         return with({.dns = {"example.com"}}, root_ta, {mx, "example.com"});
       }},
      {"tlsa_auth-011", [with, root_ta] { return with({.dns = {"example.com"}}, root_ta); }},
      {"tlsa_auth-013",
       [&p] {
         return p.verify(dane_demand({record(2, 0, 1, p.root), record(3, 1, 1, p.stranger)}), p.full(p.leaf));
       }},
      {"tlsa_auth-014",
       [&p] {
         const Records records = agreed({{3, 1, 1, Bytes(31)}, record(3, 1, 1, p.self_signed)});
         return p.verify(dane_demand(records), chain_of({p.self_signed}));
       }},
      {"tlsa_auth-016", [&p] { return p.verify(dane_demand({record(3, 1, 1, p.stranger)}), p.usual(p.leaf)); }},
      {"tlsa_auth-017", [&p] { return p.verify(dane_demand({record(3, 1, 1, p.leaf)}), {}); }},
      {"tlsa_auth-018",
       [&p] {
         const Records records = agreed({record(3, 1, 1, p.self_signed), record(3, 1, 2, p.stranger)});
         return p.verify(dane_demand(records), chain_of({p.self_signed}));
       }},
      {"tlsa_auth-019",
       [&p] {
         const Records records =
             agreed({record(3, 1, 0, p.self_signed), record(3, 1, 1, p.stranger), record(3, 1, 2, p.stranger)});
         return p.verify(dane_demand(records), chain_of({p.self_signed}));
       }},
      {"tlsa_auth-020",
       [&p] {
         const Records records = agreed({{3, 1, 2, Bytes(31)}, record(3, 1, 1, p.self_signed)});
         return p.verify(dane_demand(records), chain_of({p.self_signed}));
       }},
      {"tlsa_auth-023", [with, root_ta] { return with({.dns = {"*.example.com"}}, root_ta); }},
      {"tlsa_auth-024",
       [with, root_ta] { return with({.dns = {"smtp*.example.com"}}, root_ta, {"smtp1.example.com"}); }},
      {"tlsa_auth-025", [with, root_ta] { return with({.cn = mx, .dns = {"another.example.net"}}, root_ta); }},
  };
}

// Those that need a case of their own, below.
const std::set<std::string> elsewhere = {"tlsa_auth-012", "tlsa_auth-015", "tlsa_auth-021", "tlsa_auth-022"};

std::string temporary_file(std::string_view text) {
  std::string path = "/tmp/sealane-verify-XXXXXX";
  const int fd = mkstemp(path.data());
  REQUIRE(fd >= 0);
  REQUIRE(write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  close(fd);
  return path;
}

}  // namespace

TEST_CASE("RFC 7672 §3: every tlsa_auth vector") {
  std::ifstream file(std::getenv("SEALANE_VECTORS"));
  REQUIRE(file);
  const auto document = nlohmann::json::parse(file);
  const auto known = scenarios();
  std::size_t seen = 0;
  for (const auto& vector : document.at("vectors")) {
    if (vector.at("kind") != "tlsa_auth") continue;
    const std::string id = vector.at("id");
    const std::string expect = vector.at("expect");
    if (elsewhere.count(id) != 0) continue;
    const std::string input = vector.at("input");
    CAPTURE(id);
    CAPTURE(input);
    const auto scenario = known.find(id);
    REQUIRE(scenario != known.end());
    const Verdict verdict = scenario->second();
    CAPTURE(verdict.text);
    CHECK(verdict.ok == (expect.rfind("authenticated", 0) == 0));
    CHECK(verdict.ok == (verdict.reason == Reason::verified));
    ++seen;
  }
  CHECK(seen == known.size());
}

TEST_CASE("RFC 7672 §3: the reason of a refusal names what was wrong") {
  const auto known = scenarios();
  CHECK_REFUSED(known.at("tlsa_auth-004")(), Reason::tlsa_mismatch);
  CHECK_REFUSED(known.at("tlsa_auth-006")(), Reason::tlsa_mismatch);
  CHECK_REFUSED(known.at("tlsa_auth-008")(), Reason::cert_name);
  CHECK_REFUSED(known.at("tlsa_auth-009")(), Reason::cert_expired);
  CHECK_REFUSED(known.at("tlsa_auth-016")(), Reason::tlsa_mismatch);
  CHECK_REFUSED(known.at("tlsa_auth-017")(), Reason::starttls_missing);
  CHECK_REFUSED(known.at("tlsa_auth-018")(), Reason::tlsa_mismatch);
}

TEST_CASE("tlsa_auth-012, RFC 7671 §5.2: DANE-TA(2) for the leaf itself") {
  // The vector leaves it to the chain builder. OpenSSL looks for anchors above the leaf only, so digests are refused;
  // and no form of record lifts the name check.
  const Identity own = issue({.cn = "own CA", .dns = {mx}, .ca = true}, nullptr);
  const Identity other = issue({.cn = "own CA", .dns = {"another.example.net"}, .ca = true}, nullptr);
  for (const int selector : {0, 1}) {
    for (const int type : {0, 1, 2}) {
      CHECK_FALSE(pki().verify(dane_demand({record(2, selector, type, other)}), chain_of({other})).ok);
      CHECK_FALSE(pki().verify(dane_demand({record(2, selector, type, other)}), chain_of({other, other})).ok);
      if (type != 0) {
        CHECK_REFUSED(pki().verify(dane_demand({record(2, selector, type, own)}), chain_of({own})),
                      Reason::tlsa_mismatch);
      }
    }
  }
}

TEST_CASE("tlsa_auth-015, RFC 7672 §2.2: all records unusable: TLS is required, nothing more") {
  CHECK(agreed({{3, 1, 1, Bytes(31)}}).empty());
  CHECK_VERIFIED(pki().verify(plain_demand(Tls::encrypt), chain_of({pki().stranger})));
  CHECK_REFUSED(pki().verify(plain_demand(Tls::encrypt), {}), Reason::starttls_missing);
}

TEST_CASE("tlsa_auth-022, RFC 7250: a raw public key is no certificate, and is refused rather than guessed at") {
  CHECK_REFUSED(pki().verify(dane_demand({record(3, 1, 1, pki().self_signed)}), {spki_of(pki().self_signed)}),
                Reason::cert_missing);
}

TEST_CASE("RFC 6698 §2.1: every selector and matching type of DANE-EE(3), right and wrong") {
  for (const int selector : {0, 1}) {
    for (const int type : {0, 1, 2}) {
      CAPTURE(selector);
      CAPTURE(type);
      const auto chain = chain_of({pki().self_signed});
      CHECK_VERIFIED(pki().verify(dane_demand({record(3, selector, type, pki().self_signed)}), chain));
      CHECK_REFUSED(pki().verify(dane_demand({record(3, selector, type, pki().stranger)}), chain),
                    Reason::tlsa_mismatch);
    }
  }
}

TEST_CASE("RFC 7671 §5.2: every selector and matching type of DANE-TA(2), the anchor presented") {
  for (const Identity* anchor : {&pki().root, &pki().intermediate}) {
    for (const int selector : {0, 1}) {
      for (const int type : {0, 1, 2}) {
        CAPTURE(selector);
        CAPTURE(type);
        CHECK_VERIFIED(pki().verify(dane_demand({record(2, selector, type, *anchor)}), pki().full(pki().leaf)));
      }
    }
  }
}

TEST_CASE("RFC 7671 §5.2.2, §5.2.3: an anchor that is not presented: only Full(0) can stand in for it") {
  const auto chain = pki().usual(pki().leaf);
  CHECK_VERIFIED(pki().verify(dane_demand({record(2, 0, 0, pki().root)}), chain));
  CHECK_VERIFIED(pki().verify(dane_demand({record(2, 1, 0, pki().root)}), chain));
  for (const int selector : {0, 1}) {
    for (const int type : {1, 2}) {
      CHECK_REFUSED(pki().verify(dane_demand({record(2, selector, type, pki().root)}), chain), Reason::tlsa_mismatch);
    }
  }
}

TEST_CASE("RFC 7671 §5.2: an anchor that signed nothing of the chain is no anchor") {
  const Records records{record(2, 0, 1, pki().other_root)};
  CHECK_FALSE(
      pki().verify(dane_demand(records), chain_of({pki().leaf, pki().intermediate, pki().root, pki().other_root})).ok);
  CHECK_FALSE(pki().verify(dane_demand(records), chain_of({pki().leaf, pki().other_root})).ok);
  // The same name and another key.
  const Identity twin = issue({.cn = "Root", .ca = true}, nullptr);
  CHECK_FALSE(pki().verify(dane_demand({record(2, 0, 1, twin)}), chain_of({pki().leaf, pki().intermediate, twin})).ok);
  CHECK_FALSE(pki().verify(dane_demand({record(2, 0, 0, twin)}), pki().usual(pki().leaf)).ok);
}

TEST_CASE("RFC 7671 §5.2: no CA of this machine is trusted for DANE-TA(2)") {
  // pki().root is in ca_file.
  CHECK_REFUSED(pki().verify(dane_demand({record(2, 0, 1, pki().other_root)}), pki().full(pki().leaf)),
                Reason::tlsa_mismatch);
}

TEST_CASE("RFC 7672 §3.1.2: constraints of the anchor's certificate are applied") {
  const Identity narrow = issue({.cn = "Narrow", .ca = true, .path_length = 0}, nullptr);
  const Identity below = issue({.cn = "Below", .ca = true}, &narrow);
  const Identity leaf = issue({.dns = {mx}}, &below);
  CHECK_REFUSED(pki().verify(dane_demand({record(2, 0, 1, narrow)}), chain_of({leaf, below, narrow})),
                Reason::cert_untrusted);
}

TEST_CASE("RFC 5280 §4.2.1.9: a leaf issues no certificates") {
  const Identity fake = issue({.dns = {mx}}, &pki().leaf);
  const auto chain = chain_of({fake, pki().leaf, pki().intermediate, pki().root});
  CHECK_FALSE(pki().verify(dane_demand({record(2, 0, 1, pki().root)}), chain).ok);
  CHECK_FALSE(pki().verify(pkix_demand(), chain).ok);
}

TEST_CASE("RFC 7672 §3.1.1: DANE-EE(3) looks at the leaf alone, whatever else is presented or missing") {
  const Records records{record(3, 1, 1, pki().leaf)};
  CHECK_VERIFIED(pki().verify(dane_demand(records), chain_of({pki().leaf})));
  CHECK_VERIFIED(pki().verify(dane_demand(records), chain_of({pki().leaf, pki().stranger})));
  CHECK_REFUSED(pki().verify(dane_demand(records), chain_of({pki().stranger, pki().leaf})), Reason::tlsa_mismatch);
}

TEST_CASE("RFC 7672 §3.1.1: DANE-EE(3) ignores dates, also those to come, and usages") {
  const Identity early = issue({.usage = "clientAuth", .from = 5 * day}, nullptr);
  CHECK_VERIFIED(pki().verify(dane_demand({record(3, 1, 1, early)}), chain_of({early})));
}

TEST_CASE("RFC 7671 §5.2: DANE-TA(2) looks at the dates of the whole chain") {
  const Identity early = pki().leaf_with({.dns = {mx}, .from = 5 * day});
  CHECK_REFUSED(pki().verify(dane_demand({record(2, 0, 1, pki().root)}), pki().full(early)), Reason::cert_expired);
  const Identity expired = issue({.cn = "Old", .ca = true, .from = -20 * day, .until = -1 * day}, &pki().root);
  const Identity leaf = issue({.dns = {mx}}, &expired);
  CHECK_REFUSED(pki().verify(dane_demand({record(2, 0, 1, pki().root)}), chain_of({leaf, expired, pki().root})),
                Reason::cert_expired);
}

TEST_CASE("RFC 7671 §8.1: rollover: one of two records is enough") {
  for (const Identity* end : {&pki().self_signed, &pki().stranger}) {
    CHECK_VERIFIED(pki().verify(dane_demand({record(3, 1, 1, pki().self_signed), record(3, 1, 1, pki().stranger)}),
                                chain_of({*end})));
  }
}

TEST_CASE("RFC 6698 §2.1: mixed usages: any one record is enough") {
  const Records records{record(2, 0, 1, pki().other_root), record(3, 1, 1, pki().leaf)};
  CHECK_VERIFIED(pki().verify(dane_demand(records), pki().usual(pki().leaf)));
  // The leaf's record lifts the name check for the leaf it is for, not for others.
  const Identity other = pki().leaf_with({.dns = {"another.example.net"}});
  CHECK_REFUSED(
      pki().verify(dane_demand({record(2, 0, 1, pki().root), record(3, 1, 1, pki().stranger)}), pki().full(other)),
      Reason::cert_name);
}

TEST_CASE("RFC 7672 §3.2.3: names under DANE-TA(2)") {
  struct Case {
    std::string why;
    Spec spec;
    Names names;
    bool ok;
  };
  const std::vector<Case> cases = {
      {"the DNS-ID", {.dns = {"MX1.Example.COM"}}, {mx}, true},
      {"one of many DNS-IDs", {.dns = {"a.test", mx, "b.test"}}, {mx}, true},
      {"any of the reference identifiers", {.dns = {"example.net"}}, {mx, "example.com", "example.net"}, true},
      {"the CN where there is no DNS-ID", {.cn = mx}, {mx}, true},
      {"a wildcard CN where there is no DNS-ID", {.cn = "*.example.com"}, {mx}, true},
      {"an email SAN is no DNS-ID", {.cn = mx, .email = "postmaster@example.com"}, {mx}, true},
      {"the CN beside another DNS-ID", {.cn = mx, .dns = {"a.test"}}, {mx}, false},
      {"neither CN nor DNS-ID", {}, {mx}, false},
      {"a wildcard is one label", {.dns = {"*.example.com"}}, {"a.mx1.example.com"}, false},
      {"a wildcard is not no label", {.dns = {"*.mx1.example.com"}}, {mx}, false},
      {"a wildcard is the first label", {.dns = {"mx1.*.com"}}, {mx}, false},
      {"a wildcard is a whole label", {.dns = {"mx*.example.com"}}, {mx}, false},
      {"a bare wildcard", {.dns = {"*"}}, {mx}, false},
      {"a name below", {.dns = {"a.mx1.example.com"}}, {mx}, false},
      {"a name above", {.dns = {"example.com"}}, {mx}, false},
      {"a longer name", {.dns = {"xmx1.example.com"}}, {mx}, false},
      {"a DNS-ID with a leading dot", {.dns = {".example.com"}}, {mx}, false},
      {"a DNS-ID that ends at NUL", {.dns = {std::string("mx1.example.com\0.evil.test", 26)}}, {mx}, false},
      {"a CN that ends at NUL", {.cn = std::string("mx1.example.com\0.evil.test", 26)}, {mx}, false},
      {"an address is no DNS-ID", {.ip = {"192.0.2.1"}}, {"192.0.2.1"}, false},
  };
  for (const Case& item : cases) {
    CAPTURE(item.why);
    const Verdict verdict =
        pki().verify(dane_demand({record(2, 0, 1, pki().root)}, item.names), pki().full(pki().leaf_with(item.spec)));
    CAPTURE(verdict.text);
    CHECK(verdict.ok == item.ok);
    CHECK(verdict.reason == (item.ok ? Reason::verified : Reason::cert_name));
  }
}

TEST_CASE("RFC 8461 §4.2: names under pkix") {
  struct Case {
    std::string why;
    Spec spec;
    Names names;
    bool ok;
  };
  const std::vector<Case> cases = {
      {"the DNS-ID", {.dns = {mx}}, {mx}, true},
      {"a DNS-ID of another case", {.dns = {"MX1.EXAMPLE.com"}}, {mx}, true},
      {"one leftmost wildcard label", {.dns = {"*.example.com"}}, {mx}, true},
      {"a wildcard for two labels", {.dns = {"*.com"}}, {mx}, false},
      {"a partial wildcard", {.dns = {"mx*.example.com"}}, {mx}, false},
      {"state-022: only the policy domain", {.dns = {"example.com"}}, {mx}, false},
      {"state-023: CN only", {.cn = mx}, {mx}, false},
      {"the CN beside an email SAN", {.cn = mx, .email = "postmaster@example.com"}, {mx}, false},
      {"the CN beside another DNS-ID", {.cn = mx, .dns = {"a.test"}}, {mx}, false},
      {"an address is no DNS-ID", {.cn = "192.0.2.1", .ip = {"192.0.2.1"}}, {"192.0.2.1"}, false},
      {"NUL", {.dns = {std::string("mx1.example.com\0.evil.test", 26)}}, {mx}, false},
  };
  for (const Case& item : cases) {
    CAPTURE(item.why);
    const Verdict verdict = pki().verify(pkix_demand(item.names), pki().usual(pki().leaf_with(item.spec)));
    CAPTURE(verdict.text);
    CHECK(verdict.ok == item.ok);
    CHECK(verdict.reason == (item.ok ? Reason::verified : Reason::cert_name));
  }
}

TEST_CASE("RFC 8461 §4.2: pkix wants a trusted root, dates, and a certificate for servers") {
  CHECK_VERIFIED(pki().verify(pkix_demand(), pki().usual(pki().leaf)));
  CHECK_VERIFIED(pki().verify(pkix_demand(), pki().full(pki().leaf)));
  CHECK_REFUSED(pki().verify(pkix_demand(), chain_of({pki().leaf})), Reason::cert_untrusted);
  CHECK_REFUSED(pki().verify(pkix_demand(), chain_of({pki().self_signed})), Reason::cert_untrusted);
  CHECK_REFUSED(pki().verify(pkix_demand(), chain_of({issue({.dns = {mx}}, &pki().other_root), pki().other_root})),
                Reason::cert_untrusted);
  CHECK_REFUSED(pki().verify(pkix_demand(), pki().usual(pki().leaf_with({.dns = {mx}, .usage = "clientAuth"}))),
                Reason::cert_untrusted);
  CHECK_REFUSED(pki().verify(pkix_demand(), pki().usual(pki().leaf_with({.dns = {mx}, .until = -1 * day}))),
                Reason::cert_expired);
  CHECK_REFUSED(pki().verify(pkix_demand(), pki().usual(pki().leaf_with({.dns = {mx}, .from = 1 * day}))),
                Reason::cert_expired);
  CHECK_REFUSED(pki().verify(pkix_demand(), {}), Reason::starttls_missing);
}

TEST_CASE("dates are judged by the time that is given") {
  const auto chain = pki().usual(pki().leaf);
  CHECK(pki().verifier->verify(pkix_demand(), chain, now + 9 * day).ok);
  CHECK_REFUSED(pki().verifier->verify(pkix_demand(), chain, now + 11 * day), Reason::cert_expired);
  CHECK_REFUSED(pki().verifier->verify(pkix_demand(), chain, now - 11 * day), Reason::cert_expired);
  CHECK_FALSE(pki().verifier->verify(pkix_demand(), chain, WallTime{}).ok);
}

TEST_CASE("keys and signatures that are too weak") {
  const Identity rsa512 = issue({.dns = {mx}, .key = new_rsa_key(512)}, nullptr);
  CHECK_REFUSED(pki().verify(dane_demand({record(3, 1, 1, rsa512)}), chain_of({rsa512})), Reason::cert_untrusted);
  const Identity rsa1024 = issue({.dns = {mx}, .key = new_rsa_key(1024)}, &pki().intermediate);
  CHECK_VERIFIED(pki().verify(dane_demand({record(3, 1, 1, rsa1024)}), chain_of({rsa1024})));
  CHECK_VERIFIED(pki().verify(dane_demand({record(2, 0, 1, pki().root)}), pki().full(rsa1024)));
  CHECK_REFUSED(pki().verify(pkix_demand(), pki().usual(rsa1024)), Reason::cert_untrusted);
  const Identity sha1 = pki().leaf_with({.dns = {mx}, .digest = EVP_sha1()});
  CHECK_VERIFIED(pki().verify(dane_demand({record(3, 1, 1, sha1)}), chain_of({sha1})));  // no signature counts here
  CHECK_REFUSED(pki().verify(pkix_demand(), pki().usual(sha1)), Reason::cert_untrusted);
}

TEST_CASE("RFC 8461 §2: the stronger demand decides (state-024, state-025, state-027, state-028)") {
  // state-024: DANE holds, PKIX would not.
  CHECK_VERIFIED(pki().verify(dane_demand({record(3, 1, 1, pki().self_signed)}), chain_of({pki().self_signed})));
  // state-025: PKIX would hold, DANE does not.
  CHECK_VERIFIED(pki().verify(pkix_demand(), pki().usual(pki().leaf)));
  CHECK_REFUSED(pki().verify(dane_demand({record(3, 1, 1, pki().stranger)}), pki().usual(pki().leaf)),
                Reason::tlsa_mismatch);
  // state-027: enforce beside unusable records: pkix.
  CHECK_REFUSED(pki().verify(pkix_demand(), chain_of({pki().self_signed})), Reason::cert_untrusted);
  // state-028: testing beside unusable records: encrypt.
  CHECK_VERIFIED(pki().verify(plain_demand(Tls::encrypt), chain_of({pki().self_signed})));
  CHECK_REFUSED(pki().verify(plain_demand(Tls::encrypt), {}), Reason::starttls_missing);
}

TEST_CASE("opportunistic demands nothing (state-029), skip is never met") {
  CHECK_VERIFIED(pki().verify(plain_demand(Tls::opportunistic), {}));
  CHECK_VERIFIED(pki().verify(plain_demand(Tls::opportunistic), {Bytes{1, 2, 3}}));
  CHECK_FALSE(pki().verify(plain_demand(Tls::skip), pki().usual(pki().leaf)).ok);
  CHECK_FALSE(pki().verify(Demand{}, pki().usual(pki().leaf)).ok);
}

TEST_CASE("what is no DER certificate is refused") {
  const Bytes good = der_of(pki().self_signed);
  Bytes longer = good;
  longer.push_back(0);
  const Bytes shorter(good.begin(), good.end() - 1);
  const Demand dane = dane_demand({record(3, 1, 1, pki().self_signed)});
  for (const Bytes& bad :
       {Bytes{}, Bytes{0}, Bytes(1000, 0x30), longer, shorter, Bytes(max_certificate_octets + 1, 0)}) {
    CHECK_REFUSED(pki().verify(dane, {bad}), Reason::cert_missing);
    CHECK_REFUSED(pki().verify(pkix_demand(), {bad}), Reason::cert_missing);
    CHECK_REFUSED(pki().verify(plain_demand(Tls::encrypt), {bad}), Reason::cert_missing);
    CHECK_REFUSED(pki().verify(dane, {good, bad}), Reason::cert_missing);
  }
  // Every octet of a good certificate changed in turn: no crash, and no name or key that was not there.
  const Demand other = dane_demand({record(3, 1, 1, pki().stranger)});
  for (std::size_t i = 0; i < good.size(); ++i) {
    Bytes changed = good;
    changed[i] ^= 0x5a;
    CHECK_FALSE(pki().verify(other, {changed}).ok);
    CHECK_FALSE(pki().verify(pkix_demand(), {changed}).ok);
  }
}

TEST_CASE("more than max_chain certificates are refused, max_chain are not") {
  std::vector<Bytes> chain = chain_of({pki().self_signed});
  chain.resize(max_chain, der_of(pki().stranger));
  const Demand demand = dane_demand({record(3, 1, 1, pki().self_signed)});
  CHECK_VERIFIED(pki().verify(demand, chain));
  chain.push_back(der_of(pki().stranger));
  CHECK_REFUSED(pki().verify(demand, chain), Reason::cert_untrusted);
}

TEST_CASE("half a demand is never met") {
  const auto chain = pki().full(pki().leaf);
  // Without a record OpenSSL would ask the CAs; and records for other uses (RFC 7672 §3.1.3) are as good as none.
  for (const Records& records : {Records{}, Records{{3, 1, 1, Bytes(31)}}, Records{record(0, 0, 1, pki().root)},
                                 Records{record(1, 1, 1, pki().leaf)}}) {
    CHECK_REFUSED(pki().verify(dane_demand(records), chain), Reason::tlsa_mismatch);
  }
  CHECK_FALSE(pki().verify(dane_demand({record(2, 0, 1, pki().root)}, {}), chain).ok);
  CHECK_FALSE(pki().verify(pkix_demand({}), chain).ok);
  for (const char* name : {"", ".example.com", "*.example.com", "MX1.example.com", "mx1.example.com."}) {
    CAPTURE(std::string(name));
    CHECK_REFUSED(pki().verify(pkix_demand({name}), chain), Reason::cert_name);
    CHECK_REFUSED(pki().verify(pkix_demand({mx, name}), chain), Reason::cert_name);
  }
  CHECK_REFUSED(pki().verify(pkix_demand({std::string("mx1.example.com\0x", 17)}), chain), Reason::cert_name);
}

TEST_CASE("a verdict says which names, which record and what OpenSSL said, in printable text") {
  const Identity odd = pki().leaf_with(
      {.dns = {std::string("evil\n\0.test", 11), "a.test", "b.test", "c.test", "d.test", "e.test", "f.test"}});
  const std::string name = pki().verify(pkix_demand(), pki().usual(odd)).text;
  CHECK(name.find(mx) == 0);
  CHECK(name.find("evil\\x0a\\x00.test, a.test") != std::string::npos);
  CHECK(name.find("and 2 more") != std::string::npos);
  CHECK(name.find('\n') == std::string::npos);

  const dane::TlsaRecord wanted = record(3, 1, 1, pki().stranger);
  const std::string key = pki().verify(dane_demand({wanted}), chain_of({pki().self_signed})).text;
  CHECK(key.find("wanted " + wanted.text()) != std::string::npos);
  CHECK(key.find("the key is " + record(3, 1, 1, pki().self_signed).text()) != std::string::npos);

  const std::string good =
      pki().verify(dane_demand({record(3, 1, 1, pki().self_signed)}), chain_of({pki().self_signed})).text;
  CHECK(good.find("TLSA " + record(3, 1, 1, pki().self_signed).text() + " matches") != std::string::npos);
}

TEST_CASE("RFC 8461 §4.2: the CA file") {
  CHECK(make_openssl_verifier(pki().ca_file).has_value());
  const auto refused = [](const std::string& path) {
    const auto verifier = make_openssl_verifier(path);
    return !verifier && verifier.error().of == path && !verifier.error().remedy.empty();
  };
  CHECK(refused("/nonexistent/ca.pem"));
  CHECK(refused("/tmp"));
  for (const char* text : {"", "no certificate\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}) {
    const std::string path = temporary_file(text);
    CHECK(refused(path));
    unlink(path.c_str());
  }
  const std::string fifo = temporary_file("");
  unlink(fifo.c_str());
  REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  CHECK(refused(fifo));  // at once: nobody writes to it
  unlink(fifo.c_str());
}

TEST_CASE("a verifier without CAs does DANE and refuses pkix") {
  const auto verifier = make_dane_verifier();
  CHECK_VERIFIED(
      verifier->verify(dane_demand({record(3, 1, 1, pki().self_signed)}), chain_of({pki().self_signed}), now));
  CHECK_VERIFIED(verifier->verify(dane_demand({record(2, 0, 1, pki().root)}), pki().full(pki().leaf), now));
  CHECK_REFUSED(verifier->verify(pkix_demand(), pki().usual(pki().leaf), now), Reason::ca_file);
}

TEST_CASE("the caller's OpenSSL error queue stays as it was") {
  ERR_clear_error();
  ERR_raise(ERR_LIB_USER, 42);
  const unsigned long mine = ERR_peek_last_error();
  CHECK_FALSE(pki().verify(pkix_demand(), {Bytes{1, 2, 3}}).ok);
  CHECK_FALSE(pki().verify(dane_demand({record(3, 1, 1, pki().stranger)}), chain_of({pki().leaf})).ok);
  CHECK_FALSE(make_openssl_verifier("/nonexistent/ca.pem").has_value());
  CHECK(ERR_peek_error() == mine);
  CHECK(ERR_peek_last_error() == mine);
  ERR_clear_error();
}

TEST_CASE("one verifier serves many threads") {
  const auto chain = pki().usual(pki().leaf);
  const Demand dane = dane_demand({record(2, 0, 1, pki().intermediate)});
  std::vector<int> good(4);
  std::vector<std::thread> threads;
  for (int& count : good) {
    threads.emplace_back([&count, &chain, &dane] {
      for (int i = 0; i < 50; ++i) {
        count +=
            static_cast<int>(pki().verify(pkix_demand(), chain).ok) + static_cast<int>(pki().verify(dane, chain).ok);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const int count : good) CHECK(count == 100);
}

// ---- The token

namespace {

Demands sample() {
  Demands demands{"example.com", Others::skip, {}};
  demands.hosts.push_back(dane_demand({record(3, 1, 1, pki().leaf), record(2, 0, 0, pki().root)}, {mx, "example.com"}));
  demands.hosts.push_back(
      {"mx2.example.com", "target.example.net", Tls::pkix, {"mx2.example.com"}, "mx2.example.com", {}});
  demands.hosts.push_back({"mx3.example.com", "mx3.example.com", Tls::encrypt, {}, "mx3.example.com", {}});
  demands.hosts.push_back({"mx4.example.com",
                           "mx4.example.com",
                           Tls::opportunistic,
                           {"mx4.example.com"},
                           "mx4.example.com",
                           {},
                           Tls::pkix});
  demands.hosts.push_back(
      {"mx5.example.com", "mx5.example.com", Tls::opportunistic, {}, "mx5.example.com", {}, Tls::skip});
  return demands;
}

void check_equal(const Demands& a, const Demands& b) {
  CHECK(a.domain == b.domain);
  CHECK(a.others == b.others);
  REQUIRE(a.hosts.size() == b.hosts.size());
  for (std::size_t i = 0; i < a.hosts.size(); ++i) {
    CHECK(a.hosts[i].host == b.hosts[i].host);
    CHECK(a.hosts[i].expanded == b.hosts[i].expanded);
    CHECK(a.hosts[i].tls == b.hosts[i].tls);
    CHECK(a.hosts[i].names == b.hosts[i].names);
    CHECK(a.hosts[i].sni == b.hosts[i].sni);
    CHECK(a.hosts[i].tlsa == b.hosts[i].tlsa);
    CHECK(a.hosts[i].would == b.hosts[i].would);
  }
}

bool safe(const std::string& token) {
  return token.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-:/,;=+") ==
         std::string::npos;
}

const std::string digest64 = "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo=";  // 32 octets

}  // namespace

TEST_CASE("token: what is written is read") {
  for (const Others others : {Others::skip, Others::opportunistic}) {
    Demands demands = sample();
    demands.others = others;
    const std::string token = write_token(demands);
    CHECK(safe(token));
    const auto read = read_token(token);
    REQUIRE(read.has_value());
    check_equal(*read, demands);
  }
  const Demands nobody{"example.com", Others::opportunistic, {}};
  check_equal(read_token(write_token(nobody)).value(), nobody);
}

TEST_CASE("token: names that are no domain names survive, in a safe alphabet") {
  const Demands demands{"[IPv6:2001:db8::1]",
                        Others::opportunistic,
                        {{"[IPv6:2001:db8::1]", "a b\\;,:=\n\xff.test", Tls::opportunistic, {}, "$run{x}", {}}}};
  const std::string token = write_token(demands);
  CHECK(safe(token));
  check_equal(read_token(token).value(), demands);
}

TEST_CASE("token: a host that is left out is no host to be used") {
  Demands demands = sample();
  demands.others = Others::opportunistic;
  demands.hosts.push_back({"mx6.example.com", "mx6.example.com", Tls::skip, {}, "", {}});
  const auto read = read_token(write_token(demands));
  REQUIRE(read.has_value());
  CHECK(read->hosts.size() == 5);
  CHECK(read->others == Others::skip);
  CHECK(demands_for(*read, "mx6.example.com").at(0).tls == Tls::skip);
}

TEST_CASE("RFC 8461 §5: what a policy in testing would demand, as if it were enforced, and what it does demand") {
  const Demands demands = read_token(write_token(sample())).value();
  CHECK(demands_for(demands, "mx4.example.com").at(0).tls == Tls::opportunistic);
  REQUIRE(tested_for(demands, "MX4.example.com.").size() == 1);
  CHECK(tested_for(demands, "mx4.example.com")[0].tls == Tls::pkix);
  CHECK(tested_for(demands, "mx4.example.com")[0].names == std::vector<std::string>{"mx4.example.com"});
  CHECK(tested_for(demands, "mx5.example.com").at(0).tls == Tls::skip);
  CHECK(tested_for(demands, "mx3.example.com").empty());
  CHECK(tested_for(demands, "elsewhere.example.com").empty());

  Decision decision;
  decision.domain = "example.com";
  HostDecision host;
  host.host = host.expanded = host.sni = "mx.example.com";
  host.tls = Tls::opportunistic;
  host.would = Tls::pkix;
  decision.hosts = {host};
  CHECK(read_token(write_token(demands_of(decision))).value().hosts.at(0).would == Tls::pkix);
}

TEST_CASE("token: 50 hosts and 64 KiB bound it, never towards less") {
  Demands many{"example.com", Others::opportunistic, {}};
  for (int i = 0; i < 51; ++i) {
    const std::string name = "mx" + std::to_string(i) + ".example.com";
    many.hosts.push_back({name, name, Tls::opportunistic, {}, name, {}});
  }
  const auto read = read_token(write_token(many));
  REQUIRE(read.has_value());
  CHECK(read->hosts.size() == 50);
  CHECK(read->others == Others::skip);

  Demands large{"example.com", Others::opportunistic, {}};
  const Records records(dane::max_records, record(3, 1, 2, pki().leaf));
  for (int i = 0; i < 10; ++i) {
    const std::string name = "mx" + std::to_string(i) + ".example.com";
    large.hosts.push_back({name, name, Tls::dane, {name}, name, records});
  }
  const std::string token = write_token(large);
  CHECK(token.size() <= max_token_octets);
  const auto fewer = read_token(token);
  REQUIRE(fewer.has_value());
  CHECK(fewer->hosts.size() > 3);
  CHECK(fewer->hosts.size() < 10);
  CHECK(fewer->others == Others::skip);

  const Demands endless{std::string(70000, 'x'), Others::opportunistic, {}};
  CHECK_FALSE(read_token(write_token(endless)).has_value());
}

TEST_CASE("token: anything not understood is an error") {
  const std::string host = ";mx.example.com,,dane,mx.example.com,mx.example.com,3.1.1." + digest64;
  const std::string good = "1;example.com;skip" + host;
  REQUIRE(read_token(good).has_value());
  struct Case {
    std::string why;
    std::string token;
  };
  const std::vector<Case> cases = {
      {"empty", ""},
      {"a newer version", "2" + good.substr(1)},
      {"no version", good.substr(1)},
      {"no others", "1;example.com"},
      {"unknown others", "1;example.com;maybe" + host},
      {"no domain", "1;;skip" + host},
      {"an upper case domain", "1;Example.com;skip" + host},
      {"a separator at the end", good + ";"},
      {"white space at the end", good + " "},
      {"a line end", good + "\n"},
      {"NUL", good + std::string(1, '\0')},
      {"an empty host", good + ";;" + host.substr(1)},
      {"a field too few", "1;example.com;skip;mx.example.com,,encrypt,mx.example.com,"},
      {"a field too many", good + ","},
      {"a word that no policy would demand", good + ",dane"},
      {"a tested host without a name", "1;example.com;skip;mx.example.com,,opportunistic,mx.example.com,,,pkix"},
      {"no host name", "1;example.com;skip;,,encrypt,mx.example.com,,"},
      {"the expanded name repeated", "1;example.com;skip;mx.example.com,mx.example.com,encrypt,mx.example.com,,"},
      {"unknown tls", "1;example.com;skip;mx.example.com,,some,mx.example.com,,"},
      {"no tls", "1;example.com;skip;mx.example.com,,,mx.example.com,,"},
      {"skip", "1;example.com;skip;mx.example.com,,skip,mx.example.com,,"},
      {"dane without records", "1;example.com;skip;mx.example.com,,dane,mx.example.com,mx.example.com,"},
      {"dane without names", "1;example.com;skip;mx.example.com,,dane,mx.example.com,,3.1.1." + digest64},
      {"pkix without names", "1;example.com;skip;mx.example.com,,pkix,mx.example.com,,"},
      {"encrypt with records",
       "1;example.com;skip;mx.example.com,,encrypt,mx.example.com,mx.example.com,3.1.1." + digest64},
      {"a record cut short", good.substr(0, good.size() - 4)},
      {"base64 without its padding", good.substr(0, good.size() - 1)},
      {"an unusable record", "1;example.com;skip;mx.example.com,,dane,mx.example.com,mx.example.com,1.1.1." + digest64},
      {"a leading zero", "1;example.com;skip;mx.example.com,,dane,mx.example.com,mx.example.com,03.1.1." + digest64},
      {"a usage of 259", "1;example.com;skip;mx.example.com,,dane,mx.example.com,mx.example.com,259.1.1." + digest64},
      {"an empty record", good + ":"},
      {"a name that is a pattern", "1;example.com;skip;mx.example.com,,pkix,mx.example.com,.example.com,"},
      {"an empty name", "1;example.com;skip;mx.example.com,,pkix,mx.example.com,mx.example.com:,"},
      {"an escaped safe octet", "1;example.co=6d;skip" + host},
      {"an escape in upper case", "1;=5Bexample.com;skip" + host},
      {"half an escape", "1;example.com=5;skip" + host},
      {"too long", good + std::string(max_token_octets, 'a')},
      {"51 hosts",
       [] {
         std::string token = "1;example.com;skip";
         for (int i = 0; i < 51; ++i) token += ";mx,,encrypt,mx,,";
         return token;
       }()},
      {"101 records",
       [&good] {
         std::string token = good;
         for (int i = 0; i < 100; ++i) token += ":3.1.1." + digest64;
         return token;
       }()},
  };
  for (const Case& item : cases) {
    CAPTURE(item.why);
    const auto read = read_token(item.token);
    CHECK_FALSE(read.has_value());
    if (!read) CHECK(read.error().text().find('\n') == std::string::npos);
  }
}

TEST_CASE("token: no cut and no changed octet turns a demand into a weaker one for the host") {
  const std::string good = write_token(sample());
  for (std::size_t cut = 0; cut < good.size(); ++cut) {
    const auto read = read_token(good.substr(0, cut));
    if (!read) continue;
    // What is left is whole hosts: the others fall under `skip`.
    CHECK(read->others == Others::skip);
    for (const Demand& demand : read->hosts) {
      const bool whole = demand.host == "mx4.example.com" || demand.host == "mx5.example.com";
      CHECK((demand.tls == Tls::opportunistic) == whole);
    }
  }
  for (std::size_t i = 0; i < good.size(); i += 3) {
    for (const char c : {'\0', '\n', ' ', '"', '$', '\xff'}) {
      std::string changed = good;
      changed[i] = c;
      CHECK_FALSE(read_token(changed).has_value());
    }
  }
}

TEST_CASE("demands_of: a demand holds what it needs and nothing else") {
  Decision decision;
  decision.domain = "example.com";
  decision.others = Others::skip;
  HostDecision host;
  host.host = mx;
  host.expanded = "target.example.net";
  host.sni = mx;
  host.names = {mx, "odd\\032name.example.com", "example.com"};
  host.tlsa = {record(3, 1, 1, pki().leaf)};
  for (const Tls tls : {Tls::dane, Tls::pkix, Tls::encrypt, Tls::opportunistic, Tls::skip}) {
    host.tls = tls;
    decision.hosts.push_back(host);
  }
  const Demands demands = demands_of(decision);
  REQUIRE(demands.hosts.size() == 5);
  CHECK(demands.hosts[0].names == Names{mx, "example.com"});  // no certificate is for the odd one
  CHECK(demands.hosts[0].tlsa.size() == 1);
  CHECK(demands.hosts[1].names == Names{mx, "example.com"});
  CHECK(demands.hosts[1].tlsa.empty());
  for (std::size_t i = 2; i < 5; ++i) {
    CHECK(demands.hosts[i].names.empty());
    CHECK(demands.hosts[i].tlsa.empty());
  }
  CHECK(read_token(write_token(demands)).has_value());
  CHECK(demands_of(Decision{}).others == Others::skip);
}

TEST_CASE("demands_for: by MX name or expanded name, all of them; else `others`") {
  Demands demands = sample();
  demands.hosts.push_back({"mx5.example.com", "target.example.net", Tls::encrypt, {}, "mx5.example.com", {}});
  CHECK(demands_for(demands, "MX1.Example.COM.").size() == 1);
  CHECK(demands_for(demands, "mx2.example.com").at(0).tls == Tls::pkix);
  const auto both = demands_for(demands, "Target.example.net");
  REQUIRE(both.size() == 2);
  CHECK(both[0].tls == Tls::pkix);
  CHECK(both[1].tls == Tls::encrypt);
  for (const char* name : {"mx9.example.com", "", ".", "mx1.example.com..", "xmx1.example.com"}) {
    CAPTURE(std::string(name));
    const auto none = demands_for(demands, name);
    REQUIRE(none.size() == 1);
    CHECK(none[0].tls == Tls::skip);
  }
  demands.others = Others::opportunistic;
  CHECK(demands_for(demands, "mx9.example.com").at(0).tls == Tls::opportunistic);
}

TEST_CASE("verify_all: every demand of a host must be met") {
  Demands demands{"example.com", Others::skip, {}};
  demands.hosts.push_back(
      {"a.example.com", mx, Tls::dane, {"a.example.com"}, "a.example.com", {record(3, 1, 1, pki().leaf)}});
  demands.hosts.push_back({"b.example.com", mx, Tls::pkix, {"b.example.com"}, "b.example.com", {}});
  const auto chain = pki().usual(pki().leaf);
  CHECK_VERIFIED(verify_all(*pki().verifier, demands, "a.example.com", chain, now));
  CHECK_REFUSED(verify_all(*pki().verifier, demands, "b.example.com", chain, now), Reason::cert_name);
  CHECK_REFUSED(verify_all(*pki().verifier, demands, mx, chain, now), Reason::cert_name);
  CHECK_FALSE(verify_all(*pki().verifier, demands, "c.example.com", chain, now).ok);
  demands.others = Others::opportunistic;
  CHECK_VERIFIED(verify_all(*pki().verifier, demands, "c.example.com", {}, now));
  CHECK_REFUSED(verify_all(*pki().verifier, demands, "a.example.com", {}, now), Reason::starttls_missing);
}
