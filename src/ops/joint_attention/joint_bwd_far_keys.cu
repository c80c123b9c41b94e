// Computes  what the keys of a chunk get through the far part, from the queries W chunks later,
//           whose window they are leaving, and through the state:
//           dv_j += Σ_{r ≥ s} (w Q')_i·K'_j do_i + K'_j dT
//           y = K' ⊙ dK' with dK'_j = Σ_{r ≥ s} (do_i·v_j − δ_i) (w Q')_i + dT [v_j; 1]
//           d log_importance = Σ y, dz = y₊ − y₋ − (φ₊ − φ₋) Σ y over the halves of the channels,
//           dk += dz wᵀ, d log a += (32 − s) y
// Shapes    v, dv [N, Hkv, D], K' [N, Hkv, 2D], dz [N, Hkv, D] bf16, dT [C, Hkv, 2D, D] bf16
// Grid      (C, Hkv) blocks of three warps for each tile of 16 keys: one for dv, one for each half
//           of the channels of dK'
// Tiles     16 keys by 16 queries, scores transposed (keys are rows) and never stored
// Memory    D = 64: 81 KB shared; D = 128: 154 KB. Reads w Q' and do of every head of the group
//           once, the next head's while one is worked on
// Saves     nothing
// Order     heads, then tiles of queries, each in order; deterministic
#include <algorithm>

#include "ops/chunks/chunk_launch.cuh"
#include "ops/joint_attention/joint_queries.cuh"

namespace tigon::cuda {
namespace {

constexpr int kThreads = 32 * kChunkTiles * 3;

template <int D>
struct FarKeyShared {
  struct Queries {
    alignas(16) bf16 mapped[kChunkTokens * kRowStride<2 * D>];  // w Q'
    alignas(16) bf16 out_gradients[kChunkTokens * kRowStride<D>];
  };
  alignas(16) bf16 mapped_keys[kChunkTokens * kRowStride<2 * D>];
  alignas(16) bf16 values[kChunkTokens * kRowStride<D>];
  union {
    alignas(16) bf16 state_gradient[2 * D * kRowStride<D>];  // before the heads
    Queries queries[2];  // of the head at work, and of the next one on their way
    alignas(16) float exchanged[kChunkTokens * (D + 4)];  // after the heads
  };
  alignas(16) float dots[2][kChunkTokens];
  alignas(16) float row_sums[2][kChunkTokens];
};

struct KeyTile {
  Chunk chunk;
  int kv_head, group;
  int64_t queries;  // the chunk that they leave the window of
  bool has_far;     // whether it exists
  int lane, tile;
  int role;  // 0: dv; 1, 2: the halves of dK'
  int valid;
  int64_t token;

  __device__ explicit KeyTile(const JointParams& p)
      : chunk(p.chunks[blockIdx.x]),
        kv_head(blockIdx.y),
        group(p.heads / p.kv_heads),
        queries(static_cast<int64_t>(blockIdx.x) + p.window_chunks),
        has_far(queries < p.chunk_offsets[chunk.segment + 1]),
        lane(threadIdx.x % 32),
        tile(threadIdx.x / 32 % kChunkTiles),
        role(threadIdx.x / 32 / kChunkTiles),
        valid(chunk.length - tile * kTile),
        token(static_cast<int64_t>(chunk.first_token) + tile * kTile) {}
};

/// The chunk's keys and values and the gradient of their sums.
template <int D>
__device__ void load_keys(FarKeyShared<D>& shared, const KeyTile& block, const JointParams& p) {
  const int64_t first = block.chunk.first_token;
  load_rows<2 * D>(shared.mapped_keys, head_of(p.mapped_keys, first, block.kv_head, 2 * D),
                   p.mapped_keys.token_stride, kChunkTokens, 0, block.chunk.length);
  load_rows<D>(shared.values, head_of(p.v, first, block.kv_head, D), p.v.token_stride, kChunkTokens,
               0, block.chunk.length);
  const int64_t row = (static_cast<int64_t>(blockIdx.x) * p.kv_heads + block.kv_head) * 2 * D;
  load_rows<D>(shared.state_gradient, static_cast<const bf16*>(p.state_gradients) + row * D, D,
               2 * D, 0, 2 * D);
  wait_for_copies();
  __syncthreads();
}

/// Through the state.
template <int D>
__device__ void begin_sums(FragmentC (&sums)[D / 16], const FarKeyShared<D>& shared,
                           const KeyTile& block, const float* mass_gradients) {
  const int lane = block.lane;
  if (block.role == 0) {
    const bf16* keys = shared.mapped_keys + block.tile * kTile * kRowStride<2 * D>;
#pragma unroll
    for (int g = 0; g < 2 * D / 16; ++g) {
      const FragmentA a = load_a<2 * D>(keys + 16 * g, lane);
      const bf16* state = shared.state_gradient + 16 * g * kRowStride<D>;
#pragma unroll
      for (int n = 0; n < D / 16; ++n) {
        multiply_add(sums[n], a, load_b_transposed<D>(state + 16 * n, lane));
      }
    }
    return;
  }
  const int first = (block.role - 1) * D;
  const bf16* values = shared.values + block.tile * kTile * kRowStride<D>;
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      sums[n].x[i] = mass_gradients[first + 16 * n + fragment_column(i / 2, lane) + i % 2];
    }
    const bf16* state = shared.state_gradient + (first + 16 * n) * kRowStride<D>;
#pragma unroll
    for (int g = 0; g < D / 16; ++g) {
      multiply_add(sums[n], load_a<D>(values + 16 * g, lane), load_b<D>(state + 16 * g, lane));
    }
  }
}

