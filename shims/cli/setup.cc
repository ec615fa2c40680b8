// The work is done by a script beside the fragments: it is files and text, and an administrator can read it.
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "shims/cli/cli.h"

namespace sealane::cli {

Status setup_exim(const SetupOptions& options) {
  std::string script = SEALANE_EXIM_SETUP;
  std::string mode = options.dry_run ? "--dry-run" : "--undo";
  char* const with_mode[] = {script.data(), mode.data(), nullptr};
  char* const plain[] = {script.data(), nullptr};
  ::execv(script.c_str(), options.dry_run || options.undo ? with_mode : plain);
  complain({std::string("cannot be run: ") + std::strerror(errno), script, "install sealane-exim"});
  return bad_config;
}

}  // namespace sealane::cli
