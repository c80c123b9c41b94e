// What kernels that work in chunks of tokens share with their host side: plain structures, no
// Torch.
//
// N tokens, S segments, C chunks, D head size. A chunk is 64 tokens of one segment, counted from
// the segment's start; only a segment's last chunk may be shorter. Nothing depends on where a
// segment lies in the batch.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace tigon::cuda {

inline constexpr int kChunkTokens = 64;

struct Chunk {
  int32_t first_token;
  int32_t length;  // 1 to 64
  int32_t segment;
  int32_t is_first;  // of its segment
};

/// bf16 tokens of one head size; heads of a token lie next to each other.
struct HeadRows {
  void* data;            // [N, heads, D] bf16, 16-byte aligned
  int64_t token_stride;  // elements, a multiple of 8
};

/// Where each segment's chunks start, the chunks, and cos and sin of every token. These are
/// numbers of float16, so that kernels may keep them so: rounding them costs an eighth of what
/// rounding a rotated number to bf16 does.
struct ChunkLayoutParams {
  const int32_t* cu_seqlens;         // [S + 1]
  const int64_t* positions;          // [N]
  const float* inverse_frequencies;  // [D/2]
  float rope_scale;
  int64_t tokens;
  int segments, head_dim;
  int32_t* chunk_offsets;  // [S + 1]
  Chunk* chunks;           // [C]
  float* rotations;        // [N, D/2, 2]: cos, sin
};

/// The chunks alone: reads cu_seqlens and segments, writes chunk_offsets and chunks.
cudaError_t launch_chunks(const ChunkLayoutParams& params, cudaStream_t stream);
/// Chunks and rotations.
cudaError_t launch_chunk_layout(const ChunkLayoutParams& params, cudaStream_t stream);

}  // namespace tigon::cuda
