#include "core/sts/curl_fetcher.h"

#include <curl/curl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <new>
#include <optional>

#include "core/base/bytes.h"

namespace sealane::sts {
namespace {

constexpr std::size_t max_running = 16;           // transfers; the rest wait, each until its own deadline at most
constexpr std::size_t max_addresses = 16;         // of a policy host
constexpr std::size_t max_header_octets = 32768;  // all headers of a transfer, interim responses and trailers included
constexpr std::size_t max_header_lines = 256;
constexpr Millis connect_timeout{20000};  // TCP and TLS together, all addresses together

template <auto free>
struct Freed {
  template <class T>
  void operator()(T* p) const {
    free(p);
  }
};
using Easy = std::unique_ptr<CURL, Freed<curl_easy_cleanup>>;
using Multi = std::unique_ptr<CURLM, Freed<curl_multi_cleanup>>;
using Share = std::unique_ptr<CURLSH, Freed<curl_share_cleanup>>;
using List = std::unique_ptr<curl_slist, Freed<curl_slist_free_all>>;
using Store = std::unique_ptr<X509_STORE, Freed<X509_STORE_free>>;

// An exception must not pass through libcurl's C frames.
template <class T, class F>
T guarded(T otherwise, F&& f) noexcept {
  try {
    return f();
  } catch (...) {
    return otherwise;
  }
}

// ---- The trusted CAs
// --------------------------------------------------------------------------------------------------

bool has_certificate(X509_STORE* store) {
  const STACK_OF(X509_OBJECT)* objects = X509_STORE_get0_objects(store);
  for (int i = 0; i < sk_X509_OBJECT_num(objects); ++i) {
    if (X509_OBJECT_get_type(sk_X509_OBJECT_value(objects, i)) == X509_LU_X509) return true;
  }
  return false;
}

// Nothing if the file cannot be read or holds no certificate.
Store load_ca_file(const std::string& file) {
  Store store(X509_STORE_new());
  if (!store) throw std::bad_alloc();
  const bool loaded = X509_STORE_load_file(store.get(), file.c_str()) == 1 && has_certificate(store.get());
  ERR_clear_error();
  return loaded ? std::move(store) : Store{};
}

Result<Store> load_trusted_cas(const Config& config) {
  if (config.ca_file) {
    if (Store store = load_ca_file(*config.ca_file)) return store;
    return failure("no CA certificate could be loaded from this file", *config.ca_file,
                   "name a file of PEM certificates as ca_file");
  }
  // Not X509_STORE_set_default_paths: it lets the environment choose.
  constexpr const char* debian = "/etc/ssl/certs/ca-certificates.crt";
  for (const char* file : {debian, X509_get_default_cert_file()}) {
    if (Store store = load_ca_file(file)) return store;
  }
  return failure("no CA certificate could be loaded from this file", debian,
                 "install the package ca-certificates or set ca_file");
}

// ---- One transfer
// -----------------------------------------------------------------------------------------------------

struct Job {
  std::string host;  // mta-sts.DOMAIN
  std::vector<std::string> addresses;
  PolicyFetcher::Done done;
  FetchResult result;
  Loop::Timer deadline;

  X509_STORE* trusted = nullptr;  // the fetcher's
  std::size_t header_octets = 0;
  std::size_t header_lines = 0;
  std::string content_encoding;
  bool framed = false;          // the body says itself where it ends
  bool closed_cleanly = false;  // by close_notify
  bool headers_good = false;
  std::array<char, CURL_ERROR_SIZE> curl_text{};

  // Freed in reverse order: the handle uses the others.
  Share share;
  List resolve;
  Easy easy;

