// Logging to stderr as `[area] text`, through spdlog.
#pragma once
#include <spdlog/spdlog.h>

#include <string_view>
#include <utility>

namespace tigon {

/// Sends log lines to stderr with time and level. `verbosity`: −1 warnings only, 0 normal, 1 debug.
void set_up_logging(int verbosity);

template <class... Arguments>
void log_info(std::string_view area, fmt::format_string<Arguments...> format,
              Arguments&&... arguments) {
  spdlog::info("[{}] {}", area, fmt::format(format, std::forward<Arguments>(arguments)...));
}
template <class... Arguments>
void log_warning(std::string_view area, fmt::format_string<Arguments...> format,
                 Arguments&&... arguments) {
  spdlog::warn("[{}] {}", area, fmt::format(format, std::forward<Arguments>(arguments)...));
}

}  // namespace tigon