/// Starts the copies of a head's queries.
template <int D>
__device__ void load_queries(FarKeyShared<D>& shared, const KeyTile& block, int g,
                             const JointParams& p) {
  const int head = block.kv_head * block.group + g, slot = g % 2;
  const int64_t first = p.chunks[block.queries].first_token;
  const int length = p.chunks[block.queries].length;
  load_rows<D>(shared.queries[slot].out_gradients, head_of(p.out_gradient, first, head, D),
               p.out_gradient.token_stride, kChunkTokens, 0, length);
  load_rows<2 * D>(shared.queries[slot].mapped, head_of(p.weighted_queries, first, head, 2 * D),
                   p.weighted_queries.token_stride, kChunkTokens, 0, length);
  if (threadIdx.x < kChunkTokens) {
    const int row = threadIdx.x;
    shared.dots[slot][row] = row < length ? p.row_dots[(first + row) * p.heads + head] : 0.0f;
  }
}

/// What a tile of queries adds to dv.
template <int D>
__device__ void add_value_gradient(FragmentC (&sums)[D / 16], const FarKeyShared<D>& shared,
                                   const KeyTile& block, int slot, int query_tile) {
  const int lane = block.lane;
  const bf16* keys = shared.mapped_keys + block.tile * kTile * kRowStride<2 * D>;
  const bf16* queries = shared.queries[slot].mapped + query_tile * kTile * kRowStride<2 * D>;
  FragmentC scores;
  scores.clear();
#pragma unroll
  for (int g = 0; g < 2 * D / 16; ++g) {
    multiply_add(scores, load_a<2 * D>(keys + 16 * g, lane), load_b<2 * D>(queries + 16 * g, lane));
  }
  if (query_tile == block.tile) keep_upper(scores, lane);
  const FragmentA a = to_a(scores);
  const bf16* rows = shared.queries[slot].out_gradients + query_tile * kTile * kRowStride<D>;
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
    multiply_add(sums[n], a, load_b_transposed<D>(rows + 16 * n, lane));
  }
}

/// What a tile of queries adds to half of dK'.
template <int D>
__device__ void add_key_gradient(FragmentC (&sums)[D / 16], const FarKeyShared<D>& shared,
                                 const KeyTile& block, int slot, int query_tile) {
  const int lane = block.lane;
  const bf16* values = shared.values + block.tile * kTile * kRowStride<D>;
  const bf16* rows = shared.queries[slot].out_gradients + query_tile * kTile * kRowStride<D>;
  FragmentC gradients;
  gradients.clear();
#pragma unroll
  for (int g = 0; g < D / 16; ++g) {
    multiply_add(gradients, load_a<D>(values + 16 * g, lane), load_b<D>(rows + 16 * g, lane));
  }
  const float* dots = shared.dots[slot] + query_tile * kTile;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    gradients.x[i] -= dots[fragment_column(i / 2, lane) + i % 2];
  }
  if (query_tile == block.tile) keep_upper(gradients, lane);
  const FragmentA a = to_a(gradients);
  const bf16* queries =
      shared.queries[slot].mapped + query_tile * kTile * kRowStride<2 * D> + (block.role - 1) * D;
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
    multiply_add(sums[n], a, load_b_transposed<2 * D>(queries + 16 * n, lane));
  }
}

