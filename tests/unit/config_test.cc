#include "core/config/config.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

using namespace sealane;
namespace fs = std::filesystem;

namespace {

struct Key {
  std::string name, default_text, meaning;
};

const std::vector<Key> all_keys = {
#define SEALANE_KEY(key, default_text, reader, meaning) {key, default_text, meaning},
#include "core/config/keys.def"
#undef SEALANE_KEY
};

Config good(std::string_view text) {
  auto config = parse_config(text, "test.conf");
  if (!config) FAIL(config.error().text());
  return std::move(*config);
}

// The error's text, which must be one printable line that begins with the file and line.
std::string bad(std::string_view text) {
  const auto config = parse_config(text, "test.conf");
  if (config) return "no error";
  const std::string line = config.error().text();
  CHECK(std::all_of(line.begin(), line.end(), [](char c) { return c >= ' ' && c < 0x7f; }));
  CHECK_FALSE(config.error().remedy.empty());
  return line;
}

bool begins(const std::string& text, const std::string& with) { return text.rfind(with, 0) == 0; }

Domain domain(const char* text) { return Domain::parse(text).value(); }

struct TempFile {
  std::string path = "/tmp/sealane-config-XXXXXX";
  explicit TempFile(std::string_view text = "") {
    const int fd = mkstemp(path.data());
    REQUIRE(fd >= 0);
    close(fd);
    std::ofstream(path) << text;
  }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;
  ~TempFile() { fs::remove(path); }
};

}  // namespace

TEST_CASE("keys.def: every default is the one that holds without a file") {
  std::string text;
  std::set<std::string> names;
  for (const Key& key : all_keys) {
    CAPTURE(key.name);
    CHECK(names.insert(key.name).second);
    CHECK_FALSE(key.meaning.empty());
    if (!key.default_text.empty()) text += key.name + " = " + key.default_text + "\n";
  }
  const Config config = good(text);
  const Config defaults;
  CHECK(config.store == defaults.store);
  CHECK(config.trust_anchor == defaults.trust_anchor);
  CHECK(config.root_hints == defaults.root_hints);
  CHECK(config.resolver == defaults.resolver);
  CHECK(config.resolver_addresses == defaults.resolver_addresses);
  CHECK(config.insecure == defaults.insecure);
  CHECK(config.ca_file == defaults.ca_file);
  CHECK(config.socket == defaults.socket);
  CHECK(config.admin_socket == defaults.admin_socket);
  CHECK(config.timeout == defaults.timeout);
  CHECK(config.dns_timeout == defaults.dns_timeout);
  CHECK(config.https_timeout == defaults.https_timeout);
  CHECK(config.dane == defaults.dane);
  CHECK(config.mta_sts == defaults.mta_sts);
  CHECK(config.dane_insecure_mx == defaults.dane_insecure_mx);
  CHECK(config.https_private == defaults.https_private);
  CHECK(config.cache_entries == defaults.cache_entries);
  CHECK(config.cache_bytes == defaults.cache_bytes);
  CHECK(config.store_bytes == defaults.store_bytes);
  CHECK(config.overrides.empty());
  CHECK(config.source == "test.conf");
}

TEST_CASE("every key sets its own field") {
  const Config config = good(
      "store = /a/b#c.db\n"
      "trust_anchor=/a/key\n"
      "  root_hints\t=\t/a/hints  # a comment\r\n"
      "# resolver = system\n"
      "\n"
      "resolver = 192.0.2.1, 2001:db8::1@5353,fe80::1%eth0\n"
      "insecure = corp.example\n"
      "insecure = B\xc3\xbc"
      "cher.example.\n"
      "ca_file = /a/ca.pem\n"
      "socket = /a/agent\n"
      "admin_socket = /a/admin\n"
      "timeout = 1500ms\n"
      "dns_timeout = 7s\n"
      "https_timeout = 2m\n"
      "dane = off\n"
      "mta_sts = off\n"
      "dane_insecure_mx = opportunistic\n"
      "https_private = yes\n"
      "cache_entries = 5\n"
      "cache_bytes = 3K\n"
      "store_bytes = 2G");
  CHECK(config.store == "/a/b#c.db");
  CHECK(config.trust_anchor == "/a/key");
  CHECK(config.root_hints == "/a/hints");
  CHECK(config.resolver == ResolverMode::addresses);
  CHECK(config.resolver_addresses == std::vector<std::string>{"192.0.2.1", "2001:db8::1@5353", "fe80::1%eth0"});
  CHECK(config.insecure == std::vector<Domain>{domain("corp.example"), domain("xn--bcher-kva.example")});
  CHECK(config.ca_file == "/a/ca.pem");
  CHECK(config.socket == "/a/agent");
  CHECK(config.admin_socket == "/a/admin");
  CHECK(config.timeout == Millis{1500});
  CHECK(config.dns_timeout == Millis{7000});
  CHECK(config.https_timeout == Millis{120000});
  CHECK_FALSE(config.dane);
  CHECK_FALSE(config.mta_sts);
  CHECK_FALSE(config.dane_insecure_mx);
  CHECK(config.https_private);
  CHECK(config.cache_entries == 5);
  CHECK(config.cache_bytes == 3072);
  CHECK(config.store_bytes == std::size_t{2} << 30U);
  CHECK(good("resolver = system").resolver == ResolverMode::system);
  CHECK(good("resolver = recursive").resolver == ResolverMode::recursive);
  CHECK(good("resolver = auto").resolver == ResolverMode::automatic);
}

