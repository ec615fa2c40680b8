// The tokens of interfaces people and programs rely on. A value that is none of the enumerators reads as the safe one.
#include "core/decide/decision.h"

#include "core/decide/evidence.h"

namespace sealane {

std::string_view to_text(Action action) {
  switch (action) {
    case Action::deliver:
      return "deliver";
    case Action::reject:
      return "reject";
    case Action::defer:
      break;
  }
  return "defer";
}

std::string_view to_text(Mechanism mechanism) {
  switch (mechanism) {
    case Mechanism::dane:
      return "dane";
    case Mechanism::sts:
      return "sts";
    case Mechanism::none:
      break;
  }
  return "none";
}

std::string_view to_text(Others others) { return others == Others::opportunistic ? "opportunistic" : "skip"; }

std::string_view to_text(Tls tls) {
  switch (tls) {
    case Tls::dane:
      return "dane";
    case Tls::pkix:
      return "pkix";
    case Tls::encrypt:
      return "encrypt";
    case Tls::opportunistic:
      return "opportunistic";
    case Tls::skip:
      break;
  }
  return "skip";
}

std::optional<Tls> tls_from_text(std::string_view text) {
  for (const Tls tls : {Tls::skip, Tls::dane, Tls::pkix, Tls::encrypt, Tls::opportunistic}) {
    if (text == to_text(tls)) return tls;
  }
  return std::nullopt;
}

std::string_view to_text(StsState state) {
  switch (state) {
    case StsState::valid:
      return "valid";
    case StsState::cached:
      return "cached";
    case StsState::pending:
      return "pending";
    case StsState::invalid:
      return "invalid";
    case StsState::unavailable:
      break;
  }
  return "unavailable";
}

std::string_view to_text(OverrideKind kind) {
  switch (kind) {
    case OverrideKind::none:
      return "none";
    case OverrideKind::encrypt:
      return "encrypt";
    case OverrideKind::pkix:
      return "pkix";
    case OverrideKind::dane:
      break;
  }
  return "dane";
}

}  // namespace sealane
