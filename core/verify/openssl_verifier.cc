// A thin layer over X509_verify_cert(): it finds chains, matches TLSA records and names, and judges dates. What is ours
// is the set-up: which anchors, which names, which flags, and the bounds.
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <new>

#include "core/verify/verifier.h"

namespace sealane {
namespace {

template <auto release>
struct Release {
  template <class T>
  void operator()(T* value) const {
    release(value);
  }
};
void free_certificates(STACK_OF(X509) * certificates) { sk_X509_pop_free(certificates, X509_free); }

using Store = std::unique_ptr<X509_STORE, Release<X509_STORE_free>>;
using SslContext = std::unique_ptr<SSL_CTX, Release<SSL_CTX_free>>;
using Ssl = std::unique_ptr<SSL, Release<SSL_free>>;
using Certificate = std::unique_ptr<X509, Release<X509_free>>;
using Certificates = std::unique_ptr<STACK_OF(X509), Release<free_certificates>>;
using VerifyContext = std::unique_ptr<X509_STORE_CTX, Release<X509_STORE_CTX_free>>;
using GeneralNames = std::unique_ptr<GENERAL_NAMES, Release<GENERAL_NAMES_free>>;

// OpenSSL reports the lack of memory, and nothing else, by a null pointer where we create things.
template <class Handle>
Handle made(Handle handle) {
  if (!handle) throw std::bad_alloc();
  return handle;
}

// The caller may use OpenSSL too: its error queue stays as it was.
struct ErrorMark {
  ErrorMark() { ERR_set_mark(); }
  ~ErrorMark() { ERR_pop_to_mark(); }
  ErrorMark(const ErrorMark&) = delete;
  ErrorMark& operator=(const ErrorMark&) = delete;
};

// ---- What is told to people

constexpr std::size_t most_listed = 5;

std::string list(const std::vector<std::string>& items) {
  std::string out;
  for (std::size_t i = 0; i < items.size() && i < most_listed; ++i) out += (i == 0 ? "" : ", ") + items[i];
  if (items.size() > most_listed) out += " and " + std::to_string(items.size() - most_listed) + " more";
  return out;
}

std::string text_of(const ASN1_STRING* value) {
  const auto* data = reinterpret_cast<const char*>(ASN1_STRING_get0_data(value));
  return printable({data, static_cast<std::size_t>(ASN1_STRING_length(value))}, 100);
}

std::string names_of(X509* certificate) {
  std::vector<std::string> names;
  const GeneralNames all(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; all && i < sk_GENERAL_NAME_num(all.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(all.get(), i);
    if (name->type == GEN_DNS) names.push_back(text_of(name->d.dNSName));
  }
  if (!names.empty()) return list(names);
  const X509_NAME* subject = X509_get_subject_name(certificate);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at < 0) return "no DNS-ID and no CN";
  return "no DNS-ID, CN " + text_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
}

// The record that would match this certificate, in its commonest form, so that a publisher sees the difference.
std::string record_for(X509* certificate) {
  Bytes digest(SHA256_DIGEST_LENGTH);
  unsigned char* key = nullptr;
  const int length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &key);
  if (length < 0) return "unreadable";
  SHA256(key, static_cast<std::size_t>(length), digest.data());
  OPENSSL_free(key);
  return dane::TlsaRecord{3, 1, 1, digest}.text();
}

std::string short_text(const dane::TlsaRecord& record) { return printable(record.text(), 80); }

std::string records_of(const Demand& demand) {
  std::vector<std::string> texts;
  for (const dane::TlsaRecord& record : demand.tlsa) texts.push_back(short_text(record));
  return list(texts);
}

Verdict refused(const Demand& demand, Reason reason, const std::string& why) {
  return {false, reason, printable(demand.host) + ": " + why};
}

Verdict accepted(const Demand& demand, const std::string& why) {
  return {true, Reason::verified, printable(demand.host) + ": " + why};
}

Reason reason_of(int error) {
  switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
    case X509_V_ERR_ERROR_IN_CERT_NOT_BEFORE_FIELD:
    case X509_V_ERR_ERROR_IN_CERT_NOT_AFTER_FIELD:
      return Reason::cert_expired;
    case X509_V_ERR_HOSTNAME_MISMATCH:
      return Reason::cert_name;
    case X509_V_ERR_DANE_NO_MATCH:
      return Reason::tlsa_mismatch;
    default:
      return Reason::cert_untrusted;
  }
}

