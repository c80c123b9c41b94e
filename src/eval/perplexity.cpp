#include "eval/perplexity.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/progress.h"
#include "eval/row_batch.h"
#include "ops/linear_cross_entropy/linear_cross_entropy.h"

namespace tigon {

at::Tensor token_losses(const Model& model, const MixerStack& stack, const RowBatch& rows,
                        bool use_adapters) {
  const at::NoGradGuard no_grad;
  const at::Tensor hidden =
      forward_hidden(model, stack, rows.batch, {.use_adapters = use_adapters});
  const at::Tensor head = model.weights.lm_head.to(hidden.scalar_type());
  return token_negative_log_likelihood(hidden, head, rows.targets);
}

double summed_loss(const Model& model, const MixerStack& stack, const RowBatch& rows,
                   bool use_adapters) {
  return token_losses(model, stack, rows, use_adapters).sum(at::kDouble).item<double>();
}

LossResult mean_loss(double nats, int64_t tokens, const std::string& title) {
  if (tokens == 0) fail("{}: the rows hold nothing to predict", title);
  LossResult result;
  result.tokens = tokens;
  result.nats_per_token = nats / static_cast<double>(tokens);
  result.perplexity = std::exp(result.nats_per_token);
  if (!std::isfinite(result.nats_per_token)) {
    fail("{}: expected a finite loss, found {}", title, result.nats_per_token);
  }
  return result;
}

void check_rows_per_batch(int64_t rows_per_batch) {
  if (rows_per_batch < 1) {
    throw UsageError(fmt::format("rows in a batch: expected at least 1, found {}", rows_per_batch));
  }
}

LossResult evaluate_loss(const Model& model, const MixerStack& stack, const RowSet& rows,
                         int64_t rows_per_batch, bool use_adapters, const std::string& title) {
  check_rows_per_batch(rows_per_batch);
  Progress progress(title, rows.size(), "rows");
  double sum = 0;
  int64_t tokens = 0;
  for (int64_t first = 0; first < rows.size(); first += rows_per_batch) {
    const int64_t count = std::min(rows_per_batch, rows.size() - first);
    const RowBatch batch = make_row_batch(rows, first, count, model.device);
    sum += summed_loss(model, stack, batch, use_adapters);
    tokens += batch.num_targets;
    progress.update(first + count, fmt::format("loss {:.4f}", sum / double(tokens)));
  }
  progress.finish();
  return mean_loss(sum, tokens, title);
}

double recovered_share(double window, double teacher, double loss) {
  return (window - loss) / (window - teacher);
}

}  // namespace tigon