  // Ends the transfer from inside a callback of libcurl. The first reason stays.
  void refuse(std::string why) {
    if (result.error.empty()) result.error = std::move(why);
  }
};

// What is wrong with a final response, as far as its headers tell; or nothing.
std::string fault_in_headers(const Job& job) {
  long status = 0;
  curl_easy_getinfo(job.easy.get(), CURLINFO_RESPONSE_CODE, &status);
  // RFC 8461 §3.3: only 200 is valid, and 3xx redirects must not be followed.
  if (status != 200) return "HTTP status " + std::to_string(status) + ", not 200";
  // None was offered; a decoder would only add ways to be attacked.
  if (!job.content_encoding.empty()) {
    return "content coding " + printable(job.content_encoding, 64) + " is not accepted";
  }
  const char* type = nullptr;
  curl_easy_getinfo(job.easy.get(), CURLINFO_CONTENT_TYPE, &type);
  if (type == nullptr) return "no Content-Type; text/plain is required";
  if (!is_policy_media_type(type)) return "Content-Type " + printable(type, 64) + " is not text/plain";
  return {};
}

// The value of a header line, if it is of the header `name`.
std::optional<std::string> value_of(std::string_view line, std::string_view name) {
  if (line.size() <= name.size() || line[name.size()] != ':') return std::nullopt;
  if (curl_strnequal(line.data(), name.data(), name.size()) == 0) return std::nullopt;
  std::string value(line.substr(name.size() + 1));
  value.erase(0, value.find_first_not_of(" \t"));
  value.erase(value.find_last_not_of(" \t") + 1);
  return value;
}

// One header line, status lines and the empty line at the end included.
std::size_t on_header(char* data, std::size_t size, std::size_t count, void* arg) {
  return guarded<std::size_t>(0, [&]() -> std::size_t {
    auto& job = *static_cast<Job*>(arg);
    std::string_view line(data, size * count);
    job.header_octets += line.size();
    if (job.header_octets > max_header_octets || ++job.header_lines > max_header_lines) {
      job.refuse("more HTTP headers than a policy host has reason to send");
      return 0;
    }
    const std::size_t accepted = line.size();
    while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.remove_suffix(1);

    if (line.starts_with("HTTP/")) {
      job.content_encoding.clear();
      job.framed = false;
    } else if (const auto coding = value_of(line, "content-encoding")) {
      if (curl_strequal(coding->c_str(), "identity") == 0) job.content_encoding += *coding;
    } else if (value_of(line, "content-length")) {
      job.framed = true;
    } else if (const auto transfer = value_of(line, "transfer-encoding")) {
      job.framed = job.framed || curl_strequal(transfer->c_str(), "chunked") != 0;
    } else if (line.empty()) {
      long status = 0;
      curl_easy_getinfo(job.easy.get(), CURLINFO_RESPONSE_CODE, &status);
      if (status >= 100 && status < 200) return accepted;  // an interim response
      std::string fault = fault_in_headers(job);
      job.headers_good = fault.empty();
      if (!job.headers_good) {
        job.refuse(std::move(fault));
        return 0;  // do not wait for the body
      }
    }
    return accepted;
  });
}

std::size_t on_body(char* data, std::size_t size, std::size_t count, void* arg) {
  return guarded<std::size_t>(0, [&]() -> std::size_t {
    auto& job = *static_cast<Job*>(arg);
    const std::size_t length = size * count;
    if (length > max_policy_octets - job.result.body.size()) {
      job.refuse("more than " + std::to_string(max_policy_octets) + " octets");
      return 0;
    }
    job.result.body.append(data, length);
    return length;
  });
}

int job_index() {
  static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

// libcurl takes a connection that just ends for the end of a body that does not say where it ends; so whoever can cut
// the connection could shorten the policy. Only close_notify proves that the server meant it (RFC 8446, "Closure
// Alerts").
void on_tls_event(const SSL* ssl, int what, int value) {
  if (what != SSL_CB_READ_ALERT || (value & 0xff) != SSL_AD_CLOSE_NOTIFY) return;
  static_cast<Job*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), job_index()))->closed_cleanly = true;
}

