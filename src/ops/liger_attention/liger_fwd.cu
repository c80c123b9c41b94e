// Computes  o = (1−mix)·window(RoPE q, RoPE k, v) + mix·φ(q)·(recurrence), for one chunk and KV
// head
//           with all query heads of its group
// Shapes    q [N, H, D], v [N, Hkv, D], key tiles [C, Hkv, 64, D], states [C, Hkv, D, D],
//           out [N, H, D], bf16
// Grid      (C, Hkv) blocks of 128 threads for each of two query heads at work at once
// Tiles     chunks of 64 tokens, with the 64 keys before them for the window; a warp owns 16 query
//           rows of a head: its scores and its output stay in registers
// Memory    D = 64: 105 KB shared, two blocks a multiprocessor; D = 128: 214 KB, one. Reads q once,
//           rotated keys and v twice (from L2), writes out; no score and no repeated k or v leaves
//           the chip. Whole rows of q go through shared memory, since the L1 cache takes a cycle
//           for each row that a load or store touches
// Saves     nothing: the backward pass makes scores again
// Order     fixed; deterministic
#include "ops/chunks/chunk_launch.cuh"
#include "ops/liger_attention/liger_queries.cuh"

namespace tigon::cuda {
namespace {

/// Adds mix · the recurrence's scores to the weights of the chunk's own keys, and makes
/// mix · φ(q) exp(b), by which the state before the chunk is read.
template <int D>
__device__ void add_recurrence(FragmentC (&weights)[kWindowTiles], FragmentC (&from_start)[D / 16],
                               const QueryShared<D>& shared, const FragmentA (&queries)[D / 16],
                               int tile, float mix, int lane) {
  FragmentSoftmax softmax = softmax_of_fragments<D>(queries);
  for (RowSoftmax& row : softmax.row) row.inverse_sum *= mix;
#pragma unroll
  for (int g = 0; g < D / 16; ++g) {
    from_start[g] = mapped(queries[g], softmax);
    scale_elements<D>(from_start[g], shared.from_middle + tile * kTile * kRowStride<D> + 16 * g,
                      lane);
  }
  // By distance in sub-chunks; 0 is the queries' own.
#pragma unroll
  for (int distance = 0; distance < kSubChunks; ++distance) {
    if (distance > tile) break;
    const int key_tile = tile - distance;
    const bf16* keys = shared.to_middle + key_tile * kTile * kRowStride<D>;
    FragmentC scores;
    scores.clear();
#pragma unroll
    for (int g = 0; g < D / 16; ++g) {
      multiply_add(scores, to_a(from_start[g]), load_b<D>(keys + 16 * g, lane));
    }
    if (distance == 0) keep_lower(scores, lane);
#pragma unroll
    for (int i = 0; i < 8; ++i) weights[kWindowTiles - 1 - distance].x[i] += scores.x[i];
#pragma unroll
    for (int g = 0; g < D / 16; ++g) {
      scale_columns(from_start[g], shared.links + key_tile * D + 16 * g, lane);
    }
  }
}

template <int D>
__global__ void __launch_bounds__(kQueryThreads, D == 64 ? 2 : 1) fwd_kernel(const LigerParams p) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<QueryShared<D>*>(memory);
  const Chunk chunk = p.chunks[blockIdx.x];
  const int kv_head = blockIdx.y, group = p.heads / p.kv_heads;
  const int lane = threadIdx.x % 32;
  bf16* rows = shared.warp_rows[threadIdx.x / 32];
  // The next head's queries are on their way while this one's are worked on.
  const auto start_queries = [&](int g) {
    const QueryTile next(p, chunk, kv_head, g);
    if (g >= group || next.valid <= 0) return;
    start_warp_rows<D>(rows, head_of(p.q, next.token, next.head, D), p.q.token_stride, next.valid,
                       lane);
  };
  int g = threadIdx.x / (32 * kSubChunks);
  start_queries(g);
  load_chunk<D>(shared, p, chunk, blockIdx.x, kv_head);
  wait_for_copies();
  __syncthreads();

  for (; g < group; g += kHeadsAtOnce) {
    const auto [head, tile, valid, token] = QueryTile(p, chunk, kv_head, g);
    if (valid <= 0) {
      start_queries(g + kHeadsAtOnce);
      continue;
    }
    FragmentA queries[D / 16];
    finish_warp_rows<D>(queries, rows, lane);
    rotate<D>(queries, shared.rotations + tile * kTile * kRotationStride<D>, valid, lane,
              kRotationStride<D>);
    FragmentC weights[kWindowTiles];
    window_softmax<D>(weights, queries, shared.rotated_keys, tile, chunk.is_first, p, 1 - p.mix,
                      lane);
    finish_warp_rows<D>(queries, rows, lane);  // again, rather than kept all the while
    __syncwarp();
    start_queries(g + kHeadsAtOnce);
    FragmentC from_start[D / 16], out[D / 16];
    add_recurrence<D>(weights, from_start, shared, queries, tile, p.mix, lane);

    for (FragmentC& c : out) c.clear();
#pragma unroll
    for (int t = 0; t < kWindowTiles; ++t) {
      const FragmentA a = to_a(weights[t]);
      const bf16* values = shared.values + (tile + t) * kTile * kRowStride<D>;
#pragma unroll
      for (int n = 0; n < D / 16; ++n) {
        multiply_add(out[n], a, load_b_transposed<D>(values + 16 * n, lane));
      }
    }
#pragma unroll
    for (int k = 0; k < D / 16; ++k) {
      const FragmentA a = to_a(from_start[k]);
      const bf16* state = shared.state + 16 * k * kRowStride<D>;
#pragma unroll
      for (int n = 0; n < D / 16; ++n) {
        multiply_add(out[n], a, load_b_transposed<D>(state + 16 * n, lane));
      }
    }
    bf16* target = head_of(p.out, token, head, D);
#pragma unroll
    for (int n = 0; n < D / 16; n += 2) {
      store_rows(target + 16 * n, p.out.token_stride, to_a(out[n]), to_a(out[n + 1]), valid, lane);
    }
  }
}

}  // namespace

cudaError_t launch_liger_fwd(const LigerParams& params, cudaStream_t stream) {
  return with_head_dim(params.head_dim, [&](auto head_dim) {
    constexpr int D = decltype(head_dim)::value;
    const dim3 grid(params.chunk_count, params.kv_heads);
    return launch_with_shared_memory(fwd_kernel<D>, grid, kQueryThreads, sizeof(QueryShared<D>),
                                     params, stream);
  });
}

}  // namespace tigon::cuda
