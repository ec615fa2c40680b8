#include "core/base/clock.h"

#include <algorithm>
#include <ctime>
#include <optional>

#include "core/base/bytes.h"

namespace sealane {
namespace {

namespace chr = std::chrono;

// Years that RFC 3339 §1 can write.
constexpr WallTime first_time = chr::sys_days{chr::year{0} / 1 / 1};
constexpr WallTime last_time = chr::sys_days{chr::year{9999} / 12 / 31} + chr::hours{24} - Seconds{1};

std::string digits(long value, std::size_t width) {
  std::string text = std::to_string(value);
  text.insert(0, width - std::min(width, text.size()), '0');
  return text;
}

std::optional<unsigned> number(std::string_view text) {
  unsigned value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<unsigned>(c - '0');
  }
  return value;
}

}  // namespace

WallTime SystemClock::wall() const { return chr::floor<Seconds>(chr::system_clock::now()); }

// std::chrono::steady_clock stands still in suspend, and policies would outlive their max_age by that.
MonoTime SystemClock::mono() const {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return MonoTime{chr::seconds{now.tv_sec} + chr::nanoseconds{now.tv_nsec}};
}

std::string rfc3339(WallTime t) {
  t = std::clamp(t, first_time, last_time);
  const auto day = chr::floor<chr::days>(t);
  const chr::year_month_day date{day};
  const chr::hh_mm_ss time{t - day};
  return digits(int{date.year()}, 4) + '-' + digits(unsigned{date.month()}, 2) + '-' + digits(unsigned{date.day()}, 2) +
         'T' + digits(time.hours().count(), 2) + ':' + digits(time.minutes().count(), 2) + ':' +
         digits(time.seconds().count(), 2) + 'Z';
}

Result<WallTime> parse_rfc3339(std::string_view text) {
  const auto bad = [&] {
    return failure("not a time such as 2026-01-02T03:04:05Z", printable(text, 40), "write it in UTC, to the second");
  };
  constexpr std::string_view shape = "0000-00-00T00:00:00Z";
  if (text.size() != shape.size()) return bad();
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] != '0' && text[i] != shape[i]) return bad();
  }
  const auto year = number(text.substr(0, 4));
  const auto month = number(text.substr(5, 2));
  const auto day = number(text.substr(8, 2));
  const auto hour = number(text.substr(11, 2));
  const auto minute = number(text.substr(14, 2));
  const auto second = number(text.substr(17, 2));
  if (!year || !month || !day || !hour || !minute || !second) return bad();
  const chr::year_month_day date{chr::year{static_cast<int>(*year)}, chr::month{*month}, chr::day{*day}};
  if (!date.ok() || *hour > 23 || *minute > 59 || *second > 59) return bad();  // no leap second: POSIX time has none
  return WallTime{chr::sys_days{date}} + chr::hours{*hour} + chr::minutes{*minute} + Seconds{*second};
}

WallTime build_date() { return chr::sys_days{chr::year{2026} / 11 / 25}; }

}  // namespace sealane
