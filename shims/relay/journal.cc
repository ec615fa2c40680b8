#include "shims/relay/journal.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <vector>

#include "core/base/bytes.h"

namespace sealane::relay {
namespace {

constexpr std::size_t rewrite_after = 200000;  // records, and twice of what is alive
constexpr std::size_t most_told = 20;          // unknown outcomes, in the log

std::string record(char kind, const Key& key, WallTime now, std::string_view more = {}) {
  std::string line{kind, ' '};
  line += hex(key) + " " + std::to_string(now.time_since_epoch().count());
  if (!more.empty()) line.append(" ").append(more);
  return line + "\n";
}

struct Record {
  char kind = 0;
  Key key{};
  WallTime time{};
  std::string more;
};

// Nothing: half a line, of a crash.
std::optional<Record> read_record(std::string_view line) {
  if (line.size() < 36 || (line[0] != 'D' && line[0] != 'S' && line[0] != 'F') || line[1] != ' ' || line[34] != ' ') {
    return std::nullopt;
  }
  const auto key = from_hex(line.substr(2, 32));
  std::int64_t seconds = 0;
  const auto [at, error] = std::from_chars(line.data() + 35, line.data() + line.size(), seconds);
  if (!key || error != std::errc{}) return std::nullopt;
  Record out{line[0], {}, WallTime{Seconds{seconds}}, std::string(at, line.data() + line.size())};
  std::copy(key->begin(), key->end(), out.key.begin());
  return out;
}

bool write_all(int fd, std::string_view octets) {
  while (!octets.empty()) {
    const ssize_t n = ::write(fd, octets.data(), octets.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    octets.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

tl::unexpected<Error> io_failure(const char* what, const std::string& path) {
  return failure(std::string(what) + ": " + std::strerror(errno), path, "see relay_state in sealane.conf(5)");
}

}  // namespace

Key delivery_key(const Digest& digest, std::string_view recipient) {
  Hash hash;
  hash.add({reinterpret_cast<const char*>(digest.data()), digest.size()});
  hash.add(recipient);
  const Digest whole = hash.end();
  Key key{};
  std::copy_n(whole.begin(), key.size(), key.begin());
  return key;
}

Result<std::unique_ptr<Journal>> Journal::open(const std::string& folder, LogSink log, WallTime now) {
  const std::string path = folder + "/journal";
  const int lock = ::open((folder + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock < 0) return io_failure("cannot make a file", folder + "/lock");
  std::unique_ptr<Journal> journal(new Journal(path, lock, std::move(log)));
  if (::flock(lock, LOCK_EX | LOCK_NB) != 0) return failure("another relay is running", folder, "end it first");
  if (auto loaded = journal->load(now); !loaded) return tl::make_unexpected(loaded.error());
  if (auto written = journal->rewrite(now); !written) return tl::make_unexpected(written.error());
  return journal;
}

Journal::~Journal() {
  if (file_ >= 0) ::close(file_);
  ::close(lock_);
}

Result<void> Journal::load(WallTime now) {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path_.c_str(), "re"),
                                                   [](FILE* f) { return f == nullptr ? 0 : std::fclose(f); });
  if (!file) {
    if (errno == ENOENT) return {};
    return io_failure("cannot open", path_);
  }
  std::map<Key, std::string> open_ends;
  char buffer[1024];
  while (std::fgets(buffer, sizeof buffer, file.get()) != nullptr) {
    std::string_view line(buffer);
    if (line.empty() || line.back() != '\n') continue;
    line.remove_suffix(1);
    const auto record = read_record(line);
    if (!record) continue;
    open_ends.erase(record->key);
    if (record->kind == 'S') open_ends.emplace(record->key, record->more);
    // A time to come: the clock was wrong, and its record is kept for a whole life from now.
    if (record->kind == 'D' && record->time + life > now) delivered_[record->key] = std::min(record->time, now);
  }
  if (std::ferror(file.get()) != 0) return io_failure("cannot read", path_);
  std::size_t told = 0;
  for (const auto& [key, what] : open_ends) {
    if (++told > most_told) break;
    log_(Level::warning, "the relay ended while the outcome of a delivery was open, so that a second copy may arrive:" +
                             printable(what, 300));
  }
  if (open_ends.size() > most_told) {
    log_(Level::warning, "and of " + std::to_string(open_ends.size() - most_told) + " more");
  }
  return {};
}

Result<void> Journal::rewrite(WallTime now) {
  const std::string fresh = path_ + ".new";
  const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return io_failure("cannot make a file", fresh);
  std::string text;
  bool good = true;
  for (auto entry = delivered_.begin(); entry != delivered_.end();) {
    if (entry->second + life <= now) {
      entry = delivered_.erase(entry);
      continue;
    }
    text += record('D', entry->first, entry->second);
    ++entry;
    if (text.size() < 65536) continue;
    good = good && write_all(fd, text);
    text.clear();
  }
  good = good && write_all(fd, text) && ::fsync(fd) == 0 && ::rename(fresh.c_str(), path_.c_str()) == 0;
  if (!good) {
    const auto why = io_failure("cannot write", fresh);
    ::close(fd);
    return why;
  }
  const int folder = ::open(path_.substr(0, path_.rfind('/')).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    ::fsync(folder);
    ::close(folder);
  }
  if (file_ >= 0) ::close(file_);
  file_ = fd;
  since_rewrite_ = 0;
  return {};
}

Journal::Claim Journal::claim(const Key& key) {
  const std::lock_guard lock(mutex_);
  if (delivered_.count(key) != 0) return Claim::delivered;
  return claimed_.insert(key).second ? Claim::mine : Claim::elsewhere;
}

void Journal::release(const Key& key) {
  const std::lock_guard lock(mutex_);
  claimed_.erase(key);
}

bool Journal::append(const std::string& records) {
  if (write_all(file_, records)) return true;
  log_(Level::error, path_ + ": cannot write: " + std::strerror(errno) + "; after a crash a second copy may arrive");
  return false;
}

void Journal::sending(std::span<const Key> keys, std::string_view message, std::string_view domain, WallTime now) {
  std::string records;
  for (const Key& key : keys) records += record('S', key, now, std::string(message) + " " + std::string(domain));
  const std::lock_guard lock(mutex_);
  since_rewrite_ += keys.size();
  (void)append(records);
}

void Journal::failed(std::span<const Key> keys, WallTime now) {
  std::string records;
  for (const Key& key : keys) records += record('F', key, now);
  const std::lock_guard lock(mutex_);
  since_rewrite_ += keys.size();
  (void)append(records);
}

bool Journal::delivered(std::span<const Key> keys, WallTime now) {
  std::unique_lock lock(mutex_);
  for (const Key& key : keys) waiting_ += record('D', key, now);
  const std::uint64_t mine = ++asked_;
  while (done_ < mine) {
    if (writing_) {
      durable_changed_.wait(lock);
      continue;
    }
    writing_ = true;
    const std::string records = std::exchange(waiting_, {});
    const std::uint64_t up_to = asked_;
    lock.unlock();
    // One thread at a time gets here, and nobody else changes file_.
    const bool good = append(records) && ::fdatasync(file_) == 0;
    lock.lock();
    writing_ = false;
    last_good_ = good;
    done_ = up_to;
    durable_changed_.notify_all();
  }
  const bool good = last_good_;
  for (const Key& key : keys) delivered_[key] = now;
  since_rewrite_ += keys.size();
  if (!writing_ && since_rewrite_ > std::max(rewrite_after, 2 * delivered_.size())) {
    if (auto written = rewrite(now); !written) log_(Level::error, written.error().text());
    since_rewrite_ = 0;
  }
  return good;
}

std::size_t Journal::size() const {
  const std::lock_guard lock(mutex_);
  return delivered_.size();
}

}  // namespace sealane::relay
