// Computes  the keys' feature maps with importance and decay: K' = e^log_importance φk a^(32 − s);
//           RoPE(k)
// Shapes    k [N, Hkv, D], w_k [Hkv, D, D] bf16, b_k [Hkv, D] float32 → K' [N, Hkv, 2D],
//           rotated keys [N, Hkv, D] bf16
// Grid      (C, Hkv) blocks of 128 threads
// Tiles     a chunk of one head; a warp owns 16 rows, z stays in registers in float32
// Memory    weights as fragments, straight from the L2 cache; reads k, writes three numbers for
//           each one read
// Saves     nothing: the backward pass makes the maps again
// Order     fixed; deterministic
#include "ops/chunks/chunk_launch.cuh"
#include "ops/joint_attention/joint_maps.cuh"

namespace tigon::cuda {
namespace {

constexpr int kThreads = 32 * kChunkTiles;

template <int D>
__global__ void __launch_bounds__(kThreads, D == 64 ? 5 : 3) keys_kernel(const JointParams p) {
  const Chunk chunk = p.chunks[blockIdx.x];
  const int head = blockIdx.y, lane = threadIdx.x % 32, tile = threadIdx.x / 32;
  const int valid = chunk.length - tile * kTile;
  if (valid <= 0) return;
  const int64_t token = static_cast<int64_t>(chunk.first_token) + tile * kTile;
  __shared__ alignas(16) bf16 tiles[kChunkTiles][kTile * kRowStride<D>];
  FragmentA keys[D / 16];
  start_warp_rows<D>(tiles[tile], head_of(p.k, token, head, D), p.k.token_stride, valid, lane);
  finish_warp_rows<D>(keys, tiles[tile], lane);
  const int rows_there = min(valid, kTile);
  store_rotated_rows<D>(head_of(p.rotated_keys, token, head, D), p.rotated_keys.token_stride,
                        tiles[tile], p.rotations + token * D, rows_there, rows_there, lane, 32);

  Logits<D> logits;
  logits.make(keys, packed_head<D>(p.packed_w_k, head), p.b_k + head * D, lane);

  float shift[2] = {0, 0}, slope[2];
  places_from_middle(slope, tile, lane);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    slope[i] = -slope[i];
    const int row = fragment_row(i, lane);
    if (row < valid) shift[i] = kLog2E * clipped_log_importance(p, token + row, head);
  }
  bf16* rows = head_of(p.mapped_keys, token, head, 2 * D);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float* log_decay = p.log_decay + (static_cast<int64_t>(head) * 2 + half) * D;
#pragma unroll
    for (int n = 0; n < D / 16; n += 2) {
      store_rows(rows + half * D + 16 * n, p.mapped_keys.token_stride,
                 to_a(logits.mapped(half, n, shift, slope, log_decay, lane)),
                 to_a(logits.mapped(half, n + 1, shift, slope, log_decay, lane)), valid, lane);
    }
  }
}

}  // namespace

cudaError_t launch_joint_keys(const JointParams& params, cudaStream_t stream) {
  return with_head_dim(params.head_dim, [&](auto head_dim) {
    const dim3 grid(params.chunk_count, params.kv_heads);
    keys_kernel<decltype(head_dim)::value><<<grid, kThreads, 0, stream>>>(params);
    return cudaGetLastError();
  });
}

}  // namespace tigon::cuda
