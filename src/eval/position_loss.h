// The loss by position: whether a model's memory holds as the text grows.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/rows.h"
#include "io/json_file.h"
#include "model/forward.h"

namespace tigon {

/// Of the predictions that are made at positions first … last of a row (of a document, where
/// borders separate documents).
struct PositionLoss {
  int64_t first = 0, last = 0;
  int64_t tokens = 0;         // predictions counted
  double nats_per_token = 0;  // their mean; 0 where there are none
};

/// Rows cut into `parts` of equal length (at least 1; the last may be shorter), `rows_per_batch`
/// rows at once. Sums in float64. Throws UsageError for numbers below 1 and for more parts than a
/// row has tokens.
std::vector<PositionLoss> loss_by_position(const Model& model, const MixerStack& stack,
                                           const RowSet& rows, int64_t rows_per_batch,
                                           bool use_adapters, int64_t parts,
                                           const std::string& title);

/// [{"first", "last", "tokens", "nats_per_token", "teacher", "gap"}], the last two with a teacher.
Json positions_to_json(const std::vector<PositionLoss>& model,
                       const std::optional<std::vector<PositionLoss>>& teacher);
std::string positions_to_text(const std::vector<PositionLoss>& model,
                              const std::optional<std::vector<PositionLoss>>& teacher);

}  // namespace tigon
