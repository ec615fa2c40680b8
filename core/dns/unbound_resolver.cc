#include "core/dns/unbound_resolver.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <list>
#include <map>
#include <optional>
#include <sstream>
#include <system_error>
#include <utility>

#include "core/dns/message.h"
#include "core/dns/unbound_context.h"

namespace sealane::dns {
namespace {

constexpr std::size_t max_file = 65536;        // octets of resolv.conf or of a trust anchor that are looked at
constexpr std::size_t max_system_servers = 8;  // of resolv.conf; libc uses three

// When name servers are probed again.
constexpr Millis probe_interval = std::chrono::hours{1};
constexpr Millis first_retry = std::chrono::seconds{2};  // then doubled, while something is missing …
constexpr Millis last_retry = std::chrono::minutes{1};  // … up to this while nothing can be used, else up to the hour
constexpr Millis file_interval = std::chrono::seconds{30};
constexpr Millis suspicion_interval = std::chrono::seconds{15};  // at the soonest, after lookups that failed in a row
constexpr int suspicious_failures = 5;

// At most max_file octets.
Result<std::string> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return failure("cannot be read: " + std::generic_category().message(errno), path);
  std::string text(max_file, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return failure("cannot be read", path);
  text.resize(static_cast<std::size_t>(file.gcount()));
  return text;
}

std::vector<std::string> words(std::string_view line, std::string_view comment_marks) {
  line = line.substr(0, std::min(line.find_first_of(comment_marks), line.size()));
  std::istringstream stream{std::string(line)};
  std::vector<std::string> found;
  for (std::string word; stream >> word;) found.push_back(word);
  return found;
}

template <class Fn>
void each_line(const std::string& text, Fn fn) {
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) fn(line);
}

// libunbound takes a file without an anchor, or with anchors for other names only, for "nothing is to be validated".
bool has_root_anchor(const std::string& text) {
  bool found = false;
  each_line(text, [&](const std::string& line) {
    const auto parts = words(line, ";");
    found =
        found || (!parts.empty() && parts[0] == "." && std::any_of(parts.begin(), parts.end(), [](const auto& word) {
          return word == "DS" || word == "DNSKEY";
        }));
  });
  return found;
}

std::vector<std::string> system_servers(const std::string& resolv_conf) {
  std::vector<std::string> servers;
  each_line(resolv_conf, [&](const std::string& line) {
    const auto parts = words(line, "#;");
    if (parts.size() < 2 || parts[0] != "nameserver" || servers.size() == max_system_servers) return;
    if (std::find(servers.begin(), servers.end(), parts[1]) == servers.end()) servers.push_back(parts[1]);
  });
  return servers;
}

std::string joined(const std::vector<std::string>& parts, std::string_view separator) {
  std::string text;
  for (const std::string& part : parts) {
    if (!text.empty()) text += separator;
    text += part;
  }
  return text;
}

// Calls later, from the loop. Destroying it drops what it still holds, uncalled.
class Deferred {
 public:
  explicit Deferred(Loop& loop) : loop_(loop) {}

  void post(std::function<void()> fn) {
    const std::uint64_t id = next_++;
    timers_[id] = loop_.after(Millis{0}, [this, id, fn = std::move(fn)] {
      timers_.erase(id);
      fn();  // may destroy *this
    });
  }

 private:
  Loop& loop_;
  std::uint64_t next_ = 0;
  std::map<std::uint64_t, Loop::Timer> timers_;
};

// What a probe found. The order is that of precedence when the reasons of several are summed up.
enum class Verdict : std::uint8_t { silent, strips, wrong_anchor, passes };

// RFC 8027 §3: whether signed data and signed absence get through. Two questions at once: `. DNSKEY`, which must
// validate with our trust anchor, and `. MX`, which does not exist.
struct Probe {
  std::vector<std::string> servers;  // none: recursion
  std::unique_ptr<UnboundContext> context;
  std::optional<Reply> dnskey;
  std::optional<Reply> absence;
  Verdict verdict = Verdict::silent;
  std::string detail;

  [[nodiscard]] bool finished() const { return !context || (dnskey && absence); }
  [[nodiscard]] std::string text() const {
    return (servers.empty() ? "recursion from the root" : printable(joined(servers, ", "))) + ' ' + detail;
  }

