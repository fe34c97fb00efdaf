#include "crypto.h"

#include <dlfcn.h>

#include <climits>
#include <cstring>
#include <memory>

#include "sha256-pair.h"

namespace orca {
namespace {

// The declarations of <openssl/evp.h>; the same in OpenSSL 1.1.1 and 3.
struct EVP_MD;
struct EVP_CIPHER;
struct EVP_CIPHER_CTX;
struct ENGINE;
constexpr int kCtrlGcmSetTag = 0x11;

struct OpenSsl {
  int (*digest)(const void* data, size_t count, unsigned char* out, unsigned int* size, const EVP_MD*, ENGINE*);
  const EVP_MD* (*sha256)();
  const EVP_CIPHER* (*aes128Gcm)();
  const EVP_CIPHER* (*aes256Gcm)();
  EVP_CIPHER_CTX* (*newContext)();
  void (*freeContext)(EVP_CIPHER_CTX*);
  int (*control)(EVP_CIPHER_CTX*, int type, int argument, void* pointer);
  int (*init)(EVP_CIPHER_CTX*, const EVP_CIPHER*, ENGINE*, const unsigned char* key, const unsigned char* iv);
  int (*update)(EVP_CIPHER_CTX*, unsigned char* out, int* outLength, const unsigned char* in, int length);
  int (*final)(EVP_CIPHER_CTX*, unsigned char* out, int* outLength);
  bool complete = true;

  OpenSsl() {
    find("EVP_Digest", digest);
    find("EVP_sha256", sha256);
    find("EVP_aes_128_gcm", aes128Gcm);
    find("EVP_aes_256_gcm", aes256Gcm);
    find("EVP_CIPHER_CTX_new", newContext);
    find("EVP_CIPHER_CTX_free", freeContext);
    find("EVP_CIPHER_CTX_ctrl", control);
    find("EVP_DecryptInit_ex", init);
    find("EVP_DecryptUpdate", update);
    find("EVP_DecryptFinal_ex", final);
  }

  static const OpenSsl& get() {
    static const OpenSsl found;
    return found;
  }

 private:
  template <typename Function>
  void find(const char* name, Function& function) {
    void* symbol = dlsym(RTLD_DEFAULT, name);
    if (symbol == nullptr) complete = false;
    memcpy(&function, &symbol, sizeof symbol);
  }
};

const unsigned char* in(std::span<const std::byte> bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

}  // namespace

bool cryptoAvailable() { return OpenSsl::get().complete; }

bool hasDigest(std::span<const std::byte> bytes, Digest digest) {
  const auto& ssl = OpenSsl::get();
  unsigned char found[kDigestSize];
  if (!ssl.complete || ssl.digest(bytes.data(), bytes.size(), found, nullptr, ssl.sha256(), nullptr) != 1) return false;
  return memcmp(found, digest.data(), kDigestSize) == 0;
}

std::array<bool, 2> haveDigests(const std::array<std::span<const std::byte>, 2>& bytes,
                                const std::array<Digest, 2>& digests) {
  static const bool inPairs = hasSha256Pair();
  const auto& [first, second] = bytes;
  if (!inPairs || first.size() != second.size() || first.size() % 64 != 0)
    return {hasDigest(first, digests[0]), hasDigest(second, digests[1])};
  const auto found = sha256Pair(first, second);
  return {memcmp(found[0].data(), digests[0].data(), kDigestSize) == 0,
          memcmp(found[1].data(), digests[1].data(), kDigestSize) == 0};
}

bool openGcm(const GcmMessage& message, std::span<std::byte> data) {
  const auto& ssl = OpenSsl::get();
  if (!ssl.complete || data.size() > INT_MAX || message.additional.size() > INT_MAX) return false;
  const std::unique_ptr<EVP_CIPHER_CTX, void (*)(EVP_CIPHER_CTX*)> context(ssl.newContext(), ssl.freeContext);
  if (!context) return false;
  auto* c = context.get();
  auto* out = reinterpret_cast<unsigned char*>(data.data());
  std::array<std::byte, kGcmTagSize> tag;
  memcpy(tag.data(), message.tag.data(), tag.size());
  int length = 0;
  // 12 bytes is the default length of the nonce.
  return ssl.init(c, message.key.size() == 32 ? ssl.aes256Gcm() : ssl.aes128Gcm(), nullptr, in(message.key),
                  in(message.nonce)) == 1 &&
         ssl.control(c, kCtrlGcmSetTag, kGcmTagSize, tag.data()) == 1 &&
         ssl.update(c, nullptr, &length, in(message.additional), static_cast<int>(message.additional.size())) == 1 &&
         ssl.update(c, out, &length, out, static_cast<int>(data.size())) == 1 &&
         ssl.final(c, out + data.size(), &length) == 1;
}

}  // namespace orca
