#include "core/sts/refresh_schedule.h"

#include <algorithm>

namespace sealane::sts {
namespace {

MonoTime::duration every(double per_second) {
  return std::chrono::duration_cast<MonoTime::duration>(std::chrono::duration<double>(1 / per_second));
}

}  // namespace

// Twice what a day's refreshes need: half a day makes up for a day's outage, evenly.
MonoTime::duration RefreshSchedule::gap() const {
  const double needed = static_cast<double>(stored_) / static_cast<double>(limits_.spread.count());
  return every(std::clamp(needed, limits_.slowest, limits_.fastest));
}

void RefreshSchedule::add(const Domain& domain) {
  if (room() == 0 || !known_.insert(domain).second) return;
  due_.push_back(domain);
}

RefreshSchedule::Begin RefreshSchedule::begin(MonoTime now) {
  Begin begin;
  begin_fetches(now, begin);
  // Time in which nothing was due is not saved up.
  next_ = std::max(next_, now - gap());
  while (!due_.empty() && under_way_ < limits_.at_once && next_ <= now) {
    next_ += gap();
    ++under_way_;
    begin.lookups.push_back(std::move(due_.front()));
    due_.pop_front();
  }
  return begin;
}

void RefreshSchedule::begin_fetches(MonoTime now, Begin& begin) {
  for (auto at = hosts_.begin(); at != hosts_.end();) {
    Host& host = at->second;
    while (!host.waiting.empty() && host.under_way < limits_.of_address_at_once && host.next <= now &&
           under_way_ < limits_.at_once) {
      host.next = now + every(limits_.of_address);
      ++host.under_way;
      ++under_way_;
      begin.fetches.push_back(std::move(host.waiting.front()));
      host.waiting.pop_front();
    }
    const bool idle = host.waiting.empty() && host.under_way == 0 && host.next <= now;
    at = idle ? hosts_.erase(at) : std::next(at);
  }
}

std::optional<MonoTime> RefreshSchedule::next(MonoTime now) const {
  if (under_way_ >= limits_.at_once) return std::nullopt;
  std::optional<MonoTime> next;
  const auto at = [&](MonoTime time) { next = std::min(next.value_or(time), std::max(time, now)); };
  if (!due_.empty()) at(next_);
  for (const auto& [address, host] : hosts_) {
    if (!host.waiting.empty() && host.under_way < limits_.of_address_at_once) at(host.next);
  }
  return next;
}

bool RefreshSchedule::located(const Domain& domain, const std::string& address) {
  --under_way_;
  Host& host = hosts_[address];
  if (host.waiting.size() >= limits_.of_address_waiting) {
    known_.erase(domain);
    return false;
  }
  host.waiting.push_back(domain);
  address_[domain] = address;
  return true;
}

void RefreshSchedule::ended(const Domain& domain) {
  --under_way_;
  known_.erase(domain);
  const auto located = address_.find(domain);
  if (located == address_.end()) return;
  --hosts_[located->second].under_way;
  address_.erase(located);
}

}  // namespace sealane::sts
