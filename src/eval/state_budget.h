// Where more memory helps: each layer's window or features widened alone, and a budget of bytes
// spent on those that pay most for theirs.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "eval/row_batch.h"
#include "linearize/plan.h"
#include "model/forward.h"

namespace tigon {

/// The untrained student with one layer's window or features widened.
struct LayerProbe {
  int64_t layer = 0;
  int64_t window_keys = 0, feature_rank = 0;  // of that layer
  double loss = 0;                            // nats a token
  int64_t bytes = 0;                          // of state a sequence, all layers
};

struct StateBudget {
  int64_t allowed = 0;             // bytes a sequence
  double teacher_loss = 0;         // nats a token, of the same rows
  LayerProbe before;               // the plan as it was given; layer −1
  std::vector<LayerProbe> probes;  // by layer, then window: each alone
  std::map<int64_t, int64_t> layer_windows, layer_feature_ranks;  // the choice; replaces the plan's
  LayerProbe after;                                               // with the choice; layer −1
};

/// Starting from `plan`, untrained and calibrated on `rows`, widens one layer at a time: always the
/// one, to 2, 4, 8 or 16 times its window but no more than the longest segment, or where it has
/// features of second order by 2, 4 or 8 numbers more but no more than a head's nor than 14 (120
/// channels, the most that the kernels take), that lowers the loss on the rows most for each byte
/// it adds, as long as it lowers it and the state stays within `state_bytes` a sequence. Ties go to
/// the lower layer. Every candidate is evaluated again after
/// each choice. Bytes are those of a live state in the model's compute dtype. Throws UsageError if
/// the plan has softmax layers, whose memory grows, is the teacher's, or needs more bytes as it is.
StateBudget spend_state_budget(const Model& model, const Plan& plan, int64_t state_bytes,
                               const RowBatch& rows);

Json state_budget_to_json(const StateBudget& budget);
/// For people: the gain of every probe, a bar a layer, and the choice.
std::string state_budget_to_text(const StateBudget& budget);

}  // namespace tigon
