// Computes  what the keys get through the window, from the queries of their own chunk and of the W
//           chunks after it:
//           dv_j = Σ_i P_ij do_i,   dk = RoPE⁻¹(Σ_i dS_ij RoPE(q_i)) / √D
//           with P = e^(s − L), dS = P (do vᵀ − δ), L and δ = do · o of the queries' row
// Shapes    k, v, dk, dv [N, Hkv, D] bf16
// Grid      (C, Hkv) blocks of two warps for each tile of 16 keys: one for dv, one for dk
// Tiles     16 keys by 16 queries, scores transposed (keys are rows) and never stored; two chunks
//           of queries at a time, first the two whose seen tiles make up one chunk's
// Memory    D = 64: 56 KB shared, three blocks a multiprocessor; D = 128: 106 KB, two. Reads
//           RoPE(q) and do of every head of the group 1 + W times (from L2)
// Saves     recomputes scores from the log-sum-exp of the forward pass
// Order     heads, then chunks of queries, then tiles, each in order; deterministic
#include "ops/chunks/chunk_launch.cuh"
#include "ops/joint_attention/joint_queries.cuh"

namespace tigon::cuda {
namespace {

constexpr int kThreads = 32 * kChunkTiles * 2;

template <int D>
struct WindowKeyShared {
  static constexpr int kTileElements = kChunkTokens * kRowStride<D>;

  alignas(16) bf16 rotated_keys[kTileElements];
  alignas(16) bf16 values[kTileElements];
  // Of two chunks of queries.
  alignas(16) bf16 rotated_queries[2][kTileElements];
  alignas(16) bf16 out_gradients[2][kTileElements];
  alignas(16) float log2_sum_exp[2][kChunkTokens];
  alignas(16) float dots[2][kChunkTokens];
};

struct KeyBlock {
  Chunk chunk;
  int kv_head, group;
  int query_chunks;  // that see these keys, the block's own included
  bool has_oldest;   // the last of them is W chunks later
  int lane, tile;

  __device__ explicit KeyBlock(const JointParams& p)
      : chunk(p.chunks[blockIdx.x]),
        kv_head(blockIdx.y),
        group(p.heads / p.kv_heads),
        lane(threadIdx.x % 32),
        tile(threadIdx.x / 32 % kChunkTiles) {
    const int later = p.chunk_offsets[chunk.segment + 1] - 1 - static_cast<int>(blockIdx.x);
    has_oldest = later >= p.window_chunks;
    query_chunks = 1 + min(later, p.window_chunks);
  }
  /// Distance of a chunk of queries, in the order in which they are visited: the own one, the one W
  /// chunks later, those between.
  __device__ int distance(int index) const {
    if (!has_oldest || index == 0) return index;
    return index == 1 ? query_chunks - 1 : index - 1;
  }
  __device__ Window window(int index) const {
    if (index == 0) return Window::kOwn;
    return has_oldest && index == 1 ? Window::kOldest : Window::kMiddle;
  }
};

/// Starts the copies of a head's queries of one chunk, their upstream gradients and sums.
template <int D>
__device__ void load_queries(WindowKeyShared<D>& shared, const KeyBlock& block, int head, int index,
                             const JointParams& p) {
  const int chunk = static_cast<int>(blockIdx.x) + block.distance(index);
  const int64_t first = p.chunks[chunk].first_token;
  const int length = p.chunks[chunk].length, slot = index % 2;
  load_rows<D>(shared.out_gradients[slot], head_of(p.out_gradient, first, head, D),
               p.out_gradient.token_stride, kChunkTokens, 0, length);
  load_rows<D>(shared.rotated_queries[slot], head_of(p.rotated_queries, first, head, D),
               p.rotated_queries.token_stride, kChunkTokens, 0, length);
  for (int row = threadIdx.x; row < kChunkTokens; row += kThreads) {
    const int64_t at = (first + row) * p.heads + head;
    shared.log2_sum_exp[slot][row] = row < length ? p.log2_sum_exp[at] : INFINITY;  // P = 0
    shared.dots[slot][row] = row < length ? p.row_dots[at] : 0.0f;
  }
}

/// left · rightᵀ, [16 keys, 16 queries], over the head dimension.
template <int D>
__device__ FragmentC transposed_products(const bf16* left, const bf16* right, int lane) {
  FragmentC c;
  c.clear();
#pragma unroll
  for (int g = 0; g < D / 16; ++g) {
    multiply_add(c, load_a<D>(left + 16 * g, lane), load_b<D>(right + 16 * g, lane));
  }
  return c;
}

/// What one tile of queries adds to dv (is_value) or to the gradient of the rotated keys.
template <int D>
__device__ void add_tile(FragmentC (&sums)[D / 16], const WindowKeyShared<D>& shared,
                         const KeyBlock& block, int slot, Window window, int query_tile,
                         bool is_value, float scale) {
  const int lane = block.lane;
  const int own = block.tile * kTile * kRowStride<D>, other = query_tile * kTile * kRowStride<D>;
  const bf16* queries = shared.rotated_queries[slot] + other;
  const bf16* out_gradients = shared.out_gradients[slot] + other;
  FragmentC scores = transposed_products<D>(shared.rotated_keys + own, queries, lane);
  if (query_tile == block.tile && window == Window::kOwn) {
    keep_where(scores, -INFINITY, lane, [](int key, int query) { return key <= query; });
  } else if (query_tile == block.tile && window == Window::kOldest) {
    keep_where(scores, -INFINITY, lane, [](int key, int query) { return key > query; });
  }
  const float* log2_sums = shared.log2_sum_exp[slot] + query_tile * kTile;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float log2_sum = log2_sums[fragment_column(i / 2, lane) + i % 2];
    scores.x[i] = exp2_fast(scores.x[i] * (scale * kLog2E) - log2_sum);
  }
  if (!is_value) {
    const FragmentC gradients = transposed_products<D>(shared.values + own, out_gradients, lane);
    const float* dots = shared.dots[slot] + query_tile * kTile;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float dot = dots[fragment_column(i / 2, lane) + i % 2];
      scores.x[i] *= scale * (gradients.x[i] - dot);
    }
  }
  const FragmentA a = to_a(scores);
  const bf16* rows = is_value ? out_gradients : queries;
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
    multiply_add(sums[n], a, load_b_transposed<D>(rows + 16 * n, lane));
  }
}

