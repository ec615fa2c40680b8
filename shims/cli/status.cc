#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "core/base/bytes.h"
#include "shims/cli/cli.h"

namespace sealane::cli {

Status worse(Status a, Status b) {
  for (const Status status :
       {bad_config, no_permission, io_error, bug, unreachable, bad_data, rejected, deferred, usage, finding}) {
    if (a == status || b == status) return status;
  }
  return ok;
}

Status status_of(std::string_view action, std::string_view reason) {
  if (action == to_text(Action::deliver)) return ok;
  if (action == to_text(Action::reject)) return reason == to_text(Reason::domain_invalid) ? bad_data : rejected;
  // Deferred because this installation is not complete: no later attempt goes better until that is mended.
  const bool ours = reason == to_text(Reason::trust_anchor) || reason == to_text(Reason::ca_file);
  return ours ? bad_config : deferred;
}

Status status_of(const Decision& decision) { return status_of(to_text(decision.action), to_text(decision.reason)); }

std::string shown(const std::string& text) {
  const bool harmless = std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c < 0x7f; });
  return harmless ? text : printable(text, 2000);
}

void complain(const Error& error) {
  const std::string line = "sealane: " + shown(error.text()) + "\n";
  std::fputs(line.c_str(), stderr);
}

void print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

std::optional<Config> configured(const std::string& file) {
  auto config = load_config(file);
  if (config) return std::move(*config);
  complain(config.error());
  return std::nullopt;
}

Result<std::string> read_input(const std::string& file, std::size_t limit) {
  const bool standard = file == "-";
  const std::string name = standard ? "standard input" : file;
  const std::unique_ptr<FILE, int (*)(FILE*)> opened(standard ? nullptr : std::fopen(file.c_str(), "rbe"),
                                                     [](FILE* f) { return f == nullptr ? 0 : std::fclose(f); });
  FILE* const in = standard ? stdin : opened.get();
  if (in == nullptr) return failure(std::string("cannot open: ") + std::strerror(errno), name);
  std::string text;
  std::array<char, 65536> buffer;
  for (;;) {
    const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), in);
    text.append(buffer.data(), n);
    if (text.size() > limit) return failure("more than " + std::to_string(limit) + " octets", name);
    if (n != 0) continue;
    if (std::ferror(in) != 0) return failure(std::string("cannot read: ") + std::strerror(errno), name);
    return text;
  }
}

}  // namespace sealane::cli
