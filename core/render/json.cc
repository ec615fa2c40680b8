// Field order is that of the published interface; readers ignore fields that they do not know, so new ones may be added
// anywhere. Reading is strict: a decision must never come out weaker because a line of its evidence was lost.
#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/base/bytes.h"
#include "core/render/render.h"

namespace sealane {

namespace {

using Writer = nlohmann::ordered_json;
// Not the ordered one, whose objects are searched from end to end: a hostile file would cost time squared.
using Value = nlohmann::json;

constexpr int schema = 1;
constexpr std::size_t max_file_octets = 1U << 20U;
constexpr int max_depth = 32;

// ---- Writing

std::string dump(const Writer& object) { return object.dump(-1, ' ', false, Writer::error_handler_t::replace); }

Writer text_or_null(const std::string& text) { return text.empty() ? Writer(nullptr) : Writer(text); }

Writer time_or_null(const std::optional<WallTime>& time) { return time ? Writer(rfc3339(*time)) : Writer(nullptr); }

Writer write_host(const HostDecision& host) {
  Writer tlsa = Writer::array();
  for (const auto& record : host.tlsa) tlsa.push_back(record.text());
  Writer unused = Writer::array();
  for (const auto& record : host.tlsa_unused) unused.push_back({{"rr", record.rr}, {"why", record.why}});
  return {
      {"host", host.host},
      {"preference", host.preference},
      {"tls", to_text(host.tls)},
      {"would", host.would ? Writer(to_text(*host.would)) : Writer(nullptr)},
      {"reason", to_text(host.reason)},
      {"rule", text_or_null(std::string(describe(host.reason).rule))},
      {"detail", text_or_null(host.detail)},
      {"transient", host.transient},
      {"expanded", host.expanded},
      {"sni", host.sni},
      {"names", host.names},
      {"tlsa_base", text_or_null(host.tlsa_base)},
      {"tlsa", std::move(tlsa)},
      {"tlsa_unused", std::move(unused)},
      {"addresses", host.addresses},
      {"address_dnssec", dns::to_text(host.address_dnssec)},
      {"failed", host.failed},
      {"expires", rfc3339(host.expires)},
  };
}

Writer write_sts(const StsView& sts) {
  Writer mx = Writer::array();
  if (sts.policy) {
    for (const auto& pattern : sts.policy->mx) mx.push_back(pattern.text());
  }
  return {
      {"state", to_text(sts.state)},
      {"id", text_or_null(sts.id)},
      {"mode", sts.policy ? Writer(sts::to_text(sts.policy->mode)) : Writer(nullptr)},
      {"max_age", sts.policy ? Writer(sts.policy->max_age) : Writer(nullptr)},
      {"mx", std::move(mx)},
      {"fetched", time_or_null(sts.fetched)},
      {"txt_seen", time_or_null(sts.txt_seen)},
      {"expires", time_or_null(sts.expires)},
      {"refresh_after", time_or_null(sts.refresh_after)},
      {"error", text_or_null(sts.error)},
  };
}

Writer write_decision(const Decision& d) {
  Writer hosts = Writer::array();
  for (const HostDecision& host : d.hosts) hosts.push_back(write_host(host));
  return {
      {"schema", schema},
      {"domain", d.domain},
      {"port", d.port},
      {"action", to_text(d.action)},
      {"reason", to_text(d.reason)},
      {"rule", text_or_null(std::string(describe(d.reason).rule))},
      {"detail", text_or_null(d.detail)},
      {"mechanism", to_text(d.mechanism)},
      {"floor", to_text(d.floor)},
      {"mx_dnssec", dns::to_text(d.mx_dnssec)},
      {"implicit", d.implicit},
      {"next_hop", d.next_hop},
      {"others", to_text(d.others)},
      {"override", text_or_null(d.override_rule)},
      {"complete", d.complete},
      {"decided", rfc3339(d.decided)},
      {"expires", rfc3339(d.expires)},
      {"hosts", std::move(hosts)},
      {"sts", d.sts ? write_sts(*d.sts) : Writer(nullptr)},
  };
}

// A policy body is kept to the octet: as text where it is UTF-8, else as "body_hex".
void write_body(Writer& object, const std::string& body) {
  if (valid_utf8(body) == body) {
    object["body"] = body;
  } else {
    object["body_hex"] = hex(as_bytes(body));
  }
}

Writer write_fault(const std::optional<Fault>& fault) {
  if (!fault) return nullptr;
  return {{"reason", to_text(fault->reason)}, {"text", fault->text}};
}

Writer write_rules(const Rules& rules) {
  Writer override_object = nullptr;
  if (rules.override) {
    Writer match = Writer::array();
    for (const auto& pattern : rules.override->match) match.push_back(pattern.text());
    override_object = {
        {"rule", rules.override->rule}, {"kind", to_text(rules.override->kind)}, {"match", std::move(match)}};
  }
  return {{"dane", rules.dane},
          {"mta_sts", rules.mta_sts},
          {"dane_insecure_mx", rules.dane_insecure_mx},
          {"override", std::move(override_object)}};
}

Writer write_answer(const LookupKey& key, const dns::Answer& answer) {
  Writer rdata = Writer::array();
  for (const Bytes& record : answer.rdata) rdata.push_back(hex(record));
  return {
      {"name", key.name.text()},
      {"type", dns::to_text(key.type)},
      {"outcome", dns::to_text(answer.outcome)},
      {"security", dns::to_text(answer.security)},
      {"failure", dns::to_text(answer.failure)},
      {"cause", answer.cause},
      {"aliases", answer.aliases},
      {"rdata", std::move(rdata)},
      {"ttl", answer.ttl},
  };
}

Writer write_stored(const sts::PolicyState& stored) {
  Writer policy = nullptr;
  if (stored.policy) {
    policy = {{"id", stored.policy->id}};
    write_body(policy, stored.policy->body);
    policy["fetched"] = rfc3339(stored.policy->fetched);
    policy["txt_seen"] = rfc3339(stored.policy->txt_seen);
  }
  return {{"policy", std::move(policy)},
          {"attempted", rfc3339(stored.attempted)},
          {"attempted_id", stored.attempted_id},
          {"error", stored.error}};
}

Writer write_fetch(const std::optional<sts::FetchResult>& fetch) {
  if (!fetch) return nullptr;
  Writer object = {{"started", rfc3339(fetch->started)}, {"id", fetch->id}};
  write_body(object, fetch->body);
  object["error"] = fetch->error;
  return object;
}

Writer write_evidence(const Evidence& evidence) {
  const Question& question = evidence.question;
  Writer answers = Writer::array();
  for (const auto& [key, answer] : evidence.answers) answers.push_back(write_answer(key, answer));
  return {
      {"question",
       {{"text", question.text},
        {"domain", question.domain ? Writer(question.domain->text()) : Writer(nullptr)},
        {"address_literal", question.address_literal},
        {"port", question.port},
        {"mx", question.mx},
        {"fresh", question.fresh}}},
      {"now", rfc3339(evidence.now)},
      {"rules", write_rules(evidence.rules)},
      {"fault", write_fault(evidence.fault)},
      {"store_fault", write_fault(evidence.store_fault)},
      {"answers", std::move(answers)},
      {"stored", write_stored(evidence.stored)},
      {"fetch", write_fetch(evidence.fetch)},
  };
}

// ---- Reading

// One value of the file. The first thing wrong is kept in a place that all values of a file share; what is read after
// it is of no use, and thrown away with the evidence.
class Reader {
 public:
  Reader(const Value& value, std::string path, std::optional<Error>& error)
      : value_(&value), path_(std::move(path)), error_(&error) {}

