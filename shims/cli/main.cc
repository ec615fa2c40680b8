// The command line. The one user of CLI11.
#include <sysexits.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>

#include "shims/agent/agent.h"
#include "shims/cli/cli.h"
#include "shims/relay/relay.h"

namespace sealane::cli {
namespace {

// "1500ms", "20s", "2m"; a bare number is seconds. Nothing: anything else, nought, or more than ten minutes.
std::optional<Millis> parse_wait(const std::string& text) {
  std::size_t digits = 0;
  while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') ++digits;
  if (digits == 0 || digits > 6) return std::nullopt;
  const long number = std::stol(text.substr(0, digits));
  const std::string unit = text.substr(digits);
  long factor = 0;
  if (unit == "ms") factor = 1;
  if (unit == "s" || unit.empty()) factor = 1000;
  if (unit == "m") factor = 60000;
  const Millis wait{number * factor};
  if (wait <= Millis{0} || wait > Millis{600000}) return std::nullopt;
  return wait;
}

std::string check_wait(const std::string& text) {
  return parse_wait(text) ? std::string() : "not a time such as 20s, 1500ms or 2m, ten minutes at most: " + text;
}

struct Words {
  std::string config;
  std::string wait;
  QueryOptions query;
  DecideOptions decide;
  LintOptions lint;
  CacheOptions cache;
  PrewarmOptions prewarm;
  SetupOptions setup;
  bool no_mx = false;
  bool check_agent = false;
  bool check_relay = false;
};

void add_question(CLI::App& command, Words& words) {
  command.add_flag("--json", words.query.json, "one JSON object a line");
  command.add_flag("--fresh", words.query.fresh, "past all caches");
  command.add_option("--port", words.query.port, "the port that will be connected to")->check(CLI::Range(1, 65535));
  command.add_flag("--no-mx", words.no_mx, "DOMAIN is a next hop: no MX lookup");
  command.add_option("--wait", words.wait, "deadline, such as 20s or 1500ms")->check(check_wait);
}

int check_agent(const std::string& config) {
  const auto checked = agent::check(config);
  if (!checked) complain(checked.error());
  return checked ? ok : bad_config;
}

void add_cache(CLI::App& command, CacheOptions& options) {
  using What = CacheOptions::What;
  command.require_subcommand(1);
  const auto add = [&](const char* name, const char* help, What what) {
    CLI::App* const sub = command.add_subcommand(name, help);
    sub->callback([&options, what] { options.what = what; });
    return sub;
  };
  add("list", "every domain of which something is stored", What::list);
  add("show", "all that is stored of a domain", What::show)->add_option("DOMAIN", options.arguments)->required();
  CLI::App* const purge = add("purge", "forgets domains", What::purge);
  purge->add_option("DOMAIN", options.arguments)->required();
  purge->add_flag("--force", options.force, "also an enforced policy");
  add("export", "the store as JSON, one object a line", What::export_all);
  CLI::App* const import = add("import", "what `export` wrote, where it is newer", What::import_file);
  import->add_option("FILE", options.arguments, "- for standard input")->required()->expected(1);
  import->add_flag("--force", options.force, "also where less is demanded then");
  add("restore", "puts the backup in the place of the store", What::restore);
}

int check_relay(const std::string& config) {
  const auto checked = relay::check(config);
  if (!checked) complain(checked.error());
  return checked ? ok : bad_config;
}

int run(int argc, char** argv) {
  CLI::App app{"DANE and MTA-STS for mail that leaves this machine", "sealane"};
  Words words;
  // Not for programs that run with other rights than their caller's.
  if (const char* named = ::secure_getenv("SEALANE_CONFIG"); named != nullptr) words.config = named;
  app.add_option("--config", words.config, "configuration file (/etc/sealane/sealane.conf)");
  app.set_version_flag("--version", std::string("sealane " SEALANE_VERSION));
  app.require_subcommand(1);
  app.fallthrough();

  CLI::App* const query = app.add_subcommand("query", "what is demanded of connections for a domain");
  add_question(*query, words);
  query->add_flag("--local", words.query.local, "decide in this process, without the agent");
  query->add_option("DOMAIN", words.query.domains)->required();

  CLI::App* const explain =
      app.add_subcommand("explain", "the same, with every lookup and the rule behind each outcome");
  add_question(*explain, words);
  explain->add_option("DOMAIN", words.query.domains)->required();

  CLI::App* const decide = app.add_subcommand("decide", "the decision from evidence alone");
  decide->add_option("--evidence", words.decide.evidence, "what `explain --json` wrote; - for standard input")
      ->required();
  decide->add_flag("--json", words.decide.json, "as JSON");

  CLI::App* const lint = app.add_subcommand("lint", "reads published records and policies as a sender does");
  const std::map<std::string, LintKind> kinds{
      {"policy", LintKind::policy}, {"txt", LintKind::txt}, {"tlsa", LintKind::tlsa}};
  lint->add_option("KIND", words.lint.kind, "policy, txt or tlsa")->required()->transform(CLI::Transformer(kinds));
  lint->add_option("FILE", words.lint.files, "none: standard input");
  lint->add_flag("--json", words.lint.json, "one JSON object a file");

  CLI::App* const check =
      app.add_subcommand("check", "connects to the hosts of a domain and names what its administrator should mend");
  check->add_option("--port", words.query.port, "the port to connect to")->check(CLI::Range(1, 65535));
  check->add_flag("--no-mx", words.no_mx, "DOMAIN is a next hop: no MX lookup");
  check->add_option("--wait", words.wait, "deadline of the lookups, such as 20s or 1500ms")->check(check_wait);
  check->add_option("DOMAIN", words.query.domains)->required();

  CLI::App* const agent = app.add_subcommand("agent", "answers mail software over a socket, until it is stopped");
  agent->add_flag("--check", words.check_agent, "say whether it would start with this configuration, and end");
  CLI::App* const cache = app.add_subcommand("cache", "the store of policies");
  add_cache(*cache, words.cache);
  CLI::App* const prewarm =
      app.add_subcommand("prewarm", "asks for every domain of a list; goes on where it was stopped");
  prewarm->add_option("FILE", words.prewarm.file, "a domain a line; - for standard input")->required();
  CLI::App* const relay =
      app.add_subcommand("relay", "delivers for a mail server that hands it mail by LMTP, until it is stopped");
  relay->add_flag("--check", words.check_relay, "say whether it would start with this configuration, and end");
  app.add_subcommand("doctor", "checks this installation");

  CLI::App* const setup = app.add_subcommand("setup", "puts sealane into the configuration of a mail server");
  setup->require_subcommand(1);
  CLI::App* const exim = setup->add_subcommand("exim", "into Exim's, and looks whether it is good");
  CLI::Option* const dry_run = exim->add_flag("--dry-run", words.setup.dry_run, "show what would change");
  exim->add_flag("--undo", words.setup.undo, "take it out again")->excludes(dry_run);

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {  // --help, --version
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    complain({error.what(), "", "see sealane --help"});
    return usage;
  }
  words.query.config = words.config;
  words.query.mx = !words.no_mx;
  if (!words.wait.empty()) words.query.wait = parse_wait(words.wait);

  if (app.got_subcommand(query)) return sealane::cli::query(words.query);
  if (app.got_subcommand(explain)) return sealane::cli::explain(words.query);
  if (app.got_subcommand(check)) return sealane::cli::check(words.query);
  if (app.got_subcommand(decide)) return sealane::cli::decide(words.decide);
  if (app.got_subcommand(lint)) return sealane::cli::lint(words.lint);
  words.cache.config = words.prewarm.config = words.config;
  if (app.got_subcommand(cache)) return sealane::cli::cache(words.cache);
  if (app.got_subcommand(prewarm)) return sealane::cli::prewarm(words.prewarm);
  if (app.got_subcommand(agent)) {
    return words.check_agent ? check_agent(words.config) : sealane::agent::run(words.config);
  }
  if (app.got_subcommand(setup)) return setup_exim(words.setup);
  if (app.got_subcommand(relay)) {
    return words.check_relay ? check_relay(words.config) : sealane::relay::run(words.config);
  }
  return doctor(words.config);
}

}  // namespace
}  // namespace sealane::cli

int main(int argc, char** argv) {
  using namespace sealane::cli;
  try {
    const int status = run(argc, argv);
    if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return status;
    complain({std::string("cannot write: ") + std::strerror(errno), "standard output", ""});
    return status == bad_config || status == no_permission ? status : io_error;
  } catch (const std::exception& error) {
    complain({std::string("a bug, or no memory: ") + error.what(), "", "please report it"});
    return bug;
  }
}
