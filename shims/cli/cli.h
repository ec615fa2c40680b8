// The subcommands of `sealane`: one source file each. Each takes its options, writes to standard output, and returns
// an exit status; errors go to standard error, one line each. main.cc reads the command line and knows the rest.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/config/config.h"
#include "core/decide/decision.h"

namespace sealane::cli {

// Exit statuses (those of sysexits.h, and 1).
enum Status : int {
  ok = 0,
  finding = 1,
  usage = 64,
  bad_data = 65,
  rejected = 68,
  unreachable = 69,
  bug = 70,
  io_error = 74,
  deferred = 75,
  no_permission = 77,
  bad_config = 78,
};

// Of two, the one that is told: the first in 78 77 74 70 69 65 68 75, then 64 and 1.
[[nodiscard]] Status worse(Status a, Status b);
// Of a decision, by its words; a missing or unknown action is `defer`.
[[nodiscard]] Status status_of(std::string_view action, std::string_view reason);
[[nodiscard]] Status status_of(const Decision& decision);

// Text for a terminal: printable ASCII as it is, which has been escaped already where it had to be; else printable().
[[nodiscard]] std::string shown(const std::string& text);
// "sealane: OF: WHAT; REMEDY" on standard error, shown().
void complain(const Error& error);
// To standard output; main() finds out whether all of it arrived.
void print(std::string_view text);
// Reads a file, or standard input for "-"; an error beyond `limit` octets.
[[nodiscard]] Result<std::string> read_input(const std::string& file, std::size_t limit);

// Between the line ends of `text`, which it borrows; nothing after the last one.
[[nodiscard]] std::vector<std::string_view> lines_of(std::string_view text);
// The configuration of `file` (empty: the default), or nothing after a complaint.
[[nodiscard]] std::optional<Config> configured(const std::string& file);

struct QueryOptions {
  std::string config;  // file; empty: the default
  std::vector<std::string> domains;
  bool json = false;
  bool local = false;
  bool fresh = false;
  bool mx = true;
  std::uint16_t port = 25;
  std::optional<Millis> wait;  // nothing: the configured timeout
};
[[nodiscard]] Status query(const QueryOptions& options);
// Always decides in this process: an agent's answer carries no evidence.
[[nodiscard]] Status explain(const QueryOptions& options);

// Connects to the hosts of each domain, and says what its administrator should mend. Status `finding` if anything.
[[nodiscard]] Status check(const QueryOptions& options);

struct DecideOptions {
  std::string evidence;  // file, or "-"
  bool json = false;
};
[[nodiscard]] Status decide(const DecideOptions& options);

enum class LintKind : unsigned char { policy, txt, tlsa };
struct LintOptions {
  LintKind kind = LintKind::policy;
  std::vector<std::string> files;  // none: standard input
  bool json = false;
};
[[nodiscard]] Status lint(const LintOptions& options);

struct CacheOptions {
  enum class What : unsigned char { list, show, purge, export_all, import_file, restore };
  std::string config;
  What what = What::list;
  std::vector<std::string> arguments;  // domains; of import: a file, or "-"
  bool force = false;                  // also where less is demanded then
};
[[nodiscard]] Status cache(const CacheOptions& options);

struct PrewarmOptions {
  std::string config;
  std::string file;  // a domain a line, or "-"
};
[[nodiscard]] Status prewarm(const PrewarmOptions& options);

struct SetupOptions {
  bool dry_run = false;
  bool undo = false;  // not together with dry_run
};
// Becomes the program that changes Exim's configuration; returns only where there is none.
[[nodiscard]] Status setup_exim(const SetupOptions& options);

[[nodiscard]] Status doctor(const std::string& config);

}  // namespace sealane::cli
