// replay FOLDER: runs the target that it is linked with over every file of its corpus, without a fuzzer.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include "tests/fuzz/fuzz.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: replay FOLDER\n", stderr);
    return 64;
  }
  std::error_code error;
  std::set<std::filesystem::path> files;  // in order
  for (std::filesystem::directory_iterator at(argv[1], error), end; !error && at != end; at.increment(error)) {
    if (at->is_regular_file()) files.insert(at->path());
  }
  if (error || files.empty()) {
    std::fprintf(stderr, "%s: no corpus: %s\n", argv[1], error ? error.message().c_str() : "it is empty");
    return 1;
  }
  for (const auto& path : files) {
    std::fprintf(stderr, "%s\n", path.filename().c_str());  // before, so that the last one named is the culprit
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> octets{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (file.bad() || !file.is_open()) return 1;
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(octets.data()), octets.size());
  }
  std::printf("%zu files\n", files.size());
}
