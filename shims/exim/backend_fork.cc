// The back end without a daemon: each question is answered by a child that gives up root and loads libsealane, which
// Exim itself never maps. The parent only reads a pipe.
//
// The child starts with a cold DNS cache; the policy store is what survives. RFC 8461 §3.3: policies are kept there.
#include <dlfcn.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "plugin/sealane.h"
#include "shims/exim/backend.h"
#include "shims/exim/base64.h"
#include "shims/wire/tls_words.h"

namespace sealane::exim {
namespace {

wire::Reply temporary(std::string token, std::string text) {
  return wire::Reply{wire::Status::temp, std::move(token), std::move(text)};
}

std::string with_errno(const std::string& what) { return what + ": " + std::strerror(errno); }

// ---- In the child ----

// Everything of Exim's that the child can reach goes: handlers, descriptors, environment, and the right to get more.
// Only `pipe` stays open.
bool leave_exim(int& pipe) {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) ::sigaction(number, &standard, nullptr);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);

  // 0, 1 and 2 must be taken, or a library that prints would write into the first file it has opened.
  constexpr int kept = 3;
  if (pipe != kept && ::dup3(pipe, kept, O_CLOEXEC) != kept) return false;
  pipe = kept;
  if (::syscall(SYS_close_range, kept + 1, ~0U, 0) != 0) {
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    for (int fd = kept + 1; fd < static_cast<int>(std::min<rlim_t>(files.rlim_cur, 65536)); ++fd) ::close(fd);
  }
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return false;
  for (int fd = 0; fd < kept; ++fd) {
    if (::dup2(null, fd) != fd) return false;
  }
  ::close(null);

  ::clearenv();
  ::umask(077);
  if (::chdir("/") != 0) return false;
  const auto limit = [](int what, rlim_t most) {
    const rlimit value{most, most};
    return ::setrlimit(static_cast<__rlimit_resource_t>(what), &value) == 0;
  };
  return limit(RLIMIT_CORE, 0) && limit(RLIMIT_NOFILE, 256) && limit(RLIMIT_CPU, 120) &&
         limit(RLIMIT_FSIZE, rlim_t{2} << 30U) && ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

// The child may be what it has to be: the owner of the store's folder, and never root. Nothing: it is. Otherwise why
// not, and the remedy.
std::optional<std::string> become_owner_of(const std::string& folder) {
  struct stat found {};
  if (::stat(folder.c_str(), &found) != 0) {
    return with_errno(folder) + "; create it with an owner of its own, as the package does";
  }
  if (!S_ISDIR(found.st_mode)) return folder + ": is no folder";
  if (found.st_uid == 0 || found.st_gid == 0) {
    return folder + ": belongs to root, and the fork back end never works as root; chown sealane:sealane " + folder;
  }
  if ((found.st_mode & S_IWOTH) != 0) return folder + ": others may write to it; chmod o-w " + folder;
  if (::geteuid() == found.st_uid) return std::nullopt;
  if (::geteuid() != 0) {
    return "the fork back end answers only where Exim is root, which it is not when it verifies an address or with "
           "deliver_drop_privilege; use the agent for that";
  }
  if (::setgroups(0, nullptr) != 0 || ::setresgid(found.st_gid, found.st_gid, found.st_gid) != 0 ||
      ::setresuid(found.st_uid, found.st_uid, found.st_uid) != 0 || ::setuid(0) == 0) {
    return with_errno("cannot give up root");
  }
  return std::nullopt;
}

struct Library {
  decltype(&sealane_abi_version) abi_version = nullptr;
  decltype(&sealane_strerror) strerror = nullptr;
  decltype(&sealane_open) open = nullptr;
  decltype(&sealane_close) close = nullptr;
  decltype(&sealane_error) error = nullptr;
  decltype(&sealane_query) query = nullptr;
  decltype(&sealane_decision_action) decision_action = nullptr;
  decltype(&sealane_decision_text) decision_text = nullptr;
  decltype(&sealane_decision_domain) decision_domain = nullptr;
  decltype(&sealane_decision_others) decision_others = nullptr;
  decltype(&sealane_decision_host_count) decision_host_count = nullptr;
  decltype(&sealane_host_name) host_name = nullptr;
  decltype(&sealane_host_tls) host_tls = nullptr;
  decltype(&sealane_demand_write) demand_write = nullptr;
  decltype(&sealane_demand_read) demand_read = nullptr;
  decltype(&sealane_verify) verify = nullptr;
  decltype(&sealane_verdict_ok) verdict_ok = nullptr;
  decltype(&sealane_verdict_reason) verdict_reason = nullptr;
  decltype(&sealane_verdict_text) verdict_text = nullptr;
};

constexpr std::uint32_t abi_major = 0;

// Nothing: it is loaded.
std::optional<std::string> load(const std::string& path, Library& library) {
  void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return std::string(::dlerror()) + "; install libsealane";
  bool all = true;
  const auto find = [&](const char* name, auto& function) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(handle, name));
    all = all && function != nullptr;
  };
  find("sealane_abi_version", library.abi_version);
  find("sealane_strerror", library.strerror);
  find("sealane_open", library.open);
  find("sealane_close", library.close);
  find("sealane_error", library.error);
  find("sealane_query", library.query);
  find("sealane_decision_action", library.decision_action);
  find("sealane_decision_text", library.decision_text);
  find("sealane_decision_domain", library.decision_domain);
  find("sealane_decision_others", library.decision_others);
  find("sealane_decision_host_count", library.decision_host_count);
  find("sealane_host_name", library.host_name);
  find("sealane_host_tls", library.host_tls);
  find("sealane_demand_write", library.demand_write);
  find("sealane_demand_read", library.demand_read);
  find("sealane_verify", library.verify);
  find("sealane_verdict_ok", library.verdict_ok);
  find("sealane_verdict_reason", library.verdict_reason);
  find("sealane_verdict_text", library.verdict_text);
  if (!all || library.abi_version() >> 16U != abi_major)
    return path + ": another version; install the one of this object";
  return std::nullopt;
}

