// The _mta-sts TXT record (RFC 8461 §3.1). The input is an RRset, one record a line; and once more, one RDATA.
#include "core/sts/txt_record.h"

#include <algorithm>

#include "core/dns/answer.h"
#include "tests/fuzz/fuzz.h"

using namespace sealane;
using namespace sealane::sts;
using fuzz::must;

namespace {

bool is_id(const std::string& text) {
  return !text.empty() && text.size() <= 32 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  });
}

bool same(const TxtRecord& a, const TxtRecord& b) { return a.kind == b.kind && a.id == b.id && a.error == b.error; }

void check_promises(const TxtRecord& record) {
  must((record.kind == TxtKind::invalid) == !record.error.empty(), "what is invalid says why, and nothing else does");
  must(record.error.size() < 400, "the error is bounded");
  must(std::all_of(record.error.begin(), record.error.end(), [](char c) { return c >= ' ' && c < 0x7f; }),
       "the error is printable");
  must(record.kind == TxtKind::valid ? is_id(record.id) : record.id.empty(), "an id comes with a valid record alone");
}

void check_record(const std::string& text) {
  const TxtRecord record = parse_txt_record(text);
  check_promises(record);
  must((record.kind == TxtKind::not_sts) == (text.compare(0, 8, "v=STSv1;") != 0), "the version decides what counts");
  if (record.kind != TxtKind::valid) return;
  must(same(parse_txt_record("v=STSv1; id=" + record.id + ";"), record), "the id alone makes the same record");
  must(same(parse_txt_record(text + (text[text.find_last_not_of(" \t")] == ';' ? "" : ";") + " x=1"), record),
       "extensions change nothing");
  must(parse_txt_record(text + ";;").kind == TxtKind::invalid, "an empty field is no field");
  must(parse_txt_record(text + "\n").kind == TxtKind::invalid, "a line end belongs to no record");
}

// RFC 1035 §3.3.14: one or more strings of at most 255 octets.
Bytes rdata_of(const std::string& text) {
  Bytes rdata;
  std::size_t at = 0;
  do {
    const std::size_t length = std::min<std::size_t>(255, text.size() - at);
    rdata.push_back(static_cast<std::uint8_t>(length));
    for (const std::size_t end = at + length; at < end; ++at) rdata.push_back(static_cast<std::uint8_t>(text[at]));
  } while (at < text.size());
  return rdata;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::string> records;
  for (const std::string_view line : fuzz::lines_of(fuzz::text_of(data, size))) records.emplace_back(line);
  for (const std::string& record : records) check_record(record);

  const TxtRecord selected = select_txt_record(records);
  check_promises(selected);
  std::vector<std::string> other = records;
  std::reverse(other.begin(), other.end());
  must(same(select_txt_record(other), selected), "RFC 8461 §3.1: their order does not matter");
  other.emplace_back("v=STSv10; id=1;");
  must(same(select_txt_record(other), selected), "records of another kind do not count");
  if (selected.kind != TxtKind::not_sts) {
    other.emplace_back("v=STSv1; id=1;");
    must(select_txt_record(other).kind == TxtKind::invalid, "two records are none");
  }

  must(dns::parse_txt(rdata_of(records.front())) == records.front(), "strings are joined without anything between");
  const auto joined = dns::parse_txt(ByteView(data, size));
  if (joined) must(joined->size() < size, "RDATA is longer than its text");
  return 0;
}