  [[nodiscard]] Reader operator[](const char* key) const {
    static const Value null;
    const std::string path = path_ + "." + key;
    if (!value_->is_object()) {
      wrong("is not an object");
      return {null, path, *error_};
    }
    const auto found = value_->find(key);
    if (found != value_->end()) return {*found, path, *error_};
    Reader missing{null, path, *error_};
    missing.wrong("is missing");
    return missing;
  }
  [[nodiscard]] bool has(const char* key) const { return value_->is_object() && value_->contains(key); }
  [[nodiscard]] bool is_null() const { return value_->is_null(); }

  [[nodiscard]] std::string text() const {
    if (value_->is_string()) return value_->get<std::string>();
    wrong("is not a string");
    return {};
  }
  [[nodiscard]] bool boolean() const {
    if (value_->is_boolean()) return value_->get<bool>();
    wrong("is neither true nor false");
    return false;
  }
  template <class T>
  [[nodiscard]] T number() const {
    constexpr std::uint64_t most = std::numeric_limits<T>::max();
    if (value_->is_number_unsigned() && value_->get<std::uint64_t>() <= most) return value_->get<T>();
    wrong("is not a whole number from 0 to " + std::to_string(most));
    return 0;
  }
  [[nodiscard]] WallTime time() const {
    const auto time = parse_rfc3339(text());
    if (time) return *time;
    wrong("is not a time such as 2026-01-02T03:04:05Z");
    return {};
  }
  // What `parse` makes of the text; `parse` returns an optional or a Result.
  template <class Parse>
  [[nodiscard]] auto parsed(Parse parse) const {
    std::optional<std::decay_t<decltype(*parse(std::string_view{}))>> result;
    const std::string input = text();
    if (auto value = parse(std::string_view(input))) {
      result = std::move(*value);
    } else {
      wrong("has the unknown value \"" + printable(input, 80) + "\"");
    }
    return result;
  }
  // A token of a fixed list; T's zero value, which is the safe one, where it is none.
  template <class T>
  [[nodiscard]] T token(std::optional<T> (*from_text)(std::string_view)) const {
    return parsed(from_text).value_or(T{});
  }
  [[nodiscard]] std::vector<Reader> items() const {
    std::vector<Reader> items;
    if (!value_->is_array()) {
      wrong("is not a list");
      return items;
    }
    for (const Value& item : *value_) {
      items.emplace_back(item, path_ + "[" + std::to_string(items.size()) + "]", *error_);
    }
    return items;
  }

