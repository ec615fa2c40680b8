#include "shims/relay/delivery.h"

#include <algorithm>
#include <exception>
#include <random>

#include "core/base/bytes.h"
#include "core/render/render.h"
#include "shims/relay/ask.h"
#include "shims/relay/dialog.h"
#include "shims/relay/own_hosts.h"

namespace sealane::relay {
namespace {

// RFC 5321 §4.5.3.2, as far as our own client's patience allows.
constexpr Seconds command_time{300};
constexpr Seconds data_time{120};
constexpr Seconds block_time{180};  // without progress
constexpr Seconds dot_time{600};
constexpr Seconds quit_time{2};
constexpr Seconds afterword_time{5};  // for what a server says before it hangs up
constexpr std::size_t block_octets = 65536;
constexpr std::size_t window = 50;  // recipients sent ahead of their replies

class Delivery {
 public:
  Delivery(Context& context, Message& message, const std::string& domain)
      : context_(context), message_(message), domain_(domain) {}

  void run(const std::vector<std::size_t>& recipients) {
    claim(recipients);
    if (mine_.empty()) return;
    if (const auto known = context_.failures.recent(domain_)) return settle_all(*known);
    const auto decision = ask_decision(context_, domain_, message_.id, message_.until);
    if (!decision) return settle_all(later("4.4.3", domain_ + ": " + decision.error().text()));
    if (decision->action != Action::deliver) return settle_all(of_decision(*decision, log_line(*decision)));
    try_hosts(*decision);
  }

  // Whatever has no result yet gets `reply`.
  void settle_all(const Reply& reply) {
    log(reply.permanent() ? Level::notice : Level::warning,
        (reply.permanent() ? " refused: " : " deferred: ") + reply.text);
    for (const Mine& one : std::exchange(mine_, {})) settle(one, reply);
  }

  [[nodiscard]] bool settled() const { return mine_.empty(); }

 private:
  struct Mine {
    std::size_t recipient;
    Key key;
  };

  void log(Level level, const std::string& what) const {
    context_.log(level, domain_ + what + (message_.id.empty() ? "" : " id=" + message_.id));
  }

  void settle(const Mine& one, const Reply& reply) {
    context_.journal->release(one.key);
    message_.settle(one.recipient, reply);
  }

  void claim(const std::vector<std::size_t>& recipients) {
    for (const std::size_t recipient : recipients) {
      const Key key = delivery_key(message_.body.digest(), message_.recipients[recipient]);
      switch (context_.journal->claim(key)) {
        case Journal::Claim::mine:
          mine_.push_back({recipient, key});
          break;
        case Journal::Claim::delivered:
          log(Level::notice, ": this message was delivered before: not sent again");
          message_.settle(recipient, {250, "2.0.0", "delivered before"});
          break;
        case Journal::Claim::elsewhere:
          message_.settle(recipient, later("4.4.7", domain_ + ": an earlier attempt still waits for the server"));
          break;
      }
    }
  }

  void try_hosts(const Decision& decision) {
    thread_local std::mt19937 random{std::random_device{}()};
    const auto own = [this](const std::string& name) { return name == context_.hello || is_own_address(name); };
    const Candidates found = candidates(decision, own, random);
    if (found.we_are_best) {
      return settle_all({554, "5.4.6", domain_ + ": its best MX host is this machine: mail would loop [RFC 5321 5.1]"});
    }
    std::string failures;
    bool security = false;
    for (const HostDecision& host : found.hosts) {
      const Demand demand = demand_of(decision, host);
      for (const std::string& address : in_turn(host.addresses)) {
        const MonoTime now = context_.clock.mono();
        if (now >= message_.until) break;
        HostFailure failure;
        host_ = host.host;
        address_ = address;
        place_ = host.host + " [" + address + "]";
        // A kept connection that the server has given up meanwhile says nothing about the server.
        auto kept = context_.connections.take(domain_, address, demand, now);
        if (kept && transact(*kept, failure)) return;
        auto open = open_connection(context_, demand, address,
                                    std::min(message_.until, now + context_.config.relay_connect_timeout), failure);
        if (open && transact(*open, failure)) return;
        if (failure.security) {
          security = true;
          tell_refused(context_, domain_, host.host, failure.reason, message_.id);
        }
        const std::string_view rule = describe(failure.reason).rule;
        failures += (failures.empty() ? "" : "; ") + place_ + ": " +
                    (failure.security ? std::string(to_text(failure.reason)) + ": " : "") +
                    printable(failure.text, 160) +
                    (failure.security && !rule.empty() ? " [" + std::string(rule) + "]" : "");
      }
    }
    if (failures.empty()) failures = "no host could be tried";
    const Reply reply = later(security ? "4.7.5" : "4.4.1", domain_ + ": " + failures);
    context_.failures.remember(domain_, reply);
    settle_all(reply);
  }

