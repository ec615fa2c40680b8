// tests/golden/evidence: what earlier versions wrote with `sealane explain --json`. Whoever kept such a file must still
// be able to read it, and the decision must come out as it did then. Files are only ever added there.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "core/decide/decide.h"
#include "core/render/render.h"

namespace sealane {
namespace {

using Json = nlohmann::json;

// Words for people, which may get better. All else that was said then must be said now; new members may stand beside
// it.
const std::set<std::string> words{"rule", "detail", "error", "failed", "why"};

void expect_kept(const Json& then, const Json& now, const std::string& path) {
  CAPTURE(path);
  if (then.is_object() && now.is_object()) {
    for (const auto& entry : then.items()) {
      const std::string& key = entry.key();  // no structured binding: CAPTURE makes a lambda
      if (words.count(key) != 0) continue;
      CAPTURE(key);
      REQUIRE(now.contains(key));
      expect_kept(entry.value(), now[key], path + "." + key);
    }
  } else if (then.is_array() && now.is_array()) {
    REQUIRE(then.size() == now.size());
    for (std::size_t i = 0; i < then.size(); ++i) expect_kept(then[i], now[i], path + "[" + std::to_string(i) + "]");
  } else {
    CHECK(then == now);
  }
}

TEST_CASE("evidence of earlier versions gives the decision that it gave then") {
  std::size_t files = 0;
  std::set<std::string> reasons;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(std::getenv("SEALANE_GOLDEN")) + "/evidence")) {
    CAPTURE(entry.path().filename().string());
    std::ifstream in(entry.path());
    std::ostringstream text;
    text << in.rdbuf();
    const auto evidence = evidence_from_json(text.str());
    REQUIRE_MESSAGE(evidence, (evidence ? std::string() : evidence.error().text()));
    const Json then = Json::parse(text.str())["decision"];
    expect_kept(then, Json::parse(decision_json(decide(*evidence).decision)), "");
    reasons.insert(then["reason"].get<std::string>());
    ++files;
  }
  CHECK(files >= 15);
  CHECK(reasons.size() >= 10);  // of many kinds
}

}  // namespace
}  // namespace sealane
