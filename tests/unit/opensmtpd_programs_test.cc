// filter-sealane and table-sealane as smtpd runs them: they end only when their input does, and answer in time whatever
// the agent does.
#include <doctest/doctest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/temp_dir.h"

namespace {

// A program on a socket that is its standard input and output, as smtpd makes it.
class Program {
 public:
  Program(const char* variable, std::vector<std::string> arguments) {
    const char* path = std::getenv(variable);
    REQUIRE(path != nullptr);
    int sockets[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
    fd_ = sockets[0];
    arguments.insert(arguments.begin(), path);
    std::vector<char*> pointers;
    for (std::string& one : arguments) pointers.push_back(one.data());
    pointers.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(sockets[1], 0);
      ::dup2(sockets[1], 1);
      ::execv(path, pointers.data());
      ::_exit(127);
    }
    ::close(sockets[1]);
  }
  ~Program() {
    if (fd_ >= 0) ::close(fd_);
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void say(const std::string& text) const {
    REQUIRE(::send(fd_, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size()));
  }
  // Until `size` octets have come, or the time has passed.
  std::string hear(std::size_t size, int ms = 10000) const {
    std::string text;
    char buffer[65536];
    while (text.size() < size) {
      pollfd p{fd_, POLLIN, 0};
      if (::poll(&p, 1, ms) <= 0) break;
      const ssize_t n = ::read(fd_, buffer, std::min(sizeof buffer, size - text.size()));
      if (n <= 0) break;
      text.append(buffer, static_cast<std::size_t>(n));
    }
    return text;
  }
  // The exit status after the end of the input.
  int end() {
    ::shutdown(fd_, SHUT_WR);
    int status = -1;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  int fd_ = -1;
  pid_t pid_ = -1;
};

struct Folder : sealane::test::TempDir {
  [[nodiscard]] std::string config(const std::string& socket) const {
    std::ofstream(file("sealane.conf")) << "socket = " << socket << "\nrelay_ports = 30000-30000\n";
    return file("sealane.conf");
  }
};

// Listens; accepts nothing.
int silent_agent(const std::string& path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::listen(fd, 64) == 0);
  return fd;
}

const std::string handshake = "config|smtpd-version|6.8.0\nconfig|ready\n";
const std::string registered = "register|filter|smtp-in|rcpt-to\nregister|ready\n";

std::string ask(int session, const std::string& address) {
  return "filter|0.6|1.2|smtp-in|rcpt-to|" + std::to_string(session) + "|aa|" + address + "\n";
}

std::string proceeds(int session) { return "filter-result|" + std::to_string(session) + "|aa|proceed\n"; }

}  // namespace

TEST_CASE("the filter registers, lets proceed what nobody can judge, and ends with its input") {
  const Folder folder;
  Program filter("SEALANE_FILTER", {"--config", folder.config(folder.file("nobody.sock")), "--rubbish", "own.test"});
  filter.say(handshake);
  CHECK(filter.hear(registered.size()) == registered);
  for (const char* address : {"a@b.test", "a@own.test", "postmaster", "a@[192.0.2.1]", "a@"}) {
    filter.say(ask(7, address));
    CHECK(filter.hear(proceeds(7).size()) == proceeds(7));
  }
  CHECK(filter.end() == 0);
}

TEST_CASE("the filter reads the agent's answer: reject is refused, anything else proceeds") {
  const Folder folder;
  const std::string socket = folder.file("agent.sock");
  const int listener = silent_agent(socket);
  Program filter("SEALANE_FILTER", {"--config", folder.config(socket)});
  filter.say(handshake);
  CHECK(filter.hear(registered.size()) == registered);
  const auto answered = [&](const std::string& reply, std::size_t size) {
    filter.say(ask(9, "a@gone.test"));
    const int client = ::accept(listener, nullptr, nullptr);
    char buffer[4096];
    const ssize_t n = ::read(client, buffer, sizeof buffer);
    CHECK(std::string(buffer, static_cast<std::size_t>(std::max<ssize_t>(n, 0))).find("domain=gone.test") !=
          std::string::npos);
    (void)!::write(client, reply.data(), reply.size());
    ::close(client);
    return filter.hear(size);
  };
  const std::string refused = answered("OK reject nxdomain no%20such%20domain\n", 39);
  CHECK(refused == "filter-result|9|aa|reject|550 5.1.2 gon");
  CHECK(filter.hear(1000, 200).find('\n') != std::string::npos);
  const std::vector<std::string> others = {
      "OK deliver plain x\n", "OK defer mx-failed x\n", "TEMP busy x\n", "rubbish\n", "OK reject tlsa-bogus x\n", ""};
  for (const std::string& other : others) CHECK(answered(other, proceeds(9).size()) == proceeds(9));
  ::close(listener);
  CHECK(filter.end() == 0);
}

TEST_CASE("an agent that never answers holds a client up for five seconds, all at the same time") {
  const Folder folder;
  const std::string socket = folder.file("agent.sock");
  const int listener = silent_agent(socket);
  Program filter("SEALANE_FILTER", {"--config", folder.config(socket)});
  const auto started = std::chrono::steady_clock::now();
  std::string questions = handshake;
  std::size_t size = registered.size();
  for (int i = 1000; i < 1200; ++i) {
    questions += ask(i, "a@b.test");
    size += proceeds(i).size();
  }
  filter.say(questions);
  CHECK(filter.hear(size).size() == size);
  const auto took = std::chrono::steady_clock::now() - started;
  CHECK(took > std::chrono::seconds(3));
  CHECK(took < std::chrono::seconds(8));
  ::close(listener);
  CHECK(filter.end() == 0);
}

TEST_CASE("100,000 random lines: the filter still answers") {
  const Folder folder;
  Program filter("SEALANE_FILTER", {"--config", folder.config(folder.file("nobody.sock"))});
  filter.say(handshake);
  CHECK(filter.hear(registered.size()) == registered);
  std::mt19937 random(3);
  for (int i = 0; i < 1000; ++i) {
    std::string rubbish;
    for (int j = 0; j < 100; ++j) {
      for (std::size_t n = random() % 60; n > 0; --n) rubbish += static_cast<char>(random());
      rubbish += '\n';
    }
    filter.say(rubbish);
  }
  filter.say(ask(5, "a@b.test"));
  CHECK(filter.hear(proceeds(5).size()) == proceeds(5));
  CHECK(filter.end() == 0);
}

TEST_CASE("the table speaks on standard output in lines, and on descriptor 0 in frames, and ends with its input") {
  const Folder folder;
  Program lines("SEALANE_TABLE", {folder.config("/nobody.sock")});
  lines.say("config|ready\ntable|0.1|1.2|sealane|lookup|relayhost|ab|a.test\n");
  const std::string wanted = "register|relayhost\nregister|ready\nlookup-result|ab|found|lmtp://127.0.0.1:30000\n";
  CHECK(lines.hear(wanted.size()) == wanted);
  CHECK(lines.end() == 0);

  Program frames("SEALANE_TABLE", {"/there/is/no/such/file"});
  std::string open(16, '\0');
  open[0] = 2;
  open[4] = 16;
  frames.say(open);
  open[0] = 0;
  CHECK(frames.hear(16) == open);
  std::mt19937 random(5);
  for (int i = 0; i < 1000; ++i) {
    std::string rubbish;
    for (int j = 0; j < 400; ++j) rubbish += static_cast<char>(random());
    frames.say(rubbish);
  }
  CHECK(frames.end() == 0);
}
