#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <stdexcept>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/loop.h"

using namespace sealane;

TEST_CASE("ByteReader: a read past the end fails, and so does every later one") {
  const Bytes data{1, 2, 3};
  ByteReader reader(data);
  CHECK(reader.u16() == 0x0102);
  CHECK_FALSE(reader.u32());
  CHECK_FALSE(reader.u8());
  CHECK(reader.failed());
  CHECK(reader.left() == 0);
}

TEST_CASE("ByteReader: big-endian integers, seek, and the exact end") {
  const Bytes data{0xff, 0xfe, 0xfd, 0xfc};
  ByteReader reader(data);
  CHECK(reader.u32() == 0xfffefdfc);
  CHECK(reader.left() == 0);
  CHECK(reader.seek(2));
  CHECK(reader.u16() == 0xfdfc);
  CHECK(reader.seek(4));
  CHECK_FALSE(reader.failed());
  CHECK_FALSE(reader.seek(5));
  CHECK(reader.failed());
}

TEST_CASE("hex: lower case out, either case in, nothing else") {
  const Bytes data{0x00, 0x9f, 0xAb};
  CHECK(hex(data) == "009fab");
  CHECK(from_hex("009FaB") == data);
  CHECK(from_hex("") == Bytes{});
  for (const auto* bad : {"0", "0g", "0x", " 0", "00 11"}) {
    CAPTURE(bad);
    CHECK_FALSE(from_hex(bad));
  }
}

TEST_CASE("RFC 4648 §10: the test vectors, both ways") {
  const std::array<std::array<std::string_view, 2>, 7> pairs{{{"", ""},
                                                              {"f", "Zg=="},
                                                              {"fo", "Zm8="},
                                                              {"foo", "Zm9v"},
                                                              {"foob", "Zm9vYg=="},
                                                              {"fooba", "Zm9vYmE="},
                                                              {"foobar", "Zm9vYmFy"}}};
  for (const auto& [plain, encoded] : pairs) {
    const Bytes octets(plain.begin(), plain.end());
    CHECK(base64(as_bytes(plain)) == encoded);
    CHECK(from_base64(encoded) == octets);
  }
  CHECK(base64(Bytes{0xff, 0xef, 0xbe}) == "/+++");
}

TEST_CASE("RFC 4648 §3: bad base64 is refused, also bits that would be lost") {
  for (const auto* bad : {"Zg", "Zg=", "Zh==", "Zm9=", "Z===", "====", "Zg==Zg==", "Zm 9", "Zm9v\n", "Zm-_"}) {
    CAPTURE(bad);
    CHECK_FALSE(from_base64(bad));
  }
}

TEST_CASE("printable: nothing that a terminal or a log reader would act on") {
  CHECK(printable("plain text") == "plain text");
  CHECK(printable(std::string_view("a\0\n\x1b[31m\\\x7f\xc3\xa4", 12)) == "a\\x00\\x0a\\x1b[31m\\x5c\\x7f\\xc3\\xa4");
  CHECK(printable("abcdef", 6) == "abcdef");
  CHECK(printable("abcdefg", 6) == "abcdef...");
}

