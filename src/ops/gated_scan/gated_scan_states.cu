// The recurrent state before every chunk, forward and its gradient backward.
//
// Computes  additions_c = Σ_j (k_j exp(b_end − b_j))ᵀ v_j over a chunk's tokens, then along each
//           segment S_{c+1} = diag(exp b_end) S_c + additions_c; backward the same from the end:
//           dadditions_c = Σ_i (q_i exp(b_i))ᵀ do_i over the queries of the state's heads,
//           dS_c = diag(exp b_end) dS_{c+1} + dadditions_c
// Shapes    states [C, Hs, K, V], rows by position, in bf16 (operands of the products), accumulated
// in
//           float32; the first and the last of a segment [S, Hs, K, V] in the channels' order
// Grid      additions: (C, Hs) blocks of 256; scans: one thread for four numbers of each segment's
//           state
// Tiles     a chunk at a time; a warp owns pieces of 16 rows by 32 columns of the state
// Memory    6·K·V bytes a chunk and state head, of which 2·K·V stay for the backward pass
// Saves     nothing else: decays and maps are made again
// Order     tokens, then heads, then chunks, each in order; deterministic
#include <type_traits>

#include "ops/gated_scan/gated_scan_chunk.cuh"

namespace tigon::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

/// How the state [K, V] is shared out: pieces of 16 rows by 32 columns, each to one warp.
template <int K, int kMostColumns>
struct StatePieces {
  static constexpr int kEach = (K / 16 * (kMostColumns / 32) + kWarps - 1) / kWarps;

  FragmentC sums[kEach][2];
  int warp, lane, columns, count;

  __device__ StatePieces(const ScanBlock& block, int value_dim)
      : warp(block.warp), lane(block.lane), columns(value_dim), count(K / 16 * (value_dim / 32)) {
    for (auto& piece : sums) {
      for (FragmentC& c : piece) c.clear();
    }
  }
  __device__ int first_row(int i) const { return (warp + i * kWarps) % (K / 16) * 16; }
  __device__ int first_column(int i) const { return (warp + i * kWarps) / (K / 16) * 32; }
  __device__ bool exists(int i) const { return warp + i * kWarps < count; }

  /// sums += leftᵀ · right over 16 tokens: left [16, K], right [16, V] in shared memory.
  __device__ void add(const bf16* left, const bf16* right) {
    const int stride = row_stride(columns);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (!exists(i)) continue;
      const FragmentA a = load_a_transposed<K>(left + first_row(i), lane);
      const bf16* b = right + first_column(i);
      multiply_add(sums[i][0], a, load_b_transposed(b, stride, lane));
      multiply_add(sums[i][1], a, load_b_transposed(b + 16, stride, lane));
    }
  }

  /// Row r of the sums times factor[r].
  __device__ void scale_rows(const float* factor) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (!exists(i)) continue;
      const float upper = factor[first_row(i) + lane / 4];
      const float lower = factor[first_row(i) + lane / 4 + 8];
#pragma unroll
      for (FragmentC& c : sums[i]) {
#pragma unroll
        for (int j = 0; j < 8; ++j) c.x[j] *= j / 2 % 2 == 0 ? upper : lower;
      }
    }
  }

  __device__ void store(float* target) const {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (!exists(i)) continue;
#pragma unroll
      for (int g = 0; g < 2; ++g) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const int row = first_row(i) + fragment_row(j, lane);
          const int column = first_column(i) + 16 * g + fragment_column(j, lane);
          *reinterpret_cast<float2*>(target + row * columns + column) = {sums[i][g].x[2 * j],
                                                                         sums[i][g].x[2 * j + 1]};
        }
      }
    }
  }
};

/// Shared memory of both kernels of additions: a left tile [64, K], right tiles [64, V] (the second
/// for the next head), exp(c) and the next queries [64, K] where they are needed, and decays.
template <int K>
struct AdditionsShared {
  bf16 *left, *from_start, *queries;
  float* decay;  // [4, K]
  bf16* rights;
  int right_elements;  // of one

  __device__ AdditionsShared(char* memory, int value_dim) {
    left = reinterpret_cast<bf16*>(memory);
    decay = reinterpret_cast<float*>(left + kChunkTokens * row_stride(K));
    rights = reinterpret_cast<bf16*>(decay + kSubChunks * K);
    right_elements = kChunkTokens * row_stride(value_dim);
    from_start = rights + 2 * right_elements;
    queries = from_start + kChunkTokens * row_stride(K);
  }
  __device__ bf16* right(int g) const { return rights + g % 2 * right_elements; }

  static int bytes(int value_dim, bool has_heads) {
    const int key_tiles = has_heads ? 3 : 1, value_tiles = has_heads ? 2 : 1;
    return kChunkTokens * static_cast<int>(sizeof(bf16)) *
               (key_tiles * row_stride(K) + value_tiles * row_stride(value_dim)) +
           kSubChunks * K * static_cast<int>(sizeof(float));
  }
};

