#include "core/decide/decide.h"

#include "core/render/render.h"
#include "shims/cli/cli.h"

namespace sealane::cli {
namespace {

constexpr std::size_t longest_evidence = 1048576;

}  // namespace

Status decide(const DecideOptions& options) {
  const auto text = read_input(options.evidence, longest_evidence);
  if (!text) {
    complain(text.error());
    return io_error;
  }
  const auto evidence = evidence_from_json(*text);
  if (!evidence) {
    Error error = evidence.error();
    error.of = error.of.empty() ? options.evidence : options.evidence + ": " + error.of;
    complain(error);
    return bad_data;
  }
  const Decision decision = sealane::decide(*evidence).decision;
  print(options.json ? decision_json(decision) + "\n" : decision_text(decision));
  return status_of(decision);
}

}  // namespace sealane::cli
