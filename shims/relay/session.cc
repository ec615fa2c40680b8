#include "shims/relay/session.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <map>

#include "core/base/bytes.h"
#include "core/base/socket.h"
#include "shims/relay/command.h"
#include "shims/relay/delivery.h"
#include "shims/relay/peer.h"

namespace sealane::relay {
namespace {

constexpr Seconds command_time{300};
constexpr Seconds data_time{180};  // without progress
constexpr Seconds write_time{60};
constexpr Seconds read_time{60};  // for a reply to be taken out of the receive queue
constexpr std::size_t most_recipients = 1000;
constexpr std::size_t most_errors = 20;
constexpr std::size_t buffer_octets = 8192;  // on the stack of each session

class Session {
 public:
  Session(std::shared_ptr<Context> context, int fd, Port& port)
      : context_(std::move(context)), fd_(fd), port_(port), peer_(fd) {
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  ~Session() { ::close(fd_); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void run(const std::set<uid_t>& users) {
    const PeerEnd peer = peer_.look();
    // A client that has written all it wants and closed shows uid 0 and no inode.
    if (!peer.established || peer.inode == 0 || users.count(peer.uid) == 0) {
      context_->log(Level::warning,
                    "a connection by uid " + std::to_string(peer.uid) + " is refused: not in relay_users");
      (void)say("421 4.7.1 " + context_->hello + " not for you\r\n");
      return;
    }
    if (!say("220 " + context_->hello + " LMTP sealane\r\n")) return;
    while (const auto line = read_line()) {
      if (!obey(*line)) return;
    }
  }

 private:
  bool obey(const std::string& line) {
    const Command command = read_command(line);
    switch (command.verb) {
      case Verb::lhlo:
        greeted_ = true;
        reset();
        return say("250-" + context_->hello + "\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250 8BITMIME\r\n");
      case Verb::mail:
        if (!greeted_ || message_) return wrong("503 5.5.1 not now");
        if (!command.error.empty()) return wrong(command.error);
        message_ = std::make_shared<Message>(context_->config.relay_state);
        message_->sender = command.address;
        return say("250 2.1.0 OK\r\n");
      case Verb::rcpt:
        if (!message_) return wrong("503 5.5.1 MAIL first");
        if (!command.error.empty()) return wrong(command.error);
        if (message_->recipients.size() >= most_recipients) return wrong("452 4.5.3 too many recipients");
        // What becomes of it is told after the message: OpenSMTPD gives up a session after 25 refused recipients.
        domains_[command.domain].push_back(message_->recipients.size());
        message_->recipients.push_back(command.address);
        return say("250 2.1.5 OK\r\n");
      case Verb::data:
        if (!message_ || message_->recipients.empty()) return wrong("503 5.5.1 RCPT first");
        return data();
      case Verb::rset:
        reset();
        return say("250 2.0.0 OK\r\n");
      case Verb::noop:
        return say("250 2.0.0 OK\r\n");
      case Verb::quit:
        (void)say("221 2.0.0 bye\r\n");
        return false;
      case Verb::unknown:
        break;
    }
    if (!greeted_) {  // HTTP, perhaps
      (void)say("500 5.5.1 this is LMTP\r\n");
      return false;
    }
    return wrong("500 5.5.1 what?");
  }

  void reset() {
    message_ = nullptr;
    domains_.clear();
  }

  bool wrong(const std::string& reply) { return say(reply + "\r\n") && ++errors_ < most_errors; }

  bool data() {
    const Port::Transaction transaction(port_, context_->clock);
    if (!say("354 go ahead\r\n")) return false;
    const auto message = std::exchange(message_, nullptr);
    const auto domains = std::exchange(domains_, {});
    DataReader reader;
    Result<void> kept;
    while (!reader.ended()) {
      if (unread_.empty() && !fill(context_->clock.mono() + data_time, true)) return false;
      std::string text;
      const std::size_t taken = reader.take(unread_, text);
      unread_.erase(0, taken);
      if (kept) kept = message->body.add(text);
    }
    message->body.end();
    message->until = context_->clock.mono() + context_->config.relay_timeout;
    message->id = message->body.id();
    message->start();
    if (!kept) {
      context_->log(Level::error, kept.error().text());
      for (std::size_t i = 0; i < message->recipients.size(); ++i) {
        message->settle(i, {452, "4.3.1", "no room for the message"});
      }
    } else {
      for (const auto& [domain, recipients] : domains) start(message, domain, recipients);
    }
    for (std::size_t i = 0; i < message->recipients.size(); ++i) {
      const auto reply = message->wait(i);
      // OpenSMTPD takes two replies that it finds in one read for a fault of ours, and defers what the second was
      // about.
      if (i > 0 && !peer_.wait_until_read(context_->clock.mono() + read_time)) return false;
      if (!say(reply ? reply->line() : later("4.4.7", "the server has not answered yet").line())) return false;
    }
    return true;
  }

  // A thread for each domain, so that none waits for another.
  void start(const std::shared_ptr<Message>& message, const std::string& domain,
             const std::vector<std::size_t>& recipients) {
    const auto busy = [&](const char* why) {
      for (const std::size_t i : recipients) message->settle(i, later("4.3.2", why));
    };
    if (!context_->deliveries.take(message->until)) return busy("too many deliveries are under way");
    const bool begun = context_->workers.run([context = context_, message, domain, recipients] {
      deliver(*context, *message, domain, recipients);
      context->deliveries.give_back();
    });
    if (begun) return;
    context_->deliveries.give_back();
    busy("no thread for the delivery");
  }

  bool say(std::string_view text) { return send_all(fd_, text, context_->clock.mono() + write_time).has_value(); }

  bool fill(MonoTime until, bool quick) {
    char buffer[buffer_octets];
    if (!wait_for(fd_, POLLIN, until)) return false;
    const ssize_t n = ::recv(fd_, buffer, sizeof buffer, MSG_DONTWAIT);
    // The kernel would keep its acknowledgement back for 40 ms, and the client its last line until then.
    const int on = 1;
    if (quick) ::setsockopt(fd_, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
    if (n < 0) return errno == EINTR || errno == EAGAIN;
    unread_.append(buffer, static_cast<std::size_t>(n));
    return n > 0;
  }

  // Without its CR LF. Nothing: the end, or a line that is too long. A bare LF ends no line, and read_command refuses
  // it.
  std::optional<std::string> read_line() {
    const MonoTime until = context_->clock.mono() + command_time;
    for (;;) {
      const std::size_t end = unread_.find("\r\n");
      if (end != std::string::npos && end <= longest_command) {
        std::string line = unread_.substr(0, end);
        unread_.erase(0, end + 2);
        return line;
      }
      if (unread_.size() > longest_command) {
        (void)say("500 5.5.2 line too long\r\n");
        return std::nullopt;
      }
      if (!fill(until, false)) return std::nullopt;
    }
  }

  const std::shared_ptr<Context> context_;
  const int fd_;
  Port& port_;
  const PeerWatch peer_;
  std::string unread_;
  bool greeted_ = false;
  std::size_t errors_ = 0;
  std::shared_ptr<Message> message_;
  std::map<std::string, std::vector<std::size_t>> domains_;  // domain -> places in message_->recipients
};

}  // namespace

void serve(const std::shared_ptr<Context>& context, int fd, const std::set<uid_t>& users, Port& port) {
  try {
    Session(context, fd, port).run(users);
  } catch (const std::exception& error) {
    context->log(Level::error, std::string("a session ends: ") + error.what());
  }
}

}  // namespace sealane::relay
