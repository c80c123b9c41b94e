#include "eval/position_loss.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "core/format.h"
#include "core/progress.h"
#include "core/table.h"
#include "eval/perplexity.h"
#include "ops/linear_cross_entropy/linear_cross_entropy.h"

namespace tigon {

std::vector<PositionLoss> loss_by_position(const Model& model, const MixerStack& stack,
                                           const RowSet& rows, int64_t rows_per_batch,
                                           bool use_adapters, int64_t parts,
                                           const std::string& title) {
  check_rows_per_batch(rows_per_batch);
  const int64_t seq_len = rows.options().seq_len;
  if (parts < 1 || parts > seq_len) {
    throw UsageError(
        fmt::format("parts of a row: expected 1 to its {} tokens, found {}", seq_len, parts));
  }
  const int64_t part_tokens = (seq_len + parts - 1) / parts;
  const at::TensorOptions wide = at::device(model.device).dtype(at::kDouble);
  at::Tensor sums = at::zeros({parts}, wide), counts = at::zeros({parts}, wide);
  Progress progress(title + ", by position", rows.size(), "rows");
  for (int64_t first = 0; first < rows.size(); first += rows_per_batch) {
    const int64_t count = std::min(rows_per_batch, rows.size() - first);
    const RowBatch batch = make_row_batch(rows, first, count, model.device);
    const at::Tensor part = batch.batch.positions.div(part_tokens, "floor");
    sums.index_add_(0, part, token_losses(model, stack, batch, use_adapters).to(wide));
    counts.index_add_(0, part, batch.targets.ne(kIgnoredTarget).to(wide));
    progress.update(first + count, "");
  }
  progress.finish();
  const at::Tensor means = (sums / counts.clamp_min(1)).cpu(), tokens = counts.cpu();
  std::vector<PositionLoss> losses;
  for (int64_t i = 0; i < parts && i * part_tokens < seq_len; ++i) {
    losses.push_back({.first = i * part_tokens,
                      .last = std::min((i + 1) * part_tokens, seq_len) - 1,
                      .tokens = static_cast<int64_t>(tokens[i].item<double>()),
                      .nats_per_token = means[i].item<double>()});
  }
  return losses;
}

Json positions_to_json(const std::vector<PositionLoss>& model,
                       const std::optional<std::vector<PositionLoss>>& teacher) {
  Json all = Json::array();
  for (size_t i = 0; i < model.size(); ++i) {
    Json part = {{"first", model[i].first},
                 {"last", model[i].last},
                 {"tokens", model[i].tokens},
                 {"nats_per_token", model[i].nats_per_token}};
    if (teacher) {
      part["teacher"] = teacher->at(i).nats_per_token;
      part["gap"] = model[i].nats_per_token - teacher->at(i).nats_per_token;
    }
    all.push_back(std::move(part));
  }
  return all;
}

std::string positions_to_text(const std::vector<PositionLoss>& model,
                              const std::optional<std::vector<PositionLoss>>& teacher) {
  std::vector<std::string> header = {"positions", "predictions", "nats/token"};
  if (teacher) header.insert(header.end(), {"teacher", "gap"});
  std::vector<std::vector<std::string>> lines;
  for (size_t i = 0; i < model.size(); ++i) {
    const PositionLoss& part = model[i];
    std::vector<std::string> line = {fmt::format("{} to {}", part.first, part.last),
                                     format_count(static_cast<double>(part.tokens)),
                                     fmt::format("{:.4f}", part.nats_per_token)};
    if (teacher) {
      const double expected = teacher->at(i).nats_per_token;
      line.push_back(fmt::format("{:.4f}", expected));
      line.push_back(fmt::format("{:+.4f}", part.nats_per_token - expected));
    }
    lines.push_back(std::move(line));
  }
  return format_table(header, lines);
}

}  // namespace tigon
