#include "shims/agent/stderr_log.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace sealane::agent {
namespace {

// JOURNAL_STREAM is "DEVICE:INODE" of the journal's stream; standard error may have been redirected since.
bool journal_reads_stderr() {
  const char* stream = ::getenv("JOURNAL_STREAM");
  struct stat here {};
  return stream != nullptr && ::fstat(STDERR_FILENO, &here) == 0 &&
         std::to_string(here.st_dev) + ":" + std::to_string(here.st_ino) == stream;
}

// syslog(3): LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG are 3 to 7.
char priority(Level level) { return static_cast<char>('3' + static_cast<char>(level)); }

}  // namespace

LogSink stderr_log(Level least) {
  return [least, journal = journal_reads_stderr()](Level level, const std::string& line) {
    if (level > least) return;
    // One write a line, so that lines of several processes do not mix. A log that cannot be written stops nothing.
    const std::string text = (journal ? std::string{'<', priority(level), '>'} : "sealane: ") + line + '\n';
    (void)!::write(STDERR_FILENO, text.data(), text.size());
  };
}

}  // namespace sealane::agent
