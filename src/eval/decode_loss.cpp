#include "eval/decode_loss.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <functional>
#include <numeric>

#include "core/progress.h"
#include "model/decode_batch.h"
#include "model/upload.h"
#include "ops/linear_cross_entropy/linear_cross_entropy.h"

namespace tigon {
namespace {

/// Segments side by side, longest first. A step reads a row of tokens and predicts the targets.
struct Columns {
  std::vector<int64_t> steps;  // [S] predictions of each segment, none without one
  at::Tensor tokens;           // [longest, S] on the host, 0 where a segment has ended
  at::Tensor targets;          // [longest, S] on the host, kIgnoredTarget there

  int64_t longest() const { return steps.empty() ? 0 : steps.front(); }
  /// Segments that a step reads.
  int64_t alive(int64_t step) const {
    return std::ranges::count_if(steps, [&](int64_t count) { return count > step; });
  }
};

Columns columns_of(const RowBatch& rows) {
  struct Segment {
    int64_t offset, steps;
  };
  std::vector<Segment> segments;
  int64_t offset = 0;
  for (const int64_t length : rows.batch.segments.lengths) {
    if (length > 1) segments.push_back({offset, length - 1});
    offset += length;
  }
  std::ranges::stable_sort(segments, std::greater(), &Segment::steps);
  Columns columns;
  for (const Segment& segment : segments) columns.steps.push_back(segment.steps);
  const std::vector<int64_t> shape = {columns.longest(), static_cast<int64_t>(segments.size())};
  columns.tokens = at::zeros(shape, at::kLong);
  columns.targets = at::full(shape, kIgnoredTarget, at::kLong);
  for (size_t i = 0; i < segments.size(); ++i) {
    const auto [first, steps] = segments[i];
    const auto column = static_cast<int64_t>(i);
    columns.tokens.select(1, column)
        .narrow(0, 0, steps)
        .copy_(rows.batch.tokens.narrow(0, first, steps));
    columns.targets.select(1, column)
        .narrow(0, 0, steps)
        .copy_(rows.targets.narrow(0, first, steps));
  }
  return columns;
}

/// −log p summed over the predictions of one batch of rows. Calls `report(steps)` after each.
double summed_decode_loss(const Model& model, const MixerStack& stack, const Columns& columns,
                          bool use_adapters, const std::function<void(int64_t)>& report) {
  if (columns.steps.empty()) return 0;
  const at::NoGradGuard no_grad;
  const at::Tensor tokens = columns.tokens.to(model.device);
  const at::Tensor targets = columns.targets.to(model.device);
  const at::Tensor head = model.weights.lm_head.to(model.compute_dtype);
  ModelState state(stack, tokens.size(1), model.compute_dtype, model.device);
  state.reserve(columns.longest());
  at::Tensor sum = at::zeros({}, at::device(model.device).dtype(at::kDouble));
  Batch batch;
  for (int64_t step = 0; step < columns.longest(); ++step) {
    const int64_t alive = columns.alive(step);
    if (alive != static_cast<int64_t>(batch.slots.size())) {
      std::vector<int64_t> slots(alive);
      std::iota(slots.begin(), slots.end(), 0);
      batch = make_decode_batch(slots, state, model.device);
    }
    batch.tokens = tokens[step].narrow(0, 0, alive);
    batch.host_tokens = columns.tokens[step].narrow(0, 0, alive);
    const at::Tensor hidden =
        forward_hidden(model, stack, batch, {.use_adapters = use_adapters, .state = &state});
    const at::Tensor own_targets = targets[step].narrow(0, 0, alive);
    sum += token_negative_log_likelihood(hidden, head, own_targets).sum(at::kDouble);
    advance_decode_batch(batch);
    report(step + 1);
  }
  return sum.item<double>();
}

}  // namespace

LossResult evaluate_decode_loss(const Model& model, const MixerStack& stack, const RowSet& rows,
                                int64_t rows_per_batch, bool use_adapters,
                                const std::string& title) {
  check_rows_per_batch(rows_per_batch);
  const int64_t seq_len = rows.options().seq_len;
  Progress progress(title, rows.size() * seq_len, "tokens");
  double sum = 0;
  int64_t tokens = 0;
  for (int64_t first = 0; first < rows.size(); first += rows_per_batch) {
    const int64_t count = std::min(rows_per_batch, rows.size() - first);
    const RowBatch batch = make_row_batch(rows, first, count, at::kCPU);
    const std::string note = tokens == 0 ? "" : fmt::format("loss {:.4f}", sum / double(tokens));
    sum += summed_decode_loss(model, stack, columns_of(batch), use_adapters, [&](int64_t steps) {
      progress.update(first * seq_len + count * steps, note);
    });
    tokens += batch.num_targets;
    progress.update((first + count) * seq_len, note);
  }
  progress.finish();
  return mean_loss(sum, tokens, title);
}

}  // namespace tigon
