#include "needle_command.h"

#include <algorithm>

#include "command.h"
#include "core/error.h"
#include "data/tokenizer.h"
#include "io/atomic_file.h"

namespace tigon {

void add_needle_options(CLI::App& command, NeedleArguments& arguments) {
  NeedleOptions& options = arguments.options;
  command.add_flag("--needle", arguments.is_asked,
                   "instead of the loss: a pass key hidden in the text, asked for at its end");
  command.add_option("--needle-lengths", options.lengths, "tokens of a prompt")
      ->delimiter(',')
      ->capture_default_str()
      ->check(CLI::Range(int64_t{64}, int64_t{1} << 22));
  command.add_option("--needle-depths", options.depths, "where in the text the key is, 0 to 1")
      ->delimiter(',')
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  command.add_option("--needle-trials", options.trials, "keys for each length and depth")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command.add_option("--needle-page", arguments.page, "write depth against length as a page")
      ->type_name("FILE.html");
}

void run_needle(const NeedleArguments& arguments, TextOptions text, const LoadedModel& student,
                const Model* teacher, const std::string& model_folder, bool json) {
  text.rows.seq_len = *std::ranges::max_element(arguments.options.lengths);
  text.rows.borders = "none";
  text.rows.max_rows = 0;
  const auto tokenizer = load_tokenizer(model_folder);
  const RowSet prose = open_text_rows(text, model_folder, student.model.config);
  std::vector<NeedleResult> results;
  if (teacher != nullptr) {
    results.push_back({"teacher", needle_test(*teacher, make_teacher_stack(teacher->config),
                                              /*use_adapters=*/false, *tokenizer, prose,
                                              arguments.options, "needle, teacher")});
  }
  const std::string name = student.plan.is_teacher() ? "model" : "student";
  results.push_back({name, needle_test(student.model, student.stack, /*use_adapters=*/true,
                                       *tokenizer, prose, arguments.options, "needle, " + name)});
  if (!arguments.page.empty()) write_file_atomically(arguments.page, needle_to_html(results));
  json ? print_json({{"needle", needle_to_json(results)}}) : print_text(needle_to_text(results));
}

}  // namespace tigon
