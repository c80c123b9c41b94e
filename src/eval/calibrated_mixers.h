// Mixers of many plans for one model, each calibrated once.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "eval/row_batch.h"
#include "linearize/plan.h"
#include "model/forward.h"

namespace tigon {

/// What a layer reads from its teacher does not depend on the other layers' mixers: plans that
/// differ in a few layers have all others in common. Keeps references to model and rows. The plans
/// may differ in layer_windows and layer_feature_ranks alone.
class CalibratedMixers {
 public:
  CalibratedMixers(const Model& model, const RowBatch& rows) : model_(model), rows_(rows) {}

  /// Builds and calibrates what the plans need and what is not there yet; mixers of different
  /// layers share a pass of the teacher over the rows.
  void prepare(const std::vector<Plan>& plans);
  /// The stack of a plan that was prepared.
  MixerStack stack(const Plan& plan) const;

 private:
  using Key = std::tuple<int64_t, int64_t, int64_t>;  // layer, window_keys, feature_rank
  const Model& model_;
  const RowBatch& rows_;
  std::map<Key, std::shared_ptr<const Mixer>> mixers_;
};

}  // namespace tigon
