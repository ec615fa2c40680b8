#include <doctest/doctest.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/dane/der.h"
#include "core/dane/tlsa.h"

using namespace sealane;
using namespace sealane::dane;

namespace {

Bytes rdata(std::string_view presentation) {
  const auto record = parse_tlsa_text(presentation);
  REQUIRE(record.has_value());
  Bytes out{record->usage, record->selector, record->matching_type};
  out.insert(out.end(), record->data.begin(), record->data.end());
  return out;
}

std::string digest(std::size_t octets, char digit = 'a') { return std::string(2 * octets, digit); }

std::vector<std::string> usable(const TlsaRrset& rrset) {
  std::vector<std::string> texts;
  for (const TlsaRecord& record : rrset.usable) texts.push_back(record.text());
  return texts;
}

struct Der {
  Bytes certificate, key;
};

// A certificate signed with its own P-256 key, and that key.
Der make_der() {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"), EVP_PKEY_free);
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(X509_new(), X509_free);
  REQUIRE(key);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), 0);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
  X509_set_pubkey(certificate.get(), key.get());
  REQUIRE(X509_sign(certificate.get(), key.get(), EVP_sha256()) > 0);
  Der der;
  unsigned char* out = nullptr;
  int length = i2d_X509(certificate.get(), &out);
  der.certificate.assign(out, out + length);
  OPENSSL_free(out);
  out = nullptr;
  length = i2d_PUBKEY(key.get(), &out);
  der.key.assign(out, out + length);
  OPENSSL_free(out);
  return der;
}

}  // namespace

TEST_CASE("RFC 6698 §2.1: every tlsa_usable vector") {
  std::ifstream file(std::getenv("SEALANE_VECTORS"));
  REQUIRE(file);
  const auto document = nlohmann::json::parse(file);
  int seen = 0;
  for (const auto& vector : document.at("vectors")) {
    if (vector.at("kind") != "tlsa_usable") continue;
    ++seen;
    const std::string input = vector.at("input");
    const std::string expect = vector.at("expect");
    CAPTURE(vector.at("id").get<std::string>());
    CAPTURE(input);
    if (input.rfind("RDLENGTH", 0) == 0) {  // "RDLENGTH 0", "RDLENGTH 1..2"
      const std::vector<Bytes> malformed =
          input == "RDLENGTH 0" ? std::vector<Bytes>{{}} : std::vector<Bytes>{{3}, {3, 1}};
      CHECK(sort_rrset(malformed).usable.empty());
      CHECK(sort_rrset(malformed).unused.size() == malformed.size());
      continue;
    }
    const auto record = parse_tlsa_text(input);
    REQUIRE(record.has_value());
    CHECK(why_unusable(*record).empty() == (expect.rfind("usable", 0) == 0));
  }
  CHECK(seen >= 16);
}

TEST_CASE("RFC 6698 §2.1: RDATA is three octets and the data") {
  CHECK_FALSE(parse_tlsa(Bytes{}).has_value());
  CHECK_FALSE(parse_tlsa(Bytes{3, 1}).has_value());
  CHECK(parse_tlsa(Bytes{3, 1, 1})->text() == "3 1 1");
  CHECK(parse_tlsa(Bytes{3, 1, 1, 0xab, 0x0c})->text() == "3 1 1 ab0c");
}

TEST_CASE("RFC 6698 §2.2: presentation form") {
  CHECK(parse_tlsa_text(" 3\t1 1  AB cd\n0C ")->text() == "3 1 1 abcd0c");
  CHECK(parse_tlsa_text("3 1 1")->data.empty());
  CHECK(parse_tlsa_text("255 255 255 00")->usage == 255);
  for (const char* bad : {"", "3", "3 1", "256 1 1 00", "-3 1 1 00", "+3 1 1 00", "3 1 1 0", "3 1 1 0g", "3 1 x 00",
                          "3,1,1 00", "311 00"}) {
    CAPTURE(std::string(bad));
    CHECK_FALSE(parse_tlsa_text(bad).has_value());
  }
  CHECK_FALSE(parse_tlsa_text("3 1 1 " + digest(65533)).has_value());  // longer than any RDATA
}

TEST_CASE("RFC 6698 §2.1.4: Full(0) holds exactly one DER value") {
  const Der der = make_der();
  CHECK(is_one_certificate(der.certificate));
  CHECK(is_one_public_key(der.key));
  CHECK_FALSE(is_one_certificate(der.key));
  CHECK_FALSE(is_one_public_key(der.certificate));
  for (Bytes bad : {der.certificate, der.key}) {
    bad.push_back(0);
    CHECK_FALSE(is_one_certificate(bad));
    CHECK_FALSE(is_one_public_key(bad));
    bad.pop_back();
    bad.pop_back();
    CHECK_FALSE(is_one_certificate(bad));
    CHECK_FALSE(is_one_public_key(bad));
  }
  CHECK_FALSE(is_one_certificate({}));
  CHECK_FALSE(is_one_public_key({}));

  CHECK(why_unusable({3, 0, 0, der.certificate}).empty());
  CHECK(why_unusable({2, 1, 0, der.key}).empty());
  CHECK(why_unusable({3, 1, 0, der.certificate}).find("SubjectPublicKeyInfo") != std::string::npos);
  CHECK(why_unusable({3, 0, 0, der.key}).find("certificate") != std::string::npos);
}

