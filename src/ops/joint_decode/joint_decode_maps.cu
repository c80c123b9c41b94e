// Computes  z_q = q w_q + b_q, and z_k = k w_k + b_k of the key that leaves its window (nothing
//           where none does); moves the log-importance of that key out of the ring and the new
//           key's in.
// Shapes    q [S, H, D]; ring of keys [slots, W, Hkv, D]; w [heads, D, R], b [heads, R] float32.
//           T is float32 or bfloat16.
// Grid      (heads of q and k, ⌈R/32⌉ runs of columns, ⌈S/8⌉ runs of sequences), blocks of 128.
// Tiles     A weight serves 8 sequences once it is loaded: read again for every sequence, the
//           weights would cost more than the state. 8 threads for the 32 columns of a row, 16 rows
//           at a time; all loads of a thread are on the way at once.
// Memory    Weights once for 8 sequences, from L2 but for the first; 20 KiB of shared memory.
// Saves     Nothing; there is no backward pass.
// Order     Everything float32; sums in one order always.
#include "ops/decode_step/step_memory.cuh"
#include "ops/joint_decode/joint_decode_params.h"

namespace tigon::cuda {
namespace {

constexpr int kThreads = kDecodeLargestHead;  // of the inputs, one for each number of a head
constexpr int kColumns = 32;
constexpr int kSequences = 8;
constexpr int kLanes = kColumns / 4;      // threads of a row
constexpr int kRows = kThreads / kLanes;  // at a time
constexpr int kTurns = kDecodeLargestHead / kRows;

/// Where a sequence's input of one head lies: its query, or the key that leaves its window; null
/// where there is none.
template <typename T>
__device__ const T* input_of(const DecodeStepParams& p, int head, int64_t sequence) {
  if (sequence >= p.sequences) return nullptr;
  if (head < p.heads) return token_head<T>(p.q, sequence, head);
  const StepPlace place = place_of(p, sequence);
  if (!place.has_leaving_key(p.window_keys)) return nullptr;
  return ring_row<T>(p.ring_keys, p, place.slot, place.newest_row, head - p.heads);
}

/// The new log-importance takes its row; the one there before is handed on.
__device__ void exchange_log_importance(const JointDecodeParams& params, int kv_head,
                                        int64_t sequence) {
  const DecodeStepParams& p = params.step;
  if (sequence >= p.sequences) return;
  const StepPlace place = place_of(p, sequence);
  const int64_t row = place.slot * p.window_keys + place.newest_row;
  float& in_ring = params.ring_log_importance[row * p.kv_heads + kv_head];
  const int64_t own = sequence * p.kv_heads + kv_head;
  params.leaving_log_importance[own] = in_ring;
  in_ring = params.log_importance[own];
}

/// Four columns of a row of `count` weights, zeros behind it. Rows of whole pieces lie at 16 bytes.
__device__ FloatVector<float> load_columns(const float* row, int first, int count) {
  if (count % 4 == 0 && first < count) return load_vector(row + first);
  FloatVector<float> result = {};
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (first + j < count) result[j] = row[first + j];
  }
  return result;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    joint_decode_maps_kernel(const JointDecodeParams params) {
  __shared__ __align__(16) float x[kDecodeLargestHead][kSequences];
  __shared__ const T* inputs[kSequences];
  __shared__ float partials[kRows][kSequences][kColumns];
  const DecodeStepParams& p = params.step;
  const int D = p.head_dim, R = params.numbers, head = static_cast<int>(blockIdx.x);
  const bool is_query = head < p.heads;
  const int kv_head = head - p.heads;
  const int64_t first = int64_t{blockIdx.z} * kSequences;
  const int column = static_cast<int>(blockIdx.y) * kColumns;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int row = static_cast<int>(threadIdx.x) / kLanes;

  const float* w =
      is_query ? params.w_q + int64_t{head} * D * R : params.w_k + int64_t{kv_head} * D * R;
  const int own_column = column + 4 * lane;
  FloatVector<float> weights[kTurns] = {};
#pragma unroll
  for (int i = 0; i < kTurns; ++i) {
    const int d = row + i * kRows;
    if (d < D) weights[i] = load_columns(w + d * R, own_column, R);
  }
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kSequences) inputs[thread] = input_of<T>(p, head, first + thread);
  __syncthreads();
  if (thread < D) {
#pragma unroll
    for (int s = 0; s < kSequences; ++s) {
      x[thread][s] = inputs[s] == nullptr ? 0 : to_float(inputs[s][thread]);
    }
  }
  if (!is_query && blockIdx.y == 0 && thread < kSequences) {
    exchange_log_importance(params, kv_head, first + thread);
  }
  __syncthreads();

  float sums[kSequences][4] = {};
#pragma unroll
  for (int i = 0; i < kTurns; ++i) {
    const int d = row + i * kRows;
    if (d >= D) break;
    const FloatVector<float> low = load_vector(&x[d][0]), high = load_vector(&x[d][4]);
#pragma unroll
    for (int s = 0; s < kSequences; ++s) {
      const float input = s < 4 ? low[s] : high[s - 4];
#pragma unroll
      for (int j = 0; j < 4; ++j) sums[s][j] += input * weights[i][j];
    }
  }
#pragma unroll
  for (int s = 0; s < kSequences; ++s) {
#pragma unroll
    for (int j = 0; j < 4; ++j) partials[row][s][4 * lane + j] = sums[s][j];
  }
  __syncthreads();

  const float* b = is_query ? params.b_q + head * R : params.b_k + kv_head * R;
  float* logits =
      is_query ? params.query_logits + int64_t{head} * R : params.key_logits + int64_t{kv_head} * R;
  const int64_t stride = int64_t{is_query ? p.heads : p.kv_heads} * R;
  for (int i = static_cast<int>(threadIdx.x); i < kSequences * kColumns; i += kThreads) {
    const int s = i / kColumns, c = column + i % kColumns;
    if (first + s >= p.sequences || c >= R) continue;
    float sum = 0;
    for (int r = 0; r < kRows; ++r) sum += partials[r][s][i % kColumns];
    logits[(first + s) * stride + c] = sum + b[c];
  }
}

}  // namespace

cudaError_t launch_joint_decode_maps(const JointDecodeParams& params, cudaStream_t stream) {
  const DecodeStepParams& p = params.step;
  const dim3 grid(static_cast<unsigned>(p.heads + p.kv_heads),
                  static_cast<unsigned>((params.numbers + kColumns - 1) / kColumns),
                  static_cast<unsigned>((p.sequences + kSequences - 1) / kSequences));
  if (p.type == ElementType::kFloat32) {
    joint_decode_maps_kernel<float><<<grid, kThreads, 0, stream>>>(params);
  } else {
    joint_decode_maps_kernel<__nv_bfloat16><<<grid, kThreads, 0, stream>>>(params);
  }
  return cudaGetLastError();
}

}  // namespace tigon::cuda
