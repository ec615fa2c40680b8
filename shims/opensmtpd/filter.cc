// filter-sealane [--config FILE] [DOMAIN…]: refuses, while the client still waits, recipients at domains that take no
// mail, and has the agent look up all others, so that the relay finds their decisions ready. It guards nothing: what it
// cannot learn in time proceeds. Never ends before its input does, because smtpd would end too.
//
// One thread reads; a fixed number of threads ask the agent. A question that waits for one of them too long proceeds.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>

#include "shims/opensmtpd/arguments.h"
#include "shims/opensmtpd/filter_protocol.h"
#include "shims/wire/client.h"

namespace sealane::opensmtpd {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr Millis patience{5000};     // of a client at RCPT TO
constexpr Millis agent_margin{300};  // by which the agent's own deadline is shorter
constexpr std::size_t most_threads = 32;
constexpr std::size_t most_waiting = 4096;
constexpr Seconds between_complaints{60};

class Filter {
 public:
  Filter(std::string socket, Exempt exempt) : socket_(std::move(socket)), exempt_(std::move(exempt)) {}

  int run() {
    for (std::size_t i = 0; i < most_threads; ++i) {
      try {
        threads_.emplace_back([this] { work(); });
      } catch (const std::system_error&) {
        break;  // with none at all, everything proceeds
      }
    }
    FilterInput input;
    char buffer[16384];
    for (;;) {
      const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;
      try {
        const auto taken = input.take({buffer, static_cast<std::size_t>(n)});
        if (taken.handshake) say(registration());
        for (const RcptTo& question : taken.questions) queue(question);
      } catch (const std::exception& error) {
        complain(error.what());
      }
    }
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    ready_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    return 0;
  }

 private:
  struct Waiting {
    RcptTo question;
    SteadyClock::time_point until;
  };

  void queue(const RcptTo& question) {
    const auto domain = Domain::parse(question.domain);
    const bool literal = !question.domain.empty() && question.domain.front() == '[';
    if (question.domain.empty() || literal || (domain && exempt_.holds(*domain))) return say(proceed(question));
    {
      const std::lock_guard lock(mutex_);
      if (!threads_.empty() && waiting_.size() < most_waiting) {
        waiting_.push_back({question, SteadyClock::now() + patience});
        ready_.notify_one();
        return;
      }
    }
    say(proceed(question));
  }

  void work() {
    for (;;) {
      std::unique_lock lock(mutex_);
      ready_.wait(lock, [this] { return over_ || !waiting_.empty(); });
      if (over_) return;  // nobody reads our answers any more
      const Waiting next = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      std::string answer = proceed(next.question);
      try {
        if (const auto reply = judge(next)) answer = reject(next.question, *reply);
      } catch (const std::exception& error) {
        complain(error.what());
      }
      say(answer);
    }
  }

  // The reply to refuse with; nothing: proceed.
  std::optional<std::string> judge(const Waiting& waiting) {
    const auto left = std::chrono::duration_cast<Millis>(waiting.until - SteadyClock::now());
    if (left <= agent_margin) return std::nullopt;
    wire::Request request;
    request.verb = wire::Verb::query;
    request.domain = waiting.question.domain;
    request.as_text = true;
    request.wait_ms = static_cast<std::uint32_t>((left - agent_margin).count());
    std::string error;
    const auto reply = wire::call(socket_, request, static_cast<int>(left.count()), error);
    if (!reply) {
      complain_sometimes(error);
      return std::nullopt;
    }
    const auto answer = reply->status == wire::Status::ok ? wire::parse_text_answer(reply->text) : std::nullopt;
    if (!answer) return std::nullopt;
    return refusal(answer->action, answer->reason, waiting.question.domain);
  }

  // A whole line at a time, from any thread.
  void say(std::string_view text) {
    const std::lock_guard lock(output_);
    while (!text.empty()) {
      const ssize_t n = ::write(STDOUT_FILENO, text.data(), text.size());
      if (n >= 0) {
        text.remove_prefix(static_cast<std::size_t>(n));
      } else if (errno != EINTR) {
        return;  // smtpd has gone; the end of the input is next
      }
    }
  }

  void complain_sometimes(const std::string& what) {
    {
      const std::lock_guard lock(mutex_);
      const auto now = SteadyClock::now();
      if (now < quiet_until_) return;
      quiet_until_ = now + between_complaints;
    }
    complain(what + ": recipients proceed unjudged; the relay will ask again");
  }

  const std::string socket_;
  const Exempt exempt_;
  std::mutex output_;
  std::mutex mutex_;  // of all below
  std::condition_variable ready_;
  std::deque<Waiting> waiting_;
  bool over_ = false;
  SteadyClock::time_point quiet_until_{};
  std::vector<std::thread> threads_;
};

}  // namespace
}  // namespace sealane::opensmtpd

int main(int argc, char** argv) {
  using namespace sealane::opensmtpd;
  ::signal(SIGPIPE, SIG_IGN);
  std::string file;
  Exempt exempt;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--config" && i + 1 < argc) {
      file = argv[++i];
    } else if (!exempt.add(argument)) {
      complain("filter-sealane: neither --config FILE nor a domain to leave alone: " + argument);
    }
  }
  return Filter(config_or_defaults(file).socket, std::move(exempt)).run();
}
