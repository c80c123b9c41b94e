// report.html: one self-contained page about a run.
#pragma once
#include <filesystem>
#include <string>

namespace tigon {

/// The page for a run folder, made from its run.json, metrics.jsonl and config.yaml. Chart.js and
/// all data are inside; nothing is loaded from elsewhere.
std::string report_html(const std::filesystem::path& run_folder);

}  // namespace tigon
