// One line at a time to whoever runs us. Libraries stay silent unless a sink is set.
#pragma once

#include <functional>
#include <string>

namespace sealane {

enum class Level : unsigned char { error, warning, notice, info, debug };

// The sink gets one line without a line end; untrusted text in it has been through printable().
using LogSink = std::function<void(Level, const std::string&)>;

}  // namespace sealane
