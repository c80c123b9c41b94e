// What the kernels of gated_scan and their host side share: plain structures, no Torch.
//
// N tokens, H query heads, Hs states, K and V their rows and columns, C chunks of 64 tokens as in
// liger_attention. State head s belongs to the query heads s·H/Hs … and reads key head s·Hk/Hs,
// value head s·Hv/Hs and gate head s·Hg/Hs.
//
// Where rows of an array are said to lie "by position", they are in the order that
// gated_scan_chunk.cuh defines; only these kernels read it.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "ops/chunks/chunk_layout.h"

namespace tigon::cuda {

/// bf16 rows of heads, each 16-byte aligned.
struct ScanRows {
  void* data;
  int token_stride, head_stride;  // elements, multiples of 8
};

/// Log-gates. A token stride of 0 stands for the same gates at every token.
struct ScanGates {
  const void* data;  // float32, or bf16
  bool is_bf16;
  bool is_per_head;               // one for all channels of a head
  int token_stride, head_stride;  // elements; even where the gates are per channel
};

/// How the gates' gradient is written.
enum class GateGradient {
  kPerChannel,  // [N, Hs, K]
  kPerHead,     // [N, Hs]: summed over channels
  kFixed,       // [C, Hs, K]: summed over a chunk's tokens
};

struct GatedScanParams {
  ScanRows q, k, v;
  ScanGates log_gate;
  const int32_t* chunk_offsets;  // [S + 1]
  const Chunk* chunks;           // [C]
  int chunk_count, segments;
  int heads, key_heads, value_heads, gate_heads, state_heads;
  int key_dim, value_dim;      // K, V
  const float* initial_state;  // [S, Hs, K, V] or null (zeros)

  // Chunk states: what a chunk adds, its decay, and the state before it. Rows by position.
  float* additions;    // [C, Hs, K, V]
  float* decays;       // [C, Hs, K]
  void* states;        // [C, Hs, K, V] bf16
  float* final_state;  // [S, Hs, K, V], in the channels' order

  void* out;  // forward: [N, H, V], bf16 or float32
  bool is_out_wide;

  // Backward: upstream gradients (of the final state: or null), then what is found.
  ScanRows out_gradient;              // [N, H, V]
  const float* final_state_gradient;  // [S, Hs, K, V]
  void* q_gradient;                   // [N, H, K] bf16
  void* k_gradient;                   // [N, Hs, K] bf16, of each state head's own
  void* v_gradient;                   // [N, Hs, V] bf16, likewise
  GateGradient gate_gradient_kind;
  float* gate_gradient;           // or null
  float* initial_state_gradient;  // [S, Hs, K, V] or null
  // Between the backward kernels, rows by position.
  float* state_gradient_additions;  // [C, Hs, K, V]
  void* state_gradients;            // [C, Hs, K, V] bf16, of the state after each chunk
};

/// Whether there are kernels for states of K rows and V columns.
bool has_gated_scan_kernels(int key_dim, int value_dim);
/// Bytes of shared memory a block of the greediest kernel needs for such states.
int gated_scan_shared_memory(int key_dim, int value_dim);

/// additions, decays → states, final_state.
cudaError_t launch_gated_scan_states(const GatedScanParams& params, cudaStream_t stream);
/// states → out.
cudaError_t launch_gated_scan_fwd(const GatedScanParams& params, cudaStream_t stream);
/// decays → state_gradients, initial_state_gradient.
cudaError_t launch_gated_scan_bwd_states(const GatedScanParams& params, cudaStream_t stream);
/// states, state_gradients → the gradients of q, k, v and the gates.
cudaError_t launch_gated_scan_bwd(const GatedScanParams& params, cudaStream_t stream);

}  // namespace tigon::cuda
