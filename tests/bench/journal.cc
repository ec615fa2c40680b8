// How long the relay's journal needs until a delivery is on the disk, by one thread and by many at once: so long a
// crash makes a second copy. `journal [FOLDER]`; the folder should be on the disk in question.
#include "shims/relay/journal.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

using namespace sealane;
using namespace sealane::relay;

namespace {

constexpr int deliveries = 2000;

void measure(Journal& journal, int threads) {
  std::vector<double> milliseconds;
  std::mutex mutex;
  const auto began = std::chrono::steady_clock::now();
  std::vector<std::thread> all;
  for (int t = 0; t < threads; ++t) {
    all.emplace_back([&, t] {
      for (int i = 0; i < deliveries / threads; ++i) {
        const std::vector<Key> keys = {
            delivery_key(Digest{}, std::to_string(threads) + "/" + std::to_string(t) + "/" + std::to_string(i))};
        const auto started = std::chrono::steady_clock::now();
        if (!journal.delivered(keys, WallTime{Seconds{1800000000}})) std::abort();
        const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - started;
        const std::lock_guard lock(mutex);
        milliseconds.push_back(took.count());
      }
    });
  }
  for (std::thread& one : all) one.join();
  const std::chrono::duration<double> whole = std::chrono::steady_clock::now() - began;
  std::sort(milliseconds.begin(), milliseconds.end());
  std::printf("%d threads: median %.3f ms, 99 of 100 below %.3f ms, longest %.3f ms; %.0f deliveries a second\n",
              threads, milliseconds[milliseconds.size() / 2], milliseconds[milliseconds.size() * 99 / 100],
              milliseconds.back(), deliveries / whole.count());
}

}  // namespace

int main(int argc, char** argv) {
  const std::string folder = (argc > 1 ? argv[1] : ".") + std::string("/journal-bench");
  std::filesystem::create_directories(folder);
  {
    const auto journal = Journal::open(
        folder, [](Level, const std::string&) {}, WallTime{Seconds{1800000000}});
    if (!journal) {
      std::fprintf(stderr, "%s\n", journal.error().text().c_str());
      return 1;
    }
    for (const int threads : {1, 10, 100}) measure(**journal, threads);
  }
  std::filesystem::remove_all(folder);
  return 0;
}