template <int K, int kMostColumns>
__global__ void __launch_bounds__(kThreads) additions_kernel(const GatedScanParams p) {
  extern __shared__ __align__(16) char memory[];
  const int V = p.value_dim;
  const AdditionsShared<K> shared(memory, V);
  const ScanBlock block = make_block(p);
  load_rows_by_channel(shared.right(0), row_of(p.v, block.chunk.first_token, block.value_head),
                       p.v.token_stride, V, kChunkTokens, block.chunk.length);
  make_tiles<K>({shared.left, nullptr, nullptr, nullptr, shared.decay}, p, block);
  wait_for_copies();
  __syncthreads();
  StatePieces<K, kMostColumns> state(block, V);
#pragma unroll
  for (int j = 0; j < kSubChunks; ++j) {
    state.scale_rows(shared.decay + j * K);
    state.add(shared.left + j * kTile * row_stride(K), shared.right(0) + j * kTile * row_stride(V));
  }
  state.store(p.additions + block.index * K * V);
  for (int d = threadIdx.x; d < K; d += kThreads) {
    const float* decay = shared.decay + d;
    p.decays[block.index * K + d] = decay[0] * decay[K] * decay[2 * K] * decay[3 * K];
  }
}

/// exp(c) → exp(b) in place. All threads; needs a barrier before and after.
template <int K>
__device__ void count_from_chunk_start(bf16* from_start, const float* decay) {
  for (int item = threadIdx.x; item < kChunkTokens * (K / 2); item += kThreads) {
    const int row = item / (K / 2), channel = item % (K / 2) * 2;
    bf16* pair = from_start + row * row_stride(K) + channel;
    float2 factor = unpack(load_pair(pair));
    for (int j = 0; j < row / kTile; ++j) {
      const float2 whole = *reinterpret_cast<const float2*>(decay + j * K + position_of(channel));
      factor.x *= whole.x;
      factor.y *= whole.y;
    }
    store_pair(pair, factor.x, factor.y);
  }
}

template <int K, int kMostColumns>
__global__ void __launch_bounds__(kThreads, K <= 64 && kMostColumns <= 64 ? 3 : 1)
    gradient_additions_kernel(const GatedScanParams p) {
  extern __shared__ __align__(16) char memory[];
  const int V = p.value_dim;
  const AdditionsShared<K> shared(memory, V);
  const ScanBlock block = make_block(p);
  const int length = block.chunk.length;
  const int64_t token = block.chunk.first_token;
  const auto load_head = [&](int g) {
    const int head = block.first_head + g;
    load_rows_by_channel(shared.queries, row_of(p.q, token, head), p.q.token_stride, K,
                         kChunkTokens, length);
    load_rows_by_channel(shared.right(g), row_of(p.out_gradient, token, head),
                         p.out_gradient.token_stride, V, kChunkTokens, length);
  };
  load_head(0);
  make_tiles<K>({nullptr, nullptr, shared.from_start, nullptr, shared.decay}, p, block);
  __syncthreads();
  count_from_chunk_start<K>(shared.from_start, shared.decay);

  StatePieces<K, kMostColumns> state(block, V);
  for (int g = 0; g < block.group; ++g) {
    wait_for_copies();
    __syncthreads();
    for (int item = threadIdx.x; item < kChunkTokens * (K / 8); item += kThreads) {
      const int row = item / (K / 8), group = item % (K / 8);
      const int at = row * row_stride(K);
      store_by_position(shared.left + at, group,
                        multiply(load_piece(shared.queries + at + group * 8),
                                 load_piece(shared.from_start + at + group * 8)));
    }
    __syncthreads();
    if (g + 1 < block.group) load_head(g + 1);
#pragma unroll
    for (int j = 0; j < kSubChunks; ++j) {
      state.add(shared.left + j * kTile * row_stride(K),
                shared.right(g) + j * kTile * row_stride(V));
    }
  }
  state.store(p.state_gradient_additions + block.index * K * V);
}

/// Where a thread of a scan works: four neighbouring columns of a row of one segment's state.
struct StateQuad {
  int segment, head, row, column;
  bool exists;

