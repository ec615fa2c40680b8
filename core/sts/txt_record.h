// RFC 8461 §3.1: the _mta-sts TXT record.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sealane::sts {

enum class TxtKind : unsigned char { invalid, not_sts, valid };

struct TxtRecord {
  TxtKind kind = TxtKind::invalid;
  std::string id;     // with `valid`: 1 to 32 letters and digits
  std::string error;  // with `invalid`: why, in words
};

// One TXT record, its character-strings joined. Strict: the ABNF to the last octet.
[[nodiscard]] TxtRecord parse_txt_record(std::string_view text);

// An RRset: of the records that begin "v=STSv1;" exactly one, and it valid; else not_sts (none at all) or invalid.
[[nodiscard]] TxtRecord select_txt_record(const std::vector<std::string>& records);

}  // namespace sealane::sts
