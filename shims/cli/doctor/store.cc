#include "core/store/store.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "shims/cli/doctor/doctor.h"

namespace sealane::doctor {

Finding check_store(const Config& config) {
  const std::string directory = std::filesystem::path(config.store).parent_path().string();
  struct stat dir {};
  struct stat file {};
  if (::stat(directory.c_str(), &dir) != 0) {
    return bad(directory + ": " + std::strerror(errno), "create it, owned by the user that sealane runs as, mode 0700");
  }
  if (::stat(config.store.c_str(), &file) != 0) {
    if (errno == ENOENT) return good(config.store + ": not there yet; it is created with the first policy");
    return bad(config.store + ": " + std::strerror(errno), "run this as root, or as the owner of " + directory);
  }
  const auto store = open_sqlite_store(config.store, {});
  if (!store) return bad(store.error());
  const auto domains = (*store)->size();
  if (!domains) return bad(domains.error());
  // What it holds decides what is demanded of connections; whoever may write it may switch that off.
  if ((file.st_mode & (S_IWGRP | S_IWOTH | S_IROTH)) != 0) {
    return bad(config.store + ": others than its owner have access to it", "chmod 0600 " + config.store);
  }
  if (file.st_uid != dir.st_uid) {
    return bad(config.store + ": its owner is not that of its directory, whom sealane runs as",
               "chown --reference=" + directory + " " + config.store + "*");
  }
  return good(config.store + ": " + std::to_string(*domains) + " domains");
}

}  // namespace sealane::doctor
