// Computes  (y_i, y_{i+D/2}) = s·(x_i cos a − x_{i+D/2} sin a, x_{i+D/2} cos a + x_i sin a) with
//           a = position · inverse_frequencies_i in float32; the gradient turns by −a.
// Shapes    x, y [N, H, D], x with token and head strides; positions [N] int64;
//           inverse_frequencies [D/2] float32. T is float32, bfloat16 or float16.
// Grid      One block of 256 threads for kRopeTokens tokens.
// Tiles     A token's cos and sin are made once and serve all its heads; a thread turns 16 bytes of
//           a first half with the 16 bytes of the second half that belong to them.
// Memory    kRopeTokens·D float32 of shared memory: 2 KiB for heads of 64. Each element of x is
// read once and
//           each of y written once.
// Saves     Positions and frequencies alone; backward makes the angles again.
// Order     No sums; products and the one fused multiply-add of each element are spelled out, so
//           that all dtypes round alike before the last step. Deterministic.
#include "ops/rope/rope_params.h"
#include "ops/vectors.cuh"

namespace tigon {
namespace {

constexpr int kThreads = 256;

template <typename T>
__global__ void __launch_bounds__(kThreads) rope_kernel(const RopeParams params) {
  constexpr int kCount = FloatVector<T>::kCount;
  extern __shared__ float2 turns[];  // [kRopeTokens, D/2] cos and sin
  const int half = static_cast<int>(params.head_size / 2);
  const int64_t first_token = int64_t{blockIdx.x} * kRopeTokens;
  const int tokens = static_cast<int>(min(int64_t{kRopeTokens}, params.tokens - first_token));
  for (int i = static_cast<int>(threadIdx.x); i < tokens * half; i += kThreads) {
    const float position = static_cast<float>(params.positions[first_token + i / half]);
    float sine, cosine;
    sincosf(__fmul_rn(position, params.inverse_frequencies[i % half]), &sine, &cosine);
    if (params.is_inverse) sine = -sine;
    turns[i] = make_float2(__fmul_rn(cosine, params.scale), __fmul_rn(sine, params.scale));
  }
  __syncthreads();

  const int vectors = half / kCount;  // of half a head
  const int heads = static_cast<int>(params.heads);
  const unsigned units = static_cast<unsigned>(tokens) * heads * vectors;
  for (unsigned unit = threadIdx.x; unit < units; unit += kThreads) {
    const unsigned row = unit / vectors;
    const int i = static_cast<int>(unit % vectors) * kCount;
    const int token = static_cast<int>(row / heads), head = static_cast<int>(row % heads);
    const int64_t n = first_token + token;
    const T* from = static_cast<const T*>(params.x) + n * params.x_token_stride +
                    head * params.x_head_stride + i;
    T* to = static_cast<T*>(params.out) + (n * heads + head) * params.head_size + i;
    FloatVector<T> first = load_vector(from), second = load_vector(from + half);
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      const float2 turn = turns[token * half + i + j];
      const float a = first[j], b = second[j];
      first[j] = __fmaf_rn(-b, turn.y, __fmul_rn(a, turn.x));
      second[j] = __fmaf_rn(a, turn.y, __fmul_rn(b, turn.x));
    }
    store_vector(to, first);
    store_vector(to + half, second);
  }
}

template <typename T>
cudaError_t launch(const RopeParams& params, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>((params.tokens + kRopeTokens - 1) / kRopeTokens));
  const size_t shared_bytes = sizeof(float2) * kRopeTokens * (params.head_size / 2);
  rope_kernel<T><<<grid, kThreads, shared_bytes, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_rope(const RopeParams& params, cudaStream_t stream) {
  return for_element_type(params.type, [&](auto zero) {
    using T = decltype(zero);
    return launch<T>(params, stream);
  });
}

}  // namespace tigon
