// kill -9 at any moment, under load: the store opens, and holds every policy that an answer had relied on.
//
// The child is the agent's own parts (listener, verbs, engine, the store's thread) on a zone in a map; the parent asks,
// kills it after a random time, and looks at the file.
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <random>

#include "shims/agent/listener.h"
#include "shims/agent/verbs.h"
#include "shims/wire/client.h"
#include "tests/unit/fakes.h"

using namespace sealane;

namespace {

constexpr int domains = 400;

std::string name_of(int number) { return "d" + std::to_string(number) + ".example"; }

class NoVerifier final : public Verifier {
 public:
  [[nodiscard]] Verdict verify(const Demand&, std::span<const Bytes>, WallTime) const override { return {}; }
};

[[noreturn]] void serve(const std::string& folder, int round) {
  Loop loop;
  auto clock = std::make_shared<SystemClock>();
  fakes::FakeZone zone(loop);
  fakes::FakePolicyHosts hosts(loop, *clock);
  // A new id in every round, so that there is always something to learn.
  for (int i = 0; i < domains; ++i) {
    const std::string name = name_of(i);
    zone.add(name, dns::RrType::MX, dns::Security::insecure, {fakes::mx(10, "mx." + name)});
    zone.add("mx." + name, dns::RrType::A, dns::Security::insecure, {fakes::a(1)});
    zone.add("_mta-sts." + name, dns::RrType::TXT, dns::Security::insecure,
             {fakes::txt("v=STSv1; id=r" + std::to_string(round) + ";")}, 1);
    zone.add("mta-sts." + name, dns::RrType::A, dns::Security::insecure, {fakes::a(3)});
    hosts.bodies[name] =
        "version: STSv1\nmode: enforce\nmx: mx." + name + "\nmax_age: 604800\nround: " + std::to_string(round) + "\n";
  }
  Adapters adapters;
  adapters.make_resolver = [&zone] { return zone.make_resolver(); };
  adapters.fetcher = hosts.make_fetcher();
  auto file = open_sqlite_store(folder + "/sealane.db", {StoreMode::read_write});
  if (!file) {
    std::fprintf(stderr, "%s\n", file.error().text().c_str());
    ::_exit(3);
  }
  adapters.store = on_thread(loop, std::move(*file), folder + "/sealane.db", nullptr);
  adapters.clock = clock;
  adapters.refresh = true;
  agent::Backend backend;
  backend.clock = clock;
  backend.verifier = std::make_unique<NoVerifier>();
  backend.engine = std::make_unique<Engine>(loop, Config{}, std::move(adapters), LogSink{});
  agent::Verbs verbs(nullptr);
  verbs.use(backend);
  const auto fd = agent::listen_at(folder + "/s");
  if (!fd) ::_exit(4);
  const agent::Listener listener(
      loop, *fd, {},
      [&verbs](const wire::Request& request, const agent::Peer& peer, agent::Listener::Answer answer) {
        verbs.handle(request, peer, std::move(answer));
      },
      nullptr);
  loop.run();
  ::_exit(5);
}

// What answers relied on: domain to the round of its policy.
using Relied = std::map<std::string, int>;

// Without taking its status: a dead child may not be waited for by connecting to it.
bool is_dead(pid_t child) {
  siginfo_t info{};
  return ::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == child;
}

// Asks until the child is gone.
void load(const std::string& folder, pid_t child, int round, std::mt19937& random, Relied& relied, long& answers) {
  wire::Connection agent;
  std::string error;
  const wire::Deadline deadline(20000);
  while (::access((folder + "/s").c_str(), F_OK) != 0 || !agent.open(folder + "/s", wire::Deadline(1000), error)) {
    if (is_dead(child) || deadline.left_ms() == 0) return;
    ::usleep(500);
  }
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
    ::unlink((folder + "/s").c_str());
    const pid_t child = ::fork();
    if (child == 0) serve(folder, round);
    // The moment of death: another process, since this one is busy asking.
    const pid_t killer = ::fork();
    if (killer == 0) {
      // In one round of eight while it starts, else while it answers.
      const wire::Deadline start(20000);
      while (round % 8 != 0 && ::access((folder + "/s").c_str(), F_OK) != 0 && start.left_ms() > 0) ::usleep(200);
      ::usleep(static_cast<useconds_t>(1000 + random() % 150000));
      ::kill(child, SIGKILL);
      ::_exit(0);
    }
    random.discard(1);
    load(folder, child, round, random, relied, answers);
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
