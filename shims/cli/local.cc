#include "shims/cli/local.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "core/base/loop.h"
#include "shims/cli/cli.h"

namespace sealane::cli {
namespace {

constexpr std::size_t at_once = 50;  // questions; each is a dozen lookups

}  // namespace

StoreUse store_use(const std::string& path) {
  struct stat there {};
  const std::string directory = std::filesystem::path(path).parent_path().string();
  const bool known =
      ::stat(path.c_str(), &there) == 0 || ::stat(directory.empty() ? "." : directory.c_str(), &there) == 0;
  return known && there.st_uid == ::geteuid() ? StoreUse::read_write : StoreUse::read_only;
}

void ask_here(const Config& config, const std::vector<Question>& questions, Millis wait,
              const std::function<void(const Reply&)>& each) {
  if (questions.empty()) return;
  Loop loop;
  const LogSink log = [](Level level, const std::string& line) {
    if (level == Level::error) complain({line, "", ""});
  };
  Engine engine(loop, config, make_adapters(loop, config, store_use(config.store), log), log);
  std::vector<std::shared_ptr<const Reply>> replies(questions.size());
  std::size_t asked = 0;
  std::size_t told = 0;
  std::function<void()> ask_next = [&] {
    if (asked == questions.size()) return;
    const std::size_t mine = asked++;
    engine.ask(questions[mine], wait, [&, mine](std::shared_ptr<const Reply> reply) {
      replies[mine] = std::move(reply);
      while (told < replies.size() && replies[told]) each(*replies[told++]);
      if (told == replies.size()) loop.stop();
      ask_next();
    });
  };
  for (std::size_t i = 0; i < at_once; ++i) ask_next();
  loop.run();
}

}  // namespace sealane::cli