/// rows += c: 16 tokens of one head.
template <int D>
__device__ void add_to_rows(const HeadRows& target, const FragmentC (&c)[D / 16],
                            const KeyTile& block) {
  bf16* rows = head_of(target, block.token, block.kv_head, D);
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
    FragmentC sum =
        widened(load_query_fragment(rows + 16 * n, target.token_stride, block.valid, block.lane));
#pragma unroll
    for (int i = 0; i < 8; ++i) sum.x[i] += c[n].x[i];
    store_rows(rows + 16 * n, target.token_stride, sum, block.valid, block.lane);
  }
}

/// From dK' of both halves: all gradients that follow. All threads of the block must call it.
template <int D>
__device__ void finish_keys(FragmentC (&sums)[D / 16], FarKeyShared<D>& shared,
                            const KeyTile& block, const JointParams& p) {
  const int lane = block.lane, half = block.role - 1, first_place = block.tile * kTile;
  const bf16* keys =
      shared.mapped_keys + first_place * kRowStride<2 * D> + (half < 0 ? 0 : half * D);
  float row_sums[2] = {0, 0};
  if (half >= 0) {
    const int64_t tile = static_cast<int64_t>(blockIdx.x) * kChunkTiles + block.tile;
    float* decay_sums = p.key_decay_gradients + (tile * p.kv_heads + block.kv_head) * 2 * D;
    const float places[2] = {static_cast<float>(kMiddlePlace - first_place - lane / 4),
                             static_cast<float>(kMiddlePlace - first_place - lane / 4 - 8)};
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      scale_elements<2 * D>(sums[n], keys + 16 * n, lane);  // y
      store_column_sums(decay_sums + half * D + 16 * n, sums[n], places, lane);
#pragma unroll
      for (int i = 0; i < 8; ++i) row_sums[i / 2 % 2] += sums[n].x[i];
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      row_sums[i] = row_sum(row_sums[i]);
      if (lane % 4 == 0) shared.row_sums[half][first_place + fragment_row(i, lane)] = row_sums[i];
    }
  }
  __syncthreads();  // with the queries no longer read
  if (half >= 0) {
    const float* log_decay = p.log_decay + (static_cast<int64_t>(block.kv_head) * 2 + half) * D;
    float shift[2], slope[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = fragment_row(i, lane), place = first_place + row;
      row_sums[i] = shared.row_sums[0][place] + shared.row_sums[1][place];
      slope[i] = kLog2E * static_cast<float>(place - kMiddlePlace);
      shift[i] = 0;
      if (row >= block.valid) continue;
      shift[i] = -kLog2E * clipped_log_importance(p, block.token + row, block.kv_head);
      if (half != 0 || lane % 4 != 0) continue;
      const int64_t at = (block.token + row) * p.kv_heads + block.kv_head;
      const bool is_clipped = fabsf(p.log_importance[at]) > p.longest_log_importance;
      p.log_importance_gradient[at] = is_clipped ? 0.0f : row_sums[i];
    }
    // y − φ Σ y
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 decay =
            *reinterpret_cast<const float2*>(log_decay + 16 * n + fragment_column(i, lane));
        const float2 mapped = unpack(load_pair(keys + fragment_row(i, lane) * kRowStride<2 * D> +
                                               16 * n + fragment_column(i, lane)));
        const int row = i % 2;
        sums[n].x[2 * i] -= mapped.x * exp2_fast(shift[row] + slope[row] * decay.x) * row_sums[row];
        sums[n].x[2 * i + 1] -=
            mapped.y * exp2_fast(shift[row] + slope[row] * decay.y) * row_sums[row];
      }
    }
  }
  const auto exchanged = [&](int n, int i) {
    return shared.exchanged + (first_place + fragment_row(i, lane)) * (D + 4) + 16 * n +
           fragment_column(i, lane);
  };
  if (half == 1) {
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        *reinterpret_cast<float2*>(exchanged(n, i)) = {sums[n].x[2 * i], sums[n].x[2 * i + 1]};
      }
    }
  }
  __syncthreads();
  if (half != 0) return;
  const HeadRows& target = p.key_logit_gradients;
  bf16* rows = head_of(target, block.token, block.kv_head, D);
  FragmentA logits[D / 16];
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 other = *reinterpret_cast<const float2*>(exchanged(n, i));
      sums[n].x[2 * i] -= other.x;
      sums[n].x[2 * i + 1] -= other.y;
    }
    logits[n] = to_a(sums[n]);
    store_rows(rows + 16 * n, target.token_stride, logits[n], block.valid, lane);
    sums[n].clear();
  }
  multiply_packed<D>(sums, logits, packed_head<D>(p.transposed_w_k, block.kv_head), lane);
  add_to_rows<D>(p.k_gradient, sums, block);
}