// RFC 8461 §3.3: "Matching is performed only against the DNS-ID identifiers". libcurl's own check falls back to the CN
// of a certificate without a DNS-ID, so OpenSSL is told to check the name too, inside the handshake and by SAN alone.
CURLcode on_tls(CURL* /*easy*/, void* context, void* arg) {
  const auto& job = *static_cast<const Job*>(arg);
  auto* ssl = static_cast<SSL_CTX*>(context);
  if (SSL_CTX_set_ex_data(ssl, job_index(), arg) != 1) return CURLE_OUT_OF_MEMORY;
  SSL_CTX_set_info_callback(ssl, &on_tls_event);
  SSL_CTX_set1_cert_store(ssl, job.trusted);  // parsed once: loading the bundle for each handle costs 30 ms
  X509_VERIFY_PARAM* param = SSL_CTX_get0_param(ssl);
  X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  return X509_VERIFY_PARAM_set1_host(param, job.host.c_str(), job.host.size()) == 1 ? CURLE_OK : CURLE_SSL_CERTPROBLEM;
}

// Sets up job.easy; false: libcurl is out of memory or lacks something that we rely on.
bool set_up(Job& job, std::uint16_t port) {
  // A DNS cache of its own for each transfer, filled by us: an entry without "+" never expires, so libc is never asked,
  // and it goes with the transfer, so nothing piles up.
  job.share.reset(curl_share_init());
  std::string entry = job.host + ':' + std::to_string(port) + ':';
  for (const std::string& address : job.addresses) {
    if (entry.back() != ':') entry += ',';
    entry += address.find(':') == std::string::npos ? address : '[' + address + ']';
  }
  job.resolve.reset(curl_slist_append(nullptr, entry.c_str()));
  job.easy.reset(curl_easy_init());
  if (!job.share || !job.resolve || !job.easy) return false;

  bool good = curl_share_setopt(job.share.get(), CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS) == CURLSHE_OK;
  // Parenthesised: without the macro that checks types, which wants constant options.
  const auto set = [&](CURLoption option, auto value) {
    good = (curl_easy_setopt)(job.easy.get(), option, value) == CURLE_OK && good;
  };
  const std::string authority = port == 443 ? job.host : job.host + ':' + std::to_string(port);
  const std::string url = "https://" + authority + "/.well-known/mta-sts.txt";
  set(CURLOPT_PRIVATE, static_cast<void*>(&job));
  set(CURLOPT_ERRORBUFFER, job.curl_text.data());
  set(CURLOPT_URL, url.c_str());
  set(CURLOPT_SHARE, job.share.get());
  set(CURLOPT_RESOLVE, job.resolve.get());
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(connect_timeout.count()));

  // HTTP, and nothing that outlives the transfer or comes from the environment. Cookies, netrc, HSTS and Alt-Svc are
  // off unless asked for. RFC 8461 §3.3: no redirects, no caching.
  set(CURLOPT_PROTOCOLS_STR, "https");
  set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(CURLOPT_HTTP09_ALLOWED, 0L);
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_PROXY, "");
  set(CURLOPT_NOPROXY, "*");
  set(CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
  set(CURLOPT_FRESH_CONNECT, 1L);
  set(CURLOPT_FORBID_REUSE, 1L);
  set(CURLOPT_USERAGENT, "sealane");
  set(CURLOPT_HEADERFUNCTION, &on_header);
  set(CURLOPT_HEADERDATA, static_cast<void*>(&job));
  set(CURLOPT_WRITEFUNCTION, &on_body);
  set(CURLOPT_WRITEDATA, static_cast<void*>(&job));

  // TLS. No file and no directory of libcurl's: the CAs are ours alone, and a chain must reach a root.
  set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  set(CURLOPT_SSL_VERIFYPEER, 1L);
  set(CURLOPT_SSL_VERIFYHOST, 2L);
  set(CURLOPT_SSL_SESSIONID_CACHE, 0L);  // a resumed session would not show its certificate
  set(CURLOPT_CAINFO, static_cast<char*>(nullptr));
  set(CURLOPT_CAPATH, static_cast<char*>(nullptr));
  set(CURLOPT_CA_CACHE_TIMEOUT, 0L);
  set(CURLOPT_SSL_OPTIONS, static_cast<long>(CURLSSLOPT_NO_PARTIALCHAIN));
  set(CURLOPT_SSL_CTX_FUNCTION, &on_tls);
  set(CURLOPT_SSL_CTX_DATA, static_cast<void*>(&job));
  return good;
}

