#include "shims/exim/connection.h"

#include <utility>

#include "shims/exim/base64.h"
#include "shims/wire/tls_words.h"

namespace sealane::exim {
namespace {

constexpr int verify_timeout_ms = 10000;

wire::Request question(const Purpose& purpose, std::string_view tls, std::vector<std::string> chain) {
  wire::Request request;
  request.verb = wire::Verb::verify;
  request.demand = purpose.demand;
  request.host = purpose.host;
  request.tls = tls;
  request.certs = std::move(chain);
  return request;
}

}  // namespace

void Connection::certificate(std::size_t depth, std::string der) {
  agreed_ = false;
  der_.at(depth) = std::move(der);
}

std::string Connection::judge(const Backend& backend, const Purpose& purpose) {
  agreed_ = false;
  std::string why = verdict(backend, purpose, wire::tls_to_be_seen, chain());
  demand_ = purpose.demand;
  host_ = purpose.host;
  address_ = purpose.address;
  agreed_ = why.empty();
  judged_ = true;
  return why;
}

void Connection::try_out(const Backend& backend, const Purpose& purpose) {
  wire::Request request = question(purpose, wire::tls_to_be_seen, chain());
  request.tested = true;
  judged_ = true;
  tell(backend, request);
}

bool Connection::agreed_on(const Purpose& purpose, std::string_view leaf) const {
  return agreed_ && is_der_sequence(leaf) && leaf == der_[0] && purpose.demand == demand_ && purpose.host == host_ &&
         purpose.address == address_;
}

std::vector<std::string> Connection::chain() const {
  std::vector<std::string> out;
  for (const std::string& der : der_) {
    if (!der.empty()) out.push_back(base64_encoded(der));
  }
  return out;
}

std::string verdict(const Backend& backend, const Purpose& purpose, std::string_view tls,
                    std::vector<std::string> chain) {
  std::string error;
  const auto reply = ask(backend, question(purpose, tls, std::move(chain)), verify_timeout_ms, error);
  if (!reply) return "not verified: " + error;
  if (reply->status != wire::Status::ok) return "not verified: " + reply->token + ": " + reply->text;
  const auto parsed = wire::parse_verdict(reply->text);
  if (!parsed) return "not verified: the verdict is malformed";
  if (parsed->pass) return {};
  return parsed->reason + ": " + wire::plain_text(parsed->text);
}

}  // namespace sealane::exim
