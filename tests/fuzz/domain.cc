// Names from people, configuration, MTAs and policies: Domain, MxPattern, Question.
#include "core/domain/domain.h"

#include <algorithm>

#include "core/base/bytes.h"
#include "core/decide/evidence.h"
#include "core/domain/mx_pattern.h"
#include "tests/fuzz/fuzz.h"

using namespace sealane;
using fuzz::must;

namespace {

std::vector<std::string> labels_of(const std::string& name) {
  std::vector<std::string> labels(1);
  for (const char c : name) {
    if (c == '.') {
      labels.emplace_back();
    } else {
      labels.back() += c;
    }
  }
  return labels;
}

std::string upper(std::string text) {
  for (char& c : text) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return text;
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

void check_domain(const Domain& domain) {
  const std::string& text = domain.text();
  must(text.size() <= 253, "a name has 253 octets at most");
  for (const std::string& label : labels_of(text)) {
    must(!label.empty() && label.size() <= 63, "a label has 1 to 63 octets");
    must(std::all_of(label.begin(), label.end(),
                     [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_'; }),
         "a label has no other octets");
  }
  must(Domain::parse(text) == domain, "its text reads as the name");
  must(Domain::parse(upper(text) + ".") == domain, "case and one trailing dot do not matter");
  must(!Domain::parse(text + ".."), "two do");
  must(Domain::from_labels(labels_of(text)) == domain, "its labels make the name");
  must(!domain.is_below(domain), "no name is below itself");
  if (const auto below = domain.prefixed("_25._tcp")) {
    must(below->text() == "_25._tcp." + text && below->is_below(domain), "labels go in front");
    must(below->looks_like_address() == domain.looks_like_address(), "the last label alone looks like an address");
  } else {
    must(text.size() + 9 > 253, "only length forbids them");
  }
}

void check_pattern(std::string_view input) {
  const auto pattern = MxPattern::parse(input);
  if (!pattern) return;
  must(is_ascii(input), "RFC 8461 §3.2: A-labels only");
  const std::string text = pattern->text();
  const auto again = MxPattern::parse(text);
  must(again && again->text() == text && again->can_match() == pattern->can_match(), "its text reads as the pattern");
  const bool wildcard = text[0] == '*';
  const auto domain = Domain::parse(wildcard ? text.substr(2) : text);
  must(domain.has_value(), "a pattern holds a name");
  must(pattern->matches(*domain) == (!wildcard && pattern->can_match()), "a wildcard does not match what is below it");
  if (const auto host = domain->prefixed("a")) {
    must(pattern->matches(*host) == (wildcard && pattern->can_match()), "a wildcard matches one label");
  }
  if (const auto host = domain->prefixed("b.a")) must(!pattern->matches(*host), "and not two");
}

void check_question(std::string_view input) {
  const Question question = Question::parse(input, 587, false, true);
  must(valid_utf8(question.text) == question.text, "the text is valid UTF-8");
  must(question.text.size() <= 3 * 1024 + 3, "the text is bounded");
  must(!(question.domain && question.address_literal), "a name is no address");
  if (question.address_literal) {
    must(std::all_of(question.text.begin(), question.text.end(), [](char c) { return c > ' ' && c < 0x7f; }),
         "an address holds nothing else");
  }
  must(question.port == 587 && question.fresh, "what else is asked stays");
  if (question.domain) must(input.size() <= 1024, "no name is that long");
  // Evidence carries the text: replayed, it must be the same question.
  const Question again = Question::parse(question.text, 587, false, true);
  must(again.domain == question.domain && again.address_literal == question.address_literal,
       "the text makes the same question");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input = fuzz::text_of(data, size);
  const auto domain = Domain::parse(input);
  if (domain) {
    check_domain(*domain);
    if (is_ascii(input)) must(domain->text().size() + 1 >= size, "ASCII is not converted");
  } else {
    must(!domain.error().what.empty() && domain.error().text().size() < 1400, "an error says why, in bounded words");
    must(is_ascii(domain.error().of), "untrusted text is shown escaped");
  }
  check_pattern(input);
  check_question(input);
  return 0;
}