  void judge() {
    const auto found = [this](Verdict what, std::string words_for_people) {
      verdict = what;
      detail = std::move(words_for_people);
    };
    const auto is = [](const Reply& reply, Security security) {
      return reply.answered() && reply.security == security;
    };
    if (!context) return;  // detail says why
    if (is(*dnskey, Security::secure) && is(*absence, Security::secure)) {
      found(Verdict::passes, "passes DNSSEC records");
    } else if (is(*dnskey, Security::insecure) || is(*absence, Security::insecure)) {
      // With an anchor for the root nothing there can be insecure, unless none of its algorithms is known.
      found(Verdict::wrong_anchor, "cannot be validated: no algorithm of the trust anchor is supported");
    } else if (is(*dnskey, Security::bogus) && has_signatures(dnskey->packet)) {
      found(Verdict::wrong_anchor, "has a root key that the trust anchor does not match (" + dnskey->why + ')');
    } else if (is(*dnskey, Security::bogus) || is(*absence, Security::bogus)) {
      found(Verdict::strips, "removes DNSSEC records");
    } else if (dnskey->timed_out) {
      found(Verdict::silent, "does not answer");
    } else {
      found(Verdict::silent, "fails to answer" + (dnskey->why.empty() ? "" : " (" + dnskey->why + ')'));
    }
  }
};

class UnboundResolver final : public Resolver {
 public:
  UnboundResolver(Loop& loop, const Config& config, LogSink log)
      : loop_(loop), config_(config), log_(std::move(log)), deferred_(loop) {
    start_round();
  }

  void lookup(const Domain& name, RrType type, Done done) override {
    if (current_) {
      start({name, type, std::move(done)});
    } else if (probing_) {
      waiting_.push_back({name, type, std::move(done)});
    } else {
      refuse({name, type, std::move(done)});
    }
  }

  void when_ready(std::function<void()> ready) override {
    if (health_ == Health::unknown) {
      ready_.push_back(std::move(ready));
    } else {
      deferred_.post(std::move(ready));
    }
  }

  [[nodiscard]] Health health() const override { return health_; }
  [[nodiscard]] std::string health_text() const override { return health_text_; }

 private:
  struct Lookup {
    Domain name;
    RrType type;
    Done done;
  };
  using Now = std::chrono::steady_clock;

  // --- lookups

  void start(Lookup lookup) {
    const std::string name = lookup.name.text() + '.';
    const RrType type = lookup.type;
    current_->ask(name, type, config_.dns_timeout, [this, lookup = std::move(lookup)](const Reply& reply) {
      const Answer answer = to_answer(reply, lookup.name, lookup.type);
      note(answer);
      lookup.done(answer);  // may destroy *this
    });
  }

  // No name server can be used: nothing is asked, for an answer could not be judged.
  void refuse(Lookup lookup) {
    const auto why = health_ == Health::ok ? Failure::timeout : Failure::bogus;
    deferred_.post([done = std::move(lookup.done), answer = failed(why, health_text_)] { done(answer); });
  }

  Answer to_answer(const Reply& reply, const Domain& name, RrType type) const {
    if (reply.timed_out) {
      return failed(Failure::timeout, "no answer within " + std::to_string(config_.dns_timeout.count()) + " ms");
    }
    // libunbound shows SERVFAIL as neither secure nor bogus, without data, exactly as an insecure absence.
    if (reply.rcode == Reply::refused) return failed(Failure::refused, "the name server refuses to answer (REFUSED)");
    if (reply.rcode != 0) {
      std::string why = "no usable answer (rcode " + std::to_string(reply.rcode) + ")";
      if (!reply.why.empty()) why += ": " + reply.why;
      return failed(Failure::servfail, std::move(why));
    }
    if (reply.security == Security::bogus) return failed(Failure::bogus, reply.why);
    Answer answer = read_response(reply.packet, name, type);
    if (!answer.answered()) return answer;
    answer.security = reply.security;
    if (answer.security == Security::insecure) {
      for (const Domain& zone : config_.insecure) {
        if (name == zone || name.is_below(zone)) answer.cause = "insecure = " + zone.text() + " is configured";
      }
    }
    return answer;
  }

  // Several failures in a row may mean that our name servers are gone or have begun to strip.
  void note(const Answer& answer) {
    failures_ = answer.answered() ? 0 : failures_ + 1;
    if (failures_ < suspicious_failures || probing_) return;
    failures_ = 0;
    next_round_ = std::min(next_round_, std::max(Now::now(), last_round_ + suspicion_interval));
    schedule();
  }