  // One message over an open connection. False: this host is of no use, and nothing was handed over; `failure` says
  // why.
  bool transact(Open& open, HostFailure& failure) {
    const auto next = [&failure](std::string why) {
      failure = {Reason::deadline, false, false, std::move(why)};
      return false;
    };
    smtp::Client& client = *open.client;
    if (const auto bound = size_bound(open.hello); bound && *bound < message_.body.size()) {
      quit(client);
      settle_all({552, "5.3.4", domain_ + ": " + place_ + " takes no message larger than " + std::to_string(*bound)});
      return true;
    }
    std::vector<Reply> replies;
    std::string why;
    if (!envelope(open, replies, why)) return next(why);
    std::vector<Mine> accepted;
    for (std::size_t i = 0; i < mine_.size(); ++i) {
      if (replies[i].good()) {
        accepted.push_back(mine_[i]);
      } else {
        log(replies[i].permanent() ? Level::notice : Level::warning,
            " " + replies[i].line().substr(0, 3) + ": " + replies[i].text);
        settle(mine_[i], replies[i]);
      }
    }
    mine_ = accepted;
    context_.failures.forget(domain_);
    if (mine_.empty()) {
      quit(client);
      return true;
    }
    return data(open, next);
  }

  // MAIL and RCPT, with one reply for each of mine_. False: try the next host.
  bool envelope(Open& open, std::vector<Reply>& replies, std::string& why) {
    smtp::Client& client = *open.client;
    const MonoTime until = std::min(message_.until, context_.clock.mono() + command_time);
    std::string mail = "MAIL FROM:<" + message_.sender + ">";
    if (open.hello.offers("SIZE")) mail += " SIZE=" + std::to_string(message_.body.size());    // RFC 1870 §6.1
    if (message_.body.eight_bit() && open.hello.offers("8BITMIME")) mail += " BODY=8BITMIME";  // RFC 6152 §3
    mail += "\r\n";
    const bool ahead = open.hello.offers("PIPELINING");  // RFC 2920 §3.1
    bool mail_open = true;                               // its reply has not come
    for (std::size_t at = 0; at < mine_.size();) {
      std::string lines = std::exchange(mail, {});
      const std::size_t count = ahead ? std::min(window, mine_.size() - at) : (mail_open ? 0 : 1);
      for (std::size_t i = 0; i < count; ++i) {
        lines += "RCPT TO:<" + message_.recipients[mine_[at + i].recipient] + ">\r\n";
      }
      if (const auto sent = client.send(lines, until); !sent) return fail(why, sent.error().what);
      if (std::exchange(mail_open, false)) {
        const auto reply = client.receive(until);
        if (!reply) return fail(why, reply.error().what);
        if (reply->code >= 500) {
          replies.assign(mine_.size(), mirrored(*reply, host_));
          return true;
        }
        if (!reply->good()) return fail(why, "MAIL: " + reply->text());
      }
      for (std::size_t i = 0; i < count; ++i) {
        const auto reply = client.receive(until);
        if (!reply) return fail(why, reply.error().what);
        if (reply->code == 421) return fail(why, "RCPT: " + reply->text());
        replies.push_back(mirrored(*reply, host_));
      }
      at += count;
    }
    return true;
  }

  static bool fail(std::string& why, std::string what) {
    why = std::move(what);
    return false;
  }