TEST_CASE("RFC 6698 §2.1.4: a key of an algorithm that nobody knows is still a key") {
  // SEQUENCE { SEQUENCE { OID 1.2.3.4 }, BIT STRING 00 01 }
  CHECK(is_one_public_key(*from_hex("300b300506032a030403020001")));
}

TEST_CASE("RFC 7672 §3.1: why a record is unusable is said in words") {
  CHECK(why_unusable({1, 1, 1, Bytes(32)}) == "usage 1 is not for SMTP (RFC 7672 3.1.3)");
  CHECK(why_unusable({4, 1, 1, Bytes(32)}).find("unknown usage 4") == 0);
  CHECK(why_unusable({3, 2, 1, Bytes(32)}).find("unknown selector 2") == 0);
  CHECK(why_unusable({3, 1, 3, Bytes(32)}).find("unknown matching type 3") == 0);
  CHECK(why_unusable({3, 1, 1, Bytes(33)}).find("33 octets instead of 32") != std::string::npos);
  CHECK(why_unusable({2, 0, 2, Bytes(64)}).empty());
}

TEST_CASE("RFC 7671 §9: per usage and selector the strongest digest stays") {
  const TlsaRrset rrset = sort_rrset({rdata("3 1 1 " + digest(32)), rdata("3 1 2 " + digest(64)),
                                      rdata("3 0 1 " + digest(32)), rdata("2 1 1 " + digest(32))});
  CHECK(usable(rrset) == std::vector<std::string>{"3 1 2 " + digest(64), "3 0 1 " + digest(32), "2 1 1 " + digest(32)});
  REQUIRE(rrset.unused.size() == 1);
  CHECK(rrset.unused[0].rr == "3 1 1 " + digest(32));
  CHECK(rrset.unused[0].why.find("RFC 7671 9") != std::string::npos);
}

TEST_CASE("RFC 7671 §9: Full(0) always stays") {
  const std::string full = "3 1 0 " + hex(make_der().key);
  const TlsaRrset rrset = sort_rrset({rdata("3 1 1 " + digest(32)), rdata(full), rdata("3 1 2 " + digest(64))});
  CHECK(usable(rrset) == std::vector<std::string>{full, "3 1 2 " + digest(64)});
}

TEST_CASE("RFC 7671 §9: unusable records are gone before digest agility") {
  const TlsaRrset rrset = sort_rrset({rdata("3 1 2 " + digest(31)), rdata("3 1 1 " + digest(32))});
  CHECK(usable(rrset) == std::vector<std::string>{"3 1 1 " + digest(32)});
}

TEST_CASE("RFC 7671 §8: both digests of one kind stay in a rollover") {
  CHECK(sort_rrset({rdata("3 1 1 " + digest(32, 'a')), rdata("3 1 1 " + digest(32, 'b'))}).usable.size() == 2);
}

TEST_CASE("duplicates count once") {
  const TlsaRrset rrset = sort_rrset({rdata("3 1 1 " + digest(32)), rdata("3 1 1 " + digest(32, 'A'))});
  CHECK(rrset.usable.size() == 1);
  REQUIRE(rrset.unused.size() == 1);
  CHECK(rrset.unused[0].why == "a duplicate");
}

TEST_CASE("RFC 3597 §5: what is no TLSA record is shown in generic form") {
  const TlsaRrset rrset = sort_rrset({{}, {3, 1}});
  REQUIRE(rrset.unused.size() == 2);
  CHECK(rrset.unused[0].rr == "\\# 0");
  CHECK(rrset.unused[1].rr == "\\# 2 0301");
}

TEST_CASE("at most max_records are used, and unusable ones do not count") {
  std::vector<Bytes> records(300, rdata("0 0 1 " + digest(32)));
  for (std::size_t i = 0; i < max_records + 7; ++i) {
    Bytes record(35);
    record[0] = 3;
    record[1] = record[2] = 1;
    record[3] = static_cast<std::uint8_t>(i);
    records.push_back(record);
  }
  const TlsaRrset rrset = sort_rrset(records);
  CHECK(rrset.usable.size() == max_records);
  CHECK(std::count_if(rrset.unused.begin(), rrset.unused.end(),
                      [](const UnusedRecord& record) { return record.why.find("limit") == 0; }) == 7);
}