// sealane.h may return a null pointer where there is nothing to say.
std::string text_of(const char* text) { return text == nullptr ? "" : text; }

const char* config_of(const ForkBackend& backend) { return backend.config.empty() ? nullptr : backend.config.c_str(); }

wire::Reply route(const Library& library, const ForkBackend& backend, const wire::Request& request) {
  sealane_ctx* ctx = nullptr;
  if (const int status = library.open(config_of(backend), &ctx); status != SEALANE_OK) {
    return temporary("config", ctx == nullptr ? library.strerror(status) : text_of(library.error(ctx)));
  }
  const unsigned flags = (request.fresh ? unsigned{SEALANE_FRESH} : 0U) | (request.mx ? 0U : unsigned{SEALANE_NO_MX});
  sealane_decision* decision = nullptr;
  if (library.query(ctx, request.domain.c_str(), flags, request.port, request.wait_ms, &decision) != SEALANE_OK) {
    return temporary("failed", text_of(library.error(ctx)));
  }
  wire::RouteAnswer answer;
  answer.domain = text_of(library.decision_domain(decision));
  answer.action = text_of(library.decision_action(decision));
  answer.others = text_of(library.decision_others(decision));
  answer.text = text_of(library.decision_text(decision));
  for (std::size_t i = 0; i < library.decision_host_count(decision); ++i) {
    answer.hosts.push_back({text_of(library.host_name(decision, i)), text_of(library.host_tls(decision, i))});
  }
  const char* token = nullptr;
  if (library.demand_write(decision, &token) == SEALANE_OK) answer.demand = text_of(token);
  const std::string line = wire::write_route(answer);
  library.close(ctx);  // what was learned is in the store before anybody acts on it
  return wire::Reply{wire::Status::ok, {}, line};
}

wire::Reply verify(const Library& library, const ForkBackend& backend, const wire::Request& request) {
  sealane_demand* demand = nullptr;
  if (const int status = library.demand_read(request.demand.c_str(), config_of(backend), &demand);
      status != SEALANE_OK) {
    return temporary("demand", library.strerror(status));
  }
  // sealane.h is told of certificates alone. A connection that is not as `dane` and `pkix` need it therefore counts as
  // one without TLS; that also refuses `encrypt` over TLS 1.1, which is stricter than it has to be.
  const wire::TlsWords words = wire::read_tls_words(request.tls);
  std::vector<std::string> chain;
  if (words.recent && words.encrypted && words.authenticated) {
    for (const std::string& cert : request.certs) {
      auto der = base64_decoded(cert);
      if (!der) return temporary("certificate", "a certificate is not base64");
      chain.push_back(std::move(*der));
    }
  }
  std::vector<const unsigned char*> der;
  std::vector<std::size_t> length;
  for (const std::string& cert : chain) {
    der.push_back(reinterpret_cast<const unsigned char*>(cert.data()));
    length.push_back(cert.size());
  }
  sealane_verdict* verdict = nullptr;
  if (const int status = library.verify(demand, request.host.c_str(), der.data(), length.data(), der.size(), &verdict);
      status != SEALANE_OK) {
    return temporary("failed", library.strerror(status));
  }
  return wire::Reply{wire::Status::ok,
                     {},
                     wire::write_verdict({library.verdict_ok(verdict) == 1, text_of(library.verdict_reason(verdict)),
                                          text_of(library.verdict_text(verdict))})};
}

