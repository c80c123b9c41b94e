// Held-out loss in nats a token, counted exactly.
#pragma once
#include <cstdint>
#include <string>

#include "data/rows.h"
#include "eval/row_batch.h"
#include "model/forward.h"

namespace tigon {

struct LossResult {
  double nats_per_token = 0;
  double perplexity = 0;
  int64_t tokens = 0;  // predictions counted
};

/// Mean over every prediction of the rows (summed in float64), `rows_per_batch` rows at once, with
/// a progress line under `title`. A segment of n tokens holds n − 1 predictions, less
/// those of tokens that its row does not count. Throws Error if
/// there is nothing to predict or the loss is not finite, UsageError for rows_per_batch below 1.
LossResult evaluate_loss(const Model& model, const MixerStack& stack, const RowSet& rows,
                         int64_t rows_per_batch, bool use_adapters, const std::string& title);

/// The mean of so many nats over so many predictions. Throws Error as evaluate_loss does.
LossResult mean_loss(double nats, int64_t tokens, const std::string& title);

/// Throws UsageError for a number below 1.
void check_rows_per_batch(int64_t rows_per_batch);

/// −log p of every token's prediction in one batch, [N] float32 in nats, 0 where none is counted.
/// No gradient.
at::Tensor token_losses(const Model& model, const MixerStack& stack, const RowBatch& rows,
                        bool use_adapters);

/// Their sum, in float64.
double summed_loss(const Model& model, const MixerStack& stack, const RowBatch& rows,
                   bool use_adapters);

/// (window − loss) / (window − teacher): 1 is the teacher's loss, 0 that of the window alone.
double recovered_share(double window, double teacher, double loss);

}  // namespace tigon