/// For keys that never leave a window.
template <int D>
__device__ void store_zeros(const KeyTile& block, const JointParams& p) {
  const int64_t first = block.chunk.first_token;
  for (int item = threadIdx.x; item < block.chunk.length * (D / 8); item += kThreads) {
    bf16* row = head_of(p.key_logit_gradients, first + item / (D / 8), block.kv_head, D);
    *reinterpret_cast<uint4*>(row + item % (D / 8) * 8) = uint4{0, 0, 0, 0};
  }
  for (int row = threadIdx.x; row < block.chunk.length; row += kThreads) {
    p.log_importance_gradient[(first + row) * p.kv_heads + block.kv_head] = 0;
  }
}

template <int D>
__global__ void __launch_bounds__(kThreads, D == 64 ? 2 : 1)
    bwd_far_keys_kernel(const JointParams p) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<FarKeyShared<D>*>(memory);
  const KeyTile block(p);
  if (!block.has_far) {
    store_zeros<D>(block, p);
    return;
  }
  load_keys<D>(shared, block, p);
  FragmentC sums[D / 16];
  for (FragmentC& c : sums) c.clear();
  const int64_t row = (static_cast<int64_t>(blockIdx.x) * p.kv_heads + block.kv_head) * 2 * D;
  begin_sums<D>(sums, shared, block, p.mass_gradients + row);
  __syncthreads();
  load_queries<D>(shared, block, 0, p);
  for (int g = 0; g < block.group; ++g) {
    wait_for_copies();
    __syncthreads();  // the queries are there, and those before are no longer read
    if (g + 1 < block.group) load_queries<D>(shared, block, g + 1, p);
#pragma unroll 1
    for (int t = block.tile; t < kChunkTiles; ++t) {
      if (block.role == 0) {
        add_value_gradient<D>(sums, shared, block, g % 2, t);
      } else {
        add_key_gradient<D>(sums, shared, block, g % 2, t);
      }
    }
  }
  if (block.role == 0) add_to_rows<D>(p.v_gradient, sums, block);
  finish_keys<D>(sums, shared, block, p);
}

}  // namespace

int joint_shared_memory(int head_dim) {
  int bytes = -1;
  with_head_dim(head_dim, [&](auto size) {
    constexpr int D = decltype(size)::value;
    bytes = static_cast<int>(std::max(sizeof(FarKeyShared<D>), sizeof(FwdQueryShared<D>)));
    return cudaSuccess;
  });
  return bytes;
}

cudaError_t launch_joint_bwd_far_keys(const JointParams& params, cudaStream_t stream) {
  return with_head_dim(params.head_dim, [&](auto head_dim) {
    constexpr int D = decltype(head_dim)::value;
    const dim3 grid(params.chunk_count, params.kv_heads);
    return launch_with_shared_memory(bwd_far_keys_kernel<D>, grid, kThreads,
                                     sizeof(FarKeyShared<D>), params, stream);
  });
}

}  // namespace tigon::cuda
