// A decode step's shared memory, its variants and its launch.
#pragma once
#include <type_traits>

#include "ops/decode_step/decode_step_threads.h"
#include "ops/decode_step/step_matrix.cuh"
#include "ops/decode_step/step_place.cuh"

namespace tigon::cuda {

/// Where each part begins, in numbers of float32; every part at 16 bytes.
template <int kHeads>
struct StepMemory {
  int size = 0;
  int queries, near;  // [kHeads, D]
  int scores;         // [kHeads, W]
  int lse;            // [kHeads]
  int table;          // [rows, MatrixRow::kFloats]
  int values;         // [columns]
  int far;            // [kHeads, columns]
  int partials;       // [threads, 4 · kHeadsOfSum]
  int queue;          // [kPiecesAhead, threads, 4]

  __host__ __device__ StepMemory(const DecodeStepParams& p, int rows, int columns, int threads) {
    queries = take(kHeads * p.head_dim);
    near = take(kHeads * p.head_dim);
    scores = take(kHeads * p.window_keys);
    lse = take(kHeads);
    table = take(rows * MatrixRow<kHeads>::kFloats);
    values = take(columns);
    far = take(kHeads * columns);
    partials = take(threads * 4 * kHeadsOfSum<kHeads>);
    queue = take(kPiecesAhead * threads * 4);
  }

 private:
  __host__ __device__ int take(int numbers) {
    const int first = size;
    size += (numbers + 3) / 4 * 4;
    return first;
  }
};

/// Calls `launch` with a zero of the element type, one of the matrices', and an integral constant:
/// the query heads of a KV head that a block serves at a time.
template <typename Launch>
cudaError_t with_decode_variant(const DecodeStepParams& p, Launch launch) {
  const auto with_type = [](ElementType type, auto then) {
    return type == ElementType::kFloat32 ? then(float{}) : then(__nv_bfloat16{});
  };
  const auto with_heads = [&](auto heads) {
    return with_type(p.type, [&](auto zero) {
      return with_type(p.matrix_type, [&](auto stored) { return launch(zero, stored, heads); });
    });
  };
  const int group = p.heads / p.kv_heads;
  if (group == 1) return with_heads(std::integral_constant<int, 1>());
  if (group <= 4) return with_heads(std::integral_constant<int, 4>());
  return with_heads(std::integral_constant<int, 8>());
}

/// A block of `threads` for each KV head of each sequence; the kernel finds its StepMemory<kHeads>.
template <int kHeads, typename Params>
cudaError_t launch_decode_step(void (*kernel)(Params), const Params& params, int threads, int rows,
                               int columns, cudaStream_t stream) {
  const DecodeStepParams& p = params.step;
  const int64_t blocks = p.sequences * p.kv_heads;
  const int bytes = StepMemory<kHeads>(p, rows, columns, threads).size * int{sizeof(float)};
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  kernel<<<static_cast<unsigned>(blocks), threads, bytes, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace tigon::cuda
