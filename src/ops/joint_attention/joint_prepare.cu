// Computes  weights as the kernels read them, and log a = −1 / max(8, e^log_tau)
// Shapes    [heads, D, D] float32 → bf16 fragments of the matrices and, for the backward pass, of
//           their transposes; log_tau [Hkv, 2D] → log_decay [Hkv, 2D] float32
// Grid      (H + Hkv, 1 or 2) blocks of 256 threads, a matrix each
// Tiles     a thread writes eight numbers, one lane's part of a fragment
// Memory    a few MB, which stay in the L2 cache
// Saves     nothing: the backward pass packs again
// Order     no sums; deterministic
#include "ops/chunks/chunk_rows.cuh"
#include "ops/joint_attention/joint_attention_params.h"

namespace tigon::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) prepare_kernel(const JointParams p) {
  const int head = blockIdx.x, D = p.head_dim;
  const bool is_query = head < p.heads, is_transposed = blockIdx.y == 1;
  const int64_t matrix = static_cast<int64_t>(is_query ? head : head - p.heads) * D * D;
  const float* weight = (is_query ? p.w_q : p.w_k) + matrix;
  void* packed = is_transposed ? (is_query ? p.transposed_w_q : p.transposed_w_k)
                               : (is_query ? p.packed_w_q : p.packed_w_k);
  uint4* target = reinterpret_cast<uint4*>(static_cast<bf16*>(packed) + matrix);
  for (int item = threadIdx.x; item < D * D / 8; item += kThreads) {
    const int fragment = item / 32, lane = item % 32;
    const int first_row = fragment / (D / 16) * 16 + lane % 4 * 2;
    const int first_column = fragment % (D / 16) * 16 + lane / 4;
    uint32_t x[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = first_row + i % 2 * 8, column = first_column + i / 2 * 8;
      x[i] = is_transposed ? pack(weight[column * D + row], weight[column * D + row + 1])
                           : pack(weight[row * D + column], weight[(row + 1) * D + column]);
    }
    target[item] = uint4{x[0], x[1], x[2], x[3]};
  }
  if (is_query || is_transposed) return;
  const int64_t first = static_cast<int64_t>(head - p.heads) * 2 * D;
  for (int i = threadIdx.x; i < 2 * D; i += kThreads) {
    p.log_decay[first + i] = -expf(-fmaxf(p.log_tau[first + i], p.least_log_tau));
  }
}

}  // namespace

cudaError_t launch_joint_prepare(const JointParams& params, cudaStream_t stream) {
  const dim3 grid(params.heads + params.kv_heads, params.transposed_w_q == nullptr ? 1 : 2);
  prepare_kernel<<<grid, kThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace tigon::cuda
