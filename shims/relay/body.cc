#include "shims/relay/body.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/base/bytes.h"

namespace sealane::relay {
namespace {

constexpr std::size_t head_octets = 2048;
constexpr std::size_t longest_id = 64;

}  // namespace

void DataReader::text(char c, std::string& out) {
  state_ = State::text;
  if (c == '\r') {
    state_ = State::cr;
  } else if (c == '\n') {
    out += "\r\n";  // of the message, but no line end where a dot would count
  } else {
    out += c;
  }
}

std::size_t DataReader::take(std::string_view input, std::string& out) {
  for (std::size_t i = 0; i < input.size(); ++i) {
    const char c = input[i];
    switch (state_) {
      case State::line_start:
        if (c == '.') {
          state_ = State::dot;
        } else {
          text(c, out);
        }
        break;
      case State::dot:  // the dot itself is left out: it was stuffed, or it is the end
        if (c == '\r') {
          state_ = State::dot_cr;
        } else {
          text(c, out);
        }
        break;
      case State::dot_cr:
        if (c == '\n') {
          state_ = State::ended;
          return i + 1;
        }
        [[fallthrough]];
      case State::cr:
        if (c == '\n') {
          out += "\r\n";
          state_ = State::line_start;
        } else {
          out += ' ';
          text(c, out);
        }
        break;
      case State::text: {
        std::size_t end = i;  // most of a message is this: in one piece
        while (end < input.size() && input[end] != '\r' && input[end] != '\n') ++end;
        out.append(input, i, end - i);
        if (end < input.size()) text(input[end], out);
        i = end;
        break;
      }
      case State::ended:
        return i;
    }
  }
  return input.size();
}

void DotStuffer::put(std::string_view message, std::string& out) {
  while (!message.empty()) {
    if (message.front() == '.' && last_ == '\n') out += '.';
    const std::string_view line = message.substr(0, message.find('\n'));
    const std::size_t length = std::min(line.size() + 1, message.size());  // with its end, where that is here
    out += message.substr(0, length);
    last_ = message[length - 1];
    message.remove_prefix(length);
  }
}

Body::~Body() {
  if (file_ >= 0) ::close(file_);
}

Result<void> Body::add(std::string_view octets) {
  hash_.add(octets);
  size_ += octets.size();
  unsigned char bits = 0;  // without a branch in the loop, which then takes many octets at a time
  for (const char c : octets) bits |= static_cast<unsigned char>(c);
  eight_bit_ = eight_bit_ || (bits & 0x80U) != 0;
  if (head_.size() < head_octets) head_ += octets.substr(0, head_octets - head_.size());
  if (file_ < 0 && memory_.size() + octets.size() <= most_in_memory) {
    memory_ += octets;
    return {};
  }
  if (file_ < 0) {
    file_ = ::open(folder_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (file_ < 0) return failure(std::string("cannot make a file: ") + std::strerror(errno), folder_);
  }
  for (std::string_view left : {std::string_view(memory_), octets}) {
    while (!left.empty()) {
      const ssize_t n = ::write(file_, left.data(), left.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return failure(std::string("cannot write: ") + std::strerror(errno), folder_);
      left.remove_prefix(static_cast<std::size_t>(n));
    }
  }
  memory_ = std::string();
  return {};
}

std::string Body::read(std::uint64_t offset, std::size_t most, bool& good) const {
  good = true;
  if (file_ < 0) return offset >= memory_.size() ? std::string() : memory_.substr(offset, most);
  std::string out(most, '\0');
  ssize_t n = 0;
  do {
    n = ::pread(file_, out.data(), most, static_cast<off_t>(offset));
  } while (n < 0 && errno == EINTR);
  good = n >= 0 && (n > 0 || offset >= size_);
  out.resize(static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
  return out;
}

std::string Body::id() const {
  if (head_.compare(0, 9, "Received:") != 0) return {};
  // The header goes on over lines that begin with white space.
  std::size_t end = head_.find("\r\n");
  while (end != std::string::npos && end + 2 < head_.size() && (head_[end + 2] == ' ' || head_[end + 2] == '\t')) {
    end = head_.find("\r\n", end + 2);
  }
  const std::string header = head_.substr(0, end);
  const std::size_t at = header.find(" id ");
  if (at == std::string::npos) return {};
  const std::size_t begin = at + 4;
  return printable(header.substr(begin, header.find_first_of(" ;\r\n", begin) - begin), longest_id);
}

}  // namespace sealane::relay
