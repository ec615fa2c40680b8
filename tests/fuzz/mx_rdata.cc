// RDATA of MX records (RFC 1035 §3.3.9), uncompressed, and of addresses.
#include <algorithm>

#include "core/dns/answer.h"
#include "core/dns/name.h"
#include "tests/fuzz/fuzz.h"

using namespace sealane;
using namespace sealane::dns;
using fuzz::must;

namespace {

bool is_printable(const std::string& text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

// What the record is made of, in lower case, written again.
Bytes written(ByteView rdata) {
  ByteReader reader(rdata);
  const auto preference = reader.take(2);
  const auto labels = read_name(reader, Pointers::refused);
  must(preference && labels && reader.left() == 0, "MX RDATA is a preference and a name");
  Bytes out(preference->begin(), preference->end());
  append_wire(out, *labels);
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView rdata(data, size);
  const auto address = parse_address(rdata);
  must(address.has_value() == (size == 4 || size == 16), "an address has 4 or 16 octets");
  if (address) must(is_printable(*address), "an address is printable");

  const auto mx = parse_mx(rdata);
  if (!mx) return 0;
  must(size >= 3 && size <= 257, "a name has 1 to 255 octets");
  must(mx->preference == (data[0] << 8U | data[1]), "the preference is as it stands");
  must(is_printable(mx->name) && mx->name.size() <= 4 * size, "the name is printable and bounded");
  if (mx->host) {
    must(mx->host->text() == mx->name, "a host is called by its name");
    must(Domain::parse(mx->name) == *mx->host, "a host's name reads as that host");
  } else {
    must(mx->name == "." || mx->name.find('\\') != std::string::npos,
         "what is no host is the root or holds odd octets");
    must(!Domain::parse(mx->name), "what is no host does not become one");
  }

  const Bytes again = written(rdata);
  const auto reread = parse_mx(again);
  must(reread && reread->preference == mx->preference && reread->name == mx->name && reread->host == mx->host,
       "letters in lower case make the same record");
  Bytes longer(rdata.begin(), rdata.end());
  longer.push_back(0);
  must(!parse_mx(longer), "no octet is left over");
  must(!parse_mx(rdata.first(size - 1)), "no octet is missing");
  return 0;
}
