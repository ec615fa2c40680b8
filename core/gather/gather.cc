#include "core/gather/gather.h"

#include <utility>

namespace sealane {

using dns::Answer;
using dns::RrType;

void FetchRequest::add(const Domain& host, RrType type, const Answer& answer) {
  if (!answer.answered()) {
    error += host.text() + " " + to_text(type) + ": " + to_text(answer.failure);
    error += answer.cause.empty() ? "; " : ": " + answer.cause + "; ";
  }
  for (const Bytes& rdata : answer.rdata) {
    auto text = dns::parse_address(rdata);
    if (text && addresses.size() < max_addresses) addresses.push_back(std::move(*text));
  }
}

Gather::Gather(Loop& loop, std::shared_ptr<dns::Resolver> resolver, Evidence evidence, Hooks hooks)
    : loop_(loop), resolver_(std::move(resolver)), evidence_(std::move(evidence)), hooks_(std::move(hooks)) {
  outcome_ = decide(evidence_);
}

void Gather::start(std::optional<Fault> fault) {
  evidence_.fault = std::move(fault);
  wake();
}

void Gather::fetched(const sts::PolicyState& before, const sts::FetchResult& result) {
  if (evidence_.fetch) return;  // one question learns of one fetch: its rules have been applied
  evidence_.stored = before;
  evidence_.fetch = result;
  wake();
}

bool Gather::finished() const {
  return settled() && under_way_ == 0 && !awake_ && (!fetch_id_ || evidence_.fetch.has_value());
}

// Answers that arrive together are judged together: a domain of many hosts costs a few decisions, not hundreds.
void Gather::wake() {
  if (awake_) return;
  awake_ = true;
  loop_.soon([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->judge();
  });
}

void Gather::judge() {
  awake_ = false;
  outcome_ = decide(evidence_);
  for (const LookupKey& key : outcome_.wanted.lookups) look_up(key);
  if (outcome_.wanted.fetch && !fetch_id_) fetch_id_ = outcome_.wanted.fetch_id;
  pursue_fetch();
  hooks_.changed();
}

void Gather::look_up(const LookupKey& key) {
  if (asked_.count(key) != 0) return;
  if (asked_.size() == max_lookups) {
    if (evidence_.answers.emplace(key, dns::failed(dns::Failure::unknown, "too many lookups for one question"))
            .second) {
      wake();
    }
    return;
  }
  asked_.insert(key);
  ++under_way_;
  resolver_->lookup(key.name, key.type, [weak = weak_from_this(), key](Answer answer) {
    const auto self = weak.lock();
    if (!self) return;
    --self->under_way_;
    self->evidence_.answers.emplace(key, std::move(answer));
    self->wake();
  });
}

// The policy host's addresses come from our own validated lookups, not from libc's; its name may be an alias
// (RFC 8461 §8.2). They stand in the evidence like all other answers.
void Gather::pursue_fetch() {
  if (!fetch_id_ || fetch_requested_ || evidence_.fetch) return;
  FetchRequest request;
  request.id = *fetch_id_;
  const auto host = evidence_.question.domain->prefixed("mta-sts");
  if (!host) {
    request.error = "the name of the policy host is too long";
  } else {
    for (const RrType type : {RrType::A, RrType::AAAA}) look_up({*host, type});
    for (const RrType type : {RrType::A, RrType::AAAA}) {
      const auto found = evidence_.answers.find({*host, type});
      if (found == evidence_.answers.end()) return;  // we come back with the answer
      request.add(*host, type, found->second);
    }
    request.error += host->text() + " has no address";
  }
  fetch_requested_ = true;
  hooks_.fetch(std::move(request));
}

}  // namespace sealane
