// Computes  the chunks of every segment, and cos and sin of every token's RoPE angles (float32,
//           rounded to float16: chunk_layout.h)
// Shapes    chunks [C], rotations [N, D/2, 2]
// Grid      chunks: one block (a scan over the segments); rotations: one thread an angle
// Tiles     none
// Memory    writes 16 bytes a chunk and 4·D bytes a token; both are read by every later kernel
// Saves     the backward pass makes them again
// Order     no sums of floating-point numbers; deterministic
#include <cuda_fp16.h>

#include <cub/block/block_scan.cuh>

#include "ops/chunks/chunk_layout.h"

namespace tigon::cuda {
namespace {

constexpr int kThreads = 256;

__device__ int chunks_of(const int32_t* cu_seqlens, int segment) {
  return (cu_seqlens[segment + 1] - cu_seqlens[segment] + kChunkTokens - 1) / kChunkTokens;
}

__global__ void __launch_bounds__(kThreads) chunk_kernel(const ChunkLayoutParams p) {
  using Scan = cub::BlockScan<int, kThreads>;
  __shared__ Scan::TempStorage scan_storage;
  // Each thread takes neighbouring segments.
  const int each = (p.segments + kThreads - 1) / kThreads;
  const int begin = min(p.segments, static_cast<int>(threadIdx.x) * each);
  const int end = min(p.segments, begin + each);
  int count = 0, offset = 0, total = 0;
  for (int s = begin; s < end; ++s) count += chunks_of(p.cu_seqlens, s);
  Scan(scan_storage).ExclusiveSum(count, offset, total);
  for (int s = begin; s < end; ++s) {
    p.chunk_offsets[s] = offset;
    const int first = p.cu_seqlens[s], last = p.cu_seqlens[s + 1];
    for (int token = first; token < last; token += kChunkTokens) {
      p.chunks[offset++] = {token, min(kChunkTokens, last - token), s, token == first};
    }
  }
  if (threadIdx.x == 0) p.chunk_offsets[p.segments] = total;
}

__global__ void __launch_bounds__(kThreads) rotation_kernel(const ChunkLayoutParams p) {
  const int64_t item = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  const int pairs = p.head_dim / 2;
  if (item >= p.tokens * pairs) return;
  const float angle =
      static_cast<float>(p.positions[item / pairs]) * p.inverse_frequencies[item % pairs];
  float sin, cos;
  sincosf(angle, &sin, &cos);
  const __half2 rounded = __floats2half2_rn(cos * p.rope_scale, sin * p.rope_scale);
  reinterpret_cast<float2*>(p.rotations)[item] = __half22float2(rounded);
}

}  // namespace

cudaError_t launch_chunks(const ChunkLayoutParams& params, cudaStream_t stream) {
  chunk_kernel<<<1, kThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

cudaError_t launch_chunk_layout(const ChunkLayoutParams& params, cudaStream_t stream) {
  const cudaError_t error = launch_chunks(params, stream);
  if (error != cudaSuccess) return error;
  const int64_t angles = params.tokens * (params.head_dim / 2);
  rotation_kernel<<<(angles + kThreads - 1) / kThreads, kThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace tigon::cuda
