// What the cross-entropy kernel is called with: C rows of V logits, contiguous, of any V. logits
// and teacher_logits begin at multiples of 16 bytes.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "ops/element_type.h"

namespace tigon {

struct CrossEntropyParams {
  ElementType type;
  int64_t rows, vocabulary;    // C, V
  void* logits;                // [C, V]; overwritten by its gradient where writes_gradient
  const void* teacher_logits;  // [C, V] or null
  const int64_t* targets;      // [C] contiguous
  int64_t ignored_target;
  float* nll;           // [C]
  float* teacher_loss;  // [C]; null without a teacher
  float target_weight, teacher_weight;
  bool writes_gradient;
};

cudaError_t launch_cross_entropy(const CrossEntropyParams& params, cudaStream_t stream);

}  // namespace tigon
