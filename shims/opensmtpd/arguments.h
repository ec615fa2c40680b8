// What the filter and the table are told by smtpd.conf. Neither may end over it: what is wrong is told on standard
// error, which smtpd logs, and the default is taken.
#pragma once

#include <string>
#include <vector>

#include "core/config/config.h"

namespace sealane::opensmtpd {

// One line "sealane: …" on standard error.
void complain(const std::string& what);

// The file, or the defaults where it cannot be read. `path` empty: the default file.
[[nodiscard]] Config config_or_defaults(const std::string& path);

// Domains that are not asked about: "example.org", or ".example.org" for all below it.
class Exempt {
 public:
  // False: `name` is no such thing.
  [[nodiscard]] bool add(std::string_view name);
  [[nodiscard]] bool holds(const Domain& domain) const;

 private:
  std::vector<Domain> exact_, above_;
};

}  // namespace sealane::opensmtpd
