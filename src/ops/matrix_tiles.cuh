// The tensor core's bf16 product of 16 × 16 by 16 × 8 (mma.sync: sm_80 and later) and the loads
// that bring its operands from shared memory.
//
// Tiles lie in shared memory as rows of D bf16 with kRowPadding more, so that the eight rows one
// load reads start in different banks. Fragments are what one thread of a warp holds:
//   A [16, 16]   four registers of two bf16: rows lane/4 and lane/4 + 8, columns 2·(lane%4) + {0,
//   1}
//                and + {8, 9}, in the order (row, column), (row + 8, column), (row, column + 8), …
//   B [16, 8]    two registers: rows 2·(lane%4) + {0, 1} and + {8, 9}, column lane/4
//   C [16, 8]    four floats: row lane/4, columns 2·(lane%4) + {0, 1}; then row lane/4 + 8
#pragma once
#include <cuda_bf16.h>

#include <cstdint>

namespace tigon::cuda {

inline constexpr int kTile = 16;       // rows of an A tile, and tokens of a sub-chunk
inline constexpr int kRowPadding = 8;  // bf16 elements: 16 bytes

/// Elements from one row of a tile in shared memory to the next.
template <int D>
inline constexpr int kRowStride = D + kRowPadding;

__device__ inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

/// low goes to the lower half, as memory order has it.
__device__ inline uint32_t pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

__device__ inline float2 unpack(uint32_t pair) {
  return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};
}

__device__ inline uint32_t load_pair(const __nv_bfloat16* pointer) {
  return *reinterpret_cast<const uint32_t*>(pointer);
}

__device__ inline void store_pair(__nv_bfloat16* pointer, float low, float high) {
  *reinterpret_cast<uint32_t*>(pointer) = pack(low, high);
}

struct FragmentA {
  uint32_t x[4];
};
/// Two B fragments side by side: columns 0–7 and 8–15.
struct FragmentB {
  uint32_t x[4];
};
/// Two C fragments side by side: [16, 16]. x[0–3] columns 0–7, x[4–7] columns 8–15.
struct FragmentC {
  float x[8];

  __device__ void clear() {
#pragma unroll
    for (float& value : x) value = 0;
  }
};

/// c += a · b, [16, 16] += [16, 16] · [16, 16].
__device__ inline void multiply_add(FragmentC& c, const FragmentA& a, const FragmentB& b) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float* out = c.x + 4 * half;
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(out[0]), "+f"(out[1]), "+f"(out[2]), "+f"(out[3])
        : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[2 * half]),
          "r"(b.x[2 * half + 1]));
  }
}

__device__ inline void load_matrices(uint32_t (&x)[4], const __nv_bfloat16* pointer) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(shared_address(pointer))
               : "memory");
}

__device__ inline void load_matrices_transposed(uint32_t (&x)[4], const __nv_bfloat16* pointer) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(shared_address(pointer))
               : "memory");
}

// Operands from a tile whose rows lie `stride` elements apart (a multiple of 8); the forms with a
// head size D stand for kRowStride<D>.

/// A[m, k] = tile[m][k].
__device__ inline FragmentA load_a(const __nv_bfloat16* tile, int stride, int lane) {
  FragmentA a;
  load_matrices(a.x, tile + (lane % 16) * stride + lane / 16 * 8);
  return a;
}
template <int D>
__device__ FragmentA load_a(const __nv_bfloat16* tile, int lane) {
  return load_a(tile, kRowStride<D>, lane);
}

/// A[m, k] = tile[k][m].
__device__ inline FragmentA load_a_transposed(const __nv_bfloat16* tile, int stride, int lane) {
  FragmentA a;
  load_matrices_transposed(a.x, tile + (lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * 8);
  return a;
}
template <int D>
__device__ FragmentA load_a_transposed(const __nv_bfloat16* tile, int lane) {
  return load_a_transposed(tile, kRowStride<D>, lane);
}

/// B[k, n] = tile[n][k].
__device__ inline FragmentB load_b(const __nv_bfloat16* tile, int stride, int lane) {
  FragmentB b;
  load_matrices(b.x, tile + (lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * 8);
  return b;
}
template <int D>
__device__ FragmentB load_b(const __nv_bfloat16* tile, int lane) {
  return load_b(tile, kRowStride<D>, lane);
}

/// B[k, n] = tile[k][n].
__device__ inline FragmentB load_b_transposed(const __nv_bfloat16* tile, int stride, int lane) {
  FragmentB b;
  load_matrices_transposed(b.x, tile + (lane % 16) * stride + lane / 16 * 8);
  return b;
}
template <int D>
__device__ FragmentB load_b_transposed(const __nv_bfloat16* tile, int lane) {
  return load_b_transposed(tile, kRowStride<D>, lane);
}

/// A product as the left operand of the next one.
__device__ inline FragmentA to_a(const FragmentC& c) {
  return {{pack(c.x[0], c.x[1]), pack(c.x[2], c.x[3]), pack(c.x[4], c.x[5]), pack(c.x[6], c.x[7])}};
}

/// Over the four lanes that share a row of a fragment.
__device__ inline float row_sum(float value) {
  value += __shfl_xor_sync(0xffffffffu, value, 1);
  return value + __shfl_xor_sync(0xffffffffu, value, 2);
}

__device__ inline float row_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 2));
}

/// 2^x to float32's last bits but two; 0 far below, infinity far above.
__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ inline float log2_fast(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ inline float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// 16 bytes from device to shared memory without waiting, or 16 zero bytes.
__device__ inline void copy_16_bytes(void* shared, const void* global, bool is_there) {
  const int bytes = is_there ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
               "l"(global), "r"(bytes)
               : "memory");
}

/// Four bytes likewise.
__device__ inline void copy_4_bytes(__nv_bfloat16* shared, const __nv_bfloat16* global,
                                    bool is_there) {
  const int bytes = is_there ? 4 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(shared)),
               "l"(global), "r"(bytes)
               : "memory");
}

/// Brings the 128 bytes around an address to the L2 cache.
__device__ inline void prefetch_line(const void* global) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(global));
}

/// Waits for this thread's copies.
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

/// Closes a group of this thread's copies, which may be empty.
__device__ inline void end_copy_group() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Waits for all groups but the latest `kLeft`.
template <int kLeft>
__device__ void wait_for_copy_groups() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

}  // namespace tigon::cuda
