// What a receiving domain publishes, read as a sender reads it.
#include <algorithm>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/dane/tlsa.h"
#include "core/sts/policy.h"
#include "core/sts/txt_record.h"
#include "shims/cli/cli.h"

namespace sealane::cli {
namespace {

constexpr std::size_t longest_input = 1048576;

struct Report {
  bool valid = false;
  std::string json;   // the members after "valid", each with its comma in front
  std::string words;  // for people
  int line = 0;       // of the fault; 0: the whole
  std::string rule;   // RFC section
  std::string remedy;
};

// A JSON string.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : shown(text)) {  // printable ASCII, so that two characters are all there is to escape
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

Report invalid(int line, const std::string& why, std::string rule, std::string remedy) {
  return {false,
          ",\"line\":" + std::to_string(line) + ",\"error\":" + quoted(why),
          why,
          line,
          std::move(rule),
          std::move(remedy)};
}

Report lint_policy(std::string_view text) {
  const auto policy = sts::parse_policy(text);
  if (!policy) {
    return invalid(policy.error().line, policy.error().what, "RFC 8461 3.2",
                   "correct the line; lines are \"key: value\": version, mode, max_age, and mx for each host");
  }
  std::string json = ",\"mode\":" + quoted(sts::to_text(policy->mode)) +
                     ",\"max_age\":" + std::to_string(policy->max_age) + ",\"mx\":[";
  std::string words = "mode " + sts::to_text(policy->mode) + ", max_age " + std::to_string(policy->max_age);
  for (std::size_t i = 0; i < policy->mx.size(); ++i) {
    json += (i == 0 ? "" : ",") + quoted(policy->mx[i].text());
    words += ", mx " + policy->mx[i].text();
  }
  return {true, json + "]", words, 0, "", ""};
}

// One record a line: all TXT records at _mta-sts.DOMAIN, the strings of each joined.
Report lint_txt(std::string_view text) {
  const auto lines = lines_of(text);
  const sts::TxtRecord record = sts::select_txt_record({lines.begin(), lines.end()});
  if (record.kind == sts::TxtKind::valid) return {true, ",\"id\":" + quoted(record.id), "id " + record.id, 0, "", ""};
  const std::string remedy = "publish exactly one record like \"v=STSv1; id=20260101T000000;\"";
  if (record.kind == sts::TxtKind::not_sts) {
    return invalid(0, "no record begins with \"v=STSv1;\"", "RFC 8461 3.1", remedy);
  }
  int line = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].substr(0, 8) == "v=STSv1;") line = static_cast<int>(i) + 1;
  }
  return invalid(line, record.error, "RFC 8461 3.1", remedy);
}

// One record a line: the RDATA "3 1 1 HEX", or a line of a zone file that has it after the word TLSA.
std::string_view tlsa_rdata(std::string_view line) {
  const std::size_t type = line.find(" TLSA ");
  return type == std::string_view::npos ? line : line.substr(type + 6);
}

Report lint_tlsa(std::string_view text) {
  std::vector<Bytes> rrset;
  const auto lines = lines_of(text);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].find_first_not_of(" \t") == std::string_view::npos || lines[i].front() == ';') continue;
    const auto record = dane::parse_tlsa_text(tlsa_rdata(lines[i]));
    if (!record) {
      return invalid(static_cast<int>(i) + 1, "no TLSA record", "RFC 6698 2.2", "a record reads \"3 1 1 HEX\"");
    }
    Bytes rdata{record->usage, record->selector, record->matching_type};
    rdata.insert(rdata.end(), record->data.begin(), record->data.end());
    rrset.push_back(std::move(rdata));
  }
  if (rrset.empty()) return invalid(0, "no TLSA record", "RFC 6698 2.2", "a record reads \"3 1 1 HEX\"");
  const dane::TlsaRrset sorted = dane::sort_rrset(rrset);
  const bool usable = !sorted.usable.empty();
  Report report{true, usable ? ",\"usable\":true" : ",\"usable\":false", usable ? "usable" : "not usable", 0, "", ""};
  report.json += ",\"unused\":[";
  for (std::size_t i = 0; i < sorted.unused.size(); ++i) {
    const auto& [rr, why] = sorted.unused[i];
    report.json += i == 0 ? "{\"rr\":" : ",{\"rr\":";
    report.json.append(quoted(rr)).append(",\"why\":").append(quoted(why)).append("}");
    report.words.append("; not used: ").append(rr).append(": ").append(why);
  }
  report.json += "]";
  return report;
}

Report lint_text(LintKind kind, std::string_view text) {
  switch (kind) {
    case LintKind::txt:
      return lint_txt(text);
    case LintKind::tlsa:
      return lint_tlsa(text);
    case LintKind::policy:
      break;
  }
  return lint_policy(text);
}

std::string for_people(const std::string& file, const Report& report) {
  std::string out = shown(file);
  if (report.line != 0) out += ":" + std::to_string(report.line);
  out += (report.valid ? ": valid: " : ": invalid: ") + shown(report.words);
  if (!report.rule.empty()) out += " [" + report.rule + "]";
  if (!report.remedy.empty()) out += "; " + report.remedy;
  return out + "\n";
}

}  // namespace

Status lint(const LintOptions& options) {
  Status status = ok;
  const auto files = options.files.empty() ? std::vector<std::string>{"-"} : options.files;
  for (const std::string& file : files) {
    const auto text = read_input(file, longest_input);
    if (!text) {
      complain(text.error());
      status = worse(status, io_error);
      continue;
    }
    const Report report = lint_text(options.kind, *text);
    if (!report.valid) status = worse(status, bad_data);
    print(options.json ? std::string(report.valid ? "{\"valid\":true" : "{\"valid\":false") + report.json + "}\n"
                       : for_people(file, report));
  }
  return status;
}

}  // namespace sealane::cli
