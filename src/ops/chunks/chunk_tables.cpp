#include "ops/chunks/chunk_tables.h"

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>

#include <utility>

#include "ops/kernel_arguments.h"

namespace tigon {

namespace {

/// Tables and what a launch writes into them, rotations aside.
std::pair<ChunkTables, cuda::ChunkLayoutParams> start_layout(const Segments& segments,
                                                             const at::Tensor& cu_seqlens) {
  int64_t count = 0;
  for (const int64_t length : segments.lengths) {
    count += (length + cuda::kChunkTokens - 1) / cuda::kChunkTokens;
  }
  const at::TensorOptions options = at::TensorOptions().device(cu_seqlens.device());
  const ChunkTables tables{.offsets = at::empty({segments.count() + 1}, options.dtype(at::kInt)),
                           .chunks = at::empty({count, static_cast<int64_t>(sizeof(cuda::Chunk))},
                                               options.dtype(at::kByte)),
                           .rotations = {},
                           .count = static_cast<int>(count)};
  cuda::ChunkLayoutParams params = {};
  params.cu_seqlens = cu_seqlens.const_data_ptr<int32_t>();
  params.tokens = segments.total;
  params.segments = static_cast<int>(segments.count());
  params.chunk_offsets = tables.offsets.mutable_data_ptr<int32_t>();
  params.chunks = static_cast<cuda::Chunk*>(tables.chunks.mutable_data_ptr());
  return {tables, params};
}

}  // namespace

ChunkTables make_chunk_tables(const Segments& segments, cudaStream_t stream) {
  const at::Tensor cu_seqlens = segments.cu_seqlens.contiguous();
  const auto [tables, params] = start_layout(segments, cu_seqlens);
  C10_CUDA_CHECK(cuda::launch_chunks(params, stream));
  return tables;
}

ChunkTables make_chunk_tables(const Segments& segments, const at::Tensor& positions,
                              const at::Tensor& inverse_frequencies, double rope_scale,
                              cudaStream_t stream) {
  // The memory of copies, if any, is reused in the order of the stream.
  const at::Tensor cu_seqlens = segments.cu_seqlens.contiguous();
  const at::Tensor dense_positions = positions.contiguous();
  const at::Tensor dense_frequencies = inverse_frequencies.contiguous();
  auto [tables, params] = start_layout(segments, cu_seqlens);
  const int64_t D = 2 * inverse_frequencies.size(0);
  tables.rotations =
      at::empty({segments.total, D}, at::TensorOptions(at::kFloat).device(positions.device()));
  params.positions = dense_positions.const_data_ptr<int64_t>();
  params.inverse_frequencies = dense_frequencies.const_data_ptr<float>();
  params.rope_scale = static_cast<float>(rope_scale);
  params.head_dim = static_cast<int>(D);
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
