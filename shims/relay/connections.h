// Connections to servers, which wait a moment for the next message.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "core/smtp/client.h"
#include "core/verify/demand.h"

namespace sealane::relay {

// A connection that has shown everything that is demanded of it, after EHLO, before MAIL.
struct Open {
  std::unique_ptr<smtp::Client> client;
  smtp::Reply hello;
  std::string shown;  // for the log: "TLSv1.3, dane" or "clear text"
  Demand demand;      // what it was verified against
  MonoTime since{};
  unsigned messages = 0;
};

// Thread-safe. A connection is given out again for the domain and the address that it was made for, to who demands the
// very same of it, to the last TLSA record; all others need a new one.
class Connections {
 public:
  Connections();
  ~Connections();
  Connections(const Connections&) = delete;
  Connections& operator=(const Connections&) = delete;

  // The server may have closed it all the same, unnoticed.
  [[nodiscard]] std::optional<Open> take(const std::string& domain, const std::string& address, const Demand& demand,
                                         MonoTime now);
  // After a whole transaction, nothing of whose replies is left to be read. One that is not kept gets QUIT.
  void keep(const std::string& domain, const std::string& address, Open open, MonoTime now);

  // Readable when some have waited long enough; then call end_old.
  [[nodiscard]] int timer() const { return timer_; }
  void end_old(MonoTime now);

  static constexpr Seconds idle{2};
  static constexpr Seconds age{60};
  static constexpr unsigned messages = 50;  // some servers refuse a hundredth
  static constexpr std::size_t most = 100;

 private:
  struct Kept {
    std::string domain, address;
    Open open;
    MonoTime until;
  };
  void arm(MonoTime now);  // mutex_ is held

  std::mutex mutex_;
  std::deque<Kept> kept_;  // the one that ends first is in front
  const int timer_;
};

}  // namespace sealane::relay
