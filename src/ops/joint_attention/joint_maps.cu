// Computes  the feature maps φ(x w + b) = softmax([z; −z]) of queries and keys, with their decays:
//           Q' = φq a^(r − 32), K' = e^log_importance φk a^(32 − s)
// Shapes    x [N, heads, D], w [heads, D, D] bf16, b [heads, D] float32 → [N, heads, 2D] bf16
// Grid      (C, H + Hkv) blocks of 128 threads
// Tiles     a chunk of one head; a warp owns 16 rows, z stays in registers in float32
// Memory    the head's weights in shared memory; reads x, writes two numbers for each one read
// Saves     nothing: the backward pass makes the maps again
// Order     fixed; deterministic
#include "ops/chunks/chunk_launch.cuh"
#include "ops/chunks/chunk_rows.cuh"
#include "ops/joint_attention/joint_attention_params.h"

namespace tigon::cuda {
namespace {

constexpr int kThreads = 128;

template <int D>
struct MapShared {
  alignas(16) bf16 weight[D * kRowStride<D>];
};

/// z · log2 e of 16 rows.
template <int D>
__device__ void make_logits(FragmentC (&z)[D / 16], const FragmentA (&x)[D / 16],
                            const bf16* weight, const float* bias, int lane) {
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
    z[n].clear();
#pragma unroll
    for (int g = 0; g < D / 16; ++g) {
      multiply_add(z[n], x[g],
                   load_b_transposed<D>(weight + 16 * g * kRowStride<D> + 16 * n, lane));
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 b = *reinterpret_cast<const float2*>(bias + 16 * n + fragment_column(i, lane));
      z[n].x[2 * i] = (z[n].x[2 * i] + b.x) * kLog2E;
      z[n].x[2 * i + 1] = (z[n].x[2 * i + 1] + b.y) * kLog2E;
    }
  }
}

/// log2 of the softmax's denominator over [z; −z], for both rows.
template <int D>
__device__ float2 log2_sum_exp(const FragmentC (&z)[D / 16]) {
  float largest[2] = {0, 0}, sum[2] = {0, 0};
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      largest[i / 2 % 2] = fmaxf(largest[i / 2 % 2], fabsf(z[n].x[i]));
    }
  }
  largest[0] = row_max(largest[0]);
  largest[1] = row_max(largest[1]);
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float m = largest[i / 2 % 2];
      sum[i / 2 % 2] += exp2_fast(z[n].x[i] - m) + exp2_fast(-z[n].x[i] - m);
    }
  }
  return {largest[0] + log2_fast(row_sum(sum[0])), largest[1] + log2_fast(row_sum(sum[1]))};
}

template <int D>
__global__ void __launch_bounds__(kThreads) map_kernel(const JointParams p) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<MapShared<D>*>(memory);
  const Chunk chunk = p.chunks[blockIdx.x];
  const bool is_query = static_cast<int>(blockIdx.y) < p.heads;
  const int head = is_query ? blockIdx.y : blockIdx.y - p.heads;
  const int kv_head = is_query ? head / (p.heads / p.kv_heads) : head;
  const int lane = threadIdx.x % 32, first_row = threadIdx.x / 32 * kTile;
  const int valid = chunk.length - first_row;
  const int64_t token = static_cast<int64_t>(chunk.first_token) + first_row;
  const HeadRows& source = is_query ? p.q : p.k;
  const HeadRows& target = is_query ? p.mapped_queries : p.mapped_keys;

  const void* weights = is_query ? p.w_q : p.w_k;
  load_rows<D>(shared.weight,
               static_cast<const bf16*>(weights) + static_cast<int64_t>(head) * D * D, D, D, 0, D);
  FragmentA x[D / 16];
  load_query_rows<D>(x, head_of(source, token, head, D), source.token_stride, valid, lane);
  wait_for_copies();
  __syncthreads();
  if (valid <= 0) return;

  FragmentC z[D / 16];
  make_logits<D>(z, x, shared.weight, (is_query ? p.b_q : p.b_k) + head * D, lane);
  const float2 log2_sum = log2_sum_exp<D>(z);
  // exp2(±z + shift[row] + slope[row] · log_decay[channel])
  float shift[2] = {-log2_sum.x, -log2_sum.y}, slope[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = fragment_row(half, lane);
    const int behind = first_row + row - kMiddlePlace;
    slope[half] = kLog2E * static_cast<float>(is_query ? behind : -behind);
    if (!is_query && row < valid) {
      shift[half] += kLog2E * p.log_importance[(token + row) * p.kv_heads + head];
    }
  }
  const float* log_decay = p.log_decay + static_cast<int64_t>(kv_head) * 2 * D;
  bf16* rows = head_of(target, token, head, 2 * D);
#pragma unroll
  for (int sign = 0; sign < 2; ++sign) {
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      FragmentC phi;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 decay = *reinterpret_cast<const float2*>(log_decay + sign * D + 16 * n +
                                                              fragment_column(i, lane));
        const float x0 = sign == 0 ? z[n].x[2 * i] : -z[n].x[2 * i];
        const float x1 = sign == 0 ? z[n].x[2 * i + 1] : -z[n].x[2 * i + 1];
        phi.x[2 * i] = exp2_fast(x0 + shift[i % 2] + slope[i % 2] * decay.x);
        phi.x[2 * i + 1] = exp2_fast(x1 + shift[i % 2] + slope[i % 2] * decay.y);
      }
      store_rows(rows + sign * D + 16 * n, target.token_stride, phi, valid, lane);
    }
  }
}

}  // namespace

cudaError_t launch_joint_maps(const JointParams& params, cudaStream_t stream) {
  return with_head_dim(params.head_dim, [&](auto head_dim) {
    constexpr int D = decltype(head_dim)::value;
    const dim3 grid(params.chunk_count, params.heads + params.kv_heads);
    return launch_with_shared_memory(map_kernel<D>, grid, kThreads, sizeof(MapShared<D>), params,
                                     stream);
  });
}

}  // namespace tigon::cuda
