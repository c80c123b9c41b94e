#include "eval/comparison.h"

#include <algorithm>
#include <map>

#include "core/error.h"
#include "core/table.h"
#include "eval/decode_loss.h"
#include "linearize/mixer_parameters.h"

namespace tigon {
namespace {

/// Everything that decides a loss over given rows: the weights, the adapters, and each layer's
/// mixer.
std::string identity(const Model& model, const MixerStack& stack, bool use_adapters) {
  bool has_adapters = false;
  visit_linears(model.weights, [&](const std::string&, const Linear& linear) {
    has_adapters = has_adapters || linear.adapter.has_value();
  });
  std::string text =
      fmt::format("{} {}", fmt::ptr(&model), use_adapters && has_adapters ? "adapted" : "plain");
  for (const auto& mixer : stack) {
    text += fmt::format("\n{}", mixer->describe());
    if (!mixer->parameters().empty()) text += fmt::format(" {}", fmt::ptr(mixer.get()));
  }
  return text;
}

/// Evaluates models, equal ones once.
class Evaluator {
 public:
  /// `known`, if given, is about the weights of `teacher`.
  Evaluator(const RowSet& rows, int64_t rows_per_batch, const Model& teacher,
            const KnownLosses* known)
      : rows_(rows), rows_per_batch_(rows_per_batch), teacher_(teacher), known_(known) {}

  LossResult loss(const Model& model, const MixerStack& stack, bool use_adapters,
                  const std::string& title) {
    const std::string key = identity(model, stack, use_adapters);
    const auto found = evaluated_.find(key);
    if (found != evaluated_.end()) return found->second;
    const bool may_be_known = known_ != nullptr && &model == &teacher_ && !use_adapters;
    const LossResult result =
        may_be_known ? known_->loss(model, stack, rows_, rows_per_batch_, title)
                     : evaluate_loss(model, stack, rows_, rows_per_batch_, use_adapters, title);
    return evaluated_.emplace(key, result).first->second;
  }

 private:
  const RowSet& rows_;
  int64_t rows_per_batch_;
  const Model& teacher_;
  const KnownLosses* known_;
  std::map<std::string, LossResult> evaluated_;
};

void check_same_shape(const ModelConfig& student, const ModelConfig& teacher) {
  const auto check = [](const char* name, int64_t of_student, int64_t of_teacher) {
    if (of_student != of_teacher) {
      fail("the teacher does not fit the model: {}: expected {}, found {}", name, of_student,
           of_teacher);
    }
  };
  check("vocab_size", student.vocab_size, teacher.vocab_size);
  check("num_hidden_layers", student.num_layers, teacher.num_layers);
  check("num_attention_heads", student.num_heads, teacher.num_heads);
  check("num_key_value_heads", student.num_kv_heads, teacher.num_kv_heads);
  check("head_dim", student.head_dim, teacher.head_dim);
}

std::optional<double> share(double baseline, double teacher, double loss) {
  if (baseline <= teacher) return std::nullopt;
  return recovered_share(baseline, teacher, loss);
}

/// Of a line, where the comparison has the baselines.
void set_shares(const Comparison& comparison, ComparisonRow& row) {
  const auto find = [&](const char* name) {
    return std::ranges::find(comparison.rows, name, &ComparisonRow::name);
  };
  const auto teacher = find("teacher");
  if (teacher == comparison.rows.end()) return;
  const auto share_over = [&](const char* name) -> std::optional<double> {
    const auto baseline = find(name);
    if (baseline == comparison.rows.end()) return std::nullopt;
    return share(baseline->result.nats_per_token, teacher->result.nats_per_token,
                 row.result.nats_per_token);
  };
  row.recovered = share_over("window_only");
  row.over_own_window = share_over("own_window");
}

Json share_to_json(const std::optional<double>& share) {
  return share ? Json(*share) : Json();
}

std::string share_to_text(const std::optional<double>& share) {
  return share ? fmt::format("{:.1f} %", 100 * *share) : "-";
}

}  // namespace

const ComparisonRow& Comparison::at(const std::string& name) const {
  const auto found = std::ranges::find(rows, name, &ComparisonRow::name);
  if (found == rows.end()) fail("the comparison has no line '{}'", name);
  return *found;
}

Comparison compare(const LoadedModel& student, const Model& teacher, const RowSet& rows,
                   int64_t rows_per_batch, const MixerStack& converted, const KnownLosses* known) {
  check_same_shape(student.model.config, teacher.config);
  const ModelConfig& config = teacher.config;
  const MixerStack own_windows = without_recurrence(student.stack);
  Evaluator evaluator(rows, rows_per_batch, teacher, known);
  const auto baseline = [&](const std::string& name, const MixerStack& stack) {
    return ComparisonRow{name, evaluator.loss(teacher, stack, /*use_adapters=*/false, name)};
  };
  const auto of_student = [&](const std::string& name, const MixerStack& stack) {
    return ComparisonRow{name, evaluator.loss(student.model, stack, /*use_adapters=*/true, name)};
  };
  Comparison comparison;
  comparison.rows = {baseline("teacher", make_teacher_stack(config)),
                     baseline("window_only", window_only_stack(config, kBaselineWindowKeys))};
  // What still has parameters is no window but a recurrence alone.
  const bool has_windows = mixer_parameters(own_windows).empty();
  if (has_windows) comparison.rows.push_back(baseline("own_window", own_windows));
  if (!converted.empty()) {
    comparison.rows.push_back(baseline("converted", converted));
  } else if (mixer_parameters(student.stack).empty()) {
    comparison.rows.push_back(baseline("converted", student.stack));
  }
  comparison.rows.push_back(of_student("trained", student.stack));
  const bool has_branch = std::ranges::any_of(
      student.stack, [](const auto& mixer) { return mixer->without_recurrence() != nullptr; });
  if (has_branch) comparison.rows.push_back(of_student("branch_off", own_windows));
  for (ComparisonRow& row : comparison.rows) set_shares(comparison, row);
  return comparison;
}

void add_decoded_row(Comparison& comparison, const LoadedModel& student, const RowSet& rows,
                     int64_t rows_per_batch) {
  ComparisonRow row{"decoded",
                    evaluate_decode_loss(student.model, student.stack, rows, rows_per_batch,
                                         /*use_adapters=*/true, "decoded")};
  set_shares(comparison, row);
  const auto trained = std::ranges::find(comparison.rows, "trained", &ComparisonRow::name);
  comparison.rows.insert(trained == comparison.rows.end() ? trained : trained + 1, std::move(row));
}

Json comparison_to_json(const Comparison& comparison) {
  Json json = Json::object();
  for (const ComparisonRow& row : comparison.rows) {
    json[row.name] = {{"nats_per_token", row.result.nats_per_token},
                      {"perplexity", row.result.perplexity},
                      {"tokens", row.result.tokens},
                      {"recovered", share_to_json(row.recovered)},
                      {"over_own_window", share_to_json(row.over_own_window)}};
  }
  return json;
}

std::string comparison_to_text(const Comparison& comparison) {
  std::vector<std::vector<std::string>> lines;
  for (const ComparisonRow& row : comparison.rows) {
    std::string name = row.name;
    std::ranges::replace(name, '_', ' ');
    lines.push_back({name, fmt::format("{:.4f}", row.result.nats_per_token),
                     fmt::format("{:.3f}", row.result.perplexity), share_to_text(row.recovered),
                     share_to_text(row.over_own_window)});
  }
  return format_table({"", "nats/token", "perplexity", "recovered", "over own window"}, lines);
}

}  // namespace tigon
