// The token:
//
//   token = "1" ";" name ";" others *(";" host)     version, domain, `others`
//   host  = name "," [name] "," tls "," [name] "," [name *(":" name)] "," [tlsa *(":" tlsa)] ["," would]
//                                                   host, expanded (if another), tls, sni, reference names, records
//   would = "pkix" / "skip"                         of a policy that is only tested
//   tlsa  = usage "." selector "." matching-type "." base64
//   name  = octets; each outside a-z 0-9 . _ - is written as "=" and two hexadecimal digits
#include "core/verify/demand.h"

#include <algorithm>
#include <charconv>
#include <iterator>

#include "core/decide/decide.h"

namespace sealane {
namespace {

constexpr std::string_view version = "1";

std::string escape(std::string_view name) {
  std::string out;
  for (const char c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
    out += plain ? std::string(1, c) : "=" + hex(as_bytes({&c, 1}));
  }
  return out;
}

std::optional<std::string> unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '=') {
      out += text[i];
      continue;
    }
    const auto octet = from_hex(text.substr(i + 1, 2));
    if (!octet || octet->size() != 1) return std::nullopt;
    out += static_cast<char>(octet->front());
    i += 2;
  }
  return out;
}

std::string tlsa_text(const dane::TlsaRecord& record) {
  return std::to_string(record.usage) + "." + std::to_string(record.selector) + "." +
         std::to_string(record.matching_type) + "." + base64(record.data);
}

template <class Item, class Text>
std::string join(const std::vector<Item>& items, Text text) {
  std::string out;
  for (const Item& item : items) {
    if (!out.empty()) out += ':';
    out += text(item);
  }
  return out;
}

std::string host_text(const Demand& demand) {
  return escape(demand.host) + "," + (demand.expanded == demand.host ? "" : escape(demand.expanded)) + "," +
         std::string(to_text(demand.tls)) + "," + escape(demand.sni) + "," + join(demand.names, escape) + "," +
         join(demand.tlsa, tlsa_text) + (demand.would ? "," + std::string(to_text(*demand.would)) : "");
}

// The parts of `text` between separators, `limit` at most; nothing: there are more. Empty text has no parts.
std::optional<std::vector<std::string_view>> split(std::string_view text, char separator, std::size_t limit) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    if (parts.size() == limit) return std::nullopt;
    const std::size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
    if (text.empty()) parts.emplace_back();  // a separator at the end: an empty last part
  }
  return parts;
}

std::optional<std::uint8_t> octet_of(std::string_view text) {
  std::uint8_t value = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || at != end) return std::nullopt;
  return value;
}

std::optional<dane::TlsaRecord> read_tlsa(std::string_view text) {
  const auto fields = split(text, '.', 4);
  if (!fields || fields->size() != 4) return std::nullopt;
  const auto usage = octet_of((*fields)[0]);
  const auto selector = octet_of((*fields)[1]);
  const auto matching_type = octet_of((*fields)[2]);
  auto data = from_base64((*fields)[3]);
  if (!usage || !selector || !matching_type || !data) return std::nullopt;
  dane::TlsaRecord record{*usage, *selector, *matching_type, std::move(*data)};
  if (!dane::why_unusable(record).empty()) return std::nullopt;
  return record;
}

bool is_domain(const std::string& name) {
  const auto domain = Domain::parse(name);
  return domain && domain->text() == name;
}

bool needs_names(const Demand& demand) {
  return demand.tls == Tls::dane || demand.tls == Tls::pkix || demand.would == Tls::pkix;
}

std::optional<Demand> read_host(std::string_view text) {
  const auto fields = split(text, ',', 7);
  if (!fields || fields->size() < 6) return std::nullopt;
  const auto host = unescape((*fields)[0]);
  const auto expanded = unescape((*fields)[1]);
  const auto tls = tls_from_text((*fields)[2]);
  const auto sni = unescape((*fields)[3]);
  const auto names = split((*fields)[4], ':', dane::max_records);
  const auto records = split((*fields)[5], ':', dane::max_records);
  if (!host || host->empty() || !expanded || !tls || !sni || !names || !records) return std::nullopt;

  Demand demand{*host, expanded->empty() ? *host : *expanded, *tls, {}, *sni, {}, {}};
  if (fields->size() == 7) {
    demand.would = tls_from_text((*fields)[6]);
    if (demand.would != Tls::pkix && demand.would != Tls::skip) return std::nullopt;
  }
  for (const std::string_view name : *names) {
    if (!is_domain(std::string(name))) return std::nullopt;
    demand.names.emplace_back(name);
  }
  for (const std::string_view item : *records) {
    auto record = read_tlsa(item);
    if (!record) return std::nullopt;
    demand.tlsa.push_back(std::move(*record));
  }
  // What a demand needs it must have, and nothing else: half a demand is no demand.
  const bool authenticates = needs_names(demand);
  if (demand.tls == Tls::skip || demand.names.empty() == authenticates ||
      demand.tlsa.empty() == (demand.tls == Tls::dane)) {
    return std::nullopt;
  }
  return demand;
}

}  // namespace

