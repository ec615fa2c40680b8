// DNS responses (RFC 1035 §4). The input is a packet; what is asked is what stands in its own question section.
#include "core/dns/message.h"
#include "core/dns/name.h"
#include "tests/fuzz/fuzz.h"

using namespace sealane;
using namespace sealane::dns;
using fuzz::must;

namespace {

struct Asked {
  Domain name;
  RrType type;
};

Asked question_of(ByteView packet) {
  ByteReader reader(packet);
  reader.take(12);
  const auto labels = read_name(reader, Pointers::refused);
  const auto type = reader.u16();
  const auto name = labels ? Domain::from_labels(*labels) : std::nullopt;
  return {name ? *name : Domain::parse("example.org").value(), type ? static_cast<RrType>(*type) : RrType::MX};
}

bool same(const Answer& a, const Answer& b) {
  return a.outcome == b.outcome && a.security == b.security && a.failure == b.failure && a.cause == b.cause &&
         a.aliases == b.aliases && a.rdata == b.rdata && a.ttl == b.ttl;
}

void check_promises(const Answer& answer, const Asked& asked, std::size_t packet_octets) {
  must(answer.answered() == (answer.failure == Failure::none), "an answer has no failure, a failure has one");
  must(answer.security == (answer.answered() ? Security::insecure : Security::bogus), "security is not invented");
  must(answer.has_data() == !answer.rdata.empty(), "rdata comes with data and with nothing else");
  if (!answer.answered()) {
    must(!answer.cause.empty() && answer.cause.size() < 1200, "a failure says why, in bounded words");
    must(answer.aliases.empty() && answer.ttl == 0, "a failure brings nothing else");
    return;
  }
  must(answer.aliases.size() <= max_cname_hops, "the chain is bounded");
  must(answer.ttl <= 0x7fffffffU || answer.aliases.empty(), "RFC 2181 §8: a TTL has 31 bits");
  if (!answer.has_data()) must(answer.ttl <= 3600, "RFC 2308 §5: an absence is kept for an hour at most");
  must(answer.rdata.size() <= packet_octets / 11, "every record has been in the packet");
  for (const Bytes& rdata : answer.rdata) {
    must(rdata.size() <= packet_octets + 510, "a record grows by the names that were compressed at most");
    if (asked.type == RrType::MX) must(parse_mx(rdata).has_value(), "RDATA of MX reads as such");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView packet(data, size);
  const Asked asked = question_of(packet);
  const Answer answer = read_response(packet, asked.name, asked.type);
  check_promises(answer, asked, size);

  if (const auto other = asked.name.prefixed("x")) {
    must(read_response(packet, *other, asked.type).failure == Failure::malformed,
         "the reply to one question answers no other");
  }
  for (const std::size_t cut : {size - size / 16, size / 2}) {
    const Answer part = read_response(packet.first(cut), asked.name, asked.type);
    must(part.failure == Failure::malformed || same(part, answer), "half a packet says the same or nothing");
  }
  if (answer.failure != Failure::malformed && size + 2 <= 65535) {
    Bytes longer(packet.begin(), packet.end());
    longer.insert(longer.end(), {0xc0, 0x0c});
    must(same(read_response(longer, asked.name, asked.type), answer), "what follows the sections counts for nothing");
    must(has_signatures(longer) == has_signatures(packet), "nor for signatures");
  }
  return 0;
}
