// Computes  o = (1−mix)·window(RoPE q, RoPE k, v) + mix·φ(q)·(recurrence), for one chunk and KV
// head
//           with all query heads of its group
// Shapes    q [N, H, D], k and v [N, Hkv, D], states [C, Hkv, D, D], out [N, H, D], bf16
// Grid      (C, Hkv) blocks of 128 threads for each query head at work at once (one or two)
// Tiles     chunks of 64 tokens, with the 64 keys before them for the window; a warp owns 16 query
//           rows of a head: its scores and its output stay in registers
// Memory    D = 64: 83 KB shared, two blocks a multiprocessor; D = 128: 160 KB, one. Reads q once,
//           k and v twice (from L2), writes out; no score and no repeated k or v leaves the chip
// Saves     nothing: the backward pass makes chunk states and scores again
// Order     fixed; deterministic
#include <type_traits>

#include "ops/chunks/chunk_launch.cuh"
#include "ops/liger_attention/liger_queries.cuh"

namespace tigon::cuda {
namespace {

/// out += mix · φ(q) · (state before the chunk, and the chunk's keys up to the query).
template <int D>
__device__ void add_recurrence(FragmentC (&out)[D / 16], const QueryShared<D>& shared,
                               const FragmentA (&queries)[D / 16], int tile, float mix, int lane) {
  const FragmentSoftmax softmax = softmax_of_fragments<D>(queries);
  const int first_row = tile * kTile * kRowStride<D>;
  // By distance in sub-chunks; 0 is the queries' own.
  FragmentC scores[kSubChunks];
  for (FragmentC& c : scores) c.clear();
#pragma unroll
  for (int g = 0; g < D / 16; ++g) {
    FragmentC own = mapped(queries[g], softmax);
    FragmentC earlier = own;
    scale_elements<D>(own, shared.from_middle + first_row + 16 * g, lane);
    multiply_add(scores[0], to_a(own), load_b<D>(shared.to_middle + first_row + 16 * g, lane));
    scale_elements<D>(earlier, shared.from_start + first_row + 16 * g, lane);
#pragma unroll
    for (int distance = 1; distance < kSubChunks; ++distance) {
      if (distance > tile) break;
      const int key_tile = tile - distance;
      const bf16* keys = shared.to_end + key_tile * kTile * kRowStride<D>;
      multiply_add(scores[distance], to_a(earlier), load_b<D>(keys + 16 * g, lane));
      scale_columns(earlier, shared.decay + key_tile * D + 16 * g, lane);
    }
    scale(earlier, mix);
    const FragmentA a = to_a(earlier);
    const bf16* state = shared.state + 16 * g * kRowStride<D>;
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      multiply_add(out[n], a, load_b_transposed<D>(state + 16 * n, lane));
    }
  }
  keep_lower(scores[0], lane);
#pragma unroll
  for (int distance = 0; distance < kSubChunks; ++distance) {
    if (distance > tile) break;
    scale(scores[distance], mix);
    const FragmentA a = to_a(scores[distance]);
    const bf16* values = shared.values + (kSubChunks + tile - distance) * kTile * kRowStride<D>;
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      multiply_add(out[n], a, load_b_transposed<D>(values + 16 * n, lane));
    }
  }
}

/// out += probabilities of the window · v.
template <int D>
__device__ void add_window(FragmentC (&out)[D / 16], const FragmentC (&probabilities)[kWindowTiles],
                           const QueryShared<D>& shared, int tile, bool is_first_chunk, int lane) {
#pragma unroll
  for (int t = 0; t < kWindowTiles; ++t) {
    if (is_first_chunk && tile + t < kSubChunks) continue;
    const FragmentA a = to_a(probabilities[t]);
    const bf16* values = shared.values + (tile + t) * kTile * kRowStride<D>;
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      multiply_add(out[n], a, load_b_transposed<D>(values + 16 * n, lane));
    }
  }
}

template <int D>
__global__ void __launch_bounds__(256, D == 64 ? 2 : 1) fwd_kernel(const LigerParams p) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<QueryShared<D>*>(memory);
  const Chunk chunk = p.chunks[blockIdx.x];
  const int kv_head = blockIdx.y, group = p.heads / p.kv_heads;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int tile = warp % kSubChunks, valid = chunk.length - tile * kTile;
  const int64_t token = static_cast<int64_t>(chunk.first_token) + tile * kTile;
  // The next head's queries are on their way while this one's are worked on.
  FragmentA queries[D / 16];
  const auto load_queries = [&](int g) {
    load_query_rows<D>(queries, head_of(p.q, token, kv_head * group + g, D), p.q.token_stride,
                       valid, lane);
  };
  const int stride = blockDim.x / 128;
  int g = warp / kSubChunks;
  if (g < group) load_queries(g);
  load_chunk<D>(shared, p, chunk, blockIdx.x, kv_head);
  if (valid <= 0) return;

  for (; g < group; g += stride) {
    FragmentC out[D / 16];
    for (FragmentC& c : out) c.clear();
    add_recurrence<D>(out, shared, queries, tile, p.mix, lane);
    rotate<D>(queries, p.rotations + token * D, valid, lane);
    FragmentC probabilities[kWindowTiles];
    window_softmax<D>(probabilities, queries, shared.rotated_keys, tile, chunk.is_first, p,
                      1 - p.mix, lane);
    if (g + stride < group) load_queries(g + stride);
    add_window<D>(out, probabilities, shared, tile, chunk.is_first, lane);
    bf16* target = head_of(p.out, token, kv_head * group + g, D);
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      store_rows(target + 16 * n, p.out.token_stride, out[n], valid, lane);
    }
  }
}

}  // namespace

cudaError_t launch_liger_fwd(const LigerParams& params, cudaStream_t stream) {
  return with_head_dim(params.head_dim, [&](auto head_dim) {
    constexpr int D = decltype(head_dim)::value;
    const dim3 grid(params.chunk_count, params.kv_heads);
    const int threads = params.heads == params.kv_heads ? 128 : 256;
    return launch_with_shared_memory(fwd_kernel<D>, grid, threads, sizeof(QueryShared<D>), params,
                                     stream);
  });
}

}  // namespace tigon::cuda
