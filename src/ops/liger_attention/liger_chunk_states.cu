// The recurrent state before every chunk.
//
// Computes  along each segment S_{c+1} = diag(exp b_end) S_c + Σ_j φ(k_j) exp(b_end − b_j) v_jᵀ.
// The
//           state walks from middle to middle of the sub-chunks: by a link's decay, then plus the
//           16 products φ(k) exp(m − c) vᵀ there (liger_chunk.cuh)
// Shapes    key tiles [C, Hkv, 64, D], links [C, Hkv, 5, D] (liger_key_tiles.cu), v [N, Hkv, D];
//           states [C, Hkv, D, D] bf16 (operands of products), accumulated and ended in float32
// Grid      (S, Hkv, 4): a block walks one segment with a quarter of the state, half of its rows
//           by half of its columns, in registers
// Tiles     64 tokens; three or four chunks' keys and values are there or on their way
// Memory    41 to 55 KB shared, four blocks a multiprocessor: enough for 16 segments of 8 heads to
//           run at once. Reads keys and values twice (from L2), writes 2·D² bytes a chunk and head
// Saves     the states
// Order     chunks, then sub-chunks, each in order; deterministic
#include "ops/chunks/chunk_launch.cuh"
#include "ops/liger_attention/liger_chunk.cuh"

namespace tigon::cuda {
namespace {

/// How a block shares out its quarter of the state: 16 rows and a number of columns to a warp.
template <int D>
struct Quarter {
  static constexpr int kSide = D / 2;
  static constexpr int kWarpsARow = D == 64 ? 2 : 1;
  static constexpr int kWarps = kSide / 16 * kWarpsARow;
  static constexpr int kColumns = kSide / kWarpsARow;  // of a warp
  static constexpr int kStages = D == 64 ? 4 : 3;
};

template <int D>
struct ChunkStage {
  alignas(16) bf16 keys[kChunkTokens * kRowStride<Quarter<D>::kSide>];
  alignas(16) bf16 values[kChunkTokens * kRowStride<Quarter<D>::kSide>];
};

/// Of the two rows of the state that a thread holds in a piece.
struct RowLinks {
  float upper[kLinks], lower[kLinks];

  __device__ void load(const float* links, int head_dim) {
#pragma unroll
    for (int j = 0; j < kLinks; ++j) {
      upper[j] = links[j * head_dim];
      lower[j] = links[j * head_dim + 8];
    }
  }
};

template <int D>
__global__ void __launch_bounds__(32 * Quarter<D>::kWarps) states_kernel(const LigerParams p) {
  using Q = Quarter<D>;
  constexpr int kGroups = Q::kColumns / 16;
  extern __shared__ __align__(16) char memory[];
  auto* stages = reinterpret_cast<ChunkStage<D>*>(memory);
  const int segment = blockIdx.x, head = blockIdx.y;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int begin = p.chunk_offsets[segment], count = p.chunk_offsets[segment + 1] - begin;
  const int64_t first_token = count > 0 ? p.chunks[begin].first_token : 0;
  const int last_length = count > 0 ? p.chunks[begin + count - 1].length : 0;
  const int side_row = blockIdx.z / 2 * Q::kSide, side_column = blockIdx.z % 2 * Q::kSide;
  // Of the warp's piece, within the quarter.
  const int row = warp / Q::kWarpsARow * 16, column = warp % Q::kWarpsARow * Q::kColumns;
  const int64_t piece = static_cast<int64_t>(side_row + row) * D + side_column + column;
  // Of chunk n of the segment.
  const auto index_of = [&](int n) {
    return (begin + n) * static_cast<int64_t>(p.kv_heads) + head;
  };
  const auto load = [&](int n) {
    if (n < count) {
      ChunkStage<D>& stage = stages[n % Q::kStages];
      load_rows<Q::kSide>(
          stage.keys,
          static_cast<const bf16*>(p.keys_to_middle) + index_of(n) * kChunkTokens * D + side_row, D,
          kChunkTokens, 0, kChunkTokens);
      load_rows<Q::kSide>(
          stage.values, head_of(p.v, first_token + n * kChunkTokens, head, D) + side_column,
          p.v.token_stride, kChunkTokens, 0, n + 1 < count ? kChunkTokens : last_length);
    }
    end_copy_group();
  };
  const auto load_links = [&](RowLinks& links, int n) {
    if (n < count) {
      links.load(p.links + index_of(n) * kLinks * D + side_row + row + fragment_row(0, lane), D);
    }
  };
  for (int n = 0; n + 1 < Q::kStages; ++n) load(n);
  RowLinks links = {}, next_links = {};
  load_links(next_links, 0);

  FragmentC state[kGroups];
  const int64_t whole =
      (static_cast<int64_t>(segment) * p.kv_heads + head) * D * D + piece;  // of [S, Hkv, D, D]
  const auto for_each_pair = [&](auto visit) {
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        visit(whole + fragment_row(i, lane) * D + 16 * g + fragment_column(i, lane),
              state[g].x + 2 * i);
      }
    }
  };
  for_each_pair([&](int64_t at, float* pair) {
    const float2 initial =
        p.initial_state ? *reinterpret_cast<const float2*>(p.initial_state + at) : float2{0, 0};
    pair[0] = initial.x;
    pair[1] = initial.y;
  });
  const auto follow = [&](int link) {
#pragma unroll
    for (FragmentC& c : state) {
#pragma unroll
      for (int i = 0; i < 8; ++i) c.x[i] *= i / 2 % 2 == 0 ? links.upper[link] : links.lower[link];
    }
  };
  for (int n = 0; n < count; ++n) {
    wait_for_copy_groups<Q::kStages - 2>();
    __syncthreads();
    load(n + Q::kStages - 1);
    links = next_links;
    load_links(next_links, n + 1);
    bf16* target = static_cast<bf16*>(p.states) + index_of(n) * D * D + piece;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      store_rows(target + 16 * g, D, to_a(state[g]), kTile, lane);
    }
    const ChunkStage<D>& stage = stages[n % Q::kStages];
#pragma unroll
    for (int j = 0; j < kSubChunks; ++j) {
      follow(j);
      const int first = j * kTile * kRowStride<Q::kSide>;
      const FragmentA keys = load_a_transposed<Q::kSide>(stage.keys + first + row, lane);
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        multiply_add(state[g], keys,
                     load_b_transposed<Q::kSide>(stage.values + first + column + 16 * g, lane));
      }
    }
    follow(kSubChunks);
  }
  for_each_pair([&](int64_t at, const float* pair) {
    *reinterpret_cast<float2*>(p.final_state + at) = {pair[0], pair[1]};
  });
}

}  // namespace

cudaError_t launch_liger_states(const LigerParams& params, cudaStream_t stream) {
  return with_head_dim(params.head_dim, [&](auto head_dim) {
    constexpr int D = decltype(head_dim)::value;
    const dim3 grid(params.segments, params.kv_heads, 4);
    return launch_with_shared_memory(states_kernel<D>, grid, 32 * Quarter<D>::kWarps,
                                     sizeof(ChunkStage<D>) * Quarter<D>::kStages, params, stream);
  });
}

}  // namespace tigon::cuda
