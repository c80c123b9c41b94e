#include "ops/chunks/chunk_tables.h"

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>

#include "ops/kernel_arguments.h"

namespace tigon {

ChunkTables make_chunk_tables(const Segments& segments, const at::Tensor& positions,
                              const at::Tensor& inverse_frequencies, double rope_scale,
                              cudaStream_t stream) {
  int64_t count = 0;
  for (const int64_t length : segments.lengths) {
    count += (length + cuda::kChunkTokens - 1) / cuda::kChunkTokens;
  }
  const int64_t pairs = inverse_frequencies.size(0);
  const auto make = [&](at::IntArrayRef shape, at::ScalarType type) {
    return at::empty(shape, at::TensorOptions(type).device(positions.device()));
  };
  const ChunkTables tables{
      .offsets = make({segments.count() + 1}, at::kInt),
      .chunks = make({count, static_cast<int64_t>(sizeof(cuda::Chunk))}, at::kByte),
      .rotations = make({segments.total, 2 * pairs}, at::kFloat),
      .count = static_cast<int>(count)};
  // The memory of copies, if any, is reused in the order of the stream.
  const at::Tensor cu_seqlens = segments.cu_seqlens.contiguous();
  const at::Tensor dense_positions = positions.contiguous();
  const at::Tensor dense_frequencies = inverse_frequencies.contiguous();
  cuda::ChunkLayoutParams params = {};
  params.cu_seqlens = cu_seqlens.const_data_ptr<int32_t>();
  params.positions = dense_positions.const_data_ptr<int64_t>();
  params.inverse_frequencies = dense_frequencies.const_data_ptr<float>();
  params.rope_scale = static_cast<float>(rope_scale);
  params.tokens = segments.total;
  params.segments = static_cast<int>(segments.count());
  params.head_dim = static_cast<int>(2 * pairs);
  params.chunk_offsets = tables.offsets.mutable_data_ptr<int32_t>();
  params.chunks = static_cast<cuda::Chunk*>(tables.chunks.mutable_data_ptr());
  params.rotations = tables.rotations.mutable_data_ptr<float>();
  C10_CUDA_CHECK(cuda::launch_chunk_layout(params, stream));
  return tables;
}

at::Tensor with_head_rows(const at::Tensor& x) {
  return with_vector_rows(x.stride(1) == x.size(2) ? x : x.contiguous());
}

cuda::HeadRows head_rows(const at::Tensor& x) {
  return {x.data_ptr(), x.stride(0)};
}

}  // namespace tigon