TEST_CASE("RFC 3629 §4: well-formed UTF-8 stays, every other octet becomes U+FFFD") {
  const std::string replaced = "\xef\xbf\xbd";
  for (const std::string good : {"", "ascii", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf"}) {
    CHECK(valid_utf8(good) == good);
  }
  CHECK(valid_utf8("a\xff"
                   "b") == "a" + replaced + "b");
  CHECK(valid_utf8("\xc0\x80") == replaced + replaced);                                // overlong
  CHECK(valid_utf8("\xe0\x9f\xbf") == replaced + replaced + replaced);                 // overlong
  CHECK(valid_utf8("\xed\xa0\x80") == replaced + replaced + replaced);                 // surrogate
  CHECK(valid_utf8("\xf4\x90\x80\x80") == replaced + replaced + replaced + replaced);  // above U+10FFFF
  CHECK(valid_utf8("\xe2\x82") == replaced + replaced);                                // cut short
  CHECK(valid_utf8("\xe2\x82x") == replaced + replaced + "x");
}

TEST_CASE("RFC 3339 §5.6: times both ways, leap years included") {
  for (const auto* text : {"2026-01-02T03:04:05Z", "1970-01-01T00:00:00Z", "1969-12-31T23:59:59Z",
                           "2024-02-29T12:00:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z"}) {
    CAPTURE(text);
    const auto time = parse_rfc3339(text);
    REQUIRE(time);
    CHECK(rfc3339(*time) == text);
  }
  CHECK(parse_rfc3339("1970-01-02T00:00:01Z")->time_since_epoch() == Seconds{86401});
}

TEST_CASE("RFC 3339 §5.6: anything but UTC to the whole second is refused") {
  for (const auto* bad :
       {"", "2026-01-02", "2026-01-02T03:04:05", "2026-01-02t03:04:05Z", "2026-01-02T03:04:05z", "2026-01-02 03:04:05Z",
        "2026-01-02T03:04:05+00:00", "2026-01-02T03:04:05.5Z", "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-02T24:00:00Z", "2026-01-02T03:60:00Z",
        "2016-12-31T23:59:60Z", "+026-01-02T03:04:05Z", "2026-01-02T03:04: 5Z", "2026-01-02T03:04:05Z "}) {
    CAPTURE(bad);
    const auto time = parse_rfc3339(bad);
    REQUIRE_FALSE(time);
    CHECK_FALSE(time.error().remedy.empty());
  }
}

TEST_CASE("rfc3339: a time that cannot be written is shown as the nearest that can") {
  CHECK(rfc3339(WallTime::max()) == "9999-12-31T23:59:59Z");
  CHECK(rfc3339(WallTime::min()) == "0000-01-01T00:00:00Z");
}

TEST_CASE("the clock is past the build date, and monotonic time does not go back") {
  const SystemClock clock;
  CHECK(rfc3339(build_date()) == "2026-11-25T00:00:00Z");
  const auto first = clock.mono();
  CHECK(clock.mono() >= first);
  CHECK(clock.wall() > parse_rfc3339("2020-01-01T00:00:00Z").value());
}

TEST_CASE("Loop: timers fire in order of time, once, and the loop ends when nothing is left") {
  Loop loop;
  std::string order;
  auto late = loop.after(Millis{30}, [&] { order += "late "; });
  auto early = loop.after(Millis{1}, [&] { order += "early "; });
  auto past = loop.after(Millis{-5}, [&] { order += "past "; });
  loop.run();
  CHECK(order == "past early late ");
}

TEST_CASE("Loop: a handle cancels, from outside and from inside its own callback") {
  Loop loop;
  bool cancelled_fired = false;
  auto cancelled = loop.after(Millis{1}, [&] { cancelled_fired = true; });
  cancelled.reset();

  Loop::Timer self;
  const auto owned = std::make_shared<std::string>("still here");
  std::string seen;
  self = loop.after(Millis{1}, [&self, &seen, owned] {
    self.reset();
    seen = *owned;  // what the callback captured outlives its own cancellation
  });
  loop.run();
  CHECK_FALSE(cancelled_fired);
  CHECK(seen == "still here");
}

TEST_CASE("Loop: a timer may set itself again") {
  Loop loop;
  int count = 0;
  Loop::Timer timer;
  std::function<void()> tick = [&] {
    if (++count < 3) timer = loop.after(Millis{1}, tick);
  };
  timer = loop.after(Millis{1}, tick);
  loop.run();
  CHECK(count == 3);
}

TEST_CASE("Loop: soon runs in order, and what it asks for in turn is run as well") {
  Loop loop;
  std::string order;
  loop.soon([&] {
    order += 'a';
    loop.soon([&] { order += 'c'; });
  });
  loop.soon([&] { order += 'b'; });
  CHECK(order.empty());
  loop.run();
  CHECK(order == "abc");
}

TEST_CASE("Loop: what soon still holds is freed with the loop, uncalled") {
  const auto held = std::make_shared<int>(1);
  {
    Loop loop;
    loop.soon([held] { ++*held; });
  }
  CHECK(held.use_count() == 1);
  CHECK(*held == 1);
}

TEST_CASE("Loop: a watch tells what a descriptor is ready for, again and again until it is destroyed") {
  std::array<int, 2> fds{};
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds.data()) == 0);
  Loop loop;
  std::string got;
  Loop::Watch reader;
  reader = loop.watch(fds[0], Loop::readable, [&](unsigned ready) {
    CHECK(ready == Loop::readable);
    char c = 0;
    REQUIRE(read(fds[0], &c, 1) == 1);
    got += c;
    if (got.size() == 2) reader.reset();
  });
  Loop::Watch writer;
  writer = loop.watch(fds[1], Loop::writable, [&](unsigned ready) {
    CHECK(ready == Loop::writable);
    REQUIRE(write(fds[1], "xyz", 3) == 3);
    writer.reset();
  });
  loop.run();
  CHECK(got == "xy");
  close(fds[0]);
  close(fds[1]);
}

TEST_CASE("Loop: signals arrive as callbacks") {
  Loop loop;
  int count = 0;
  Loop::Watch watch;
  watch = loop.on_signal(SIGUSR1, [&] {
    if (++count == 2) {
      watch.reset();
    } else {
      std::raise(SIGUSR1);
    }
  });
  std::raise(SIGUSR1);
  loop.run();
  CHECK(count == 2);
}

TEST_CASE("Loop: stop ends run at once, and run can be called again") {
  Loop loop;
  bool second = false;
  auto first = loop.after(Millis{0}, [&] { loop.stop(); });
  auto later = loop.after(Millis{20}, [&] { second = true; });
  loop.run();
  CHECK_FALSE(second);
  loop.run();
  CHECK(second);
}

TEST_CASE("Loop: an exception from a callback leaves by run, not through libevent") {
  Loop loop;
  auto timer = loop.after(Millis{0}, [] { throw std::runtime_error("a bug"); });
  CHECK_THROWS_WITH(loop.run(), "a bug");
  CHECK_NOTHROW(loop.run());
}
