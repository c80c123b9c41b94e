#include "support/shared_material.h"

#include <cstdlib>
#include <iostream>

namespace tigon::testing {

std::filesystem::path shared_folder() {
  if (const char* given = std::getenv("TIGON_SHARED")) return given;
  return std::filesystem::path(TIGON_SOURCE_FOLDER).parent_path() / "shared";
}

void print_skip(const std::string& reason) {
  std::cout << "SKIPPED: " << reason << std::endl;
}

}  // namespace tigon::testing
