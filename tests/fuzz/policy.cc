// The policy (RFC 8461 §3.2). The input is a body, as it came by HTTPS; and once more, a Content-Type.
#include "core/sts/policy.h"

#include <algorithm>

#include "tests/fuzz/fuzz.h"

using namespace sealane;
using namespace sealane::sts;
using fuzz::must;

namespace {

std::string written(const Policy& policy) {
  std::string body = "version: STSv1\nmode: " + to_text(policy.mode) + "\n";
  for (const MxPattern& mx : policy.mx) body += "mx: " + mx.text() + "\n";
  return body + "max_age: " + std::to_string(policy.max_age) + "\n";
}

// Bodies that grew beyond the bound are refused for that alone.
void must_read_as(const std::string& body, const std::string& expected, const char* property) {
  if (body.size() > max_policy_octets) return;
  const auto policy = parse_policy(body);
  must(policy && written(*policy) == expected, property);
}

void check_patterns(const Policy& policy) {
  for (const MxPattern& mx : policy.mx) {
    const bool wildcard = mx.text().rfind("*.", 0) == 0;
    const auto name = Domain::parse(wildcard ? "a" + mx.text().substr(1) : mx.text());
    if (!name) continue;  // no label has room before it
    must(mx.matches(*name) == mx.can_match(), "a pattern matches what it says, unless it looks like an address");
    if (mx.can_match()) must(policy.allows(*name), "a host that one pattern matches is allowed");
    if (const auto below = name->prefixed("b")) must(!mx.matches(*below), "RFC 8461 §4.1: one label, no more");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string body(fuzz::text_of(data, size));
  const bool media = is_policy_media_type(body);
  must(is_policy_media_type(body + "; charset=utf-8") == media, "RFC 8461 §3.2: parameters are ignored");
  if (media) must(size >= std::string_view("text/plain").size(), "nothing shorter is text/plain");

  const auto policy = parse_policy(body);
  if (!policy) {
    const PolicyError& error = policy.error();
    must(!error.what.empty() && error.what.size() < 400, "an error says what, in bounded words");
    must(std::all_of(error.what.begin(), error.what.end(), [](char c) { return c >= ' ' && c < 0x7f; }),
         "the error is printable");
    must(error.line >= 0 && error.line <= 1 + std::count(body.begin(), body.end(), '\n'), "the line exists");
    return 0;
  }
  must(size <= max_policy_octets, "a body is bounded");
  must(policy->max_age <= max_max_age, "max_age is bounded");
  must(policy->mx.size() <= size / 4, "every pattern has been in the body");
  must(policy->mode == Mode::none ||
           std::any_of(policy->mx.begin(), policy->mx.end(), [](const MxPattern& mx) { return mx.can_match(); }),
       "a policy that demands a host allows one");
  check_patterns(*policy);

  const std::string text = written(*policy);
  must_read_as(text, text, "what is written reads as it was");
  must_read_as(body + "\n", text, "a line end at the end changes nothing");
  must_read_as(" \t\n" + body, text, "nor a blank line");
  must_read_as(body + "\nx-extension: value\n", text, "nor an extension");
  must_read_as(body + "\nmode: none\nmax_age: 1\nversion: STSv1\n", text, "of duplicate keys the first counts");
  must(!parse_policy("\xef\xbb\xbf" + body), "no byte order mark");
  return 0;
}
