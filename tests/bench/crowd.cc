// 500 clients at once, half of them slow, half-open, over-long or rubbish: the good ones never wait on them. The 99th
// percentile of the good ones' answers, beside the same run without the bad ones.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "tests/bench/served_agent.h"

using namespace sealane;

namespace {

constexpr int good_clients = 250;
constexpr int bad_clients = 250;
constexpr int questions = 200;  // of each good client, one after the other

// One domain in ten never gets an answer.
void publish(bench::World& world) {
  for (int i = 0; i < 1000; ++i) {
    const std::string name = "d" + std::to_string(i) + ".example";
    world.zone.add(name, dns::RrType::MX, dns::Security::secure, {fakes::mx(10, "mx." + name)});
    world.zone.add("mx." + name, dns::RrType::A, dns::Security::secure, {fakes::a(1)});
    world.zone.add("_25._tcp.mx." + name, dns::RrType::TLSA, dns::Security::secure, {fakes::tlsa_3_1_1(7)});
  }
  for (int i = 0; i < 100; ++i) world.zone.hold("never" + std::to_string(i) + ".example", dns::RrType::MX);
}

// Waits, for twenty seconds, while the agent's backlog is full.
int connect_to(const std::string& path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, path.size());
  const timeval patience{20, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    std::perror("cannot reach the agent");
    std::exit(1);
  }
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
  return fd;
}

void put(int fd, const std::string& text) { (void)!::send(fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT); }

// One of each kind in turn; told again in every round, it goes on with its mischief.
struct Bad {
  int kind = 0;
  int fd = -1;
  int round = 0;
  void act(const std::string& path) {
    char rubbish[4096];
    if (fd >= 0 && ::recv(fd, rubbish, sizeof rubbish, MSG_DONTWAIT) == 0) {  // dropped: it comes again
      ::close(fd);
      fd = -1;
    }
    if (fd < 0) fd = connect_to(path);
    ++round;
    switch (kind) {
      case 0:  // an octet at a time
        return put(fd, std::string(1, "1 QUERY domain=d1.example"[round % 25]));
      case 1:  // half-open: connects, shuts down or says nothing
        if (round == 1) ::shutdown(fd, SHUT_WR);
        return;
      case 2:  // over-long
        return put(fd, "1 VERIFY demand=" + std::string(100000, 'a'));
      case 3:  // rubbish
        return put(fd, std::string("\x00\xff GET / HTTP/1.1\r\n\r\n", 21));
      default:  // many questions that never end, and no answer taken
        return put(fd, "1 QUERY domain=never" + std::to_string(round % 100) + ".example\n");
    }
  }
};

// In a process of its own, so that what it costs to misbehave is not taken for waiting. Each client acts ten times a
// second.
[[noreturn]] void misbehave(const std::string& path) {
  constexpr long pace = 100000000 / bad_clients;  // nanoseconds between two acts
  const itimerspec ticks{{0, pace}, {0, pace}};
  const int timer = ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
  ::timerfd_settime(timer, 0, &ticks, nullptr);
  std::vector<Bad> bad(bad_clients);
  for (std::size_t i = 0; i < bad.size(); ++i) bad[i].kind = static_cast<int>(i % 5);
  for (std::size_t turn = 0;; ++turn) {
    bad[turn % bad.size()].act(path);
    std::uint64_t passed = 0;
    if (turn >= bad.size()) (void)!::read(timer, &passed, sizeof passed);
  }
}

struct Good {
  int fd = -1;
  int asked = 0;
  MonoTime since;
  std::string in;
};

// Milliseconds that each answer took, sorted.
std::vector<double> run(const std::string& path, bool with_bad) {
  const SystemClock clock;
  std::vector<Good> good(good_clients);
  const pid_t mob = with_bad ? bench::fork_child([&path] { misbehave(path); }) : -1;
  std::vector<double> times;
  const auto ask = [&](Good& client, int number) {
    client.since = clock.mono();
    ++client.asked;
    put(client.fd, "1 QUERY domain=d" + std::to_string((number * 7 + client.asked * 13) % 1000) + ".example\n");
  };
  for (std::size_t i = 0; i < good.size(); ++i) {
    good[i].fd = connect_to(path);
    ask(good[i], static_cast<int>(i));
  }
  while (times.size() < static_cast<std::size_t>(good_clients) * questions) {
    std::vector<pollfd> fds;
    for (const Good& client : good) fds.push_back({client.fd, POLLIN, 0});
    if (::poll(fds.data(), fds.size(), 20000) <= 0) break;
    for (std::size_t i = 0; i < good.size(); ++i) {
      if ((fds[i].revents & (POLLIN | POLLHUP)) == 0 || good[i].asked > questions) continue;
      char buffer[65536];
      const ssize_t n = ::recv(good[i].fd, buffer, sizeof buffer, 0);
      if (n <= 0) return {};  // a good client was dropped
      good[i].in.append(buffer, static_cast<std::size_t>(n));
      if (good[i].in.back() != '\n') continue;
      if (good[i].in.rfind("OK {", 0) != 0) return {};
      times.push_back(std::chrono::duration<double, std::milli>(clock.mono() - good[i].since).count());
      good[i].in.clear();
      if (good[i].asked < questions) {
        ask(good[i], static_cast<int>(i));
      } else {
        ++good[i].asked;
      }
    }
  }
  for (const Good& client : good) ::close(client.fd);
  if (mob > 0) {
    ::kill(mob, SIGKILL);
    ::waitpid(mob, nullptr, 0);
  }
  std::sort(times.begin(), times.end());
  return times;
}

}  // namespace

int main() {
  std::string folder = "/tmp/sealane-crowd-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) return 1;
  ::signal(SIGPIPE, SIG_IGN);
  const pid_t child = bench::start_agent(folder, publish);
  bool good = true;
  double p99[2] = {0, 0};
  run(folder + "/s", false);  // every domain is known from here on
  for (const bool with_bad : {false, true}) {
    const auto times = run(folder + "/s", with_bad);
    good = good && times.size() == static_cast<std::size_t>(good_clients) * questions;
    if (times.empty()) break;
    p99[with_bad ? 1 : 0] = times[times.size() * 99 / 100];
    std::printf("%d good clients%s: %zu answers, median %.2f ms, p99 %.2f ms, longest %.2f ms\n", good_clients,
                with_bad ? " beside 250 bad ones" : " alone", times.size(), times[times.size() / 2],
                times[times.size() * 99 / 100], times.back());
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  std::filesystem::remove_all(folder);
  // Twice the time for twice the clients, and some for the scheduler; far from any patience or deadline.
  good = good && p99[1] < 4 * p99[0] + 50;
  return good ? 0 : 1;
}