  template <class Next>
  bool data(Open& open, Next next) {
    smtp::Client& client = *open.client;
    const auto ready = client.command("DATA", std::min(message_.until, context_.clock.mono() + data_time));
    if (!ready) return next(ready.error().what);
    if (ready->code == 421) return next("DATA: " + ready->text());
    if (ready->code != 354) {
      Reply reply = mirrored(*ready, host_);
      if (reply.good()) reply = later("4.5.0", domain_ + ": " + place_ + " answered DATA with " + ready->text());
      settle_all(reply);
      quit(client);
      return true;
    }
    // From here on our client's patience is no bound: it may have been told to come again, and will find in the journal
    // what the server took meanwhile.
    DotStuffer stuffer;
    for (std::uint64_t at = 0; at < message_.body.size();) {
      bool good = true;
      const std::string block = message_.body.read(at, block_octets, good);
      if (!good || block.empty()) {
        settle_all(later("4.3.0", domain_ + ": the message could not be read back"));
        return true;
      }
      std::string octets;
      octets.reserve(block.size() + block.size() / 16);
      stuffer.put(block, octets);
      if (const auto sent = client.send(octets, context_.clock.mono() + block_time); !sent) {
        const auto afterword = client.receive(context_.clock.mono() + afterword_time);
        if (!afterword || afterword->code < 500) return next(afterword ? afterword->text() : sent.error().what);
        settle_all(mirrored(*afterword, host_));
        return true;
      }
      at += block.size();
    }
    return final_dot(open);
  }

  // RFC 5321 §4.2.5: whose message it is changes with the reply to this.
  bool final_dot(Open& open) {
    smtp::Client& client = *open.client;
    std::vector<Key> keys;
    for (const Mine& one : mine_) keys.push_back(one.key);
    const std::string name =
        "message " + hex(ByteView(message_.body.digest()).first(8)) + (message_.id.empty() ? "" : " id=" + message_.id);
    context_.journal->sending(keys, name, domain_, context_.clock.wall());
    log(Level::debug, ": final dot to " + place_);
    auto reply = smtp::Reply{};
    std::string lost;
    if (const auto sent = client.send(".\r\n", context_.clock.mono() + block_time); !sent) {
      lost = sent.error().what;
    } else if (auto answer = client.receive(context_.clock.mono() + dot_time); !answer) {
      lost = answer.error().what;
    } else {
      reply = std::move(*answer);
    }
    if (!lost.empty()) {
      // No other host is tried: this one may have taken it.
      settle_all(later(
          "4.4.2", domain_ + ": " + place_ + ": lost after the message was sent, and it may have arrived: " + lost));
      return true;
    }
    if (!reply.good()) {
      context_.journal->failed(keys, context_.clock.wall());
      settle_all(mirrored(reply, host_));
      quit(client);
      return true;
    }
    context_.journal->delivered(keys, context_.clock.wall());
    log(Level::info, " delivered to " + place_ + " (" + open.shown + "), " + std::to_string(mine_.size()) +
                         (mine_.size() == 1 ? " recipient" : " recipients"));
    for (const Mine& one : std::exchange(mine_, {})) settle(one, mirrored(reply, host_));
    if (context_.config.relay_reuse) {
      context_.connections.keep(domain_, address_, std::move(open), context_.clock.mono());
    } else {
      quit(client);
    }
    return true;
  }

  void quit(smtp::Client& client) const { (void)client.command("QUIT", context_.clock.mono() + quit_time); }

  // RFC 1870: "SIZE 10000000"; without a number, or 0: none is told.
  static std::optional<std::uint64_t> size_bound(const smtp::Reply& hello) {
    for (std::size_t i = 1; i < hello.lines.size(); ++i) {
      const std::string& line = hello.lines[i];
      if (line.size() < 6 || line.size() > 20) continue;
      std::string word = line.substr(0, 5);
      std::transform(word.begin(), word.end(), word.begin(),
                     [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
      if (word != "SIZE ") continue;
      std::uint64_t bound = 0;
      for (const char c : line.substr(5)) {
        if (c < '0' || c > '9') return std::nullopt;
        bound = bound * 10 + static_cast<std::uint64_t>(c - '0');
      }
      if (bound != 0) return bound;
    }
    return std::nullopt;
  }

  Context& context_;
  Message& message_;
  const std::string domain_;
  std::vector<Mine> mine_;  // claimed, and without a result
  std::string host_;        // that is being talked to
  std::string address_;
  std::string place_;  // the same with its address
};

}  // namespace

void deliver(Context& context, Message& message, const std::string& domain,
             const std::vector<std::size_t>& recipients) {
  Delivery delivery(context, message, domain);
  try {
    delivery.run(recipients);
  } catch (const std::exception& error) {
    try {
      delivery.settle_all(later("4.3.0", domain + ": " + error.what()));
    } catch (const std::exception&) {  // no memory for that either: the session's own time ends it
    }
  }
}

}  // namespace sealane::relay