TEST_CASE("a bad line stops with file, line, what and remedy") {
  struct Case {
    std::string line;
    const char* what;
  };
  const std::vector<Case> cases = {
      {"timeot = 5s", "unknown key \"timeot\"; the keys are store, trust_anchor"},
      {"socketmap = /run/x", "unknown key \"socketmap\""},
      {"metrics = /run/x", "unknown key \"metrics\""},
      {"Timeout = 5s", "unknown key \"Timeout\""},
      {"= 5s", "unknown key \"\""},
      {"resolv_conf = /etc/resolv.conf", "unknown key"},
      {"\xef\xbb\xbfstore = /a", "unknown key \"\\xef\\xbb\\xbfstore\""},
      {"timeout", "neither `key = value` nor [section]: \"timeout\""},
      {"timeout =", "no value for \"timeout\""},
      {"timeout = # 5s", "no value for \"timeout\""},
      {"timeout = 5", "not a time: \"5\""},
      {"timeout = 5h", "not a time"},
      {"timeout = 5 s", "not a time"},
      {"timeout = s", "not a time"},
      {"timeout = -5s", "not a time"},
      {"timeout = 5.5s", "not a time"},
      {"timeout = 0s", "a time out of range"},
      {"timeout = 61m", "a time out of range"},
      {"timeout = 99999999999999999999s", "not a time"},
      {"cache_entries = 0", "not a size"},
      {"cache_entries = -1", "not a size"},
      {"cache_bytes = 64MB", "not a size"},
      {"cache_bytes = M", "not a size"},
      {"cache_bytes = 1T", "not a size"},
      {"cache_bytes = 99999999999999999999", "not a size"},
      {"dane = yes", "bad value \"yes\"; use on or off"},
      {"mta_sts = true", "bad value \"true\"; use on or off"},
      {"https_private = on", "bad value \"on\"; use yes or no"},
      {"dane_insecure_mx = off", "bad value \"off\"; use dane or opportunistic"},
      {"store = sealane.db", "not an absolute path"},
      {"ca_file = ca.pem", "not an absolute path"},
      {"socket = /" + std::string(107, 's'), "a socket's path of 108 octets"},
      {"resolver = ns.example.org", "not an address of a name server"},
      {"resolver = Auto", "not an address of a name server"},
      {"resolver = 192.0.2.1,", "not an address of a name server: \"\""},
      {"resolver = ,192.0.2.1", "not an address of a name server: \"\""},
      {"resolver = 192.0.2.1:53", "not an address of a name server"},
      {"resolver = 192.0.2.1@0", "not an address of a name server"},
      {"resolver = 192.0.2.1@65536", "not an address of a name server"},
      {"resolver = 192.0.2.1@", "not an address of a name server"},
      {"resolver = 192.0.2.1%eth0", "not an address of a name server"},
      {"resolver = fe80::1%", "not an address of a name server"},
      {"resolver = fe80::1%e;h", "not an address of a name server"},
      {"resolver = 192.0.2.1 192.0.2.2", "not an address of a name server"},
      {"resolver = 1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,"
       "1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1",
       "more than 16 name servers"},
      {"insecure = .", "not a domain"},
      {"insecure = a..b", "not a domain"},
      {"insecure = a b", "not a domain"},
      {"[overrides]", "unknown section \"[overrides]\""},
      {"[override", "unknown section"},
      {"[]", "unknown section"},
      {std::string("store = /a\0b", 12), "a control character"},
      {"store = /a\x1b[31m", "a control character"},
      {"store = /a\x7f", "a control character"},
      {"store = /\xff", "not UTF-8"},
      {"# caf\xe9", "not UTF-8"},
      {"# " + std::string(5000, 'x'), "a line of more than 4096 octets"},
      {"store = /a\nstore = /a", "set again; first set in line 2"},
  };
  for (const Case& item : cases) {
    CAPTURE(item.line);
    const std::string line = item.line.find('\n') == std::string::npos ? "2" : "3";
    const std::string text = bad("# the first line\n" + item.line + "\n");
    CAPTURE(text);
    CHECK(begins(text, "test.conf:" + line + ": " + item.what));
  }
}

