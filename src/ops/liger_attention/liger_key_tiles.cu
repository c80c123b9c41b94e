// Computes  what the queries' kernels and the states need of a chunk's keys, once for all of them:
//           RoPE(k), φ(k) ⊙ exp(m − c), exp(c − m), and the decays that lead from middle to middle
//           of the sub-chunks (liger_chunk.cuh has the names; log-gates bounded throughout),
//           besides the decay of the whole chunk
// Shapes    k [N, Hkv, D]; tiles [C, Hkv, 64, D] bf16; links [C, Hkv, 5, D], decays [C, Hkv, D]
// Grid      (C, Hkv) blocks of one thread for each sub-chunk and two neighbouring channels
// Tiles     a chunk at a time
// Memory    reads k once, writes three times as much; D = 64, 16 K tokens: 68 MB
// Saves     all of it: the backward pass reads it again
// Order     sums over tokens in order; deterministic
#include "ops/chunks/chunk_launch.cuh"
#include "ops/liger_attention/liger_chunk.cuh"

namespace tigon::cuda {
namespace {

template <int D>
constexpr int kThreads = kSubChunks* D / 2;

template <int D>
struct KeyTilesShared {
  alignas(16) bf16 keys[kChunkTokens * kRowStride<D>];
  float log2_sum_exp[kChunkTokens];
  // Sums of log-gates of each sub-chunk, base 2: of its first half, of its second half, and of all
  // of it unbounded.
  float first_half[kSubChunks * D], second_half[kSubChunks * D], whole[kSubChunks * D];
};

/// Two neighbouring channels of one sub-chunk.
template <int D>
__device__ void store_sub_chunk(KeyTilesShared<D>& shared, bf16* to_middle, bf16* from_middle,
                                int sub_chunk, int channel, int length, float inverse_normalizer) {
  const int first = sub_chunk * kTile;
  uint32_t keys[kTile];
  float2 sums[kTile];  // c
  float2 sum = {0, 0}, whole = {0, 0};
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    keys[i] = load_pair(shared.keys + (first + i) * kRowStride<D> + channel);
    if (first + i < length) {
      const float2 k = unpack(keys[i]);
      const float x = log2_gate(k.x, inverse_normalizer);
      const float y = log2_gate(k.y, inverse_normalizer);
      whole.x += x;
      whole.y += y;
      sum.x += fmaxf(x, kLowestLogGate);
      sum.y += fmaxf(y, kLowestLogGate);
    }
    sums[i] = sum;
  }
  const float2 middle = sums[kTile / 2 - 1];
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    const int row = first + i, at = row * D + channel;
    const float2 k = unpack(keys[i]);
    const float x = sums[i].x - middle.x, y = sums[i].y - middle.y;
    // exp(m − c) and φ(k) by one exponential; absent keys have φ(k) = 0.
    const float base = row < length ? shared.log2_sum_exp[row] : INFINITY;
    store_pair(to_middle + at, exp2_fast(k.x * kLog2E - base - x),
               exp2_fast(k.y * kLog2E - base - y));
    store_pair(from_middle + at, exp2_fast(x), exp2_fast(y));
  }
  const int at = sub_chunk * D + channel;
  *reinterpret_cast<float2*>(shared.first_half + at) = middle;
  *reinterpret_cast<float2*>(shared.second_half + at) = {sum.x - middle.x, sum.y - middle.y};
  *reinterpret_cast<float2*>(shared.whole + at) = whole;
}

template <int D>
__global__ void __launch_bounds__(kThreads<D>) key_tiles_kernel(const LigerParams p) {
  __shared__ KeyTilesShared<D> shared;
  const Chunk chunk = p.chunks[blockIdx.x];
  const int head = blockIdx.y;
  const int64_t index = blockIdx.x * static_cast<int64_t>(p.kv_heads) + head;
  load_rows<D, kChunkTokens, kThreads<D>>(shared.keys, head_of(p.k, chunk.first_token, head, D),
                                          p.k.token_stride, 0, chunk.length);
  wait_for_copies();
  __syncthreads();
  for (int item = threadIdx.x; item < 4 * kChunkTokens; item += kThreads<D>) {
    const RowQuarter<D> part(shared.keys + item / 4 * kRowStride<D>, item % 4);
    const RowSoftmax softmax = part.softmax();
    if (item % 4 == 0) {
      shared.log2_sum_exp[item / 4] = softmax.maximum - log2_fast(softmax.inverse_sum);
    }
  }
  store_rotated_rows<D>(static_cast<bf16*>(p.rotated_keys) + index * kChunkTokens * D, D,
                        shared.keys, p.rotations + static_cast<int64_t>(chunk.first_token) * D,
                        kChunkTokens, chunk.length, threadIdx.x, kThreads<D>);
  __syncthreads();
  store_sub_chunk<D>(shared, static_cast<bf16*>(p.keys_to_middle) + index * kChunkTokens * D,
                     static_cast<bf16*>(p.from_middle) + index * kChunkTokens * D,
                     threadIdx.x / (D / 2), threadIdx.x % (D / 2) * 2, chunk.length,
                     p.inverse_normalizer);
  __syncthreads();
  for (int item = threadIdx.x; item < kLinks * D; item += kThreads<D>) {
    const float before = item < D ? 0.0f : shared.second_half[item - D];
    const float after = item < kSubChunks * D ? shared.first_half[item] : 0.0f;
    p.links[index * kLinks * D + item] = exp2_fast(before + after);
  }
  for (int d = threadIdx.x; d < D; d += kThreads<D>) {
    float sum = 0;
#pragma unroll
    for (int j = 0; j < kSubChunks; ++j) sum += shared.whole[j * D + d];
    p.decays[index * D + d] = exp2_fast(sum);
  }
}

}  // namespace

cudaError_t launch_liger_key_tiles(const LigerParams& params, cudaStream_t stream) {
  return with_head_dim(params.head_dim, [&](auto head_dim) {
    constexpr int D = decltype(head_dim)::value;
    const dim3 grid(params.chunk_count, params.kv_heads);
    key_tiles_kernel<D><<<grid, kThreads<D>, 0, stream>>>(params);
    return cudaGetLastError();
  });
}

}  // namespace tigon::cuda