  __device__ explicit StateQuad(const GatedScanParams& p) {
    const int64_t thread = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
    const int quads = p.value_dim / 4;
    column = static_cast<int>(thread % quads) * 4;
    row = static_cast<int>(thread / quads % p.key_dim);
    const int64_t state = thread / quads / p.key_dim;
    head = static_cast<int>(state % p.state_heads);
    segment = static_cast<int>(state / p.state_heads);
    exists = state / p.state_heads < p.segments;
  }
  /// First element of the quad in a [·, Hs, K, V] tensor with rows by position.
  __device__ int64_t element(const GatedScanParams& p, int64_t index) const {
    return ((index * p.state_heads + head) * p.key_dim + row) * p.value_dim + column;
  }
  /// The same in a [S, Hs, K, V] tensor in the channels' order.
  __device__ int64_t channels(const GatedScanParams& p) const {
    return ((static_cast<int64_t>(segment) * p.state_heads + head) * p.key_dim + position_of(row)) *
               p.value_dim +
           column;
  }
  __device__ float4 read(const GatedScanParams& p, const float* tensor) const {
    if (tensor == nullptr) return {0, 0, 0, 0};
    return *reinterpret_cast<const float4*>(tensor + channels(p));
  }
  __device__ void write(const GatedScanParams& p, float* tensor, float4 x) const {
    *reinterpret_cast<float4*>(tensor + channels(p)) = x;
  }
};

constexpr int kAhead = 4;  // chunks whose loads are in flight: the scan waits for memory, not sums

/// Along the chunks of a segment, forward or from its end: writes the value at hand in bf16, then
/// makes it value · decay + addition. Returns the last.
template <bool kForward>
__device__ float4 scan(const GatedScanParams& p, const StateQuad& quad, const float* additions,
                       bf16* states, float4 value) {
  const int begin = p.chunk_offsets[quad.segment], end = p.chunk_offsets[quad.segment + 1];
  for (int done = 0; done < end - begin; done += kAhead) {
    float4 added[kAhead];
    float decay[kAhead];
    const auto chunk_of = [&](int a) {
      const int step = min(done + a, end - begin - 1);
      return kForward ? begin + step : end - 1 - step;
    };
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int64_t chunk = chunk_of(a);
      decay[a] = p.decays[(chunk * p.state_heads + quad.head) * p.key_dim + quad.row];
      added[a] = *reinterpret_cast<const float4*>(additions + quad.element(p, chunk));
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (done + a >= end - begin) break;
      *reinterpret_cast<uint2*>(states + quad.element(p, chunk_of(a))) = {pack(value.x, value.y),
                                                                          pack(value.z, value.w)};
      value = {value.x * decay[a] + added[a].x, value.y * decay[a] + added[a].y,
               value.z * decay[a] + added[a].z, value.w * decay[a] + added[a].w};
    }
  }
  return value;
}

__global__ void __launch_bounds__(kThreads) scan_kernel(const GatedScanParams p) {
  const StateQuad quad(p);
  if (!quad.exists) return;
  const float4 first = quad.read(p, p.initial_state);
  quad.write(p, p.final_state,
             scan<true>(p, quad, p.additions, static_cast<bf16*>(p.states), first));
}

__global__ void __launch_bounds__(kThreads) gradient_scan_kernel(const GatedScanParams p) {
  const StateQuad quad(p);
  if (!quad.exists) return;
  const float4 last = quad.read(p, p.final_state_gradient);
  const float4 first =
      scan<false>(p, quad, p.state_gradient_additions, static_cast<bf16*>(p.state_gradients), last);
  if (p.initial_state_gradient) quad.write(p, p.initial_state_gradient, first);
}

int scan_blocks(const GatedScanParams& p) {
  const int64_t threads =
      static_cast<int64_t>(p.segments) * p.state_heads * p.key_dim * (p.value_dim / 4);
  return static_cast<int>((threads + kThreads - 1) / kThreads);
}

}  // namespace

cudaError_t launch_gated_scan_states(const GatedScanParams& params, cudaStream_t stream) {
  const cudaError_t error = with_key_dim(params.key_dim, [&](auto key_dim) {
    constexpr int K = decltype(key_dim)::value;
    const auto kernel = params.value_dim <= 64 ? additions_kernel<K, 64> : additions_kernel<K, 160>;
    return launch_over_chunks(kernel, kThreads, AdditionsShared<K>::bytes(params.value_dim, false),
                              params, stream);
  });
  if (error != cudaSuccess) return error;
  scan_kernel<<<scan_blocks(params), kThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

cudaError_t launch_gated_scan_bwd_states(const GatedScanParams& params, cudaStream_t stream) {
  const cudaError_t error = with_key_dim(params.key_dim, [&](auto key_dim) {
    constexpr int K = decltype(key_dim)::value;
    const auto kernel = params.value_dim <= 64 ? gradient_additions_kernel<K, 64>
                                               : gradient_additions_kernel<K, 160>;
    return launch_over_chunks(kernel, kThreads, AdditionsShared<K>::bytes(params.value_dim, true),
                              params, stream);
  });
  if (error != cudaSuccess) return error;
  gradient_scan_kernel<<<scan_blocks(params), kThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace tigon::cuda