Demands demands_of(const Decision& decision) {
  Demands demands{decision.domain, decision.others, {}};
  for (const HostDecision& host : decision.hosts) {
    Demand demand{host.host, host.expanded.empty() ? host.host : host.expanded, host.tls, {}, host.sni, {}, host.would};
    // A policy is tested by the MX name (RFC 8461 §4.1), of a host that has one.
    if (demand.would == Tls::pkix && host.names.empty()) demand.names = {host.host};
    if (demand.would && !is_domain(host.host)) demand.would = std::nullopt;
    if (needs_names(demand) && demand.names.empty()) {
      // The next hop may be an alias of a name with odd octets: no certificate is for that one.
      std::copy_if(host.names.begin(), host.names.end(), std::back_inserter(demand.names), is_domain);
    }
    if (!needs_names(demand)) demand.names.clear();
    if (host.tls == Tls::dane) demand.tlsa = host.tlsa;
    demands.hosts.push_back(std::move(demand));
  }
  return demands;
}

std::string write_token(const Demands& demands) {
  const auto head = [&demands](Others others) {
    return std::string(version) + ";" + escape(demands.domain) + ";" + std::string(to_text(others));
  };
  Others others = demands.others;
  std::string hosts;
  std::size_t count = 0;
  const std::size_t room = max_token_octets - std::min(max_token_octets, head(Others::opportunistic).size());
  for (const Demand& demand : demands.hosts) {
    const std::string text = demand.tls == Tls::skip ? "" : ";" + host_text(demand);
    if (text.empty() || count == max_hosts || hosts.size() + text.size() > room) {
      others = Others::skip;
      continue;
    }
    hosts += text;
    ++count;
  }
  return head(others) + hosts;
}

Result<Demands> read_token(std::string_view token) {
  const auto bad = [](std::string what) {
    return failure(std::move(what), "demand token", "hand it over unchanged, as the decision came with it");
  };
  if (token.size() > max_token_octets) return bad("longer than " + std::to_string(max_token_octets) + " octets");
  const auto parts = split(token, ';', 3 + max_hosts);
  if (!parts) return bad("more than " + std::to_string(max_hosts) + " hosts");
  if (parts->size() < 3) return bad("not a token");
  if ((*parts)[0] != version) return bad("unknown version");

  Demands demands;
  const auto domain = unescape((*parts)[1]);
  if (!domain || domain->empty()) return bad("no domain");
  demands.domain = *domain;
  if ((*parts)[2] == to_text(Others::opportunistic)) {
    demands.others = Others::opportunistic;
  } else if ((*parts)[2] != to_text(Others::skip)) {
    return bad("unknown word for others");
  }
  for (std::size_t i = 3; i < parts->size(); ++i) {
    auto demand = read_host((*parts)[i]);
    if (!demand) return bad("host " + std::to_string(i - 2) + " is malformed");
    demands.hosts.push_back(std::move(*demand));
  }
  // One meaning has one spelling, so that nothing in a token goes unread.
  if (write_token(demands) != token) return bad("not in canonical form");
  return demands;
}

std::vector<Demand> tested_for(const Demands& demands, std::string_view name) {
  std::vector<Demand> found = demands_for(demands, name);
  found.erase(std::remove_if(found.begin(), found.end(), [](const Demand& demand) { return !demand.would; }),
              found.end());
  for (Demand& demand : found) {
    demand.tls = *demand.would;
    demand.names = {demand.host};
    demand.tlsa.clear();
  }
  return found;
}

std::vector<Demand> demands_for(const Demands& demands, std::string_view name) {
  if (!name.empty() && name.back() == '.') name.remove_suffix(1);
  std::string host(name);
  std::transform(host.begin(), host.end(), host.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  std::vector<Demand> found;
  for (const Demand& demand : demands.hosts) {
    if (demand.host == host || demand.expanded == host) found.push_back(demand);
  }
  if (found.empty()) {
    const Tls tls = demands.others == Others::opportunistic ? Tls::opportunistic : Tls::skip;
    found.push_back({host, host, tls, {}, host, {}, {}});
  }
  return found;
}

}  // namespace sealane
