#include "core/config/config.h"
#include "core/render/render.h"
#include "core/verify/certificate.h"
#include "shims/cli/check/judge.h"
#include "shims/cli/cli.h"

namespace sealane::cli {

namespace {

std::string chain_text(const std::vector<Bytes>& chain) {
  std::string out;
  for (std::size_t i = 0; i < chain.size() && i < max_chain; ++i) {
    const auto text = describe_certificate(chain[i]);
    out += "    " + std::to_string(i) + ": ";
    out += text ? text->subject + ", issued by " + text->issuer + ", until " + rfc3339(text->not_after)
                : std::string("not a certificate");
    for (std::size_t n = 0; text && n < text->names.size(); ++n) out += (n == 0 ? ", for " : ", ") + text->names[n];
    out += "\n";
  }
  return out;
}

std::string connection_text(const check::Live& live, const check::Connection& connection, const Verifier& verifier) {
  std::string out = "  " + connection.host + " [" + connection.address + "]: ";
  if (connection.stage != check::Stage::tls) return out + "no TLS\n";
  const Verdict verdict = verdict_of(live, connection, verifier);
  out += connection.version + ", " + connection.cipher + "; " + std::string(to_text(verdict.reason)) + ": " +
         verdict.text + "\n";
  return out + chain_text(connection.chain);
}

Status check_domain(const Config& config, const Question& question, Millis wait, const Verifier& verifier) {
  const check::Live live = check::look(config, question, wait);
  const std::vector<check::Remark> remarks = judge(live, verifier);
  std::string out = decision_text(live.decision);
  if (!live.connections.empty()) out += "Connections\n";
  for (const auto& connection : live.connections) out += connection_text(live, connection, verifier);

  std::size_t findings = 0;
  for (const check::Remark& remark : remarks) {
    const bool serious = remark.weight == check::Weight::finding;
    if (serious) ++findings;
    out += (serious ? "finding: " : "note: ") + remark.of + ": " + remark.what;
    if (!remark.remedy.empty()) out += "; " + remark.remedy;
    if (!remark.rule.empty()) out += " [" + remark.rule + "]";
    out += "\n";
  }
  out += live.decision.domain + ": " + std::to_string(findings) + " findings, " +
         std::to_string(remarks.size() - findings) + " notes\n";
  for (const std::string_view line : lines_of(out)) print(shown(std::string(line)) + "\n");
  return worse(status_of(live.decision), findings == 0 ? ok : finding);
}

}  // namespace

Status check(const QueryOptions& options) {
  const auto config = configured(options.config);
  if (!config) return bad_config;
  const auto verifier = make_openssl_verifier(config->ca_file);
  if (!verifier) {
    complain(verifier.error());
    return bad_config;
  }
  Status status = ok;
  for (const auto& domain : options.domains) {
    const Question question = Question::parse(domain, options.port, options.mx);
    status = worse(status, check_domain(*config, question, options.wait.value_or(config->timeout), **verifier));
  }
  return status;
}

}  // namespace sealane::cli
