#include "train/recorded_step.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "train/hardware.h"
#include "train/host_copy.h"

namespace tigon {
namespace {

/// Steps that run as they are before one is recorded: they load kernels and choose algorithms,
/// which a recording may not do.
constexpr int64_t kStepsBeforeRecording = 3;

std::vector<RowBatch> upload_all(const std::vector<RowBatch>& micros, const at::Device& device) {
  std::vector<RowBatch> moved = micros;
  for (RowBatch& micro : moved) {
    micro.targets = upload(micro.targets, device);
    micro.batch = upload(micro.batch, device);
  }
  return moved;
}

void copy_into(const at::Tensor& fixed, const at::Tensor& fresh) {
  fixed.copy_(fresh.pin_memory(), /*non_blocking=*/true);
}

}  // namespace

bool RecordedStep::has_shape_of_last(const std::vector<RowBatch>& micros) const {
  return std::equal(micros.begin(), micros.end(), last_.begin(), last_.end(),
                    [](const RowBatch& a, const RowBatch& b) {
                      return a.num_targets == b.num_targets &&
                             a.batch.segments.lengths == b.batch.segments.lengths;
                    });
}

std::vector<at::Tensor> RecordedStep::run(const std::vector<RowBatch>& micros) {
  const bool is_same = has_shape_of_last(micros);
  // A recording is kept: rows of its shape may come again.
  if (!may_record_ || (graph_ != nullptr && !is_same)) return step_(upload_all(micros, device_));
  if (graph_ == nullptr) {
    repeats_ = is_same ? repeats_ + 1 : 0;
    last_ = upload_all(micros, device_);
    if (repeats_ < kStepsBeforeRecording) return step_(last_);
    graph_ =
        record_device_graph(device_, peak_memory_bytes(device_), [&] { results_ = step_(last_); });
    may_record_ = graph_ != nullptr;
    if (!may_record_) return step_(last_);
  }
  for (size_t i = 0; i < micros.size(); ++i) {
    copy_into(last_[i].batch.tokens, micros[i].batch.tokens);
    copy_into(last_[i].targets, micros[i].targets);
  }
  graph_->replay();
  std::vector<at::Tensor> results;
  for (const at::Tensor& result : results_) results.push_back(result.clone());
  return results;
}

}  // namespace tigon
