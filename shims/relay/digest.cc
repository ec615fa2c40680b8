#include <openssl/evp.h>

#include <new>

#include "shims/relay/body.h"

namespace sealane::relay {

struct Hash::Impl {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
};

Hash::Hash() : impl_(std::make_unique<Impl>()) {
  if (impl_->context == nullptr || EVP_DigestInit_ex(impl_->context, EVP_sha256(), nullptr) != 1) {
    EVP_MD_CTX_free(impl_->context);
    throw std::bad_alloc();
  }
}

Hash::~Hash() { EVP_MD_CTX_free(impl_->context); }

void Hash::add(std::string_view octets) {
  if (EVP_DigestUpdate(impl_->context, octets.data(), octets.size()) != 1) throw std::bad_alloc();
}

Digest Hash::end() {
  Digest digest{};
  if (EVP_DigestFinal_ex(impl_->context, digest.data(), nullptr) != 1) throw std::bad_alloc();
  return digest;
}

}  // namespace sealane::relay
