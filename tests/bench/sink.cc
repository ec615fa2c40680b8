// A mail server that takes everything, keeps nothing and costs little, so that what sends to it is what is measured.
//   sink CERTIFICATE COUNT ADDRESS...    CERTIFICATE: PEM with its key, for STARTTLS; `-`: not offered
// Says "N taken" after each tenth of COUNT messages, and of each that comes later; at SIGTERM it says how many messages
// and connections there were.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

constexpr int smtp_port = 25;
constexpr int backlog = 1024;
constexpr std::string_view end_of_data = "\r\n.\r\n";

struct Shared {
  SSL_CTX* tls = nullptr;
  long wanted = 0;
  std::atomic<long> messages = 0;
  std::atomic<long> connections = 0;
};

[[noreturn]] void give_up(const char* what) {
  std::perror(what);
  std::exit(1);
}

// For one thread.
class Connection {
 public:
  Connection(Shared& shared, int fd) : shared_(shared), fd_(fd) {
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  ~Connection() {
    SSL_free(ssl_);
    ::close(fd_);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void serve() {
    bool open = say("220 sink ESMTP");
    std::string line;
    while (open && read_line(line)) open = obey(line);
  }

 private:
  bool obey(const std::string& line) {
    const std::string verb = line.substr(0, 4);
    if (verb == "QUIT") {
      say("221 bye");
      return false;
    }
    if (verb == "EHLO") {
      const bool offered = shared_.tls != nullptr && ssl_ == nullptr;
      return say(std::string("250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n") + (offered ? "250-STARTTLS\r\n" : "") +
                 "250 SIZE 1000000000");
    }
    if (verb == "STAR") return start_tls();
    if (verb == "DATA") return say("354 go ahead") && skip_message() && say("250 taken");
    return say("250 OK");
  }

  bool start_tls() {
    if (!say("220 go ahead")) return false;
    ssl_ = SSL_new(shared_.tls);
    return ssl_ != nullptr && SSL_set_fd(ssl_, fd_) == 1 && SSL_accept(ssl_) == 1;
  }

  bool skip_message() {
    unread_.insert(0, "\r\n");  // an end of data may come at once
    std::size_t at = 0;
    while ((at = unread_.find(end_of_data)) == std::string::npos) {
      if (unread_.size() > end_of_data.size()) unread_.erase(0, unread_.size() - end_of_data.size());
      if (!fill()) return false;
    }
    unread_.erase(0, at + end_of_data.size());
    if (const long so_far = ++shared_.messages;
        so_far % std::max(1L, shared_.wanted / 10) == 0 || so_far > shared_.wanted) {
      std::printf("%ld taken\n", so_far);
      std::fflush(stdout);
    }
    return true;
  }

  bool read_line(std::string& line) {
    std::size_t end = 0;
    while ((end = unread_.find("\r\n")) == std::string::npos) {
      if (!fill()) return false;
    }
    line = unread_.substr(0, end);
    unread_.erase(0, end + 2);
    return true;
  }

  bool fill() {
    const long n = ssl_ != nullptr ? SSL_read(ssl_, buffer_, sizeof buffer_) : ::recv(fd_, buffer_, sizeof buffer_, 0);
    if (n > 0) unread_.append(buffer_, static_cast<std::size_t>(n));
    return n > 0;
  }

  bool say(std::string text) {
    text += "\r\n";
    if (ssl_ != nullptr) return SSL_write(ssl_, text.data(), static_cast<int>(text.size())) > 0;
    return ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL) > 0;
  }

  Shared& shared_;
  const int fd_;
  SSL* ssl_ = nullptr;
  std::string unread_;
  char buffer_[32768];
};

void accept_all(Shared& shared, const char* address) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  sockaddr_in here{};
  here.sin_family = AF_INET;
  here.sin_port = htons(smtp_port);
  // Another server may have the port at every address; this one's is the more particular.
  if (::inet_pton(AF_INET, address, &here.sin_addr) != 1 ||
      ::setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0 ||
      ::bind(listener, reinterpret_cast<const sockaddr*>(&here), sizeof here) != 0 ||
      ::listen(listener, backlog) != 0) {
    give_up(address);
  }
  std::thread([&shared, listener] {
    for (;;) {
      const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) continue;
      ++shared.connections;
      std::thread([&shared, fd] { Connection(shared, fd).serve(); }).detach();
    }
  }).detach();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fputs("usage: sink CERTIFICATE COUNT ADDRESS...\n", stderr);
    return 64;
  }
  static Shared shared;  // threads have it when main returns
  shared.wanted = std::atol(argv[2]);
  if (std::string_view(argv[1]) != "-") {
    shared.tls = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(shared.tls, argv[1]) != 1 ||
        SSL_CTX_use_PrivateKey_file(shared.tls, argv[1], SSL_FILETYPE_PEM) != 1) {
      give_up(argv[1]);
    }
  }
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t end;
  sigemptyset(&end);
  sigaddset(&end, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &end, nullptr);
  for (int i = 3; i < argc; ++i) accept_all(shared, argv[i]);
  std::puts("ready");
  std::fflush(stdout);
  int number = 0;
  ::sigwait(&end, &number);
  std::printf("%ld messages, %ld connections\n", shared.messages.load(), shared.connections.load());
  std::fflush(stdout);
  ::_exit(0);
}
