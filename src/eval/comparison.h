// The table every linearized model is judged by.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "eval/known_losses.h"
#include "eval/perplexity.h"
#include "linearize/convert.h"

namespace tigon {

/// Keys of the window-only student that `recovered` is measured against.
inline constexpr int64_t kBaselineWindowKeys = 64;

/// One line of the table. Names, in order:
///   teacher      the teacher as it is
///   window_only  the teacher's weights, a window of 64 keys in every layer, untrained
///   own_window   the teacher's weights, the student's own windows without recurrence, untrained
///   converted    the teacher's weights, the student's mixers as they were before training
///   trained      the student as it stands, adapters on
///   decoded      `trained` token by token, where it is asked for
///   branch_off   the student with its recurrence switched off
struct ComparisonRow {
  std::string name;
  LossResult result;
  // Shares of the way from a baseline's loss to the teacher's; none where the baseline is not worse
  // than the teacher.
  std::optional<double> recovered = std::nullopt;        // from window_only
  std::optional<double> over_own_window = std::nullopt;  // from own_window
};

struct Comparison {
  std::vector<ComparisonRow> rows;

  /// Throws Error for a name that is not in the table.
  const ComparisonRow& at(const std::string& name) const;
};

/// Evaluates all of them that exist (own_window where every mixer has a window or is softmax,
/// branch_off where there is a branch to switch off); those that are the same model (a window
/// student's own_window and converted, say) are evaluated once. `teacher` may be the student's own
/// Model where the student is the teacher with an adapter: the baselines run with adapters off.
/// `converted` has the mixers before training; without it the student's own serve where they have
/// no parameters, and else the line is left out. `known`, if given, keeps the losses of the
/// teacher's weights.
Comparison compare(const LoadedModel& student, const Model& teacher, const RowSet& rows,
                   int64_t rows_per_batch, const MixerStack& converted = {},
                   const KnownLosses* known = nullptr);

/// Adds the line `decoded` after `trained`: the same model, token by token from its state
/// (eval/decode_loss.h), `rows_per_batch` rows side by side.
void add_decoded_row(Comparison& comparison, const LoadedModel& student, const RowSet& rows,
                     int64_t rows_per_batch);

/// {"teacher": {"nats_per_token", "perplexity", "tokens", "recovered", "over_own_window"}, …}; a
/// share that does not exist is null.
Json comparison_to_json(const Comparison& comparison);
std::string comparison_to_text(const Comparison& comparison);

}  // namespace tigon