// ---- All transfers
// ----------------------------------------------------------------------------------------------------

// libcurl tells us which descriptors and which time-out it waits for; the loop tells libcurl when they are due. Results
// are handed out from step() alone, so that nothing of ours is on the stack beneath libcurl when `done` is called.
class CurlFetcher final : public PolicyFetcher {
 public:
  CurlFetcher(Loop& loop, const Clock& clock, const Config& config, std::uint16_t port, Store trusted)
      : loop_(loop),
        clock_(clock),
        timeout_(config.https_timeout),
        allow_private_(config.https_private),
        port_(port),
        trusted_(std::move(trusted)),
        multi_(curl_multi_init()) {
    if (!multi_) throw std::bad_alloc();
    curl_multi_setopt(multi_.get(), CURLMOPT_SOCKETFUNCTION, &CurlFetcher::on_socket);
    curl_multi_setopt(multi_.get(), CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi_.get(), CURLMOPT_TIMERFUNCTION, &CurlFetcher::on_timer);
    curl_multi_setopt(multi_.get(), CURLMOPT_TIMERDATA, this);
  }

  ~CurlFetcher() override {
    for (const auto& job : running_) curl_multi_remove_handle(multi_.get(), job->easy.get());
    running_.clear();
    multi_.reset();  // still calls on_socket
  }

  void fetch(const Domain& policy_domain, const std::vector<std::string>& addresses, std::string id,
             Done done) override {
    auto job = std::make_unique<Job>();
    job->host = "mta-sts." + policy_domain.text();
    job->addresses = addresses;
    job->done = std::move(done);
    job->result.id = std::move(id);
    job->result.started = clock_.wall();  // until it really starts
    job->trusted = trusted_.get();
    job->deadline = loop_.after(timeout_, [this, raw = job.get()] {
      end(raw, "no complete answer within " + std::to_string(timeout_.count()) + " ms");
    });
    waiting_.push_back(std::move(job));
    step_soon();
  }

 private:
  using Jobs = std::deque<std::unique_ptr<Job>>;

  static std::unique_ptr<Job> take(Jobs& jobs, const Job* job) {
    const auto at = std::find_if(jobs.begin(), jobs.end(), [job](const auto& owned) { return owned.get() == job; });
    if (at == jobs.end()) return nullptr;
    auto taken = std::move(*at);
    jobs.erase(at);
    return taken;
  }

  void step_soon() {
    if (!next_step_) next_step_ = loop_.after(Millis{0}, [this] { step(); });
  }

  // Starts what may start, and hands out at most one result, as its last act: `done` may destroy the fetcher.
  void step() {
    next_step_.reset();
    while (!waiting_.empty() && running_.size() < max_running) start();
    if (ended_.empty()) return;
    const auto job = std::move(ended_.front());
    ended_.pop_front();
    if (!ended_.empty()) step_soon();
    job->done(std::move(job->result));
  }

  // Starts the first of those that wait.
  void start() {
    Job* job = waiting_.front().get();
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
    job->result.started = clock_.wall();

    if (!allow_private_) {
      const std::string first = job->addresses.front();
      std::erase_if(job->addresses, is_private_address);
      if (job->addresses.empty()) {
        return end(job, job->host + " has only addresses that are not public (" + printable(first, 64) +
                            "); https_private = yes would allow them");
      }
    }
    job->addresses.resize(std::min(job->addresses.size(), max_addresses));
    if (!set_up(*job, port_) || curl_multi_add_handle(multi_.get(), job->easy.get()) != CURLM_OK) {
      end(job, "this libcurl cannot fetch policies: " + std::string(curl_version()));
    }
  }

