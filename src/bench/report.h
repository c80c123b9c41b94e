// What a benchmark has to say, and where it is written down.
#pragma once
#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

#include "io/json_file.h"

namespace tigon {

struct BenchReport {
  std::string title;
  Json json = {};
  std::string text = {};  // for people: its tables
  // Files and folders that the figures depend on: once one of them has changed since the commit
  // that was measured, scripts/stale_measurements.py calls the figures unmeasured.
  std::vector<std::string> sources = {};
};

/// Appends a section to a markdown file (made if it is not there; its folder must be): title,
/// sources, device, commit, this process's command line and the text.
void record(const BenchReport& report, const at::Device& device, const std::filesystem::path& file);

/// The section that record() appends.
std::string record_section(const BenchReport& report, const std::string& device_name,
                           const std::string& commit, const std::string& command);

}  // namespace tigon
