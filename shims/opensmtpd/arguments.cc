#include "shims/opensmtpd/arguments.h"

#include <unistd.h>

#include <algorithm>

#include "core/base/bytes.h"

namespace sealane::opensmtpd {

void complain(const std::string& what) {
  const std::string line = "sealane: " + printable(what, 500) + "\n";
  (void)!::write(STDERR_FILENO, line.data(), line.size());
}

Config config_or_defaults(const std::string& path) {
  auto config = load_config(path);
  if (config) return std::move(*config);
  complain(config.error().text() + "; the defaults are used until then");
  return {};
}

bool Exempt::add(std::string_view name) {
  const bool below = !name.empty() && name.front() == '.';
  auto domain = Domain::parse(below ? name.substr(1) : name);
  if (domain) (below ? above_ : exact_).push_back(std::move(*domain));
  return domain.has_value();
}

bool Exempt::holds(const Domain& domain) const {
  return std::find(exact_.begin(), exact_.end(), domain) != exact_.end() ||
         std::any_of(above_.begin(), above_.end(), [&](const Domain& above) { return domain.is_below(above); });
}

}  // namespace sealane::opensmtpd
