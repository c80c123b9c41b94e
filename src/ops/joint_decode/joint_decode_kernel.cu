// Computes  o = o_window + σ(log_mix + log Z − lse) (N/Z − o_window) of one new token a sequence,
//           with o_window, lse the softmax over its ring, [N, Z] = φ(z_q) S, and
//           S ← diag(a) S + e^{clip(log_importance)} φ(z_k)ᵀ [v; 1] for the key that leaves the
//           window, φ(z) = softmax([z; −z]) or [1; z; z_e z_f (e < f), z_e²/√2 (e = f)],
//           a = exp(−1/max(8, e^{log_tau})); the new k and v take its row of the ring.
// Shapes    q, out [S, H, D]; k, v [S, Hkv, D]; rings [slots, W, Hkv, D]; matrices
//           [slots, Hkv, E, D+1]. T and Stored, of the matrices, are float32 or bfloat16.
// Grid      One block for each KV head of each sequence; decode_step_threads.
// Tiles     All query heads of the KV head at once, up to kHeads: more take turns. A key of the
//           ring is turned by 8 or 16 threads; rows of D+1 numbers are walked four at a time, which
//           together are whole pieces of four.
// Memory    The matrix is read once, written once if a key leaves, and the ring read once: 290 KiB
//           for heads of 128, 64 keys in bfloat16 and a matrix in float32; the first pieces of the
//           matrix and the ring are asked for before anything else. 45 to 95 KiB of shared memory.
// Saves     Nothing; there is no backward pass.
// Order     Everything float32, rounded once (matrices by stochastic_round); sums in
//           one order always.
#include "ops/decode_step/step_features.cuh"
#include "ops/decode_step/step_memory.cuh"
#include "ops/decode_step/step_window.cuh"
#include "ops/joint_decode/joint_decode_params.h"

namespace tigon::cuda {
namespace {

// Two groups of threads for the 129 columns of heads of 128. With three blocks a multiprocessor
// registers spill, which costs more than a third block brings.
constexpr int kMostThreads = 288, kBlocks = 2;
constexpr float kLongestLogImportance = 6;
constexpr float kLogShortestDecayTime = 2.0794415416798357f;  // log 8
constexpr float kLeastMass = 1e-30f;

/// What of the row `c` of a matrix is kept at a step that takes a key in.
__device__ float decay(float log_tau) {
  return expf(-expf(-fmaxf(log_tau, kLogShortestDecayTime)));
}

__device__ float under_one_denominator(float near, float lse, float far, float mass,
                                       float log_mix) {
  if (!(mass > kLeastMass)) return near;
  const float share = 1 / (1 + expf(lse - log_mix - logf(mass)));
  return near + share * (far / mass - near);
}

/// One warp: calls write(c, φ(z)_c) for all channels; 0 if there is no such head.
template <typename Write>
__device__ void features_of(const JointDecodeParams& params, const float* z, bool exists,
                            Write write) {
  if (params.second_order) {
    second_order_features(z, params.numbers, params.channels, exists, write);
  } else {
    softmax_of_signs(z, params.numbers, exists, write);
  }
}

template <typename T, typename Stored, int kHeads>
__global__ void __launch_bounds__(kMostThreads, kBlocks)
    joint_decode_kernel(const JointDecodeParams params) {
  extern __shared__ float4 shared_pieces[];
  float* const shared = reinterpret_cast<float*>(shared_pieces);
  const DecodeStepParams& p = params.step;
  const int D = p.head_dim, columns = D + 1, group = p.heads / p.kv_heads;
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int kv_head = static_cast<int>(blockIdx.x % p.kv_heads);
  const int64_t sequence = blockIdx.x / p.kv_heads, slot = slot_of(p, sequence);
  const int E = params.channels, R = params.numbers;
  const StepMemory<kHeads> memory(p, E, columns, threads);
  float* const table = shared + memory.table;
  const int first_place = kv_head * E * columns;
  Stored* const matrix =
      static_cast<Stored*>(p.matrices) + slot * p.kv_heads * E * columns + first_place;
  MatrixStep<Stored, kHeads> step(matrix, E, columns, shared + memory.queue);
  step.start();
  const StepPlace place = place_of(p, sequence);
  prefetch_ring<T>(p, place, kv_head);
  const RoundingBits bits(place.position, first_place);
  const bool takes_in = place.has_leaving_key(p.window_keys);
  const int64_t own_key = sequence * p.kv_heads + kv_head;
  constexpr int kRow = MatrixRow<kHeads>::kFloats;

  const T* leaving = ring_row<T>(p.ring_values, p, slot, place.newest_row, kv_head);
  for (int c = thread; c < columns; c += threads) {
    shared[memory.values + c] = !takes_in ? 0 : c < D ? to_float(leaving[c]) : 1;
  }
  for (int first = 0; first < group; first += kHeads) {
    const bool is_last = first + kHeads >= group;
    for (int task = thread / 32; task <= kHeads; task += threads / 32) {
      if (task < kHeads) {
        const bool exists = first + task < group;
        const int head = kv_head * group + first + task;
        const T* q = token_head<T>(p.q, place.sequence, head);
        rotate_query(p, place, q, exists, shared + memory.queries + task * D);
        features_of(params, params.query_logits + (place.sequence * p.heads + head) * R, exists,
                    [&](int c, float feature) { table[c * kRow + 2 + task] = feature; });
      } else {
        const float importance =
            takes_in
                ? expf(fminf(fmaxf(params.leaving_log_importance[own_key], -kLongestLogImportance),
                             kLongestLogImportance))
                : 0;
        features_of(params, params.key_logits + own_key * R, takes_in, [&](int c, float feature) {
          table[c * kRow] = takes_in ? decay(params.log_tau[kv_head * E + c]) : 1;
          table[c * kRow + 1] = importance * feature;
        });
      }
    }
    __syncthreads();
    attend_ring<T, kHeads>(p, place, kv_head, shared + memory.queries, shared + memory.scores,
                           shared + memory.partials, shared + memory.near, shared + memory.lse);
    step.run(table, shared + memory.values, takes_in && is_last, bits, shared + memory.partials,
             shared + memory.far);
    const int count = min(kHeads, group - first);
    const int64_t first_head = place.sequence * p.heads + kv_head * group + first;
    T* out = static_cast<T*>(p.out) + first_head * D;
    for (int i = thread; i < count * D; i += threads) {
      const int g = i / D;
      const float* far = shared + memory.far + g * columns;
      out[i] =
          from_float<T>(under_one_denominator(shared[memory.near + i], shared[memory.lse + g],
                                              far[i % D], far[D], params.log_mix[first_head + g]));
    }
    if (!is_last) step.start();
  }
  write_ring<T>(p, place, kv_head);
}

}  // namespace

cudaError_t launch_joint_decode(const JointDecodeParams& params, cudaStream_t stream) {
  return with_decode_variant(params.step, [&](auto zero, auto stored, auto heads) {
    using T = decltype(zero);
    using Stored = decltype(stored);
    constexpr int kHeads = decltype(heads)::value;
    const int D = params.step.head_dim;
    return launch_decode_step<kHeads>(joint_decode_kernel<T, Stored, kHeads>, params,
                                      decode_step_threads(D + 1, kMostThreads), params.channels,
                                      D + 1, stream);
  });
}

}  // namespace tigon::cuda
