// tigon eval --needle.
#pragma once
#include <CLI/CLI.hpp>
#include <string>

#include "eval/needle.h"
#include "linearize/convert.h"
#include "text_rows.h"

namespace tigon {

struct NeedleArguments {
  bool is_asked = false;
  NeedleOptions options;
  std::string page;  // an HTML file to write
};

/// Adds --needle, --needle-lengths, --needle-depths, --needle-trials and --needle-page.
void add_needle_options(CLI::App& command, NeedleArguments& arguments);

/// Prints the table (or JSON) of a student and, where there is one, of its teacher, and writes the
/// page. The text is cut into rows of the longest length.
void run_needle(const NeedleArguments& arguments, TextOptions text, const LoadedModel& student,
                const Model* teacher, const std::string& model_folder, bool json);

}  // namespace tigon
