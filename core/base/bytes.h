// Octets: the one bounds-checked reader of wire data, and hexadecimal and base64 text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sealane {

using Bytes = std::vector<std::uint8_t>;
using ByteView = std::span<const std::uint8_t>;

// Reads big-endian integers and runs of octets from a view that it does not own. Once a read would pass the end, that
// read and all later ones return nothing: a parser may check at the end only.
class ByteReader {
 public:
  explicit ByteReader(ByteView data) : data_(data) {}

  std::optional<std::uint8_t> u8() {
    auto v = take(1);
    if (!v) return std::nullopt;
    return (*v)[0];
  }
  std::optional<std::uint16_t> u16() {
    auto v = take(2);
    if (!v) return std::nullopt;
    return static_cast<std::uint16_t>(((*v)[0] << 8U) | (*v)[1]);
  }
  std::optional<std::uint32_t> u32() {
    auto v = take(4);
    if (!v) return std::nullopt;
    return (std::uint32_t{(*v)[0]} << 24U) | (std::uint32_t{(*v)[1]} << 16U) | (std::uint32_t{(*v)[2]} << 8U) |
           std::uint32_t{(*v)[3]};
  }
  std::optional<ByteView> take(std::size_t n) {
    if (failed_ || n > data_.size() - at_) {
      failed_ = true;
      return std::nullopt;
    }
    at_ += n;
    return data_.subspan(at_ - n, n);
  }
  // Moves to an absolute offset (DNS compression pointers, RFC 1035).
  bool seek(std::size_t offset) {
    if (failed_ || offset > data_.size()) failed_ = true;
    if (!failed_) at_ = offset;
    return !failed_;
  }
  [[nodiscard]] std::size_t offset() const { return at_; }
  [[nodiscard]] std::size_t left() const { return failed_ ? 0 : data_.size() - at_; }
  [[nodiscard]] bool failed() const { return failed_; }

 private:
  ByteView data_;
  std::size_t at_ = 0;
  bool failed_ = false;
};

[[nodiscard]] ByteView as_bytes(std::string_view text);                 // borrowed
[[nodiscard]] std::string hex(ByteView data);                           // lower case
[[nodiscard]] std::optional<Bytes> from_hex(std::string_view text);     // either case, even length, nothing else
[[nodiscard]] std::string base64(ByteView data);                        // padded, no line breaks
[[nodiscard]] std::optional<Bytes> from_base64(std::string_view text);  // strict: padded, no white space

// Untrusted text for a terminal or a log line: printable ASCII stays, every other octet and the backslash become
// \xNN; at most `limit` octets of the input are shown, then "…" is written as "...".
[[nodiscard]] std::string printable(std::string_view text, std::size_t limit = 256);

// The input as valid UTF-8: octets that are not are replaced by U+FFFD.
[[nodiscard]] std::string valid_utf8(std::string_view text);

}  // namespace sealane
