// The demand token that a route carries and a connection brings back (core/verify/demand.cc).
#include "core/verify/demand.h"

#include <algorithm>

#include "tests/fuzz/fuzz.h"

using namespace sealane;
using fuzz::must;

namespace {

bool is_token_octet(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("._-:/,;=+").find(c) != std::string_view::npos;
}

bool same(const Demand& a, const Demand& b) {
  return a.host == b.host && a.expanded == b.expanded && a.tls == b.tls && a.names == b.names && a.sni == b.sni &&
         a.tlsa == b.tlsa;
}

void check_demand(const Demand& demand) {
  must(demand.tls != Tls::skip, "a host that is not to be connected to is not listed");
  must(!demand.host.empty() && !demand.expanded.empty(), "a host has its names");
  must(demand.tlsa.empty() == (demand.tls != Tls::dane), "records come with DANE and with nothing else");
  must(demand.names.empty() == (demand.tls != Tls::dane && demand.tls != Tls::pkix), "names come with authentication");
  must(demand.names.size() <= dane::max_records && demand.tlsa.size() <= dane::max_records, "lists are bounded");
  for (const auto& record : demand.tlsa) must(dane::why_unusable(record).empty(), "no record is unusable");
  for (const auto& name : demand.names) must(Domain::parse(name).has_value(), "a reference name is a name");
}

void check_lookup(const Demands& demands, const Demand& demand) {
  const auto holds = [&demand](const std::vector<Demand>& found) {
    return std::any_of(found.begin(), found.end(), [&demand](const Demand& one) { return same(one, demand); });
  };
  if (demand.host.back() == '.' ||
      std::any_of(demand.host.begin(), demand.host.end(), [](char c) { return c >= 'A' && c <= 'Z'; })) {
    return;  // no host is called that
  }
  must(holds(demands_for(demands, demand.host)), "a demand is found by the host's name");
  must(holds(demands_for(demands, demand.host + ".")), "a trailing dot does not hide it");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string token(fuzz::text_of(data, size));
  const auto demands = read_token(token);
  if (!demands) {
    must(!demands.error().what.empty() && demands.error().text().size() < 200, "an error says what, in bounded words");
    return 0;
  }
  must(size <= max_token_octets && std::all_of(token.begin(), token.end(), is_token_octet), "the alphabet is kept");
  must(demands->hosts.size() <= 50, "hosts are bounded");
  must(write_token(*demands) == token, "one meaning has one spelling");
  for (const Demand& demand : demands->hosts) {
    check_demand(demand);
    check_lookup(*demands, demand);
  }
  must(!read_token(token + ";") && !read_token(token + " "), "nothing may follow");

  const auto unknown = demands_for(*demands, "no.such.host.anywhere.test");
  must(!unknown.empty(), "a host always has a demand");
  if (demands->hosts.empty()) {
    must(unknown.front().tls == (demands->others == Others::opportunistic ? Tls::opportunistic : Tls::skip),
         "a host that is not listed falls under others");
  }
  return 0;
}