  void wrong(const std::string& what) const {
    if (!*error_) *error_ = Error{path_ + " " + what, "evidence", "it must be as `sealane explain --json` wrote it"};
  }

 private:
  const Value* value_;
  std::string path_;
  std::optional<Error>* error_;
};

std::optional<OverrideKind> override_kind_from_text(std::string_view text) {
  for (const auto kind : {OverrideKind::dane, OverrideKind::pkix, OverrideKind::encrypt, OverrideKind::none}) {
    if (text == to_text(kind)) return kind;
  }
  return std::nullopt;
}

// The text decides; what else is said of it is for people, and must agree: an address literal is owed nothing.
Question read_question(const Reader& in) {
  const std::string text = in["text"].text();
  Question question =
      Question::parse(text, in["port"].number<std::uint16_t>(), in["mx"].boolean(), in["fresh"].boolean());
  question.text = text;
  const Reader domain = in["domain"];
  if (question.domain ? domain.text() != question.domain->text() : !domain.is_null()) {
    domain.wrong("is not what .question.text says");
  }
  const Reader literal = in["address_literal"];
  if (literal.boolean() != question.address_literal) literal.wrong("is not what .question.text says");
  return question;
}

Rules read_rules(const Reader& in) {
  Rules rules;
  rules.dane = in["dane"].boolean();
  rules.mta_sts = in["mta_sts"].boolean();
  rules.dane_insecure_mx = in["dane_insecure_mx"].boolean();
  const Reader override_object = in["override"];
  if (override_object.is_null()) return rules;
  Override rule;
  rule.rule = override_object["rule"].text();
  rule.kind = override_object["kind"].token(override_kind_from_text);
  for (const Reader& item : override_object["match"].items()) {
    if (auto pattern = item.parsed(MxPattern::parse)) rule.match.push_back(std::move(*pattern));
  }
  rules.override = std::move(rule);
  return rules;
}

std::optional<Fault> read_fault(const Reader& in) {
  if (in.is_null()) return std::nullopt;
  return Fault{in["reason"].token(reason_from_text), in["text"].text()};
}

dns::Answer read_answer(const Reader& in) {
  dns::Answer answer;
  answer.outcome = in["outcome"].token(dns::outcome_from_text);
  answer.security = in["security"].token(dns::security_from_text);
  answer.failure = in["failure"].token(dns::failure_from_text);
  answer.cause = in["cause"].text();
  for (const Reader& alias : in["aliases"].items()) answer.aliases.push_back(alias.text());
  for (const Reader& record : in["rdata"].items()) {
    if (auto rdata = record.parsed(from_hex)) answer.rdata.push_back(std::move(*rdata));
  }
  answer.ttl = in["ttl"].number<std::uint32_t>();

  // What every resolver promises (dns/answer.h) must hold of a file too: the rules rely on it.
  if (answer.answered() != (answer.failure == dns::Failure::none)) {
    in.wrong("has an outcome and a failure that contradict each other");
  }
  if (answer.answered() == (answer.security == dns::Security::bogus)) {
    in.wrong("has an outcome and a security that contradict each other");
  }
  if (answer.has_data() == answer.rdata.empty()) in.wrong("has an outcome and rdata that contradict each other");
  return answer;
}

std::string read_body(const Reader& in) {
  if (!in.has("body_hex")) return in["body"].text();
  const Bytes octets = in["body_hex"].parsed(from_hex).value_or(Bytes{});
  return {octets.begin(), octets.end()};
}

sts::PolicyState read_stored(const Reader& in) {
  sts::PolicyState stored;
  if (const Reader policy = in["policy"]; !policy.is_null()) {
    stored.policy =
        sts::StoredPolicy{policy["id"].text(), read_body(policy), policy["fetched"].time(), policy["txt_seen"].time()};
  }
  stored.attempted = in["attempted"].time();
  stored.attempted_id = in["attempted_id"].text();
  stored.error = in["error"].text();
  return stored;
}

std::optional<sts::FetchResult> read_fetch(const Reader& in) {
  if (in.is_null()) return std::nullopt;
  return sts::FetchResult{in["started"].time(), in["id"].text(), read_body(in), in["error"].text()};
}

Evidence read_evidence(const Reader& in) {
  Evidence evidence;
  evidence.question = read_question(in["question"]);
  evidence.now = in["now"].time();
  evidence.rules = read_rules(in["rules"]);
  evidence.fault = read_fault(in["fault"]);
  evidence.store_fault = read_fault(in["store_fault"]);
  for (const Reader& item : in["answers"].items()) {
    auto name = item["name"].parsed(Domain::parse);
    const auto type = item["type"].parsed(dns::rr_type_from_text);
    dns::Answer answer = read_answer(item);
    if (!name || !type) continue;
    const bool is_new = evidence.answers.emplace(LookupKey{std::move(*name), *type}, std::move(answer)).second;
    if (!is_new) item.wrong("answers a question that was answered before");
  }
  evidence.stored = read_stored(in["stored"]);
  evidence.fetch = read_fetch(in["fetch"]);
  return evidence;
}

// ---- Reading decisions

std::optional<Action> action_from_text(std::string_view text) {
  for (const Action action : {Action::deliver, Action::reject}) {
    if (text == to_text(action)) return action;
  }
  return Action::defer;
}

std::optional<Tls> strict_tls_from_text(std::string_view text) { return tls_from_text(text).value_or(Tls::skip); }

std::optional<Reason> any_reason_from_text(std::string_view text) {
  return reason_from_text(text).value_or(Reason::deadline);
}

std::string text_if_any(const Reader& in) { return in.is_null() ? std::string() : in.text(); }

std::vector<std::string> read_texts(const Reader& in) {
  std::vector<std::string> texts;
  for (const Reader& item : in.items()) texts.push_back(item.text());
  return texts;
}

HostDecision read_host(const Reader& in) {
  HostDecision host;
  host.host = in["host"].text();
  if (auto name = Domain::parse(host.host); name && name->text() == host.host) host.name = std::move(*name);
  host.expanded = in["expanded"].text();
  host.preference = in["preference"].number<std::uint16_t>();
  host.tls = in["tls"].token(strict_tls_from_text);
  host.reason = in["reason"].token(any_reason_from_text);
  host.detail = text_if_any(in["detail"]);
  host.sni = in["sni"].text();
  host.names = read_texts(in["names"]);
  host.tlsa_base = text_if_any(in["tlsa_base"]);
  for (const Reader& item : in["tlsa"].items()) {
    if (auto record = item.parsed(dane::parse_tlsa_text)) host.tlsa.push_back(std::move(*record));
  }
  host.addresses = read_texts(in["addresses"]);
  return host;
}

Decision read_decision(const Reader& in) {
  Decision decision;
  decision.domain = in["domain"].text();
  decision.port = in["port"].number<std::uint16_t>();
  decision.action = in["action"].token(action_from_text);
  decision.reason = in["reason"].token(any_reason_from_text);
  decision.detail = text_if_any(in["detail"]);
  decision.others = in["others"].text() == to_text(Others::opportunistic) ? Others::opportunistic : Others::skip;
  decision.override_rule = text_if_any(in["override"]);
  for (const Reader& item : in["hosts"].items()) decision.hosts.push_back(read_host(item));
  return decision;
}

// How deep lists and objects are nested: known before anything is built from the file.
bool too_deep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > max_depth) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

Result<Value> parse_json(std::string_view text) {
  if (text.size() > max_file_octets) {
    return failure("more than " + std::to_string(max_file_octets) + " octets", "evidence");
  }
  if (too_deep(text)) return failure("nested more than " + std::to_string(max_depth) + " deep", "evidence");
  try {
    return Value::parse(text);
  } catch (const Value::parse_error& error) {
    return failure("not JSON, at octet " + std::to_string(error.byte), "evidence",
                   "it must be as `sealane explain --json` wrote it");
  } catch (const Value::out_of_range&) {  // 1e999
    return failure("a number is out of range", "evidence", "it must be as `sealane explain --json` wrote it");
  }
}

}  // namespace

