// Computes  o = (1−mix) · softmax(RoPE(q)·RoPE(k)/√D) v + mix · φ(q) S over the ring of each
//           sequence, with S ← diag(σ(k)^{1/normalizer}) S + φ(k)ᵀ v and φ the softmax over the
//           head; k and v take their row of the ring.
// Shapes    q, out [S, H, D]; k, v [S, Hkv, D]; rings [slots, W, Hkv, D]; matrices
//           [slots, Hkv, D, D]. T and Stored, of the matrices, are float32 or bfloat16.
// Grid      One block for each KV head of each sequence; decode_step_threads.
// Tiles     All query heads of the KV head at once, up to kHeads: more take turns. A key of the
//           ring is turned by 8 or 16 threads, a matrix is walked in pieces of four numbers.
// Memory    The matrix is read and written once and the ring read once, 160 KiB for heads of 128
//           and 64 keys in bfloat16 with a matrix in float32; the first pieces of the matrix and
//           the ring are asked for before anything else. 40 to 95 KiB of shared memory.
// Saves     Nothing; there is no backward pass.
// Order     Everything float32, rounded once (matrices by stochastic_round); sums in
//           one order always.
#include "ops/decode_step/step_features.cuh"
#include "ops/decode_step/step_memory.cuh"
#include "ops/decode_step/step_window.cuh"
#include "ops/liger_decode/liger_decode_params.h"

namespace tigon::cuda {
namespace {

// Two groups of threads for heads of 128. With three blocks a multiprocessor registers spill, which
// costs more than a third block brings.
constexpr int kMostThreads = 256, kBlocks = 2;

/// exp(log σ(x) / normalizer)
__device__ float gate(float x, float inverse_normalizer) {
  return expf((fminf(x, 0.0f) - log1pf(expf(-fabsf(x)))) * inverse_normalizer);
}

template <typename T, typename Stored, int kHeads>
__global__ void __launch_bounds__(kMostThreads, kBlocks)
    liger_decode_kernel(const LigerDecodeParams params) {
  extern __shared__ float4 shared_pieces[];
  float* const shared = reinterpret_cast<float*>(shared_pieces);
  const DecodeStepParams& p = params.step;
  const int D = p.head_dim, group = p.heads / p.kv_heads;
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int kv_head = static_cast<int>(blockIdx.x % p.kv_heads);
  const int64_t sequence = blockIdx.x / p.kv_heads, slot = slot_of(p, sequence);
  const StepMemory<kHeads> memory(p, D, D, threads);
  float* const table = shared + memory.table;
  const int first_place = kv_head * D * D;
  Stored* const matrix = static_cast<Stored*>(p.matrices) + slot * p.kv_heads * D * D + first_place;
  MatrixStep<Stored, kHeads> step(matrix, D, D, shared + memory.queue);
  step.start();
  const StepPlace place = place_of(p, sequence);
  prefetch_ring<T>(p, place, kv_head);
  const RoundingBits bits(place.position, first_place);
  const T* const k = token_head<T>(p.k, place.sequence, kv_head);
  const T* const v = token_head<T>(p.v, place.sequence, kv_head);
  constexpr int kRow = MatrixRow<kHeads>::kFloats;

  for (int c = thread; c < D; c += threads) shared[memory.values + c] = to_float(v[c]);
  for (int first = 0; first < group; first += kHeads) {
    const bool is_last = first + kHeads >= group;
    for (int task = thread / 32; task <= kHeads; task += threads / 32) {
      if (task < kHeads) {
        const bool exists = first + task < group;
        const T* q = token_head<T>(p.q, place.sequence, kv_head * group + first + task);
        rotate_query(p, place, q, exists, shared + memory.queries + task * D);
        softmax_of_head(q, D, exists, [&](int c, float /*x*/, float share) {
          table[c * kRow + 2 + task] = share;
        });
      } else {
        softmax_of_head(k, D, true, [&](int c, float x, float share) {
          table[c * kRow] = gate(x, params.inverse_normalizer);
          table[c * kRow + 1] = share;
        });
      }
    }
    __syncthreads();
    attend_ring<T, kHeads>(p, place, kv_head, shared + memory.queries, shared + memory.scores,
                           shared + memory.partials, shared + memory.near, shared + memory.lse);
    step.run(table, shared + memory.values, is_last, bits, shared + memory.partials,
             shared + memory.far);
    const int count = min(kHeads, group - first) * D;
    T* out = static_cast<T*>(p.out) + (place.sequence * p.heads + kv_head * group + first) * D;
    for (int i = thread; i < count; i += threads) {
      const float near = shared[memory.near + i], far = shared[memory.far + i];
      out[i] = from_float<T>(near + params.mix * (far - near));
    }
    if (!is_last) step.start();
  }
  write_ring<T>(p, place, kv_head);
}

}  // namespace

cudaError_t launch_liger_decode(const LigerDecodeParams& params, cudaStream_t stream) {
  return with_decode_variant(params.step, [&](auto zero, auto stored, auto heads) {
    using T = decltype(zero);
    using Stored = decltype(stored);
    constexpr int kHeads = decltype(heads)::value;
    const int D = params.step.head_dim;
    return launch_decode_step<kHeads>(liger_decode_kernel<T, Stored, kHeads>, params,
                                      decode_step_threads(D, kMostThreads), D, D, stream);
  });
}

}  // namespace tigon::cuda
