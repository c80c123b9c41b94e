#include "eval/half_lives.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/format.h"
#include "core/progress.h"
#include "core/table.h"
#include "eval/row_batch.h"
#include "model/observed_run.h"

namespace tigon {
namespace {

Json finite_or_null(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

std::string tokens_to_text(double tokens) {
  return std::isfinite(tokens) ? format_count(tokens) : "never";
}

}  // namespace

std::vector<HeadHalfLives> measure_half_lives(const Model& model, const MixerStack& stack,
                                              const RowSet& rows, int64_t rows_per_batch) {
  std::vector<at::Tensor> sums(stack.size());  // [heads, channels] float64: Σ |log a| over tokens
  int64_t tokens = 0;
  Progress progress("half-lives", rows.size(), "rows");
  for (int64_t first = 0; first < rows.size(); first += rows_per_batch) {
    const int64_t count = std::min(rows_per_batch, rows.size() - first);
    const RowBatch batch = make_row_batch(rows, first, count, model.device);
    const int64_t N = batch.batch.segments.total;
    run_observed(model, stack, batch.batch, /*use_adapters=*/true,
                 [&](size_t layer, const MixerInput& input, const at::Tensor&) {
                   const at::Tensor log_decay = stack[layer]->mean_log_decay(input);
                   if (!log_decay.defined()) return;
                   const at::Tensor sum = log_decay.to(at::kCPU, at::kDouble).abs() * double(N);
                   sums[layer] = sums[layer].defined() ? sums[layer] + sum : sum;
                 });
    tokens += N;
    progress.update(first + count, "");
  }
  progress.finish();

  std::vector<HeadHalfLives> heads;
  for (size_t layer = 0; layer < sums.size(); ++layer) {
    if (!sums[layer].defined()) continue;
    // A head's channels in order; of an even number the median is the lower middle one.
    const at::Tensor lives =
        std::get<0>((std::numbers::ln2 / (sums[layer] / double(tokens))).sort(-1));
    const int64_t channels = lives.size(1);
    for (int64_t head = 0; head < lives.size(0); ++head) {
      const auto at_channel = [&](int64_t channel) { return lives[head][channel].item<double>(); };
      heads.push_back({static_cast<int64_t>(layer), head, at_channel(0),
                       at_channel((channels - 1) / 2), at_channel(channels - 1)});
    }
  }
  return heads;
}

Json half_lives_to_json(const std::vector<HeadHalfLives>& heads) {
  Json all = Json::array();
  for (const HeadHalfLives& head : heads) {
    all.push_back({{"layer", head.layer},
                   {"head", head.head},
                   {"shortest", finite_or_null(head.shortest)},
                   {"median", finite_or_null(head.median)},
                   {"longest", finite_or_null(head.longest)}});
  }
  return all;
}

std::string half_lives_to_text(const std::vector<HeadHalfLives>& heads) {
  if (heads.empty()) return "no layer has a recurrence: nothing fades\n";
  std::vector<std::vector<std::string>> rows;
  for (const HeadHalfLives& head : heads) {
    rows.push_back({fmt::format("layer {}, head {}", head.layer, head.head),
                    tokens_to_text(head.shortest), tokens_to_text(head.median),
                    tokens_to_text(head.longest)});
  }
  return "half-lives of the recurrence in tokens, over a head's channels:\n" +
         format_table({"", "shortest", "median", "longest"}, rows);
}

}  // namespace tigon
