#include "train/micro_batch.h"

#include <ATen/ATen.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/util/Exception.h>

#include "core/error.h"
#include "core/log.h"
#include "train/step_runner.h"

namespace tigon {
namespace {

/// Whether a step of one micro-batch of `rows` fits.
bool fits(const RunConfig& config, RunParts& parts, int64_t rows) {
  RunConfig trial = config;
  trial.train.batch_rows = rows;
  trial.train.accumulate = 1;
  const at::Device device = parts.loaded.model.device;
  bool is_done = true;
  try {
    StepRunner runner(trial, parts);
    runner.step(0)[0].item<float>();  // waits for the device
  } catch (const c10::OutOfMemoryError&) {
    is_done = false;
  }
  for (const Parameter& parameter : parts.parameters) parameter.tensor.mutable_grad().reset();
  c10::DeviceAllocator& allocator = *c10::getDeviceAllocator(device.type());
  allocator.emptyCache();
  allocator.resetPeakStats(device.index());
  return is_done;
}

}  // namespace

void choose_micro_batch(RunConfig& config, RunParts& parts) {
  if (config.train.accumulate != 0) return;
  const int64_t step_rows = config.train.batch_rows;
  config.train.accumulate = 1;
  if (parts.loaded.model.device.is_cpu()) return;
  for (int64_t rows = step_rows; rows > 0; --rows) {
    if (step_rows % rows != 0 || !fits(config, parts, rows)) continue;
    config.train.batch_rows = rows;
    config.train.accumulate = step_rows / rows;
    log_info("train", "{} micro-batches of {} rows fit the memory", config.train.accumulate, rows);
    return;
  }
  fail("train: not even one row of {} tokens fits the memory of {}", config.train_rows.seq_len,
       parts.loaded.model.device.str());
}

}  // namespace tigon
