#include "core/dane/der.h"

#include <openssl/err.h>
#include <openssl/x509.h>

#include <limits>

namespace sealane::dane {
namespace {

template <auto decode, auto release>
bool is_one(ByteView der) {
  if (der.empty() || der.size() > static_cast<std::size_t>(std::numeric_limits<int>::max())) return false;
  ERR_set_mark();  // the caller's own OpenSSL errors, if any, stay as they were
  const unsigned char* at = der.data();
  auto* value = decode(nullptr, &at, static_cast<long>(der.size()));
  const bool whole = value != nullptr && at == der.data() + der.size();
  release(value);
  ERR_pop_to_mark();
  return whole;
}

}  // namespace

bool is_one_certificate(ByteView der) { return is_one<d2i_X509, X509_free>(der); }

bool is_one_public_key(ByteView der) { return is_one<d2i_X509_PUBKEY, X509_PUBKEY_free>(der); }

}  // namespace sealane::dane
