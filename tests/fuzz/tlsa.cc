// TLSA RRsets (RFC 6698 §2, RFC 7671 §9). The input is a list of RDATA, each after its length in one octet, or two
// where the first is 255; and once more, one record in presentation form.
#include "core/dane/tlsa.h"

#include <algorithm>

#include "tests/fuzz/fuzz.h"

using namespace sealane;
using namespace sealane::dane;
using fuzz::must;

namespace {

std::vector<Bytes> rrset_of(ByteView input) {
  std::vector<Bytes> rrset;
  ByteReader reader(input);
  while (reader.left() != 0) {
    std::size_t length = *reader.u8();
    if (length == 255) length = reader.u16().value_or(0);
    const auto rdata = reader.take(std::min(length, reader.left()));
    if (!rdata) break;
    rrset.emplace_back(rdata->begin(), rdata->end());
  }
  return rrset;
}

bool is_usable(const Bytes& rdata) {
  const auto record = parse_tlsa(rdata);
  return record && why_unusable(*record).empty();
}

bool holds(const std::vector<TlsaRecord>& records, const TlsaRecord& record) {
  return std::find(records.begin(), records.end(), record) != records.end();
}

void check_record(const Bytes& rdata) {
  const auto record = parse_tlsa(rdata);
  must(record.has_value() == (rdata.size() >= 3), "three octets make a record");
  if (!record) return;
  must(record->data.size() == rdata.size() - 3, "the rest is its data");
  must(parse_tlsa_text(record->text()) == record, "its text reads as the record");
  const std::string why = why_unusable(*record);
  must(why.size() < 200, "the reason is bounded");
  if (!why.empty()) return;
  must(record->usage == 2 || record->usage == 3, "RFC 7672 §3.1.3: usages 0 and 1 are not for SMTP");
  must(record->selector <= 1 && record->matching_type <= 2, "only what is known is usable");
  must(record->matching_type != 1 || record->data.size() == 32, "SHA2-256 has 32 octets");
  must(record->matching_type != 2 || record->data.size() == 64, "SHA2-512 has 64 octets");
  if (record->matching_type == 0) {
    TlsaRecord longer = *record;
    longer.data.push_back(0);
    must(!why_unusable(longer).empty(), "no octet is left over");
  }
}

void check_rrset(const std::vector<Bytes>& rdata) {
  const TlsaRrset rrset = sort_rrset(rdata);
  // A secure RRset with a usable record is DANE, whatever stands beside it: nothing may turn `dane` into `encrypt`.
  must(rrset.usable.empty() == std::none_of(rdata.begin(), rdata.end(), is_usable), "one usable record is enough");
  must(rrset.usable.size() <= max_records, "the RRset is bounded");
  must(rrset.usable.size() + rrset.unused.size() == rdata.size(), "every record is used, or it is said why not");
  std::vector<Bytes> reversed;
  for (const TlsaRecord& record : rrset.usable) {
    must(why_unusable(record).empty(), "what is used is usable");
    must(std::count(rrset.usable.begin(), rrset.usable.end(), record) == 1, "no record stands there twice");
    Bytes octets{record.usage, record.selector, record.matching_type};
    octets.insert(octets.end(), record.data.begin(), record.data.end());
    must(std::find(rdata.begin(), rdata.end(), octets) != rdata.end(), "what is used has been published");
    reversed.insert(reversed.begin(), std::move(octets));
    must(record.matching_type != 1 || std::none_of(rrset.usable.begin(), rrset.usable.end(),
                                                   [&record](const TlsaRecord& other) {
                                                     return other.matching_type == 2 && other.usage == record.usage &&
                                                            other.selector == record.selector;
                                                   }),
         "RFC 7671 §9: no weaker digest beside a stronger one");
  }
  for (const auto& unused : rrset.unused) must(!unused.why.empty() && !unused.rr.empty(), "it is said which and why");

  const TlsaRrset again = sort_rrset(reversed);
  must(again.unused.empty() && again.usable.size() == rrset.usable.size() &&
           std::all_of(again.usable.begin(), again.usable.end(),
                       [&rrset](const TlsaRecord& record) { return holds(rrset.usable, record); }),
       "what is used stays used, in any order");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto rrset = rrset_of({data, size});
  for (const Bytes& rdata : rrset) check_record(rdata);
  check_rrset(rrset);

  const auto record = parse_tlsa_text(fuzz::text_of(data, size));
  if (record) {
    must(record->data.size() * 2 <= size, "data is as long as its digits");
    must(parse_tlsa_text(record->text()) == record, "text that was read and written reads the same");
  }
  return 0;
}
