#include "eval/state_budget.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <set>

#include "core/error.h"
#include "core/format.h"
#include "core/progress.h"
#include "core/table.h"
#include "eval/calibrated_mixers.h"
#include "eval/perplexity.h"
#include "model/state.h"

namespace tigon {
namespace {

constexpr std::array<int64_t, 4> kTimesWider = {2, 4, 8, 16};
constexpr std::array<int64_t, 3> kMoreNumbers = {2, 4, 8};
constexpr int64_t kMostNumbers = 14;
constexpr double kBarWidth = 40;  // characters of the largest gain

class Prober {
 public:
  Prober(const Model& model, const RowBatch& rows)
      : model_(model), rows_(rows), mixers_(model, rows) {}

  double loss(const MixerStack& stack) const {
    return summed_loss(model_, stack, rows_, /*use_adapters=*/false) /
           static_cast<double>(rows_.num_targets);
  }

  /// Of plans once they are calibrated, one after the other, with a progress line.
  std::vector<double> calibrated_losses(const std::vector<Plan>& plans, const std::string& title) {
    Progress progress(title, static_cast<int64_t>(plans.size()), "probes");
    mixers_.prepare(plans);
    std::vector<double> losses;
    for (const Plan& plan : plans) {
      losses.push_back(loss(mixers_.stack(plan)));
      progress.update(static_cast<int64_t>(losses.size()),
                      fmt::format("{:.4f} nats/token", losses.back()));
    }
    progress.finish();
    return losses;
  }

  int64_t bytes(const Plan& plan) const {
    return state_bytes_per_sequence(build_stack(plan, model_.config, at::kMeta),
                                    rows_.batch.segments.longest, model_.compute_dtype);
  }

 private:
  const Model& model_;
  const RowBatch& rows_;
  CalibratedMixers mixers_;
};

Plan widened(Plan plan, const LayerProbe& probe) {
  if (probe.window_keys != plan.window_of(probe.layer)) {
    plan.layer_windows[probe.layer] = probe.window_keys;
  }
  if (probe.feature_rank != plan.feature_rank_of(probe.layer)) {
    plan.layer_feature_ranks[probe.layer] = probe.feature_rank;
  }
  return plan;
}

/// One layer with more window or more features, smaller ones first.
std::vector<LayerProbe> wider_layers(const Plan& plan, int64_t layer, int64_t longest_window,
                                     int64_t head_dim) {
  const int64_t window = plan.window_of(layer), rank = plan.feature_rank_of(layer);
  std::set<int64_t> windows, ranks;
  for (const int64_t times : kTimesWider) windows.insert(std::min(times * window, longest_window));
  if (rank > 0) {
    const int64_t most = std::min(kMostNumbers, head_dim);
    for (const int64_t more : kMoreNumbers) ranks.insert(std::min(rank + more, most));
  }
  std::vector<LayerProbe> wider;
  for (const int64_t keys : windows) {
    if (keys > window) {
      wider.push_back({.layer = layer, .window_keys = keys, .feature_rank = rank});
    }
  }
  for (const int64_t numbers : ranks) {
    if (numbers > rank) {
      wider.push_back({.layer = layer, .window_keys = window, .feature_rank = numbers});
    }
  }
  return wider;
}

/// Every layer widened alone to every size, as far as the state then has no more than `most_bytes`.
std::vector<LayerProbe> probe_layers(Prober& prober, const Plan& plan, const ModelConfig& config,
                                     int64_t longest, int64_t most_bytes,
                                     const std::string& title) {
  std::vector<LayerProbe> probes;
  std::vector<Plan> plans;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    for (LayerProbe probe : wider_layers(plan, layer, longest, config.head_dim)) {
      Plan wider = widened(plan, probe);
      probe.bytes = prober.bytes(wider);
      if (probe.bytes > most_bytes) continue;
      probes.push_back(probe);
      plans.push_back(std::move(wider));
    }
  }
  if (probes.empty()) return probes;
  const std::vector<double> losses = prober.calibrated_losses(plans, title);
  for (size_t i = 0; i < probes.size(); ++i) probes[i].loss = losses[i];
  return probes;
}

/// The probe that pays most for its bytes among those that fit and pay at all.
std::optional<LayerProbe> best_of(const std::vector<LayerProbe>& probes, const LayerProbe& now,
                                  int64_t allowed) {
  std::optional<LayerProbe> best;
  double best_rate = 0;
  for (const LayerProbe& probe : probes) {
    if (probe.bytes > allowed || probe.loss >= now.loss) continue;
    const double rate = (now.loss - probe.loss) / static_cast<double>(probe.bytes - now.bytes);
    if (rate > best_rate) {
      best_rate = rate;
      best = probe;
    }
  }
  return best;
}

Json probe_to_json(const LayerProbe& probe) {
  return {{"layer", probe.layer},
          {"window_keys", probe.window_keys},
          {"feature_rank", probe.feature_rank},
          {"nats_per_token", probe.loss},
          {"state_bytes", probe.bytes}};
}

std::string bar(double gain, double largest) {
  if (gain <= 0 || largest <= 0) return "";
  std::string text;
  for (int64_t i = 0; i < std::lround(kBarWidth * gain / largest); ++i) text += "█";
  return text;
}

/// "key: {7: 256}" as a config has it.
std::string layers_text(const char* key, const std::map<int64_t, int64_t>& layers) {
  std::string text;
  for (const auto& [layer, number] : layers) {
    text += fmt::format("{}{}: {}", text.empty() ? "" : ", ", layer, number);
  }
  return fmt::format("{}: {{{}}}\n", key, text);
}

}  // namespace

