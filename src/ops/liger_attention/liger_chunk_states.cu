// The recurrent state before every chunk.
//
// Computes  along each segment S_{c+1} = diag(exp b_end) S_c + Σ_j φ(k_j) exp(b_end − b_j) v_jᵀ.
// The
//           state walks from middle to middle of the sub-chunks: by a link's decay, then plus the
//           16 products φ(k) exp(m − c) vᵀ there (liger_chunk.cuh)
// Shapes    key tiles [C, Hkv, 64, D], links [C, Hkv, 5, D] (liger_key_tiles.cu), v [N, Hkv, D];
//           states [C, Hkv, D, D] bf16 (operands of products), accumulated and ended in float32
// Grid      (S, Hkv, 2): a block walks one segment with half of the state's rows, in registers
// Tiles     64 tokens; four chunks' keys and values are there or on their way
// Memory    58 to 112 KB shared, two blocks a multiprocessor: enough for 16 segments of 8 heads to
//           run at once. Reads keys once and values twice (from L2), writes 2·D² bytes a chunk and
//           head
// Saves     the states
// Order     chunks, then sub-chunks, each in order; deterministic
#include "ops/chunks/chunk_launch.cuh"
#include "ops/chunks/state_walk.cuh"
#include "ops/liger_attention/liger_chunk.cuh"

namespace tigon::cuda {
namespace {

template <int D>
using LigerWalk = StateWalk<D, kLinks>;

template <int D>
__global__ void __launch_bounds__(LigerWalk<D>::kThreads) states_kernel(const LigerParams p) {
  using Walk = LigerWalk<D>;
  extern __shared__ __align__(16) char memory[];
  const int segment = blockIdx.x, head = blockIdx.y, first_row = blockIdx.z * Walk::kRows;
  const int begin = p.chunk_offsets[segment], count = p.chunk_offsets[segment + 1] - begin;
  const int64_t first_token = count > 0 ? p.chunks[begin].first_token : 0;
  const int last_length = count > 0 ? p.chunks[begin + count - 1].length : 0;
  Walk state;
  // Of chunk n of the segment.
  const auto index_of = [&](int n) {
    return (begin + n) * static_cast<int64_t>(p.kv_heads) + head;
  };
  const int64_t ends = ((static_cast<int64_t>(segment) * p.kv_heads + head) * D + first_row) * D;
  if (p.initial_state) {
    state.for_each_pair([&](int row, int column, float* pair) {
      const float* initial = p.initial_state + ends + row * D + column;
      pair[0] = initial[0];
      pair[1] = initial[1];
    });
  }
  Walk::walk(
      memory, count,
      [&](int n, typename Walk::Stage& stage) {
        const bf16* keys = static_cast<const bf16*>(p.keys_to_middle);
        Walk::load_keys(stage, keys + index_of(n) * kChunkTokens * D + first_row, D, kChunkTokens);
        Walk::load_values(stage, head_of(p.v, first_token + n * kChunkTokens, head, D),
                          p.v.token_stride, n + 1 < count ? kChunkTokens : last_length);
        Walk::load_factors(stage, p.links + index_of(n) * kLinks * D + first_row);
      },
      [&](int n, const typename Walk::Stage& stage) {
        state.store(static_cast<bf16*>(p.states) + (index_of(n) * D + first_row) * D);
#pragma unroll
        for (int j = 0; j < kSubChunks; ++j) {
          state.scale_rows(stage, j);
          state.add(state.keys(stage, j), stage, j);
        }
        state.scale_rows(stage, kSubChunks);
      });
  state.for_each_pair([&](int row, int column, const float* pair) {
    *reinterpret_cast<float2*>(p.final_state + ends + row * D + column) = {pair[0], pair[1]};
  });
}

}  // namespace

cudaError_t launch_liger_states(const LigerParams& params, cudaStream_t stream) {
  return with_head_dim(params.head_dim, [&](auto head_dim) {
    constexpr int D = decltype(head_dim)::value;
    using Walk = LigerWalk<D>;
    const dim3 grid(params.segments, params.kv_heads, 2);
    return launch_with_shared_memory(states_kernel<D>, grid, Walk::kThreads,
                                     sizeof(typename Walk::Stage) * Walk::kStages, params, stream);
  });
}

}  // namespace tigon::cuda
