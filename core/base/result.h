// Errors are values: what failed, of what, and what to do about it.
//
// Exceptions are kept for bugs and for std::bad_alloc; they stop at the C boundary (plugin/guard.h).
#pragma once

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace sealane {

struct Error {
  std::string what;    // "unknown key", in words, no full stop
  std::string of;      // the file and line, key, domain or address concerned; may be empty
  std::string remedy;  // what the administrator does next; may be empty

  // One line: "OF: WHAT; REMEDY".
  [[nodiscard]] std::string text() const {
    std::string line = of.empty() ? what : of + ": " + what;
    if (!remedy.empty()) line += "; " + remedy;
    return line;
  }
};

template <class T>
using Result = tl::expected<T, Error>;

[[nodiscard]] inline tl::unexpected<Error> failure(std::string what, std::string of = {}, std::string remedy = {}) {
  return tl::make_unexpected(Error{std::move(what), std::move(of), std::move(remedy)});
}

}  // namespace sealane
