// The vectors of tests/vectors/vectors.json, for tests.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace sealane::test {

using Json = nlohmann::json;

// Never empty: a kind without vectors fails the test.
inline std::vector<Json> vectors_of_kind(const std::string& kind) {
  const char* path = std::getenv("SEALANE_VECTORS");
  REQUIRE_MESSAGE(path != nullptr, "SEALANE_VECTORS names the vectors file");
  std::ifstream file(path);
  REQUIRE_MESSAGE(file.good(), path);
  std::vector<Json> found;
  const Json all = Json::parse(file);
  for (const Json& vector : all.at("vectors")) {
    if (vector.at("kind") == kind) found.push_back(vector);
  }
  REQUIRE_MESSAGE(!found.empty(), kind);
  return found;
}

}  // namespace sealane::test
