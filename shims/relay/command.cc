#include "shims/relay/command.h"

#include <algorithm>
#include <array>
#include <optional>

namespace sealane::relay {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool begins_with_word(std::string_view text, std::string_view word) {
  return text.size() >= word.size() &&
         std::equal(word.begin(), word.end(), text.begin(), [](char a, char b) { return lower(a) == lower(b); });
}

// How long the local part at the front of `text` is, its @ not counted; nothing: there is none.
std::optional<std::size_t> local_part(std::string_view text) {
  if (text.empty()) return std::nullopt;
  if (text[0] != '"') {
    const std::size_t end = text.rfind('@');
    const bool plain = std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(std::min(end, text.size())),
                                   [](char c) { return c > ' ' && c < 0x7f && c != '"' && c != '\\'; });
    if (end == std::string_view::npos || end == 0 || !plain) return std::nullopt;
    return end;
  }
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (text[i] < ' ' || text[i] > '~') return std::nullopt;
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      return i + 1;
    }
  }
  return std::nullopt;
}

// Where the path that begins with `<` ends: behind its `>`, which a quoted local part may hold too.
std::size_t end_of_path(std::string_view text) {
  bool quoted = false;
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (quoted && text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      quoted = !quoted;
    } else if (text[i] == '>' && !quoted) {
      return i + 1;
    }
  }
  return std::string_view::npos;
}

void read_path(std::string_view text, Command& command) {
  const bool sender = command.verb == Verb::mail;
  const char* const bad = sender ? "501 5.1.7 malformed sender" : "501 5.1.3 malformed recipient";
  while (!text.empty() && text[0] == ' ') text.remove_prefix(1);
  const std::size_t end = text.empty() || text[0] != '<' ? std::string_view::npos : end_of_path(text);
  if (end == std::string_view::npos) {
    command.error = bad;
    return;
  }
  const std::string_view path = text.substr(1, end - 2);
  std::string_view parameters = text.substr(end);
  if (std::any_of(path.begin(), path.end(), [](char c) { return static_cast<unsigned char>(c) > 0x7e; })) {
    command.error = "553 5.6.7 only ASCII addresses can be sent on";
    return;
  }
  if (path.size() > longest_address) {
    command.error = bad;
    return;
  }
  if (!path.empty() || !sender) {
    const auto local = local_part(path);
    if (!local || *local + 1 >= path.size() || path[*local] != '@') {
      command.error = bad;
      return;
    }
    const std::string_view domain = path.substr(*local + 1);
    if (!std::all_of(domain.begin(), domain.end(),
                     [](char c) { return c > ' ' && c < 0x7f && c != '<' && c != '>' && c != '@' && c != '"'; })) {
      command.error = bad;
      return;
    }
    std::transform(domain.begin(), domain.end(), std::back_inserter(command.domain), lower);
  }
  // BODY and SIZE need no word of ours: the message itself tells both.
  while (!parameters.empty()) {
    if (parameters[0] == ' ') {
      parameters.remove_prefix(1);
      continue;
    }
    const std::string_view one = parameters.substr(0, parameters.find(' '));
    parameters.remove_prefix(one.size());
    if (!sender || !(begins_with_word(one, "BODY=") || begins_with_word(one, "SIZE="))) {
      command.error = "555 5.5.4 no such parameter here";
      return;
    }
  }
  command.address = path;
}

}  // namespace

Command read_command(std::string_view line) {
  struct Word {
    std::string_view text;
    Verb verb;
    bool alone;
  };
  constexpr std::array words = {
      Word{"LHLO ", Verb::lhlo, false}, Word{"MAIL FROM:", Verb::mail, false}, Word{"RCPT TO:", Verb::rcpt, false},
      Word{"DATA", Verb::data, true},   Word{"RSET", Verb::rset, true},        Word{"NOOP", Verb::noop, false},
      Word{"QUIT", Verb::quit, true},
  };
  Command command;
  if (line.find_first_of(std::string_view("\r\n\0", 3)) != std::string_view::npos) return command;
  while (!line.empty() && line.back() == ' ') line.remove_suffix(1);
  for (const Word& word : words) {
    if (!begins_with_word(line, word.text) || (word.alone && line.size() != word.text.size())) continue;
    command.verb = word.verb;
    if (word.verb == Verb::mail || word.verb == Verb::rcpt) read_path(line.substr(word.text.size()), command);
    break;
  }
  return command;
}

}  // namespace sealane::relay