wire::Reply answer(const ForkBackend& backend, const wire::Request& request) {
  // A verification reads no store, so the Exim user may do it as it is. Root never loads a library here.
  if (request.verb == wire::Verb::route || ::geteuid() == 0) {
    if (const auto why = become_owner_of(backend.state)) return temporary("fork", *why);
  }
  ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);  // here, because a change of user clears it
  Library library;
  if (const auto why = load(backend.library, library)) return temporary("fork", *why);
  return request.verb == wire::Verb::route ? route(library, backend, request) : verify(library, backend, request);
}

[[noreturn]] void child(int pipe, const ForkBackend& backend, const wire::Request& request) {
  std::string line;
  try {
    line = wire::write_reply(leave_exim(pipe) ? answer(backend, request)
                                              : temporary("fork", "the child cannot leave Exim's surroundings"));
  } catch (...) {
    line = "TEMP fork the child is out of memory\n";
  }
  std::string_view rest = line;
  while (!rest.empty()) {
    const ssize_t n = ::write(pipe, rest.data(), rest.size());
    if (n < 0 && errno != EINTR) break;
    if (n > 0) rest.remove_prefix(static_cast<std::size_t>(n));
  }
  ::_exit(0);  // no handler of Exim's may run here
}

// ---- In Exim's process ----

long long now_ms() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<long long>(t.tv_sec) * 1000 + t.tv_nsec / 1000000;
}

// Everything the child says until it closes the pipe. Nothing: `error` says why, and the child may be alive.
std::optional<std::string> read_all(int fd, int timeout_ms, std::string& error) {
  const long long deadline = now_ms() + timeout_ms;
  std::string text;
  char buffer[16384];
  for (;;) {
    const long long left = deadline - now_ms();
    pollfd readable{fd, POLLIN, 0};
    const int ready = left <= 0 ? 0 : ::poll(&readable, 1, static_cast<int>(left));
    if (ready == 0) {
      error = "the child did not answer in time";
      return std::nullopt;
    }
    if (ready < 0 && errno == EINTR) continue;  // Exim arms SIGALRM without SA_RESTART
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      error = with_errno("cannot read from the child");
      return std::nullopt;
    }
    if (n == 0) return text;
    text.append(buffer, static_cast<std::size_t>(n));
    if (text.size() > wire::longest_reply) {
      error = "the child answers without end";
      return std::nullopt;
    }
  }
}

}  // namespace

std::optional<wire::Reply> ask_fork(const ForkBackend& backend, const wire::Request& request, int timeout_ms,
                                    std::string& error) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    error = with_errno("cannot make a pipe");
    return std::nullopt;
  }
  const pid_t pid = ::fork();
  if (pid == 0) child(ends[1], backend, request);
  const int fork_errno = errno;
  ::close(ends[1]);
  if (pid < 0) {
    ::close(ends[0]);
    errno = fork_errno;
    error = with_errno("cannot fork");
    return std::nullopt;
  }
  const auto text = read_all(ends[0], timeout_ms, error);
  ::close(ends[0]);
  if (!text) ::kill(pid, SIGKILL);
  // By its number: Exim waits for children of its own. Where Exim ignores SIGCHLD the kernel has reaped it already.
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (!text) return std::nullopt;
  if (text->empty() || text->back() != '\n') {
    error = "the child ended without an answer";
    return std::nullopt;
  }
  auto reply = wire::parse_reply(std::string_view(*text).substr(0, text->size() - 1));
  if (!reply) error = "the child's answer is malformed";
  return reply;
}

}  // namespace sealane::exim
