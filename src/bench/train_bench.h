// `tigon bench train`: the training step on random tokens and random weights, beside the time of
// its matrix products alone.
#pragma once
#include <string>
#include <vector>

#include "bench/report.h"
#include "bench/step_products.h"
#include "model/device.h"

namespace tigon {

struct TrainBenchOptions {
  std::string shape = "1B";  // of model_shape()
  std::string recipe = "liger-gla";
  int64_t rows = 8, seq_len = 1024;  // of a step
  int64_t steps = 10;                // timed
  std::string trainable = "lora";    // lora | all
  int64_t lora_rank = 8;
  bool has_teacher = false;      // half of the loss is that to a teacher's predictions
  std::string memory = "speed";  // speed | balanced | smallest, as train.memory
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
};

struct TrainBenchResult {
  int64_t parameters = 0, trained_parameters = 0;
  Timing step;
  double first_loss = 0, last_loss = 0;  // nats a token; of all steps run, the untimed included
  int64_t peak_memory_bytes = 0;
  std::vector<Product> products;  // of a step, as it is run
  Timing products_time;
  int64_t model_flop = 0;  // of the products a step cannot do without: none of them twice
  Ceilings ceilings;
};

/// Throws Error if a loss is not finite.
TrainBenchResult bench_train(const TrainBenchOptions& options);
BenchReport report_train(const TrainBenchOptions& options, const TrainBenchResult& result);

}  // namespace tigon
