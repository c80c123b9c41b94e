// Sums over the groups of threads that share a block's rows out.
#pragma once
#include "ops/vectors.cuh"

namespace tigon::cuda {

/// Threads that each hold four neighbouring columns; `count` groups of them take turns at the rows.
struct Groups {
  int count;
  int own;     // the thread's group; not below `count`: the thread is in none
  int vector;  // the thread's four columns: 4·vector …

  __device__ bool is_in_one() const { return own < count; }
};

/// Heads that are summed at once.
template <int kHeads>
inline constexpr int kHeadsOfSum = kHeads < 4 ? kHeads : 4;

/// out [kHeads, columns] = the sums of all groups. A group's sums of a head are `copies` times
/// `columns` numbers, all copies of a column belonging together; copies · columns is a multiple of
/// 4. `partials` holds kHeadsOfSum · 4 numbers a thread. In one order always. All threads of the
/// block; ends with a barrier.
template <int kHeads>
__device__ void sum_groups(const float (&sums)[kHeads][4], const Groups& groups, int columns,
                           int copies, float* partials, float* out) {
  constexpr int kRound = kHeadsOfSum<kHeads>;
  const int width = copies * columns;
#pragma unroll
  for (int first = 0; first < kHeads; first += kRound) {
    if (groups.is_in_one()) {
#pragma unroll
      for (int g = 0; g < kRound; ++g) {
        const float* x = sums[first + g];
        store_vector(partials + (groups.own * kRound + g) * width + 4 * groups.vector,
                     FloatVector<float>{{x[0], x[1], x[2], x[3]}});
      }
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kRound * columns;
         i += static_cast<int>(blockDim.x)) {
      const float* head = partials + i / columns * width + i % columns;
      float sum = 0;
      for (int group = 0; group < groups.count; ++group) {
        for (int copy = 0; copy < copies; ++copy) {
          sum += head[group * kRound * width + copy * columns];
        }
      }
      out[first * columns + i] = sum;
    }
    __syncthreads();
  }
}

}  // namespace tigon::cuda
