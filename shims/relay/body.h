// A message on its way from DATA to DATA.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/base/result.h"

namespace sealane::relay {

// SHA-256. The one user of OpenSSL for it is digest.cc.
using Digest = std::array<std::uint8_t, 32>;
class Hash {
 public:
  Hash();
  ~Hash();
  Hash(const Hash&) = delete;
  Hash& operator=(const Hash&) = delete;
  void add(std::string_view octets);
  [[nodiscard]] Digest end();  // once

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Reads what a client sends after DATA. Pure. Only CR LF . CR LF ends it (RFC 5321 §2.3.8, §4.1.1.4): no bare CR or LF,
// on either side of the dot, counts as a line end there. What comes out has no bare CR and no bare LF: a bare LF
// becomes CR LF, a bare CR a space. Dots are unstuffed (§4.5.2).
class DataReader {
 public:
  // Appends to `out` what `input` holds of the message; gives the number of octets taken. All of `input` is taken
  // unless the message ends within it.
  std::size_t take(std::string_view input, std::string& out);
  [[nodiscard]] bool ended() const { return state_ == State::ended; }

 private:
  enum class State : unsigned char { line_start, dot, dot_cr, text, cr, ended };
  void text(char c, std::string& out);
  State state_ = State::line_start;
};

// The same backwards: what goes to a server, dots stuffed. The final dot is not its business. Pure.
class DotStuffer {
 public:
  void put(std::string_view message, std::string& out);

 private:
  char last_ = '\n';
};

// A whole message: in memory while it is small, else in a file that has no name. Filled by one thread, then read by
// any.
class Body {
 public:
  // `folder`: for large messages.
  explicit Body(std::string folder) : folder_(std::move(folder)) {}
  ~Body();
  Body(const Body&) = delete;
  Body& operator=(const Body&) = delete;

  [[nodiscard]] Result<void> add(std::string_view octets);
  void end() { digest_ = hash_.end(); }

  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] bool eight_bit() const { return eight_bit_; }
  [[nodiscard]] const Digest& digest() const { return digest_; }
  // Up to `most` octets from `offset`; empty at the end, and also on an error of the file, which `good` tells.
  [[nodiscard]] std::string read(std::uint64_t offset, std::size_t most, bool& good) const;
  // What the topmost Received header calls the message ("id 1a2b3c4d"), printable; may be empty.
  [[nodiscard]] std::string id() const;

  static constexpr std::size_t most_in_memory = 65536;

 private:
  const std::string folder_;
  std::string memory_;
  std::string head_;  // the beginning, for id()
  int file_ = -1;
  std::uint64_t size_ = 0;
  bool eight_bit_ = false;
  Hash hash_;
  Digest digest_{};
};

}  // namespace sealane::relay
