// What a decision from memory costs: the path of nearly every question that an agent gets.
#include <cstdio>
#include <cstdlib>

#include "tests/unit/fakes.h"

int main() {
  using namespace sealane;
  constexpr int rounds = 100000;
  constexpr int domains = 1000;

  Loop loop;
  const auto clock = std::make_shared<fakes::FakeClock>();
  fakes::FakeZone zone(loop);
  fakes::FakePolicyHosts hosts(loop, *clock);
  fakes::FakeDisk disk;
  std::vector<Question> questions;
  for (int i = 0; i < domains; ++i) {
    const std::string name = "d" + std::to_string(i) + ".example";
    zone.add(name, dns::RrType::MX, dns::Security::secure, {fakes::mx(10, "mx." + name)});
    zone.add("mx." + name, dns::RrType::A, dns::Security::secure, {fakes::a(1)});
    zone.add("_25._tcp.mx." + name, dns::RrType::TLSA, dns::Security::secure, {fakes::tlsa_3_1_1(7)});
    questions.push_back(Question::parse(name));
  }
  Adapters adapters;
  adapters.make_resolver = [&zone] { return zone.make_resolver(); };
  adapters.fetcher = hosts.make_fetcher();
  adapters.store = std::make_unique<fakes::FakeStore>(disk);
  adapters.clock = clock;
  Engine engine(loop, Config{}, std::move(adapters), {});

  int left = 0;
  const auto ask_all = [&](int count) {
    left = count;
    for (int i = 0; i < count; ++i) {
      engine.ask(questions[static_cast<std::size_t>(i % domains)], Millis{10000},
                 [&](const std::shared_ptr<const Reply>& reply) {
                   if (reply->decision.floor != Tls::dane) std::abort();
                   if (--left == 0) loop.stop();
                 });
    }
    loop.run();
  };
  const SystemClock real;
  const auto report = [](const char* what, MonoTime::duration time, int count) {
    const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
    std::printf("%s: %d decisions, %.0f ns each\n", what, count, static_cast<double>(ns) / count);
  };
  auto start = real.mono();
  ask_all(domains);
  report("made from lookups", real.mono() - start, domains);
  const std::size_t lookups = zone.asked.size();
  start = real.mono();
  ask_all(rounds);
  report("from memory", real.mono() - start, rounds);
  if (zone.asked.size() != lookups) {
    std::fputs("a decision from memory asked the DNS\n", stderr);
    return 1;
  }
  return 0;
}
