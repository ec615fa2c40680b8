#include "core/verify/certificate.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <memory>

#include "core/verify/verifier.h"

namespace sealane {

namespace {

constexpr int most_names = 100;

struct Free {
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(GENERAL_NAMES* names) const { GENERAL_NAMES_free(names); }
  void operator()(BIO* bio) const { BIO_free(bio); }
};

std::string text_of(const X509_NAME* name) {
  const std::unique_ptr<BIO, Free> out(BIO_new(BIO_s_mem()));
  if (!out) throw std::bad_alloc();
  X509_NAME_print_ex(out.get(), name, 0, XN_FLAG_RFC2253);
  char* data = nullptr;
  const long length = BIO_get_mem_data(out.get(), &data);
  return printable({data, length > 0 ? static_cast<std::size_t>(length) : 0}, 200);
}

WallTime time_of(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return {};
  return WallTime{Seconds{timegm(&parts)}};
}

}  // namespace

std::optional<CertificateText> describe_certificate(const Bytes& der) {
  if (der.size() > max_certificate_octets) return std::nullopt;
  ERR_set_mark();
  const unsigned char* at = der.data();
  const std::unique_ptr<X509, Free> certificate(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
  ERR_pop_to_mark();
  if (!certificate || at != der.data() + der.size()) return std::nullopt;

  CertificateText text;
  text.subject = text_of(X509_get_subject_name(certificate.get()));
  text.issuer = text_of(X509_get_issuer_name(certificate.get()));
  text.not_after = time_of(X509_get0_notAfter(certificate.get()));
  const std::unique_ptr<GENERAL_NAMES, Free> names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate.get(), NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()) && i < most_names; ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_DNS) continue;
    const auto* data = reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName));
    text.names.push_back(printable({data, static_cast<std::size_t>(ASN1_STRING_length(name->d.dNSName))}, 253));
  }
  return text;
}

}  // namespace sealane
