#include "core/config/config.h"
#include "core/render/render.h"
#include "shims/cli/cli.h"
#include "shims/cli/local.h"

namespace sealane::cli {

Status explain(const QueryOptions& options) {
  const auto config = configured(options.config);
  if (!config) return bad_config;
  std::vector<Question> questions;
  for (const auto& domain : options.domains) {
    questions.push_back(Question::parse(domain, options.port, options.mx, options.fresh));
  }
  Status status = ok;
  ask_here(*config, questions, options.wait.value_or(config->timeout), [&](const Reply& reply) {
    print(options.json ? explain_json(reply.decision, reply.evidence) + "\n"
                       : explain_text(reply.decision, reply.evidence));
    status = worse(status, status_of(reply.decision));
  });
  return status;
}

}  // namespace sealane::cli
