// Computes  from dz, the gradient of z = x w + b: dx += dz wᵀ, dw = xᵀ dz, db = Σ dz
// Shapes    x, dx, dz [N, heads, D] bf16, w [heads, D, D] bf16; dw and db in float32 by 1024 tokens
// Grid      (⌈N/1024⌉, H + Hkv) blocks of 256 threads
// Tiles     64 tokens; a warp owns 16 rows of dx by half of its columns, and a piece of dw
// Memory    reads x and dz once, reads and writes dx once; all three sums from one copy in shared
//           memory
// Saves     nothing
// Order     tokens in order; the sums by 1024 tokens are added by the caller; deterministic
#include "ops/chunks/chunk_launch.cuh"
#include "ops/chunks/state_pieces.cuh"
#include "ops/joint_attention/joint_column_sums.cuh"
#include "ops/joint_attention/joint_rows.cuh"

namespace tigon::cuda {
namespace {

constexpr int kThreads = kStateThreads;

template <int D>
struct BwdMapShared {
  alignas(16) bf16 weight[D * kRowStride<D>];
  alignas(16) bf16 x[kChunkTokens * kRowStride<D>];
  alignas(16) bf16 logit_gradients[kChunkTokens * kRowStride<D>];
  float column_sums[kThreads];
};

/// dx += dz wᵀ: a warp's 16 rows and half of the columns. `target` is the tile's first row.
template <int D>
__device__ void add_to_inputs(const BwdMapShared<D>& shared, bf16* target, int64_t stride,
                              int length) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int tile = warp % kChunkTiles, first_column = warp / kChunkTiles * (D / 2);
  const int valid = length - tile * kTile;
  if (valid <= 0) return;
  const bf16* logits = shared.logit_gradients + tile * kTile * kRowStride<D>;
#pragma unroll
  for (int n = 0; n < D / 32; ++n) {
    const int column = first_column + 16 * n;
    bf16* rows = target + tile * kTile * stride + column;
    FragmentC c = widened(load_query_fragment(rows, stride, valid, lane));
#pragma unroll
    for (int g = 0; g < D / 16; ++g) {
      multiply_add(c, load_a<D>(logits + 16 * g, lane),
                   load_b<D>(shared.weight + column * kRowStride<D> + 16 * g, lane));
    }
    store_rows(rows, stride, c, valid, lane);
  }
}

template <int D>
__global__ void __launch_bounds__(kThreads) bwd_maps_kernel(const JointParams p) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<BwdMapShared<D>*>(memory);
  const bool is_query = static_cast<int>(blockIdx.y) < p.heads;
  const int head = is_query ? blockIdx.y : blockIdx.y - p.heads;
  const HeadRows& x = is_query ? p.q : p.k;
  const HeadRows& dz = is_query ? p.query_logit_gradients : p.key_logit_gradients;
  const HeadRows& dx = is_query ? p.q_gradient : p.k_gradient;
  const void* weights = is_query ? p.w_q : p.w_k;
  load_rows<D>(shared.weight,
               static_cast<const bf16*>(weights) + static_cast<int64_t>(head) * D * D, D, D, 0, D);

  ColumnSums<D> bias_gradient;
  StatePieces<D> weight_gradient;
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kMapSplitTokens;
  const int64_t end = min(begin + kMapSplitTokens, p.tokens);
  for (int64_t first = begin; first < end; first += kChunkTokens) {
    const int length = static_cast<int>(min(static_cast<int64_t>(kChunkTokens), end - first));
    __syncthreads();
    load_rows<D>(shared.x, head_of(x, first, head, D), x.token_stride, kChunkTokens, 0, length);
    load_rows<D>(shared.logit_gradients, head_of(dz, first, head, D), dz.token_stride, kChunkTokens,
                 0, length);
    wait_for_copies();
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kChunkTiles; ++j) {
      const int at = j * kTile * kRowStride<D>;
      weight_gradient.add(shared.x + at, shared.logit_gradients + at, threadIdx.x % 32);
    }
    bias_gradient.add(shared.logit_gradients, [](int) { return 1.0f; });
    add_to_inputs<D>(shared, head_of(dx, first, head, D), dx.token_stride, length);
  }
  const int64_t index = static_cast<int64_t>(blockIdx.x) * (p.heads + p.kv_heads) + blockIdx.y;
  weight_gradient.store(p.weight_gradients + index * D * D, threadIdx.x % 32);
  const float bias = bias_gradient.total(shared.column_sums);
  if (threadIdx.x < D) p.bias_gradients[index * D + threadIdx.x] = bias;
}

}  // namespace

cudaError_t launch_joint_bwd_maps(const JointParams& params, cudaStream_t stream) {
  return with_head_dim(params.head_dim, [&](auto head_dim) {
    constexpr int D = decltype(head_dim)::value;
    const int64_t splits = (params.tokens + kMapSplitTokens - 1) / kMapSplitTokens;
    const dim3 grid(static_cast<unsigned>(splits), params.heads + params.kv_heads);
    return launch_with_shared_memory(bwd_maps_kernel<D>, grid, kThreads, sizeof(BwdMapShared<D>),
                                     params, stream);
  });
}

}  // namespace tigon::cuda