TEST_CASE("a bad override stops with file, line, what and remedy") {
  struct Case {
    std::string line;
    const char* what;
  };
  const std::vector<Case> cases = {
      {"example.org = tls", "unknown override \"tls\"; use none, encrypt, pkix or dane"},
      {"example.org = Dane", "unknown override"},
      {"example.org = none encrypt", "unknown option \"encrypt\" of none"},
      {"example.org = dane match=*.example.net", "unknown option"},
      {"example.org = pkix max=1", "unknown option"},
      {"example.org = pkix match=", "not a pattern for MX hosts: \"\""},
      {"example.org = pkix match=a.example,", "not a pattern for MX hosts: \"\""},
      {"example.org = pkix match=a.example, b.example extra", "not a pattern for MX hosts"},
      {"example.org = pkix match=*", "not a pattern for MX hosts"},
      {"example.org = pkix match=mx*.example.org", "not a pattern for MX hosts"},
      {"example.org = pkix match=192.0.2.1", "not a pattern for MX hosts"},
      {"example.org =", "no value"},
      {"*.example.org = none", "not a domain"},
      {". = none", "not a domain"},
      {"..example.org = none", "not a domain"},
      {"timeout = 5s", "unknown override \"5s\""},
      {"example.org = none\nExample.ORG. = dane", "set again; first set in line 2"},
      {"= none", "not a domain"},
  };
  for (const Case& item : cases) {
    CAPTURE(item.line);
    const std::string line = item.line.find('\n') == std::string::npos ? "2" : "3";
    const std::string text = bad("[override]\n" + item.line);
    CAPTURE(text);
    CHECK(begins(text, "test.conf:" + line + ": " + item.what));
  }
}

TEST_CASE("[override]: an exact name beats any suffix, and the longest suffix wins") {
  const Config config = good(
      "dane = off\n"
      "[override]\n"
      ".example.org = encrypt\n"
      ".a.example.org = pkix match=*.Example.NET,mx.example.com\n"
      "a.example.org = none\n"
      "B\xc3\xbc"
      "cher.example = dane   # by A-label\n");
  const auto rule = [&config](const char* name) {
    const auto found = config.override_for(domain(name));
    return found ? found->rule : std::string();
  };
  CHECK(rule("x.example.org") == ".example.org = encrypt");
  CHECK(rule("x.y.example.org") == ".example.org = encrypt");
  CHECK(rule("a.example.org") == "a.example.org = none");
  CHECK(rule("b.a.example.org") == ".a.example.org = pkix match=*.example.net,mx.example.com");
  CHECK(rule("xn--bcher-kva.example") == "xn--bcher-kva.example = dane");
  for (const char* none : {"example.org", "xexample.org", "example.com", "org", "x.xn--bcher-kva.example"}) {
    CAPTURE(std::string(none));
    CHECK(rule(none).empty());
  }
  const auto pkix = config.override_for(domain("b.a.example.org"));
  REQUIRE(pkix.has_value());
  CHECK(pkix->kind == OverrideKind::pkix);
  REQUIRE(pkix->match.size() == 2);
  CHECK(pkix->match[0].matches(domain("mx.example.net")));
  CHECK(config.override_for(domain("x.example.org"))->match.empty());
}

TEST_CASE("rules_for: the switches, and the override of the question's domain") {
  const Config config = good(
      "mta_sts = off\n"
      "dane_insecure_mx = opportunistic\n"
      "[override]\n"
      "example.org = encrypt\n");
  Question question;
  CHECK_FALSE(config.rules_for(question).override.has_value());
  question.domain = domain("example.org");
  const Rules rules = config.rules_for(question);
  CHECK(rules.dane);
  CHECK_FALSE(rules.mta_sts);
  CHECK_FALSE(rules.dane_insecure_mx);
  REQUIRE(rules.override.has_value());
  CHECK(rules.override->kind == OverrideKind::encrypt);
  question.domain = domain("example.com");
  CHECK_FALSE(config.rules_for(question).override.has_value());
}