  // --- probing: a round finds out which way to the DNS can be used, and ends in conclude()

  void start_round() {
    timer_.reset();
    probing_ = true;
    last_round_ = Now::now();
    choice_ = nullptr;
    probes_.clear();
    watched_ = watch_files();
    if (!watched_.anchor || !has_root_anchor(*watched_.anchor)) {
      const std::string what =
          watched_.anchor ? "holds no DS or DNSKEY record of the root" : watched_.anchor.error().what;
      return conclude_failure(Health::no_trust_anchor,
                              Error{"the trust anchor " + what, config_.trust_anchor, anchor_remedy});
    }
    std::vector<std::string> servers;
    if (config_.resolver == ResolverMode::addresses) servers = config_.resolver_addresses;
    if (uses_system_servers()) servers = system_servers(watched_.resolv_conf.value_or(std::string{}));
    for (const std::string& server : servers) add_probe({server});
    advance();
  }

  // Returns a reference that stays valid until the next round.
  Probe& add_probe(std::vector<std::string> servers) {
    Probe& probe = probes_.emplace_back();
    auto context = UnboundContext::create(loop_, config_, servers);
    probe.servers = std::move(servers);
    if (!context) {
      probe.verdict = context.error().of == config_.trust_anchor ? Verdict::wrong_anchor : Verdict::silent;
      probe.detail = "cannot be used: " + context.error().text();
      return probe;
    }
    probe.context = std::move(*context);
    const auto ask = [&](RrType type, std::optional<Reply> Probe::*slot) {
      probe.context->ask(".", type, config_.dns_timeout, [this, &probe, slot](const Reply& reply) {
        probe.*slot = reply;
        advance();
      });
    };
    ask(RrType::DNSKEY, &Probe::dnskey);
    ask(RrType::MX, &Probe::absence);
    return probe;
  }

  void advance() {
    for (const Probe& probe : probes_) {
      if (!probe.finished()) return;
    }
    for (Probe& probe : probes_) probe.judge();
    if (choice_ == nullptr) choose();
    if (choice_ == nullptr || choice_->finished()) conclude();
  }

  // From the name servers that passed, or did not, to the one way that is used: a probe too, for every context has to
  // show for itself that it validates.
  void choose() {
    std::vector<std::string> passing;
    for (Probe& probe : probes_) {
      if (probe.verdict != Verdict::passes) continue;
      passing.push_back(probe.servers.front());
      choice_ = &probe;
    }
    const bool recursion = config_.resolver == ResolverMode::recursive || config_.resolver == ResolverMode::automatic;
    if (passing.size() > 1 || (passing.empty() && recursion)) choice_ = &add_probe(std::move(passing));
  }

  void conclude() {
    if (choice_ == nullptr || choice_->verdict != Verdict::passes) return conclude_failure();
    const bool same = current_ && current_servers_ == choice_->servers && current_anchor_ == *watched_.anchor;
    if (!same) {
      retire_current();
      current_ = std::move(choice_->context);
      current_servers_ = choice_->servers;
      current_anchor_ = *watched_.anchor;
    }
    std::vector<std::string> dropped;
    bool missing = false;
    for (const Probe& probe : probes_) {
      if (probe.verdict == Verdict::passes) continue;
      dropped.push_back(probe.text());
      missing = missing || probe.verdict == Verdict::silent;
    }
    std::string text =
        current_servers_.empty() ? "recursion from the root" : "name servers: " + joined(current_servers_, ", ");
    const bool fallback = current_servers_.empty() && config_.resolver == ResolverMode::automatic;
    if (fallback) text += ", because no name server of " + config_.resolv_conf + " can be used";
    if (!dropped.empty()) text += (fallback ? ": " : "; not used: ") + joined(dropped, "; ");
    finish(Health::ok, text, dropped.empty() && !fallback ? Level::info : Level::warning, missing);
  }

