// Computes  to[end_to(s) − i] = from[end_from(s) − i + shift] for the i = 1 … rows of segment s,
//           0 where that is no row of the segment. Its own gradient, with the two exchanged and
//           −shift.
// Shapes    from [M, row], to [N, row] of any element type; segments by cumulative lengths
// Grid      one thread for each piece of 16 bytes of `to` (4 or 2 where rows are no multiple),
//           blocks of 256
// Tiles     none; a thread finds its segment by halving
// Memory    no shared memory; every row is read once and written once
// Saves     nothing
// Order     nothing is added. Deterministic.
#include "ops/gated_scan/delayed_rows_params.h"

namespace tigon::cuda {
namespace {

constexpr int kThreads = 256;

/// The segment that holds the row.
__device__ int segment_of(const int32_t* seqlens, int segments, int64_t row) {
  int first = 0, last = segments - 1;
  while (first < last) {
    const int middle = (first + last + 1) / 2;
    if (seqlens[middle] <= row) {
      first = middle;
    } else {
      last = middle - 1;
    }
  }
  return first;
}

template <typename Piece>
__global__ void __launch_bounds__(kThreads) delayed_rows_kernel(const DelayedRowsParams p) {
  const int64_t pieces = p.row_bytes / int64_t{sizeof(Piece)};
  const int64_t piece = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t row = piece / pieces;
  if (row >= p.rows) return;
  const int s = segment_of(p.to_seqlens, p.segments, row);
  const int64_t source = p.from_seqlens[s + 1] - (p.to_seqlens[s + 1] - row) + p.shift;
  Piece value = {};
  if (source >= p.from_seqlens[s] && source < p.from_seqlens[s + 1]) {
    value = static_cast<const Piece*>(p.from)[source * pieces + piece % pieces];
  }
  static_cast<Piece*>(p.to)[piece] = value;
}

template <typename Piece>
cudaError_t launch_pieces(const DelayedRowsParams& p, cudaStream_t stream) {
  const int64_t pieces = p.rows * (p.row_bytes / int64_t{sizeof(Piece)});
  const int64_t blocks = (pieces + kThreads - 1) / kThreads;
  if (blocks == 0) return cudaSuccess;
  delayed_rows_kernel<Piece><<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_delayed_rows(const DelayedRowsParams& p, cudaStream_t stream) {
  const auto address = reinterpret_cast<uintptr_t>(p.from) | reinterpret_cast<uintptr_t>(p.to) |
                       static_cast<uintptr_t>(p.row_bytes);
  if (address % 16 == 0) return launch_pieces<uint4>(p, stream);
  if (address % 4 == 0) return launch_pieces<uint32_t>(p, stream);
  return launch_pieces<uint16_t>(p, stream);
}

}  // namespace tigon::cuda
