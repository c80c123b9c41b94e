// The folder of real models, corpora and oracle values that lies beside a checkout; tests that need
// it skip without it.
#pragma once
#include <filesystem>
#include <string>

namespace tigon::testing {

/// ../shared beside the project, or $TIGON_SHARED.
std::filesystem::path shared_folder();

/// Prints "SKIPPED: reason" (ctest then counts the case as skipped).
void print_skip(const std::string& reason);

}  // namespace tigon::testing

/// Ends the test case as skipped if shared/RELATIVE is not there; otherwise declares `variable`
/// with its path.
#define TIGON_SHARED_OR_SKIP(variable, relative)                                                 \
  const std::filesystem::path variable = tigon::testing::shared_folder() / (relative);           \
  if (!std::filesystem::exists(variable)) {                                                      \
    tigon::testing::print_skip(std::string("needs shared/") + (relative) + ", which is absent"); \
    return;                                                                                      \
  }
