#include "core/sts/txt_record.h"

#include <algorithm>

#include "core/base/bytes.h"
#include "core/sts/grammar.h"

namespace sealane::sts {
namespace {

// RFC 8461 §3.1: "records that do not begin with "v=STSv1;" are discarded", so "v=STSv10;" never counts.
constexpr std::string_view prefix = "v=STSv1;";

// 1*32(ALPHA / DIGIT)
bool is_id(std::string_view text) {
  return !text.empty() && text.size() <= 32 && std::all_of(text.begin(), text.end(), is_alphanumeric);
}

// 1*(%x21-3A / %x3C / %x3E-7E). The ";" cannot occur here: fields are split at it.
bool is_value(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f && c != '='; });
}

TxtRecord invalid(std::string why) { return {TxtKind::invalid, {}, std::move(why)}; }

}  // namespace

TxtRecord parse_txt_record(std::string_view text) {
  if (!text.starts_with(prefix)) return {TxtKind::not_sts, {}, {}};
  std::string_view rest = text.substr(prefix.size());

  TxtRecord record{TxtKind::valid, {}, {}};
  // 1*(sts-field-delim sts-field) [sts-field-delim], where sts-field-delim = *WSP ";" *WSP.
  for (;;) {
    const std::size_t semicolon = rest.find(';');
    const bool last = semicolon == std::string_view::npos;
    const std::string_view field = without_outer_wsp(rest.substr(0, semicolon));
    if (last && field.empty()) break;  // the record ended with a delimiter
    if (field.empty()) return invalid("an empty field (\";;\")");
    if (last && wsp.find(rest.back()) != std::string_view::npos) {
      return invalid("white space at the end without a \";\" before it");
    }

    const std::size_t equals = field.find('=');
    if (equals == std::string_view::npos) return invalid("no \"=\" in field \"" + printable(field, 64) + '"');
    const std::string_view name = field.substr(0, equals);
    const std::string_view value = field.substr(equals + 1);
    if (!is_field_name(name)) return invalid("a malformed field name \"" + printable(name, 64) + '"');
    if (name == "id" && record.id.empty()) {  // RFC 8461 §3.2: of a duplicated field the first counts
      if (!is_id(value)) return invalid("the id \"" + printable(value, 64) + "\" is not 1 to 32 letters and digits");
      record.id = value;
    } else if (!is_value(value)) {
      return invalid("a malformed value of field \"" + std::string(name) + '"');
    }
    if (last) break;
    rest.remove_prefix(semicolon + 1);
  }
  if (record.id.empty()) return invalid("no id");
  return record;
}

TxtRecord select_txt_record(const std::vector<std::string>& records) {
  const auto is_sts = [](const std::string& record) { return record.starts_with(prefix); };
  switch (std::count_if(records.begin(), records.end(), is_sts)) {
    case 0:
      return {TxtKind::not_sts, {}, {}};
    case 1:
      return parse_txt_record(*std::find_if(records.begin(), records.end(), is_sts));
    default:  // RFC 8461 §3.1: if the number is not one there is no record, also where only one of them is valid
      return invalid("more than one record begins with \"v=STSv1;\"");
  }
}

}  // namespace sealane::sts