Verdict refused_by_openssl(const Demand& demand, X509_STORE_CTX* context, X509* leaf) {
  const int error = X509_STORE_CTX_get_error(context);
  const Reason reason = reason_of(error);
  std::string why = std::string(X509_verify_cert_error_string(error)) + " (depth " +
                    std::to_string(X509_STORE_CTX_get_error_depth(context)) + "); ";
  if (reason == Reason::cert_name) why += "wanted " + list(demand.names) + "; ";
  if (reason == Reason::tlsa_mismatch)
    why += "wanted " + records_of(demand) + "; the key is " + record_for(leaf) + "; ";
  return refused(demand, reason, why + "the certificate names " + names_of(leaf));
}

// ---- What was presented

Certificate read_certificate(const Bytes& der) {
  if (der.size() > max_certificate_octets) return nullptr;
  const unsigned char* at = der.data();
  Certificate certificate(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
  if (at != der.data() + der.size()) return nullptr;
  return certificate;
}

// Nothing, and the reason: not a chain that can be looked at.
Certificates read_chain(const Demand& demand, std::span<const Bytes> chain, Verdict& why) {
  if (chain.size() > max_chain) {
    why = refused(demand, Reason::cert_untrusted,
                  std::to_string(chain.size()) + " certificates presented, more than " + std::to_string(max_chain));
    return nullptr;
  }
  auto certificates = made(Certificates(sk_X509_new_null()));
  for (std::size_t i = 0; i < chain.size(); ++i) {
    Certificate certificate = read_certificate(chain[i]);
    if (!certificate) {
      why = refused(demand, Reason::cert_missing,
                    "certificate " + std::to_string(i + 1) + " of " + std::to_string(chain.size()) +
                        " is not DER, or longer than " + std::to_string(max_certificate_octets) + " octets");
      return nullptr;
    }
    if (sk_X509_push(certificates.get(), certificate.get()) == 0) throw std::bad_alloc();
    static_cast<void>(certificate.release());  // now the stack's
  }
  return certificates;
}

// ---- What is trusted

bool has_certificate(X509_STORE* store) {
  const STACK_OF(X509_OBJECT)* objects = X509_STORE_get0_objects(store);
  for (int i = 0; i < sk_X509_OBJECT_num(objects); ++i) {
    if (X509_OBJECT_get_type(sk_X509_OBJECT_value(objects, i)) == X509_LU_X509) return true;
  }
  return false;
}

// Nothing if the file cannot be read or holds no certificate.
Store load_cas(const std::string& file) {
  struct stat info {};
  if (stat(file.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return nullptr;  // a FIFO would make us wait
  auto store = made(Store(X509_STORE_new()));
  if (X509_STORE_load_file(store.get(), file.c_str()) != 1 || !has_certificate(store.get())) return nullptr;
  return store;
}

class OpensslVerifier final : public Verifier {
 public:
  // `cas`: nothing: no `pkix` demand can be met.
  explicit OpensslVerifier(Store cas)
      : cas_(std::move(cas)),
        nobody_(made(Store(X509_STORE_new()))),
        dane_(made(SslContext(SSL_CTX_new(TLS_client_method())))) {
    if (SSL_CTX_dane_enable(dane_.get()) != 1) throw std::bad_alloc();
  }

  [[nodiscard]] Verdict verify(const Demand& demand, std::span<const Bytes> chain, WallTime now) const override {
    const ErrorMark mark;
    if (demand.tls == Tls::opportunistic) return accepted(demand, "nothing is demanded");
    if (demand.tls == Tls::skip) return refused(demand, Reason::tls_failed, "the decision allows no connection");
    if (chain.empty()) return refused(demand, Reason::starttls_missing, "the connection has no TLS");

    Verdict verdict;
    // RFC 7672 §2.2: `encrypt` asks for no more than TLS; a certificate is the evidence that there is TLS.
    const bool any_certificate = demand.tls == Tls::encrypt;
    const Certificates certificates = read_chain(demand, any_certificate ? chain.first(1) : chain, verdict);
    if (!certificates) return verdict;
    if (any_certificate) return accepted(demand, "TLS, the certificate is not checked");

    // No name at all, or an empty one, would make OpenSSL skip the check; a leading dot, or NUL, would widen it.
    if (demand.names.empty()) return refused(demand, Reason::cert_name, "the demand holds no name to check");
    for (const std::string& name : demand.names) {
      const auto domain = Domain::parse(name);
      if (!domain || domain->text() != name) {
        return refused(demand, Reason::cert_name, "the demand holds a malformed name: " + printable(name));
      }
    }
    return demand.tls == Tls::dane ? verify_dane(demand, certificates.get(), now)
                                   : verify_pkix(demand, certificates.get(), now);
  }

 private:
  // RFC 8461 §4.2: dates, a trusted root, and a DNS-ID for the MX name.
  [[nodiscard]] Verdict verify_pkix(const Demand& demand, STACK_OF(X509) * chain, WallTime now) const {
    if (!cas_) return refused(demand, Reason::ca_file, "no trusted CA certificates were loaded");
    // OpenSSL takes a CN where there is no DNS-ID, unless told not to; §4.2 demands the DNS-ID.
    const auto context = prepare(demand, cas_.get(), chain, now, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    // 112 bits: what every public CA has had to meet for years (no RSA below 2048, no SHA-1).
    X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(context.get()), 2);
    if (X509_verify_cert(context.get()) != 1) {
      return refused_by_openssl(demand, context.get(), sk_X509_value(chain, 0));
    }
    const char* name = X509_VERIFY_PARAM_get0_peername(X509_STORE_CTX_get0_param(context.get()));
    // The name check above is what this rests on: without a matched name there is no success.
    if (name == nullptr) return refused(demand, Reason::cert_name, "no name was matched");
    return accepted(demand, "a trusted certificate for " + printable(name));
  }

  // RFC 7672 §3.1, §3.1.2, §3.2. No CA is trusted here but what the records name.
  [[nodiscard]] Verdict verify_dane(const Demand& demand, STACK_OF(X509) * chain, WallTime now) const {
    const auto ssl = made(Ssl(SSL_new(dane_.get())));  // holds the records; there is no connection
    if (SSL_dane_enable(ssl.get(), demand.names.front().c_str()) != 1) throw std::bad_alloc();
    // RFC 7672 §3.2.1: no name checks with DANE-EE(3). (Dates: OpenSSL ignores them
    // there, as RFC 7672 §3.1.1 demands.)
    SSL_dane_set_flags(ssl.get(), DANE_FLAG_NO_DANE_EE_NAMECHECKS);
    bool any = false;
    for (const dane::TlsaRecord& record : demand.tlsa) {
      // Ours are the usages for SMTP only (§3.1.3). A key that OpenSSL cannot read matches nothing.
      if (!dane::why_unusable(record).empty()) continue;
      if (SSL_dane_tlsa_add(ssl.get(), record.usage, record.selector, record.matching_type, record.data.data(),
                            record.data.size()) == 1) {
        any = true;
      }
    }
    // Without records OpenSSL would fall back to PKIX.
    if (!any) return refused(demand, Reason::tlsa_mismatch, "the demand holds no record that can match");

    // RFC 7672 §3.2.3: the CN counts where there is no DNS-ID, which is what OpenSSL does unasked.
    const auto context = prepare(demand, nobody_.get(), chain, now, 0);
    // 80 bits: DNSSEC vouches for this very key or CA, and refusing RSA-1024 would only hold up mail; a key that
    // anyone can break, such as RSA-512, authenticates nobody.
    X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(context.get()), 1);
    X509_STORE_CTX_set0_dane(context.get(), SSL_get0_dane(ssl.get()));
    if (X509_verify_cert(context.get()) != 1) {
      return refused_by_openssl(demand, context.get(), sk_X509_value(chain, 0));
    }
    dane::TlsaRecord record;
    const unsigned char* data = nullptr;
    std::size_t length = 0;
    const int depth =
        SSL_get0_dane_tlsa(ssl.get(), &record.usage, &record.selector, &record.matching_type, &data, &length);
    // The match above is what this rests on: without a matched record there is no success.
    if (depth < 0) return refused(demand, Reason::tlsa_mismatch, "no record was matched");
    record.data.assign(data, data + length);
    return accepted(demand, "TLSA " + short_text(record) + " matches (depth " + std::to_string(depth) + ")");
  }

  static VerifyContext prepare(const Demand& demand, X509_STORE* anchors, STACK_OF(X509) * chain, WallTime now,
                               unsigned host_flags) {
    auto context = made(VerifyContext(X509_STORE_CTX_new()));
    if (X509_STORE_CTX_init(context.get(), anchors, sk_X509_value(chain, 0), chain) != 1 ||
        X509_STORE_CTX_set_default(context.get(), "ssl_server") != 1) {  // purpose and trust: a TLS server
      throw std::bad_alloc();
    }
    X509_VERIFY_PARAM* parameters = X509_STORE_CTX_get0_param(context.get());
    // RFC 7672 §3.2.3, RFC 8461 §4.1: the wildcard is the entire first label.
    X509_VERIFY_PARAM_set_hostflags(parameters, host_flags | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    X509_VERIFY_PARAM_set_time(parameters, static_cast<std::time_t>(now.time_since_epoch().count()));
    for (const std::string& name : demand.names) {
      // Not SSL_add1_host(): it takes a name such as 192.0.2.1 for an address, and an IP SAN is no DNS-ID.
      if (X509_VERIFY_PARAM_add1_host(parameters, name.data(), name.size()) != 1) throw std::bad_alloc();
    }
    return context;
  }

  Store cas_;
  Store nobody_;  // no CA is trusted
  SslContext dane_;
};

}  // namespace

Result<std::unique_ptr<Verifier>> make_openssl_verifier(const std::optional<std::string>& ca_file) {
  const ErrorMark mark;
  // Not X509_STORE_set_default_paths(): the environment would choose.
  const std::string debian = "/etc/ssl/certs/ca-certificates.crt";
  const std::vector<std::string> files =
      ca_file ? std::vector<std::string>{*ca_file} : std::vector<std::string>{debian, X509_get_default_cert_file()};
  for (const std::string& file : files) {
    if (Store cas = load_cas(file)) return std::make_unique<OpensslVerifier>(std::move(cas));
  }
  return failure("no CA certificate could be loaded from this file", files.front(),
                 ca_file ? "name a readable file of PEM certificates as ca_file"
                         : "install the package ca-certificates, or set ca_file");
}

std::unique_ptr<Verifier> make_dane_verifier() {
  const ErrorMark mark;
  return std::make_unique<OpensslVerifier>(nullptr);
}

Verdict verify_all(const Verifier& verifier, const Demands& demands, std::string_view host,
                   std::span<const Bytes> chain, WallTime now) {
  Verdict all{true, Reason::verified, {}};
  for (const Demand& demand : demands_for(demands, host)) {
    Verdict verdict = verifier.verify(demand, chain, now);
    if (!verdict.ok) return verdict;
    all.text += (all.text.empty() ? "" : "; ") + verdict.text;
  }
  return all;
}

}  // namespace sealane
