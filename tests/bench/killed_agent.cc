// kill -9 at any moment, under load: the store opens, and holds every policy that an answer had relied on.
//
// The parent asks, kills the agent after a random time, and looks at the file.
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <random>

#include "core/base/socket.h"
#include "shims/wire/client.h"
#include "tests/bench/served_agent.h"

using namespace sealane;

namespace {

constexpr int domains = 400;

std::string name_of(int number) { return "d" + std::to_string(number) + ".example"; }

// A new id in every round, so that there is always something to learn.
void publish(bench::World& world, int round) {
  for (int i = 0; i < domains; ++i) {
    const std::string name = name_of(i);
    world.zone.add(name, dns::RrType::MX, dns::Security::insecure, {fakes::mx(10, "mx." + name)});
    world.zone.add("mx." + name, dns::RrType::A, dns::Security::insecure, {fakes::a(1)});
    world.zone.add("_mta-sts." + name, dns::RrType::TXT, dns::Security::insecure,
                   {fakes::txt("v=STSv1; id=r" + std::to_string(round) + ";")}, 1);
    world.zone.add("mta-sts." + name, dns::RrType::A, dns::Security::insecure, {fakes::a(3)});
    world.hosts.bodies[name] =
        "version: STSv1\nmode: enforce\nmx: mx." + name + "\nmax_age: 604800\nround: " + std::to_string(round) + "\n";
  }
}

// What answers relied on: domain to the round of its policy.
using Relied = std::map<std::string, int>;

// Kills `child` a random time after it has begun to serve (a byte on `serving`; -1: after its start).
void kill_later(pid_t child, int serving, std::uint_fast32_t random) {
  const int watched = static_cast<int>(::syscall(SYS_pidfd_open, child, 0));
  if (serving >= 0) (void)wait_for(serving, POLLIN, SystemClock().mono() + Seconds{20});
  const timespec life{0, static_cast<long>(1000 + random % 150000) * 1000};
  pollfd ended{watched, POLLIN, 0};
  (void)::ppoll(&ended, 1, &life, nullptr);
  ::kill(child, SIGKILL);
}

// Asks until the child is gone.
void load(const std::string& folder, int round, std::mt19937& random, Relied& relied, long& answers) {
  wire::Connection agent;
  std::string error;
  const wire::Deadline deadline(20000);
  if (!agent.open(folder + "/s", deadline, error)) return;
  constexpr int ahead = 16;
  for (;;) {
    std::vector<std::string> asked;
    for (int i = 0; i < ahead; ++i) {
      asked.push_back(name_of(static_cast<int>(random() % domains)));
      wire::Request request;
      request.verb = wire::Verb::query;
      request.domain = asked.back();
      if (!agent.send(wire::write_request(request), deadline, error)) return;
    }
    for (const std::string& name : asked) {
      const auto line = agent.receive(deadline, error);
      if (!line) return;
      ++answers;
      if (line->find("\"id\":\"r" + std::to_string(round) + "\"") != std::string::npos &&
          line->find("\"mode\":\"enforce\"") != std::string::npos) {
        relied[name] = round;
      }
    }
  }
}

}  // namespace

int main() {
  const int rounds = std::getenv("SEALANE_KILLS") != nullptr ? std::atoi(std::getenv("SEALANE_KILLS")) : 200;
  std::string folder = "/tmp/sealane-killed-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) return 1;
  ::signal(SIGPIPE, SIG_IGN);
  std::mt19937 random(7);
  Relied relied;
  long answers = 0;
  int lost = 0;
  int unopened = 0;
  std::size_t learned = 0;
  for (int round = 1; round <= rounds; ++round) {
    int serving[2];
    if (::pipe2(serving, O_CLOEXEC) != 0) return 1;
    const pid_t child = bench::start_agent(
        folder, [round](bench::World& world) { publish(world, round); }, true,
        [&serving] { (void)!::write(serving[1], "s", 1); });
    // The moment of death: another process, since this one is busy asking. In one round of eight while it starts.
    const std::uint_fast32_t moment = random();
    const pid_t killer = bench::fork_child([&] { kill_later(child, round % 8 == 0 ? -1 : serving[0], moment); });
    load(folder, round, random, relied, answers);
    ::close(serving[0]);
    ::close(serving[1]);
    int status = 0;
    ::waitpid(killer, nullptr, 0);
    ::waitpid(child, &status, 0);
    if (!WIFSIGNALED(status)) ++unopened;

    auto store = open_sqlite_store(folder + "/sealane.db", {StoreMode::read_write});
    if (!store) {
      std::printf("NOT SO: %s\n", store.error().text().c_str());
      ++unopened;
      continue;
    }
    learned = 0;
    for (const auto& [name, in_round] : relied) {
      const auto state = (*store)->load(Domain::parse(name).value());
      const bool there = state && state->policy && std::atoi(state->policy->id.c_str() + 1) >= in_round;
      if (!there) ++lost;
      ++learned;
    }
  }
  std::printf(
      "killed %d times; %ld answers; %zu domains with a policy that answers relied on; lost %d; not opened %d\n",
      rounds, answers, learned, lost, unopened);
  std::filesystem::remove_all(folder);
  return lost == 0 && unopened == 0 && answers > rounds && learned > 0 ? 0 : 1;
}
