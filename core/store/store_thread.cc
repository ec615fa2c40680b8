// A StoreFile on a thread of its own.
#include <pthread.h>
#include <sys/stat.h>

#include <condition_variable>
#include <csignal>
#include <ctime>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "core/base/mailbox.h"
#include "core/store/store.h"

namespace sealane {
namespace {

constexpr std::size_t saves_at_once = 256;  // in one transaction
constexpr Seconds backup_first{60};         // after the start
constexpr Seconds backup_look{3600};        // how often its age is looked at
constexpr Seconds backup_age{86400};

// Signals are for the loop's thread.
std::thread quiet_thread(std::function<void()> body) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread(std::move(body));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

class StoreThread final : public PolicyStore {
 public:
  StoreThread(Loop& loop, std::unique_ptr<StoreFile> file, std::string backed_up, LogSink log)
      : loop_(loop),
        mailbox_(loop),
        backed_up_(std::move(backed_up)),
        log_(std::move(log)),
        last_(file->last_entry()),
        file_(std::move(file)),
        thread_(quiet_thread([this] { work(); })) {
    if (!backed_up_.empty()) look_after_backup(backup_first);
  }

  ~StoreThread() override {
    stop_backup_ = true;
    if (backup_.joinable()) backup_.join();
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }
  StoreThread(const StoreThread&) = delete;
  StoreThread& operator=(const StoreThread&) = delete;

  void load(const Domain& domain, Loaded loaded) override {
    read([this, domain, loaded = std::move(loaded)]() mutable {
      mailbox_.post([state = file_->load(domain), loaded = std::move(loaded)]() mutable { loaded(std::move(state)); });
    });
  }

  void save(const Domain& domain, const sts::PolicyState& state, const sts::Moment& now, Saved saved) override {
    {
      const std::lock_guard lock(mutex_);
      saves_.push_back({domain, state, now, std::move(saved)});
    }
    wake_.notify_one();
  }

  void remove(const Domain& domain, Saved removed) override {
    read([this, domain, removed = std::move(removed)]() mutable {
      mailbox_.post(
          [done = file_->remove(domain), removed = std::move(removed)]() mutable { removed(std::move(done)); });
    });
  }

  void due(SteadyTime now, std::size_t limit, Listed listed) override {
    read([this, now, limit, listed = std::move(listed)]() mutable {
      file_->due(now, limit, [&](Result<Due> due) {
        mailbox_.post([due = std::move(due), listed = std::move(listed)]() mutable { listed(std::move(due)); });
      });
    });
  }

  // After everything else: no mail waits for it.
  void record(std::vector<TlsOutcome> outcomes, Saved recorded) override {
    {
      const std::lock_guard lock(mutex_);
      records_.push_back([this, outcomes = std::move(outcomes), recorded = std::move(recorded)]() mutable {
        mailbox_.post(
            [done = file_->record(outcomes), recorded = std::move(recorded)]() mutable { recorded(std::move(done)); });
      });
    }
    wake_.notify_one();
  }

  [[nodiscard]] std::optional<sts::Moment> last_entry() const override { return last_; }

 private:
  struct Save {
    Domain domain;
    sts::PolicyState state;
    sts::Moment now;
    Saved saved;
  };

  void read(std::function<void()> job) {
    {
      const std::lock_guard lock(mutex_);
      reads_.push_back(std::move(job));
    }
    wake_.notify_one();
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return ending_ || !reads_.empty() || !saves_.empty() || !records_.empty(); });
      if (!reads_.empty()) {
        run_first(reads_, lock);
      } else if (!saves_.empty()) {
        std::vector<Save> batch;
        while (!saves_.empty() && batch.size() < saves_at_once) {
          batch.push_back(std::move(saves_.front()));
          saves_.pop_front();
        }
        lock.unlock();
        save_all(batch);
        lock.lock();
      } else if (!records_.empty()) {
        run_first(records_, lock);
      } else {
        return;  // ending, and all is done
      }
    }
  }

  static void run_first(std::deque<std::function<void()>>& jobs, std::unique_lock<std::mutex>& lock) {
    const auto job = std::move(jobs.front());
    jobs.pop_front();
    lock.unlock();
    job();
    lock.lock();
  }

  void save_all(std::vector<Save>& batch) {
    std::vector<StoreFile::Entry> entries;
    entries.reserve(batch.size());
    for (const Save& save : batch) entries.push_back({save.domain, save.state, save.now});
    const Result<void> together = file_->save(entries);
    for (std::size_t i = 0; i < batch.size(); ++i) {
      // One that cannot be saved must not keep the others from it.
      Result<void> done = together || batch.size() == 1 ? together : file_->save({entries[i]});
      mailbox_.post([done = std::move(done), saved = std::move(batch[i].saved)]() mutable { saved(std::move(done)); });
    }
  }

  // On the loop's thread, as is all of the backup but the copying.
  void look_after_backup(Seconds delay) {
    backup_timer_ = loop_.after(delay, [this] {
      struct stat info {};
      const bool fresh = ::stat(backup_path(backed_up_).c_str(), &info) == 0 && info.st_mtime <= std::time(nullptr) &&
                         std::time(nullptr) - info.st_mtime < backup_age.count();
      if (fresh) return look_after_backup(backup_look);
      if (backup_.joinable()) backup_.join();
      backup_ = quiet_thread([this] {
        auto done = back_up_store(backed_up_, stop_backup_);
        mailbox_.post([this, done = std::move(done)] {
          if (!done) log_(Level::error, "store: no backup: " + done.error().text());
          look_after_backup(backup_look);
        });
      });
    });
  }

  Loop& loop_;
  Mailbox mailbox_;
  std::string backed_up_;
  LogSink log_;
  std::optional<sts::Moment> last_;
  std::unique_ptr<StoreFile> file_;  // the thread's alone, from here on

  std::mutex mutex_;
  std::condition_variable wake_;
  bool ending_ = false;  // these guarded by mutex_
  std::deque<std::function<void()>> reads_, records_;
  std::deque<Save> saves_;

  Loop::Timer backup_timer_;
  std::atomic<bool> stop_backup_ = false;
  std::thread backup_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace

std::unique_ptr<PolicyStore> on_thread(Loop& loop, std::unique_ptr<StoreFile> file, std::string backed_up,
                                       LogSink log) {
  if (!log) log = [](Level, const std::string&) {};
  return std::make_unique<StoreThread>(loop, std::move(file), std::move(backed_up), std::move(log));
}

}  // namespace sealane
