// Barriers among some of a block's threads (hardware has sixteen; number 0 is __syncthreads), and
// registers that one group of threads gives to another.
#pragma once

namespace tigon::cuda {

/// Waits until `threads` threads (a multiple of 32), this one included, have come to barrier
/// `barrier` by either of these functions. Whole warps.
__device__ inline void wait_at(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

/// Comes to the barrier without waiting; what was written before is seen by those who wait.
__device__ inline void come_to(int barrier, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

/// From here on each thread of the warpgroup has so many registers (a multiple of 8), fewer or more
/// than before. sm_90a.
template <int kRegisters>
__device__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace tigon::cuda
