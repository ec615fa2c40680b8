#include "core/dns/message.h"

#include <algorithm>

#include "core/dns/name.h"

namespace sealane::dns {
namespace {

constexpr std::size_t max_packet = 65535;
constexpr std::uint16_t class_in = 1;
constexpr auto type_rrsig = static_cast<RrType>(46);
constexpr std::uint32_t max_negative_ttl = 3600;  // seconds; RFC 2308 §5 suggests one to three hours

// Flags of the header (RFC 1035 §4.1.1).
constexpr unsigned flag_response = 0x8000;
constexpr unsigned flag_truncated = 0x0200;
constexpr unsigned mask_opcode = 0x7800;
constexpr unsigned mask_rcode = 0x000f;
enum Rcode : unsigned { noerror = 0, servfail = 2, nxdomain = 3, refused = 5 };

struct Record {
  Labels owner;
  RrType type{};
  std::uint32_t ttl = 0;
  Bytes rdata;                // names uncompressed
  std::vector<Labels> names;  // those in rdata
};

struct Message {
  Labels name;  // as asked
  std::uint16_t type = 0;
  unsigned rcode = servfail;
  std::vector<Record> answer;
  std::vector<Record> authority;
};

// Where names stand in RDATA. RFC 3597 §4: only types of RFC 1035 may hold compressed names.
struct RdataShape {
  std::size_t before = 0;  // octets before the names
  std::size_t names = 0;
  std::size_t after = 0;
};

std::optional<RdataShape> rdata_shape(RrType type) {
  switch (type) {
    case RrType::NS:
    case RrType::CNAME:
      return RdataShape{0, 1, 0};
    case RrType::MX:
      return RdataShape{2, 1, 0};
    case RrType::SOA:
      return RdataShape{0, 2, 20};
    default:
      return std::nullopt;
  }
}

// Reads `length` octets of RDATA at `reader`, which stands in the whole packet.
bool read_rdata(ByteReader& reader, std::size_t length, Record& record) {
  const auto append = [&](std::size_t count) {
    const auto octets = reader.take(count);
    if (octets) record.rdata.insert(record.rdata.end(), octets->begin(), octets->end());
  };
  if (length > reader.left()) return false;
  const std::size_t end = reader.offset() + length;
  if (const auto shape = rdata_shape(record.type)) {
    append(shape->before);
    for (std::size_t i = 0; i < shape->names; ++i) {
      auto name = read_name(reader, Pointers::followed);
      if (!name) return false;
      append_wire(record.rdata, *name);
      record.names.push_back(std::move(*name));
    }
    append(shape->after);
  } else {
    append(length);
  }
  return !reader.failed() && reader.offset() == end;
}

// Records of other classes are left out; OPT, the one type with a class of its own, stands in the additional section,
// which is not read.
bool read_section(ByteReader& reader, std::uint16_t count, std::vector<Record>& section) {
  for (std::uint16_t i = 0; i < count; ++i) {
    Record record;
    auto owner = read_name(reader, Pointers::followed);
    const auto type = reader.u16();
    const auto rr_class = reader.u16();
    const auto ttl = reader.u32();
    const auto length = reader.u16();
    if (!owner || !length) return false;
    record.owner = std::move(*owner);
    record.type = static_cast<RrType>(*type);
    record.ttl = (*ttl & 0x80000000U) != 0 ? 0 : *ttl;  // RFC 2181 §8
    if (!read_rdata(reader, *length, record)) return false;
    if (*rr_class == class_in) section.push_back(std::move(record));
  }
  return true;
}

// Nothing: not a well-formed, whole response to one question.
std::optional<Message> read_message(ByteView packet) {
  if (packet.size() > max_packet) return std::nullopt;
  ByteReader reader(packet);
  reader.u16();  // the id: the packet comes from libunbound, which has compared it
  const auto flags = reader.u16();
  const auto questions = reader.u16();
  const auto answers = reader.u16();
  const auto authorities = reader.u16();
  reader.u16();  // additional records are never used
  if (reader.failed() || *questions != 1 || (*flags & flag_response) == 0 || (*flags & mask_opcode) != 0 ||
      (*flags & flag_truncated) != 0) {
    return std::nullopt;
  }
  auto name = read_name(reader, Pointers::refused);
  const auto type = reader.u16();
  const auto question_class = reader.u16();
  if (!name || question_class != class_in) return std::nullopt;
  Message message;
  message.name = std::move(*name);
  message.type = *type;
  message.rcode = *flags & mask_rcode;
  if (!read_section(reader, *answers, message.answer) || !read_section(reader, *authorities, message.authority)) {
    return std::nullopt;
  }
  return message;
}

std::vector<const Record*> find(const std::vector<Record>& section, const Labels& owner, RrType type) {
  std::vector<const Record*> found;
  for (const Record& record : section) {
    if (record.type == type && record.owner == owner) found.push_back(&record);
  }
  return found;
}

bool is_at_or_below(const Labels& name, const Labels& zone) {
  return zone.size() <= name.size() && std::equal(zone.rbegin(), zone.rend(), name.rbegin());
}

// RFC 2308 §5: the TTL of an absence is the lesser of the SOA's own TTL and its MINIMUM field, and without an SOA
// absence is not kept.
std::uint32_t negative_ttl(const Message& message, const Labels& name) {
  for (const Record& record : message.authority) {
    if (record.type != RrType::SOA || !is_at_or_below(name, record.owner)) continue;
    ByteReader minimum(ByteView(record.rdata).last(4));  // rdata_shape: at least 22 octets
    return std::min({record.ttl, *minimum.u32(), max_negative_ttl});
  }
  return 0;
}

}  // namespace

Answer read_response(ByteView packet, const Domain& name, RrType type) {
  Labels at = labels_of(name);
  const auto message = read_message(packet);
  if (!message || message->name != at || message->type != static_cast<std::uint16_t>(type))
    return failed(Failure::malformed, "the reply cannot be read");
  if (message->rcode == refused) return failed(Failure::refused, "the name server refuses to answer (REFUSED)");
  if (message->rcode != noerror && message->rcode != nxdomain) {
    return failed(Failure::servfail, "the name server failed to answer (rcode " + std::to_string(message->rcode) + ")");
  }

  Answer answer;
  answer.failure = Failure::none;
  answer.security = Security::insecure;
  answer.ttl = ~std::uint32_t{0};
  std::vector<Labels> seen{at};
  for (;;) {
    const auto data = find(message->answer, at, type);
    // Asked for the CNAME itself, or at the end of the chain. DNAME needs no look: the CNAME that a server makes of it
    // is in the answer too (RFC 6672 §3.1).
    const auto alias = type == RrType::CNAME ? std::vector<const Record*>{} : find(message->answer, at, RrType::CNAME);
    if (alias.empty()) {
      for (const Record* record : data) {
        answer.rdata.push_back(record->rdata);
        answer.ttl = std::min(answer.ttl, record->ttl);
      }
      break;
    }
    // RFC 2181 §10.1: an alias has one target, and no other data.
    const bool one_target = std::all_of(alias.begin(), alias.end(),
                                        [&](const Record* record) { return record->rdata == alias.front()->rdata; });
    if (!one_target || !data.empty()) {
      return failed(Failure::malformed, "conflicting records beside the alias " + to_text(at));
    }
    at = alias.front()->names.front();
    if (std::find(seen.begin(), seen.end(), at) != seen.end()) {
      return failed(Failure::loop, "aliases form a loop at " + to_text(at));
    }
    if (answer.aliases.size() == max_cname_hops) {
      return failed(Failure::loop, "more than " + std::to_string(max_cname_hops) + " aliases");
    }
    seen.push_back(at);
    answer.aliases.push_back(to_text(at));
    for (const Record* record : alias) answer.ttl = std::min(answer.ttl, record->ttl);
  }

  if (!answer.rdata.empty()) {
    // RFC 2308 §2.1: NXDOMAIN speaks of the end of the chain, where there is data.
    if (message->rcode == nxdomain) return failed(Failure::malformed, "NXDOMAIN with data");
    answer.outcome = Outcome::data;
    return answer;
  }
  answer.outcome = message->rcode == nxdomain ? Outcome::nxdomain : Outcome::nodata;
  answer.ttl = std::min(answer.ttl, negative_ttl(*message, at));
  return answer;
}

bool has_signatures(ByteView packet) {
  const auto message = read_message(packet);
  return message && std::any_of(message->answer.begin(), message->answer.end(),
                                [](const Record& record) { return record.type == type_rrsig; });
}

}  // namespace sealane::dns