StateBudget spend_state_budget(const Model& model, const Plan& plan, int64_t state_bytes,
                               const RowBatch& rows) {
  if (plan.is_teacher()) {
    throw UsageError(
        "linearize.state_bytes: recipe none keeps softmax attention, whose memory grows");
  }
  if (plan.hybrid_every > 0 || !plan.softmax_layers.empty()) {
    throw UsageError("linearize.state_bytes: the memory of hybrid's softmax layers grows");
  }
  Prober prober(model, rows);
  Plan chosen = plan;
  chosen.state_bytes = 0;
  StateBudget budget;
  budget.allowed = state_bytes;
  budget.before = {.layer = -1, .bytes = prober.bytes(chosen)};
  if (budget.before.bytes > state_bytes) {
    throw UsageError(fmt::format(
        "linearize.state_bytes: expected at least the {} bytes that the plan needs as it "
        "is, found {}",
        budget.before.bytes, state_bytes));
  }
  budget.before.loss = prober.calibrated_losses({chosen}, "state budget").front();
  budget.teacher_loss = prober.loss(make_teacher_stack(model.config));
  int64_t choices = 0;
  const auto probe_all = [&](int64_t most_bytes) {
    const std::string title = fmt::format("state budget, choice {}", ++choices);
    return probe_layers(prober, chosen, model.config, rows.batch.segments.longest, most_bytes,
                        title);
  };
  budget.after = budget.before;
  // People see all; afterwards only what can still be bought is tried.
  budget.probes = probe_all(std::numeric_limits<int64_t>::max());
  std::vector<LayerProbe> candidates = budget.probes;
  while (const auto best = best_of(candidates, budget.after, state_bytes)) {
    chosen = widened(std::move(chosen), *best);
    budget.after = {.layer = -1, .loss = best->loss, .bytes = best->bytes};
    candidates = probe_all(state_bytes);
  }
  budget.layer_windows = chosen.layer_windows;
  budget.layer_feature_ranks = chosen.layer_feature_ranks;
  return budget;
}

Json state_budget_to_json(const StateBudget& budget) {
  Json probes = Json::array();
  for (const LayerProbe& probe : budget.probes) probes.push_back(probe_to_json(probe));
  return {
      {"allowed_bytes", budget.allowed},
      {"teacher_nats_per_token", budget.teacher_loss},
      {"before", {{"nats_per_token", budget.before.loss}, {"state_bytes", budget.before.bytes}}},
      {"probes", std::move(probes)},
      {"layer_windows", layers_to_json(budget.layer_windows)},
      {"layer_feature_ranks", layers_to_json(budget.layer_feature_ranks)},
      {"after", {{"nats_per_token", budget.after.loss}, {"state_bytes", budget.after.bytes}}}};
}

std::string state_budget_to_text(const StateBudget& budget) {
  double largest = 0;
  std::map<int64_t, double> best;  // gain of each layer's best probe
  for (const LayerProbe& probe : budget.probes) {
    const double gain = budget.before.loss - probe.loss;
    best[probe.layer] = std::max(best[probe.layer], gain);
    largest = std::max(largest, gain);
  }
  std::vector<std::vector<std::string>> lines;
  for (const LayerProbe& probe : budget.probes) {
    const double gain = budget.before.loss - probe.loss;
    lines.push_back({fmt::format("layer {}", probe.layer), fmt::format("{}", probe.window_keys),
                     probe.feature_rank > 0 ? fmt::format("{}", probe.feature_rank) : "-",
                     fmt::format("{:.4f}", probe.loss), fmt::format("{:+.4f}", gain),
                     format_bytes(static_cast<double>(probe.bytes - budget.before.bytes))});
  }
  std::string text =
      format_table({"widened", "keys", "rank", "nats/token", "gain", "more state"}, lines);
  text += "\nlargest gain of each layer alone\n";
  for (const auto& [layer, gain] : best) {
    text += fmt::format("layer {:>3}  {:7.4f}  {}\n", layer, gain, bar(gain, largest));
  }
  text += '\n';
  text += layers_text("layer_windows", budget.layer_windows);
  if (!budget.layer_feature_ranks.empty()) {
    text += layers_text("layer_feature_ranks", budget.layer_feature_ranks);
  }
  text +=
      fmt::format("{} of {} a sequence; {:.4f} -> {:.4f} nats/token untrained (teacher {:.4f})\n",
                  format_bytes(static_cast<double>(budget.after.bytes)),
                  format_bytes(static_cast<double>(budget.allowed)), budget.before.loss,
                  budget.after.loss, budget.teacher_loss);
  return text;
}

}  // namespace tigon
