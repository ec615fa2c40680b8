// The agent's own parts (listener, verbs, engine, the store's thread) on a zone in a map, in a process of its own.
#pragma once

#include <sys/prctl.h>
#include <sys/types.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

#include "shims/agent/listener.h"
#include "shims/agent/verbs.h"
#include "tests/unit/fakes.h"

namespace sealane::bench {

struct World {
  Loop loop;
  std::shared_ptr<SystemClock> clock = std::make_shared<SystemClock>();
  fakes::FakeZone zone{loop};
  fakes::FakePolicyHosts hosts{loop, *clock};
};

class NoVerifier final : public Verifier {
 public:
  [[nodiscard]] Verdict verify(const Demand&, std::span<const Bytes>, WallTime) const override { return {}; }
};

// A child that ends with us, however we end.
inline pid_t fork_child(const std::function<void()>& run) {
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child != 0) return child;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() == parent) run();
  ::_exit(5);
}

// Listens at FOLDER/s, so that a client need not wait for the child to do so; leaves the descriptor to the child alone.
// `publish` fills the world; `serving` is called once, from the loop.
inline pid_t start_agent(const std::string& folder, const std::function<void(World&)>& publish, bool refresh = false,
                         const std::function<void()>& serving = {}) {
  const auto fd = agent::listen_at(folder + "/s");
  if (!fd) {
    std::fprintf(stderr, "%s\n", fd.error().text().c_str());
    std::exit(4);
  }
  const pid_t child = fork_child([&] {
    World world;
    publish(world);
    const std::string database = folder + "/sealane.db";
    auto file = open_sqlite_store(database, {StoreMode::read_write});
    if (!file) {
      std::fprintf(stderr, "%s\n", file.error().text().c_str());
      ::_exit(3);
    }
    Adapters adapters;
    adapters.make_resolver = [&world] { return world.zone.make_resolver(); };
    adapters.fetcher = world.hosts.make_fetcher();
    adapters.store = on_thread(world.loop, std::move(*file), refresh ? database : "", nullptr);
    adapters.clock = world.clock;
    adapters.refresh = refresh;
    agent::Backend backend;
    backend.clock = world.clock;
    backend.verifier = std::make_unique<NoVerifier>();
    backend.engine = std::make_unique<Engine>(world.loop, Config{}, std::move(adapters), LogSink{});
    agent::Verbs verbs(nullptr);
    verbs.use(backend);
    const agent::Listener listener(
        world.loop, *fd, {},
        [&verbs](const wire::Request& request, const agent::Peer& peer, agent::Listener::Answer answer) {
          verbs.handle(request, peer, std::move(answer));
        },
        nullptr);
    if (serving) world.loop.soon(serving);
    world.loop.run();
  });
  ::close(*fd);
  return child;
}

}  // namespace sealane::bench
