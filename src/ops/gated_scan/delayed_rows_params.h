// What the kernel that moves rows along their segments is called with: no Torch.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace tigon::cuda {

/// Rows of `to` that lie `shift` places behind (below 0: before) the rows of `from` when both
/// segments' ends are laid on each other; zeros where the segment of `from` has no such row.
struct DelayedRowsParams {
  const void* from;             // [M, row_bytes]
  void* to;                     // [N, row_bytes]
  const int32_t* from_seqlens;  // [S + 1] cumulative
  const int32_t* to_seqlens;    // [S + 1]
  int segments;                 // S
  int64_t rows;                 // N
  int64_t row_bytes;            // a multiple of 2
  int64_t shift;
};

cudaError_t launch_delayed_rows(const DelayedRowsParams& params, cudaStream_t stream);

}  // namespace tigon::cuda