  void end(const Job* ending, std::string error) {
    auto job = take(waiting_, ending);
    if (!job) {
      job = take(running_, ending);
      curl_multi_remove_handle(multi_.get(), job->easy.get());
    }
    job->deadline.reset();
    job->easy.reset();
    job->result.error = std::move(error);
    if (!job->result.error.empty()) job->result.body.clear();
    ended_.push_back(std::move(job));
    step_soon();
  }

  // What a transfer that libcurl is done with came to: the error, or nothing.
  static std::string verdict(const Job& job, CURLcode code) {
    if (!job.result.error.empty()) return job.result.error;
    if (code != CURLE_OK) return printable(job.curl_text[0] != '\0' ? job.curl_text.data() : curl_easy_strerror(code));
    if (!job.headers_good) return "no final HTTP response";
    if (!job.framed && !job.closed_cleanly) return "the connection ended before the answer was known to be complete";
    const auto policy = parse_policy(job.result.body);
    if (policy) return {};
    if (policy.error().line == 0) return "invalid policy: " + policy.error().what;
    return "invalid policy, line " + std::to_string(policy.error().line) + ": " + policy.error().what;
  }

  void act(curl_socket_t fd, int ready) {
    int running = 0;
    curl_multi_socket_action(multi_.get(), fd, ready, &running);
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      const CURLcode code = message->data.result;  // `message` does not survive the removal of its handle
      char* job = nullptr;
      curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &job);
      const auto* ended = reinterpret_cast<const Job*>(job);
      end(ended, verdict(*ended, code));
    }
  }

  static int on_socket(CURL* /*easy*/, curl_socket_t fd, int what, void* arg, void* /*socket*/) {
    return guarded(-1, [&] {
      auto* self = static_cast<CurlFetcher*>(arg);
      if (what == CURL_POLL_REMOVE) {
        self->watches_.erase(fd);
        return 0;
      }
      const unsigned wanted =
          ((what & CURL_POLL_IN) != 0 ? Loop::readable : 0U) | ((what & CURL_POLL_OUT) != 0 ? Loop::writable : 0U);
      self->watches_[fd] = self->loop_.watch(fd, wanted, [self, fd](unsigned ready) {
        self->act(fd, ((ready & Loop::readable) != 0 ? CURL_CSELECT_IN : 0) |
                          ((ready & Loop::writable) != 0 ? CURL_CSELECT_OUT : 0));
      });
      return 0;
    });
  }

  static int on_timer(CURLM* /*multi*/, long timeout_ms, void* arg) {
    return guarded(-1, [&] {
      auto* self = static_cast<CurlFetcher*>(arg);
      self->timer_.reset();
      if (timeout_ms >= 0) {
        self->timer_ = self->loop_.after(Millis{timeout_ms}, [self] { self->act(CURL_SOCKET_TIMEOUT, 0); });
      }
      return 0;
    });
  }

  Loop& loop_;
  const Clock& clock_;
  const Millis timeout_;
  const bool allow_private_;
  const std::uint16_t port_;
  const Store trusted_;
  std::map<curl_socket_t, Loop::Watch> watches_;
  Loop::Timer timer_;
  Loop::Timer next_step_;
  Jobs waiting_, running_, ended_;
  Multi multi_;
};

}  // namespace

Result<std::unique_ptr<PolicyFetcher>> make_curl_fetcher(Loop& loop, const Clock& clock, const Config& config,
                                                         std::uint16_t port) {
  auto trusted = load_trusted_cas(config);
  if (!trusted) return tl::make_unexpected(trusted.error());
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (ready != CURLE_OK) return failure(curl_easy_strerror(ready), "libcurl");
  return std::unique_ptr<PolicyFetcher>(std::make_unique<CurlFetcher>(loop, clock, config, port, *std::move(trusted)));
}

}  // namespace sealane::sts
