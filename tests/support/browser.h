// A headless Chromium, where one is installed.
#pragma once
#include <filesystem>
#include <optional>
#include <string>

#include "support/child_process.h"

namespace tigon::testing {

/// What Chromium makes of a page.
struct RenderedPage {
  std::string document;  // HTML after the scripts have run
  std::string messages;  // what it wrote to stderr, the page's console included
};

/// The program's path; nullopt if there is none.
inline std::optional<std::string> find_chromium() {
  for (const char* path : {"/usr/bin/chromium", "/usr/bin/chromium-browser",
                           "/usr/bin/google-chrome", "/snap/bin/chromium"}) {
    if (std::filesystem::exists(path)) return path;
  }
  return std::nullopt;
}

/// Opens a file with the network off.
inline RenderedPage render(const std::string& chromium, const std::filesystem::path& page) {
  const TemporaryFolder profile;
  const ChildResult result = run_program(
      {"timeout", "120", chromium, "--headless", "--no-sandbox", "--disable-gpu",
       "--disable-dev-shm-usage", "--user-data-dir=" + profile.path().string(),
       "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--window-size=1280,900",
       "--virtual-time-budget=2000", "--dump-dom", "file://" + page.string()});
  return {result.standard_output, result.standard_error};
}

}  // namespace tigon::testing