std::string decision_json(const Decision& decision) { return dump(write_decision(decision)); }

Result<Decision> decision_from_json(std::string_view text) {
  const auto root = parse_json(text);
  if (!root) return tl::make_unexpected(root.error());
  std::optional<Error> error;
  Decision decision = read_decision(Reader(*root, "", error));
  if (error) return failure(error->what, "decision");
  return decision;
}

std::string explain_json(const Decision& decision, const Evidence& evidence) {
  return dump({{"schema", schema}, {"decision", write_decision(decision)}, {"evidence", write_evidence(evidence)}});
}

std::string policy_record_json(const Domain& domain, const sts::PolicyState& state) {
  return dump({{"schema", schema}, {"domain", domain.text()}, {"stored", write_stored(state)}});
}

Result<PolicyRecord> policy_record_from_json(std::string_view text) {
  const auto root = parse_json(text);
  std::optional<Error> error;
  if (!root) error = root.error();
  std::optional<Domain> domain;
  sts::PolicyState state;
  if (root) {
    const Reader record(*root, "", error);
    if (record["schema"].number<unsigned>() != schema) record["schema"].wrong("is not " + std::to_string(schema));
    domain = record["domain"].parsed(Domain::parse);
    state = read_stored(record["stored"]);
    if (!error && state.policy && !sts::parse_policy(state.policy->body)) {
      record["stored"]["policy"].wrong("is no valid policy");
    }
  }
  if (!error && domain) return PolicyRecord{std::move(*domain), std::move(state)};
  error->of = "record";
  error->remedy = "it must be as `sealane cache export` wrote it";
  return tl::make_unexpected(std::move(*error));
}

Result<Evidence> evidence_from_json(std::string_view text) {
  const auto root = parse_json(text);
  if (!root) return tl::make_unexpected(root.error());
  std::optional<Error> error;
  const Reader file(*root, "", error);
  if (file.has("schema") && file["schema"].number<unsigned>() != schema) {
    return failure("schema is not " + std::to_string(schema), "evidence", "read it with the version that wrote it");
  }
  Evidence evidence = read_evidence(file.has("evidence") ? file["evidence"] : file);
  if (error) return tl::make_unexpected(*error);
  return evidence;
}

}  // namespace sealane
