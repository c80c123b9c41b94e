// A training step that a GPU launches as a whole.
#pragma once
#include <functional>
#include <vector>

#include "eval/row_batch.h"
#include "train/device_graph.h"

namespace tigon {

/// Records a step once steps of one shape repeat: the same segments and counts of predictions in
/// every micro-batch, as rows without borders have. The inputs of a recorded step lie in fixed
/// tensors, into which the next rows are copied.
class RecordedStep {
 public:
  /// Runs a step on micro-batches that lie on the device; → its results, scalars.
  using Step = std::function<std::vector<at::Tensor>(const std::vector<RowBatch>&)>;

  /// Without `may_record` every step is run as it is.
  RecordedStep(const at::Device& device, Step step, bool may_record)
      : device_(device), step_(std::move(step)), may_record_(may_record) {}

  /// One step on micro-batches that lie on the CPU; → its results, on the device.
  std::vector<at::Tensor> run(const std::vector<RowBatch>& micros);

 private:
  bool has_shape_of_last(const std::vector<RowBatch>& micros) const;

  at::Device device_;
  Step step_;
  bool may_record_;
  std::vector<RowBatch> last_;  // the latest step's inputs on the device; fixed once recorded
  int64_t repeats_ = 0;         // steps in a row of the shape of last_
  std::unique_ptr<DeviceGraph> graph_;
  std::vector<at::Tensor> results_;  // of the recorded step
};

}  // namespace tigon
