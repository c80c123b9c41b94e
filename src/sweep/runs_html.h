// One self-contained page about several runs.
#pragma once
#include "sweep/run_report.h"

namespace tigon {

/// Loss against bytes of state, loss and recovered against tokens, branch switched off, memory and
/// speed, and the table; Chart.js and all data are inside. Runs are linked relative to `folder`,
/// where the page will lie.
std::string runs_html(const RunReport& report, const std::string& title,
                      const std::filesystem::path& folder);

}  // namespace tigon
