// Feature maps in registers: φ(x w + b) = softmax([z; −z]) of 16 rows, from weights packed as
// fragments.
#pragma once
#include "ops/joint_attention/joint_rows.cuh"

namespace tigon::cuda {

/// Fragment B[k, n] = matrix[k][n] of 16 rows and 16 columns of a packed matrix [D, D]
/// (JointParams says how it is packed). All warps of a block that work on one head read the matrix,
/// so that the L1 cache should keep it rather than rows that are read once.
template <int D>
__device__ FragmentB load_packed(const void* matrix, int row_group, int column_group, int lane) {
  const int fragment = row_group * (D / 16) + column_group;
  const uint4* source = static_cast<const uint4*>(matrix) + fragment * 32 + lane;
  FragmentB b;
  asm("ld.global.nc.L1::evict_last.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(b.x[0]), "=r"(b.x[1]), "=r"(b.x[2]), "=r"(b.x[3])
      : "l"(source));
  return b;
}

/// One head's part of packed matrices [heads, D, D].
template <int D>
__device__ const void* packed_head(const void* matrices, int head) {
  return static_cast<const bf16*>(matrices) + static_cast<int64_t>(head) * D * D;
}

/// c[n] += x · matrix: rows of D numbers by a packed matrix.
template <int D>
__device__ void multiply_packed(FragmentC (&c)[D / 16], const FragmentA (&x)[D / 16],
                                const void* matrix, int lane) {
#pragma unroll
  for (int g = 0; g < D / 16; ++g) {
#pragma unroll
    for (int n = 0; n < D / 16; ++n) multiply_add(c[n], x[g], load_packed<D>(matrix, g, n, lane));
  }
}

/// z of 16 rows, of which a thread knows two, in units of log 2, and what makes feature maps of it.
template <int D>
struct Logits {
  FragmentC z[D / 16];
  float log2_sum[2];  // of the softmax's denominator

  __device__ void make(const FragmentA (&x)[D / 16], const void* weight, const float* bias,
                       int lane) {
    for (FragmentC& c : z) c.clear();
    multiply_packed<D>(z, x, weight, lane);
    float largest[2] = {0, 0}, sum[2] = {0, 0};
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 b = *reinterpret_cast<const float2*>(bias + 16 * n + fragment_column(i, lane));
        float* pair = z[n].x + 2 * i;
        pair[0] = (pair[0] + b.x) * kLog2E;
        pair[1] = (pair[1] + b.y) * kLog2E;
        largest[i % 2] = fmaxf(largest[i % 2], fmaxf(fabsf(pair[0]), fabsf(pair[1])));
      }
    }
    largest[0] = row_max(largest[0]);
    largest[1] = row_max(largest[1]);
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float m = largest[i / 2 % 2];
        sum[i / 2 % 2] += exp2_fast(z[n].x[i] - m) + exp2_fast(-z[n].x[i] - m);
      }
    }
    log2_sum[0] = largest[0] + log2_fast(row_sum(sum[0]));
    log2_sum[1] = largest[1] + log2_fast(row_sum(sum[1]));
  }

  /// φ of 16 channels from 16·n of the positive (half 0) or the negative half, times
  /// exp2(shift[row] + slope[row] · log_decay[channel]). `log_decay` is the half's first.
  __device__ FragmentC mapped(int half, int n, const float (&shift)[2], const float (&slope)[2],
                              const float* log_decay, int lane) const {
    FragmentC phi;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 decay =
          *reinterpret_cast<const float2*>(log_decay + 16 * n + fragment_column(i, lane));
      const float x = half == 0 ? z[n].x[2 * i] : -z[n].x[2 * i];
      const float y = half == 0 ? z[n].x[2 * i + 1] : -z[n].x[2 * i + 1];
      const float base = shift[i % 2] - log2_sum[i % 2];
      phi.x[2 * i] = exp2_fast(x + base + slope[i % 2] * decay.x);
      phi.x[2 * i + 1] = exp2_fast(y + base + slope[i % 2] * decay.y);
    }
    return phi;
  }

  /// φ alone.
  __device__ FragmentC mapped(int half, int n) const {
    FragmentC phi;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      phi.x[i] = exp2_fast((half == 0 ? z[n].x[i] : -z[n].x[i]) - log2_sum[i / 2 % 2]);
    }
    return phi;
  }
};

/// Exponents of decays of a tile's two rows, for Logits::mapped: their places in the chunk counted
/// from the middle, in units of log 2.
__device__ inline void places_from_middle(float (&slope)[2], int tile, int lane) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    slope[i] = kLog2E * static_cast<float>(tile * kTile + fragment_row(i, lane) - kMiddlePlace);
  }
}

}  // namespace tigon::cuda
