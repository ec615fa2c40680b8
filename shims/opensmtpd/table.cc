// table-sealane FILE: tells smtpd which port of the relay takes the mail of a domain. No I/O for an answer; never ends
// before its input does, because smtpd would end too.
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <exception>
#include <string>

#include "shims/opensmtpd/arguments.h"
#include "shims/opensmtpd/table_protocol.h"

namespace {

void write_all(int fd, std::string_view octets) {
  while (!octets.empty()) {
    const ssize_t n = ::write(fd, octets.data(), octets.size());
    if (n >= 0) {
      octets.remove_prefix(static_cast<std::size_t>(n));
    } else if (errno != EINTR) {
      return;  // smtpd has gone; the end of the input is next
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  const sealane::Config config = sealane::opensmtpd::config_or_defaults(argc > 1 ? argv[1] : "");
  sealane::opensmtpd::Table table({config.relay_first_port, config.relay_last_port});
  char buffer[16384];
  for (;;) {
    const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (n == 0) return 0;
    if (n < 0 && errno != EINTR) return 0;  // as good as the end: nothing more will come
    if (n < 0) continue;
    try {
      const std::string answer = table.take({buffer, static_cast<std::size_t>(n)});
      write_all(table.speaks_lines() ? STDOUT_FILENO : STDIN_FILENO, answer);
    } catch (const std::exception& error) {
      sealane::opensmtpd::complain(error.what());  // no memory
    }
  }
}
