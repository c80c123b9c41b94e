#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tigon {
namespace {

constexpr double kSmallestDecrease = 1e-8;  // PyTorch's eps: smaller decreases are not made

}  // namespace

Schedule::Schedule(const ScheduleOptions& options, double lr, int64_t total_steps)
    : options_(options), lr_(lr), total_steps_(total_steps) {}

double Schedule::rate(int64_t step) const {
  if (step <= options_.warmup_steps) {
    return lr_ * static_cast<double>(step) / static_cast<double>(options_.warmup_steps);
  }
  if (options_.kind != "cosine") return lr_;
  const double length =
      static_cast<double>(std::max<int64_t>(total_steps_ - options_.warmup_steps, 1));
  const double done = std::min(static_cast<double>(step - options_.warmup_steps) / length, 1.0);
  const double fall = 0.5 * (1 + std::cos(std::numbers::pi * done));
  return lr_ * (options_.final_ratio + (1 - options_.final_ratio) * fall);
}

void Schedule::observe_validation(double loss) {
  if (options_.kind != "plateau") return;
  if (loss < best_ * (1 - options_.threshold)) {
    best_ = loss;
    num_bad_ = 0;
    return;
  }
  if (++num_bad_ <= options_.patience) return;
  num_bad_ = 0;
  const double lowered = std::max(lr_ * options_.factor, options_.min_lr);
  if (lr_ - lowered > kSmallestDecrease) lr_ = lowered;
}

Json Schedule::state() const {
  Json best = nullptr;
  if (std::isfinite(best_)) best = best_;
  return {{"lr", lr_}, {"best", best}, {"num_bad", num_bad_}};
}

void Schedule::restore(const Json& state) {
  lr_ = state.at("lr").get<double>();
  const Json& best = state.at("best");
  best_ = best.is_null() ? std::numeric_limits<double>::infinity() : best.get<double>();
  num_bad_ = state.at("num_bad").get<int64_t>();
}

}  // namespace tigon
