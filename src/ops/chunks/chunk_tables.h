// The chunk layout of a batch as tensors, and tensors as the chunk kernels read them. CUDA builds
// only.
#pragma once
#include <ATen/core/Tensor.h>

#include "ops/chunks/chunk_layout.h"
#include "ops/segments.h"

namespace tigon {

struct ChunkTables {
  at::Tensor offsets;  // [S + 1] int32: each segment's first chunk
  at::Tensor chunks;   // [C, sizeof(Chunk)] bytes
  at::Tensor
      rotations;  // [N, D] float32: cos, sin of each pair of channels; undefined without RoPE
  int count = 0;  // C

  const cuda::Chunk* data() const { return static_cast<const cuda::Chunk*>(chunks.data_ptr()); }
};

/// Lays out the chunks of `segments` on the stream, without rotations.
ChunkTables make_chunk_tables(const Segments& segments, cudaStream_t stream);
/// With rotations. positions [N] int64 and inverse_frequencies
/// [D/2] float32 lie on the device of the segments; rope_scale multiplies cos and sin.
ChunkTables make_chunk_tables(const Segments& segments, const at::Tensor& positions,
                              const at::Tensor& inverse_frequencies, double rope_scale,
                              cudaStream_t stream);

/// x [N, heads, D] as the kernels read it: a token's heads in a row, every token at 16 bytes.
at::Tensor with_head_rows(const at::Tensor& x);
/// Of such a tensor, which must outlive the result.
cuda::HeadRows head_rows(const at::Tensor& x);

}  // namespace tigon