TEST_CASE("load_config: a named file is read, and its name stands in errors") {
  const TempFile file("timeout = 3s\n");
  const auto config = load_config(file.path);
  REQUIRE(config.has_value());
  CHECK(config->timeout == Millis{3000});
  CHECK(config->source == file.path);
  std::ofstream(file.path) << "\nrubbish\n";
  const auto broken = load_config(file.path);
  REQUIRE_FALSE(broken.has_value());
  CHECK(broken.error().of == file.path + ":2");
}

TEST_CASE("load_config: a file that others may write is refused") {
  const TempFile file("timeout = 3s\n");
  for (const mode_t mode : {0600U, 0644U, 0444U}) {
    REQUIRE(chmod(file.path.c_str(), mode) == 0);
    CHECK(load_config(file.path).has_value());
  }
  for (const mode_t mode : {0620U, 0602U, 0666U}) {
    REQUIRE(chmod(file.path.c_str(), mode) == 0);
    const auto config = load_config(file.path);
    REQUIRE_FALSE(config.has_value());
    CHECK(config.error().text() == file.path + ": others than its owner may write it; chmod go-w " + file.path);
  }
}

TEST_CASE("load_config: what is no readable file of a sensible size is refused, at once") {
  const auto refused = [](const std::string& path) {
    const auto config = load_config(path);
    return !config && config.error().of == path && !config.error().remedy.empty();
  };
  CHECK(refused("/nonexistent/sealane.conf"));
  CHECK(refused("/tmp"));
  CHECK(refused("/dev/zero"));
  const TempFile fifo;
  fs::remove(fifo.path);
  REQUIRE(mkfifo(fifo.path.c_str(), 0600) == 0);
  CHECK(refused(fifo.path));  // nobody writes to it
  const TempFile large(std::string(std::size_t{1} << 20U, '\n'));
  CHECK(load_config(large.path).has_value());
  std::ofstream(large.path, std::ios::app) << '\n';
  CHECK(refused(large.path));
}

TEST_CASE("load_config: an unreadable named file is an error") {
  const TempFile file("timeout = 3s\n");
  REQUIRE(chmod(file.path.c_str(), 0) == 0);
  const pid_t child = fork();  // root may read everything
  REQUIRE(child >= 0);
  if (child == 0) {
    const bool dropped = geteuid() != 0 || (setgid(65534) == 0 && setuid(65534) == 0);
    _exit(dropped && !load_config(file.path).has_value() ? 0 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

TEST_CASE("load_config: an absent default file is no error" *
          doctest::skip(access(std::string(default_config_path).c_str(), F_OK) == 0)) {
  const auto config = load_config();
  REQUIRE(config.has_value());
  CHECK(config->source.empty());
}

TEST_CASE("the relay's keys") {
  const Config config = good(
      "relay_ports = 30000 - 30001\nrelay_users = opensmtpd, 107\nrelay_source = 2001:db8::1, 192.0.2.1\n"
      "relay_hello = Mail.Example.org\nrelay_port = 2525\nrelay_sessions = 50\nrelay_timeout = 60s\n"
      "relay_reuse = off\n");
  CHECK(config.relay_first_port == 30000);
  CHECK(config.relay_last_port == 30001);
  CHECK(config.relay_users == std::vector<std::string>{"opensmtpd", "107"});
  CHECK(config.relay_source == "192.0.2.1");
  CHECK(config.relay_source6 == "2001:db8::1");
  CHECK(config.relay_hello == "mail.example.org");
  CHECK(config.relay_port == 2525);
  CHECK(config.relay_sessions == 50);
  CHECK_FALSE(config.relay_reuse);
  CHECK(good("").relay_reuse);
  for (const char* value : {"1", "2-1", "0-5", "1-2000", "a-b", "1-70000", "-5"}) {
    CHECK(begins(bad("relay_ports = " + std::string(value) + "\n"), "test.conf:1: not a range of ports"));
  }
  CHECK(begins(bad("relay_source = 192.0.2.1, 192.0.2.2\n"), "test.conf:1: not an address"));
  CHECK(begins(bad("relay_source = mail.example.org\n"), "test.conf:1: not an address"));
  CHECK(begins(bad("relay_users = a,,b\n"), "test.conf:1: not a name"));
  CHECK(begins(bad("relay_hello = -..-\n"), "test.conf:1: not a domain"));
  CHECK(begins(bad("relay_port = 0\n"), "test.conf:1: not a port"));
}
