#include "shims/opensmtpd/table_protocol.h"

#include <algorithm>
#include <cstring>
#include <optional>

namespace sealane::opensmtpd {
namespace {

// smtpd-api.h and imsg.h of OpenSMTPD 6.8 to 7.5.
enum class Type : std::uint32_t { ok, fail, open, close, update, check, lookup, fetch };
constexpr std::uint32_t relayhost_service = 0x200;
constexpr std::size_t longest_frame = 16384;

struct Header {
  std::uint32_t type;
  std::uint16_t length;  // header included
  std::uint16_t flags;
  std::uint32_t peer;
  std::uint32_t pid;
};
static_assert(sizeof(Header) == 16);

template <class T>
void put(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// An `int` result, and the text with its NUL where there is one. Nothing in it says which question it answers.
std::string frame(std::optional<int> result, std::string_view text = {}) {
  std::string payload;
  if (result) put(payload, *result);
  if (!text.empty()) payload.append(text).push_back('\0');
  std::string out;
  put(out, Header{static_cast<std::uint32_t>(Type::ok), static_cast<std::uint16_t>(sizeof(Header) + payload.size()), 0,
                  0, 0});
  return out + payload;
}

// The service, a count of parameters (none since 6.0), and with lookup and check the key with its NUL.
struct Asked {
  std::uint32_t service = 0;
  std::string_view key;
};

std::optional<Asked> read_asked(std::string_view payload, bool with_key) {
  Asked asked;
  std::size_t parameters = 0;
  if (payload.size() < sizeof asked.service + sizeof parameters) return std::nullopt;
  std::memcpy(&asked.service, payload.data(), sizeof asked.service);
  std::memcpy(&parameters, payload.data() + sizeof asked.service, sizeof parameters);
  payload.remove_prefix(sizeof asked.service + sizeof parameters);
  if (parameters != 0) return std::nullopt;
  if (!with_key) return asked;
  if (payload.empty() || payload.back() != '\0') return std::nullopt;
  asked.key = payload.substr(0, payload.find('\0'));
  return asked;
}

// What stands before the next `|`, or all of it.
std::string_view field(std::string_view& text) {
  const std::size_t end = std::min(text.find('|'), text.size());
  const std::string_view found = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return found;
}

bool is_id(std::string_view text) {
  return !text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  });
}

}  // namespace

std::uint16_t port_for(std::string_view domain, Ports ports) {
  if (!domain.empty() && domain.back() == '.') domain.remove_suffix(1);
  std::uint32_t hash = 2166136261U;  // FNV-1a
  for (const char c : domain) {
    const bool upper = c >= 'A' && c <= 'Z';
    hash = (hash ^ static_cast<unsigned char>(upper ? c - 'A' + 'a' : c)) * 16777619U;
  }
  return static_cast<std::uint16_t>(ports.first + hash % (ports.last - ports.first + 1U));
}

std::string Table::relay_url(std::string_view domain) const {
  return "lmtp://127.0.0.1:" + std::to_string(port_for(domain, ports_));
}

std::string Table::take(std::string_view octets) {
  std::string out;
  if (octets.empty() || mode_ == Mode::deaf) return out;
  if (mode_ == Mode::unknown) mode_ = octets[0] == 'c' ? Mode::lines : Mode::frames;
  unread_ += octets;
  if (mode_ == Mode::lines) {
    take_lines(out);
  } else {
    take_frames(out);
  }
  return out;
}

void Table::take_lines(std::string& out) {
  std::size_t begin = 0;
  for (std::size_t end = 0; (end = unread_.find('\n', begin)) != std::string::npos; begin = end + 1) {
    if (!too_long_ && end - begin <= longest_line)
      out += answer_line(std::string_view(unread_).substr(begin, end - begin));
    too_long_ = false;
  }
  unread_.erase(0, begin);
  if (unread_.size() <= longest_line) return;
  too_long_ = true;
  unread_.clear();
}

// "table|0.1|1713795082.354255|NAME|lookup|SERVICE|ID|KEY"; the key may hold a `|`.
std::string Table::answer_line(std::string_view line) {
  if (line == "config|ready" && !registered_) {
    registered_ = true;
    return "register|relayhost\nregister|ready\n";
  }
  if (!registered_ || field(line) != "table") return {};
  field(line);  // version: the one that smtpd named in its configuration
  field(line);  // time
  field(line);  // name of the table
  const std::string_view operation = field(line);
  const std::string_view service = operation == "update" ? std::string_view() : field(line);
  const std::string_view id = field(line);
  if (!is_id(id)) return {};
  const std::string begin = std::string(operation) + "-result|" + std::string(id) + "|";
  if (operation == "update") return begin + "ok\n";
  if (operation != "check" && operation != "lookup" && operation != "fetch") return {};
  if (service != "relayhost") return begin + "error|this table is for relay hosts\n";
  if (operation == "check") return begin + "found\n";
  return begin + "found|" + relay_url(operation == "lookup" ? line : "") + "\n";
}

void Table::take_frames(std::string& out) {
  std::size_t at = 0;
  Header header{};
  while (unread_.size() - at >= sizeof header) {
    std::memcpy(&header, unread_.data() + at, sizeof header);
    if (header.length < sizeof header || header.length > longest_frame) {
      mode_ = Mode::deaf;  // where the next frame begins cannot be known
      unread_.clear();
      return;
    }
    if (unread_.size() - at < header.length) break;
    const std::string_view payload =
        std::string_view(unread_).substr(at + sizeof header, header.length - sizeof header);
    at += header.length;
    const auto type = static_cast<Type>(header.type);
    if (type == Type::open) out += frame(std::nullopt);
    if (type == Type::update) out += frame(1);
    if (type != Type::check && type != Type::lookup && type != Type::fetch) continue;
    const auto asked = read_asked(payload, type != Type::fetch);
    if (!asked || asked->service != relayhost_service) {
      out += frame(-1);  // a temporary failure
    } else if (type == Type::check) {
      out += frame(1);
    } else {
      out += frame(1, relay_url(asked->key));
    }
  }
  unread_.erase(0, at);
}

}  // namespace sealane::opensmtpd