template <int D>
__global__ void __launch_bounds__(kThreads, D == 64 ? 3 : 2)
    bwd_window_keys_kernel(const JointParams p) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<WindowKeyShared<D>*>(memory);
  const KeyBlock block(p);
  const bool is_value = threadIdx.x >= 32 * kChunkTiles;
  const int64_t first = block.chunk.first_token;
  load_rows<D>(shared.values, head_of(p.v, first, block.kv_head, D), p.v.token_stride, kChunkTokens,
               0, block.chunk.length);
  load_rows<D>(shared.rotated_keys, head_of(p.rotated_keys, first, block.kv_head, D),
               p.rotated_keys.token_stride, kChunkTokens, 0, block.chunk.length);

  FragmentC sums[D / 16];
  for (FragmentC& c : sums) c.clear();
  for (int g = 0; g < block.group; ++g) {
    const int head = block.kv_head * block.group + g;
    for (int index = 0; index < block.query_chunks; index += 2) {
      const int end = min(index + 2, block.query_chunks);
      __syncthreads();
      for (int i = index; i < end; ++i) load_queries<D>(shared, block, head, i, p);
      wait_for_copies();
      __syncthreads();
      for (int i = index; i < end; ++i) {
        const Window window = block.window(i);
        const int first_tile = window == Window::kOwn ? block.tile : 0;
        const int last_tile = window == Window::kOldest ? block.tile : kChunkTiles - 1;
#pragma unroll 1  // the code of four does not fit the instruction cache
        for (int t = first_tile; t <= last_tile; ++t) {
          add_tile<D>(sums, shared, block, i % 2, window, t, is_value, p.softmax_scale);
        }
      }
    }
  }

  const int valid = block.chunk.length - block.tile * kTile;
  if (valid <= 0) return;
  const int64_t token = first + block.tile * kTile;
  const HeadRows& target = is_value ? p.v_gradient : p.k_gradient;
  if (!is_value) {
#pragma unroll
    for (int n = 0; n < D / 32; ++n) {
      rotate_back<D>(sums[n], sums[n + D / 32], n, p.rotations + token * D, valid, block.lane);
    }
  }
  bf16* rows = head_of(target, token, block.kv_head, D);
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
    store_rows(rows + 16 * n, target.token_stride, to_a(sums[n]), valid, block.lane);
  }
}

}  // namespace

cudaError_t launch_joint_bwd_window_keys(const JointParams& params, cudaStream_t stream) {
  return with_head_dim(params.head_dim, [&](auto head_dim) {
    constexpr int D = decltype(head_dim)::value;
    static_assert(sizeof(WindowKeyShared<D>) <= sizeof(JointQueryShared<D>), "joint_shared_memory");
    const dim3 grid(params.chunk_count, params.kv_heads);
    return launch_with_shared_memory(bwd_window_keys_kernel<D>, grid, kThreads,
                                     sizeof(WindowKeyShared<D>), params, stream);
  });
}

}  // namespace tigon::cuda
