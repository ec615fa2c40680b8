// `sealane prewarm FILE`: asks for every domain of a list, so that its policy is known before its first mail.
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "core/base/bytes.h"
#include "core/config/config.h"
#include "shims/cli/cli.h"
#include "shims/cli/local.h"
#include "shims/wire/client.h"

namespace sealane::cli {
namespace {

constexpr std::size_t longest_list = 256U << 20U;
constexpr std::size_t batch = 500;      // domains between two entries of how far it has come
constexpr std::size_t sent_ahead = 16;  // requests: fewer than an agent keeps open for one client
constexpr int grace_ms = 5000;

// A line without its comment and the white space around it.
std::string bare(std::string_view line) {
  line = line.substr(0, line.find('#'));
  const std::size_t first = line.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return std::string(line.substr(first, line.find_last_not_of(" \t\r") - first + 1));
}

// How far an earlier run came, beside the list: "COUNT LAST-DOMAIN". A list that was changed begins anew.
class Progress {
 public:
  explicit Progress(const std::string& file) : path_(file == "-" ? "" : file + ".progress") {}

  [[nodiscard]] std::size_t done(const std::vector<std::string>& domains) const {
    std::ifstream in(path_);
    std::size_t count = 0;
    std::string last;
    const bool good = !path_.empty() && in >> count >> last && count > 0 && count <= domains.size();
    return good && domains[count - 1] == last ? count : 0;
  }
  void note(std::size_t count, const std::string& last) const {
    if (!path_.empty()) std::ofstream(path_, std::ios::trunc) << count << ' ' << last << '\n';
  }
  void finish() const {
    if (!path_.empty()) ::unlink(path_.c_str());
  }

 private:
  std::string path_;
};

void show_bar(std::size_t done, std::size_t all, std::size_t failed) {
  constexpr std::size_t width = 40;
  const std::size_t filled = all == 0 ? width : done * width / all;
  std::fprintf(stderr, "\r[%s%s] %zu/%zu, %zu without a decision", std::string(filled, '#').c_str(),
               std::string(width - filled, '.').c_str(), done, all, failed);
  if (done == all) std::fputc('\n', stderr);
}

// Asks an agent for domains [from, to). Nothing: it is gone.
std::optional<std::size_t> ask_agent(wire::Connection& agent, const std::vector<std::string>& domains, std::size_t from,
                                     std::size_t to, Millis wait) {
  std::size_t failed = 0;
  std::size_t sent = from;
  std::string error;
  for (std::size_t i = from; i < to; ++i) {
    const wire::Deadline deadline(static_cast<int>(wait.count()) + grace_ms);
    for (; sent < std::min(to, i + sent_ahead); ++sent) {
      wire::Request request;
      request.verb = wire::Verb::query;
      request.domain = domains[sent];
      request.wait_ms = static_cast<std::uint32_t>(wait.count());
      if (!agent.send(wire::write_request(request), deadline, error)) return std::nullopt;
    }
    const auto line = agent.receive(deadline, error);
    if (!line) return std::nullopt;
    const auto reply = wire::parse_reply(*line);
    if (!reply || reply->status != wire::Status::ok) ++failed;
  }
  return failed;
}

}  // namespace

Status prewarm(const PrewarmOptions& options) {
  const auto config = configured(options.config);
  if (!config) return bad_config;
  const auto text = read_input(options.file, longest_list);
  if (!text) {
    complain(text.error());
    return io_error;
  }
  Status status = ok;
  std::vector<std::string> domains;
  for (const std::string_view whole : lines_of(*text)) {
    const std::string line = bare(whole);
    if (line.empty()) continue;
    if (const auto domain = Domain::parse(line)) {
      domains.push_back(domain->text());
    } else {
      complain({"not a domain: " + domain.error().what, printable(line, 80), ""});
      status = bad_data;
    }
  }
  wire::Connection agent;
  std::string error;
  const bool by_agent = agent.open(config->socket, wire::Deadline(2000), error);
  const bool bar = ::isatty(STDERR_FILENO) != 0;
  const Progress progress(options.file);
  std::size_t done = progress.done(domains);
  if (done > 0) std::fprintf(stderr, "sealane: going on after %zu of %zu\n", done, domains.size());
  std::size_t failed = 0;
  while (done < domains.size()) {
    const std::size_t end = std::min(done + batch, domains.size());
    if (by_agent) {
      for (std::size_t to = done; to < end;) {
        const std::size_t from = std::exchange(to, std::min(to + 50, end));
        const auto without = ask_agent(agent, domains, from, to, config->timeout);
        if (!without) {
          complain({"the agent is gone", config->socket, "start it, and run this again: it goes on here"});
          return unreachable;
        }
        failed += *without;
        if (bar) show_bar(to, domains.size(), failed);
      }
    } else {
      std::vector<Question> questions;
      for (std::size_t i = done; i < end; ++i) questions.push_back(Question::parse(domains[i]));
      std::size_t told = done;
      ask_here(*config, questions, config->timeout, [&](const Reply& reply) {
        failed += reply.decision.complete ? 0 : 1;
        if (bar) show_bar(++told, domains.size(), failed);
      });
    }
    done = end;
    progress.note(done, domains[done - 1]);
  }
  progress.finish();
  print(std::to_string(domains.size()) + " domains asked for, " + std::to_string(failed) +
        " without a decision in time\n");
  return status;
}

}  // namespace sealane::cli
