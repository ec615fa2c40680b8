// What was delivered, so that a reply that got lost on its way to our client does not make a second copy. Not a queue:
// it holds digests, no mail.
//
// A record is one line, "D KEY TIME" (delivered), "S KEY TIME MESSAGE DOMAIN" (the final dot is about to be sent) or
// "F KEY TIME" (it was not delivered after all). After a crash an S without D or F is a delivery whose outcome nobody
// knows; it is told in the log, and the mail is sent again: a second copy is better than none (RFC 1047).
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/result.h"
#include "shims/relay/body.h"

namespace sealane::relay {

using Key = std::array<std::uint8_t, 16>;
// Of a message and a recipient. Not of the sender, which a mail server may rewrite from day to day.
[[nodiscard]] Key delivery_key(const Digest& digest, std::string_view recipient);

// Thread-safe.
class Journal {
 public:
  // Takes FOLDER/journal, made where it is missing, for itself: a second process is an error.
  [[nodiscard]] static Result<std::unique_ptr<Journal>> open(const std::string& folder, LogSink log, WallTime now);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  enum class Claim : unsigned char { mine, delivered, elsewhere };
  // `mine`: nobody else delivers this until it is released.
  [[nodiscard]] Claim claim(const Key& key);
  void release(const Key& key);

  // Survives the end of this process, but not of the machine.
  void sending(std::span<const Key> keys, std::string_view message, std::string_view domain, WallTime now);
  void failed(std::span<const Key> keys, WallTime now);
  // On the disk when it returns, with what others record at the same time in one go. False: it could not be written,
  // which the log tells; it is remembered until this process ends.
  bool delivered(std::span<const Key> keys, WallTime now);

  [[nodiscard]] std::size_t size() const;

  // Mail servers give up after days; OpenSMTPD's default is 4, Exim's 4 after retries.
  static constexpr Seconds life{8 * 24 * 3600};

 private:
  Journal(std::string path, int lock, LogSink log) : path_(std::move(path)), lock_(lock), log_(std::move(log)) {}
  [[nodiscard]] Result<void> load(WallTime now);
  [[nodiscard]] Result<void> rewrite(WallTime now);  // with mutex_ held, or alone
  [[nodiscard]] bool append(const std::string& records);

  const std::string path_;
  const int lock_;
  const LogSink log_;
  int file_ = -1;

  mutable std::mutex mutex_;  // of all below
  std::condition_variable durable_changed_;
  std::map<Key, WallTime> delivered_;
  std::set<Key> claimed_;
  std::string waiting_;      // records that no write has taken yet
  std::uint64_t asked_ = 0;  // commits asked for
  std::uint64_t done_ = 0;   // commits that are over
  bool writing_ = false;
  bool last_good_ = true;
  std::size_t since_rewrite_ = 0;  // records appended
};

}  // namespace sealane::relay
