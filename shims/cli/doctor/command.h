// Another program's output, within bounds.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace sealane::doctor {

struct Output {
  int status = -1;   // exit status; -1: it did not end by itself in time
  std::string text;  // standard output and standard error, the first 64 KiB
};

// Runs `argv` (argv[0]: absolute path) with no standard input and no environment but PATH, for `timeout_ms` at most;
// then it is killed. Nothing: it cannot be started.
[[nodiscard]] std::optional<Output> run_command(const std::vector<std::string>& argv, int timeout_ms);

}  // namespace sealane::doctor
