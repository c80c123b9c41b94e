// Computes  from dz, the gradient of z = x w + b: dw = xᵀ dz, db = Σ dz
// Shapes    x, dz [N, heads, D] bf16; dw [⌈N/1024⌉, H + Hkv, D, D] and db in float32
// Grid      (⌈N/1024⌉, H + Hkv) blocks of 256 threads
// Tiles     64 tokens, the next 64 on their way; a warp owns 16 rows of dw by half of its columns
// Memory    reads x and dz once
// Saves     nothing
// Order     tokens in order; the sums by 1024 tokens are added by the caller; deterministic
#include "ops/chunks/chunk_launch.cuh"
#include "ops/chunks/state_pieces.cuh"
#include "ops/joint_attention/joint_attention_params.h"
#include "ops/joint_attention/joint_column_sums.cuh"

namespace tigon::cuda {
namespace {

constexpr int kThreads = kStateThreads;

template <int D>
struct WeightShared {
  alignas(16) bf16 x[2][kChunkTokens * kRowStride<D>];
  alignas(16) bf16 logit_gradients[2][kChunkTokens * kRowStride<D>];
  float column_sums[2 * D];
};

template <int D>
__global__ void __launch_bounds__(kThreads) bwd_weights_kernel(const JointParams p) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<WeightShared<D>*>(memory);
  const bool is_query = static_cast<int>(blockIdx.y) < p.heads;
  const int head = is_query ? blockIdx.y : blockIdx.y - p.heads;
  const HeadRows& x = is_query ? p.q : p.k;
  const HeadRows& dz = is_query ? p.query_logit_gradients : p.key_logit_gradients;
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kSplitTokens;
  const int64_t end = min(begin + kSplitTokens, p.tokens);
  const auto load = [&](int64_t first, int slot) {
    const int length = static_cast<int>(min(static_cast<int64_t>(kChunkTokens), end - first));
    load_rows<D>(shared.x[slot], head_of(x, first, head, D), x.token_stride, kChunkTokens, 0,
                 length);
    load_rows<D>(shared.logit_gradients[slot], head_of(dz, first, head, D), dz.token_stride,
                 kChunkTokens, 0, length);
  };

  ColumnSums<D> bias_gradient;
  StatePieces<D> weight_gradient;
  load(begin, 0);
  int slot = 0;
  for (int64_t first = begin; first < end; first += kChunkTokens, slot = 1 - slot) {
    wait_for_copies();
    __syncthreads();  // the tile is there, and the one before is no longer read
    if (first + kChunkTokens < end) load(first + kChunkTokens, 1 - slot);
#pragma unroll
    for (int j = 0; j < kChunkTokens / kTile; ++j) {
      const int at = j * kTile * kRowStride<D>;
      weight_gradient.add(shared.x[slot] + at, shared.logit_gradients[slot] + at, threadIdx.x % 32);
    }
    bias_gradient.add(shared.logit_gradients[slot], [](int) { return 1.0f; });
  }
  const int64_t index = static_cast<int64_t>(blockIdx.x) * (p.heads + p.kv_heads) + blockIdx.y;
  weight_gradient.store(p.weight_gradients + index * D * D, threadIdx.x % 32);
  const float bias = bias_gradient.total(shared.column_sums);
  if (threadIdx.x < D) p.bias_gradients[index * D + threadIdx.x] = bias;
}

}  // namespace

cudaError_t launch_joint_bwd_weights(const JointParams& params, cudaStream_t stream) {
  return with_head_dim(params.head_dim, [&](auto head_dim) {
    constexpr int D = decltype(head_dim)::value;
    const int64_t splits = (params.tokens + kSplitTokens - 1) / kSplitTokens;
    const dim3 grid(static_cast<unsigned>(splits), params.heads + params.kv_heads);
    return launch_with_shared_memory(bwd_weights_kernel<D>, grid, kThreads, sizeof(WeightShared<D>),
                                     params, stream);
  });
}

}  // namespace tigon::cuda