  void conclude_failure() {
    auto reason = Verdict::silent;
    std::vector<std::string> found;
    for (const Probe& probe : probes_) {
      if (probe.verdict == Verdict::passes) continue;
      reason = std::max(reason, probe.verdict);
      found.push_back(probe.text());
    }
    if (uses_system_servers() && found.empty()) found.push_back(config_.resolv_conf + " names no name server");
    const std::string list = joined(found, "; ");
    switch (reason) {
      case Verdict::wrong_anchor:
        return conclude_failure(Health::no_trust_anchor, Error{list, config_.trust_anchor, anchor_remedy});
      case Verdict::strips:
        return conclude_failure(Health::no_dnssec,
                                Error{list, "",
                                      "set resolver = recursive, which needs port 53 to the Internet, or to the "
                                      "address of a name server that passes DNSSEC records"});
      default:
        // An outage is no reason to call the name servers unfit, nor to give up what has shown that it validates.
        finish(Health::ok, Error{"no name server can be reached: " + list, "", "check the network"}.text(),
               Level::error, true);
    }
  }

  void conclude_failure(Health health, const Error& error) {
    retire_current();
    finish(health, error.text(), Level::error, true);
  }

  void finish(Health health, const std::string& text, Level level, bool again_soon) {
    if (log_ && text != health_text_) log_(level, "resolver: " + text);
    health_ = health;
    health_text_ = text;
    probing_ = false;
    failures_ = 0;
    choice_ = nullptr;
    probes_.clear();
    if (!current_) retry_ = std::min(retry_, last_retry);
    next_round_ = Now::now() + (again_soon ? retry_ : probe_interval);
    retry_ = again_soon ? std::min(retry_ * 2, probe_interval) : first_retry;
    schedule();
    for (Lookup& lookup : std::exchange(waiting_, {})) {
      if (current_) {
        start(std::move(lookup));
      } else {
        refuse(std::move(lookup));
      }
    }
    for (auto& ready : std::exchange(ready_, {})) deferred_.post(std::move(ready));
  }

  // Its lookups under way end as they would have.
  void retire_current() {
    if (current_) retired_.push_back(std::move(current_));
  }

  void schedule() {
    const auto left = std::chrono::ceil<Millis>(next_round_ - Now::now());
    timer_ = loop_.after(std::min(left, file_interval), [this] {
      retired_.remove_if([](const auto& context) { return context->idle(); });
      if (Now::now() >= next_round_ || watch_files() != watched_) {
        start_round();
      } else {
        schedule();
      }
    });
  }

  // --- files whose change calls for a new round at once

  struct Watched {
    Result<std::string> anchor = failure("unread");
    std::optional<std::string> resolv_conf;

    friend bool operator!=(const Watched& a, const Watched& b) {
      return a.anchor.has_value() != b.anchor.has_value() || (a.anchor && *a.anchor != *b.anchor) ||
             a.resolv_conf != b.resolv_conf;
    }
  };

  [[nodiscard]] Watched watch_files() const {
    Watched files;
    files.anchor = read_file(config_.trust_anchor);
    if (uses_system_servers()) {
      if (auto text = read_file(config_.resolv_conf)) files.resolv_conf = std::move(*text);
    }
    return files;
  }

  [[nodiscard]] bool uses_system_servers() const {
    return config_.resolver == ResolverMode::system || config_.resolver == ResolverMode::automatic;
  }

  static constexpr const char* anchor_remedy =
      "install the package dns-root-data, or set trust_anchor to a file with the key of the root, and check the clock";

  Loop& loop_;
  const Config config_;
  const LogSink log_;
  Deferred deferred_;

  Health health_ = Health::unknown;
  std::string health_text_ = "name servers are being probed";
  std::vector<std::function<void()>> ready_;
  std::vector<Lookup> waiting_;  // for the round that is under way; only while there is no current_

  std::unique_ptr<UnboundContext> current_;  // has shown that it validates; nothing: lookups are refused
  std::vector<std::string> current_servers_;
  std::string current_anchor_;
  std::list<std::unique_ptr<UnboundContext>> retired_;
  int failures_ = 0;  // lookups in a row

  bool probing_ = false;
  Watched watched_;  // as the last round found them
  std::list<Probe> probes_;
  Probe* choice_ = nullptr;  // in probes_
  Now::time_point last_round_;
  Now::time_point next_round_;
  Millis retry_ = first_retry;
  Loop::Timer timer_;
};

}  // namespace

std::unique_ptr<Resolver> make_unbound_resolver(Loop& loop, const Config& config, LogSink log) {
  return std::make_unique<UnboundResolver>(loop, config, std::move(log));
}

}  // namespace sealane::dns
