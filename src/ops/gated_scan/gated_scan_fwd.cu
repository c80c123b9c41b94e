// Computes  o_i = q_i exp(b_i) S + Σ_{j ≤ i} (q_i · k_j exp(b_i − b_j)) v_j, S the state before
//           the chunk and b the running sum of log-gates from the chunk's start
// Shapes    q [N, H, K], k [N, Hk, K], v [N, Hv, V], S [C, Hs, K, V], out [N, H, V]
// Grid      (C, Hs) blocks of 128 threads for each query head at work at once (one or two)
// Tiles     chunks of 64 tokens; a warp owns 16 query rows of a head, whose scores stay in
//           registers, and makes 32 columns of their output at a time
// Memory    K = V = 64: 75 KB shared, three blocks a multiprocessor; 128: 159 KB, one. Reads q
//           once, k, v, gates and S once a state head, writes out, 16 bytes a thread; a warp's next
//           queries are copied meanwhile
// Saves     nothing: the backward pass makes scores again, and keeps the chunk states
// Order     fixed; deterministic
#include <type_traits>

#include "ops/gated_scan/gated_scan_chunk.cuh"

namespace tigon::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

/// Where the arrays of a block lie in shared memory.
template <int K>
struct FwdShared {
  static constexpr int kTileElements = kChunkTokens * row_stride(K);

  ScanTiles tiles;
  bf16* values;   // [64, V] by position
  bf16* state;    // [K, V] by position
  bf16* queries;  // [16, K] of each warp: the next head's, in the channels' order

  __device__ FwdShared(char* memory, int value_dim) {
    bf16* next = reinterpret_cast<bf16*>(memory);
    tiles.to_end = next;
    tiles.to_middle = next += kTileElements;
    tiles.from_start = next += kTileElements;
    tiles.from_middle = next += kTileElements;
    values = next += kTileElements;
    state = next += kChunkTokens * row_stride(value_dim);
    queries = next += K * row_stride(value_dim);
    tiles.decay = reinterpret_cast<float*>(next + kWarps * kTile * row_stride(K));
  }
  static int bytes(int value_dim) {
    return static_cast<int>(sizeof(bf16)) *
               (4 * kTileElements + (kChunkTokens + K) * row_stride(value_dim) +
                kWarps * kTile * row_stride(K)) +
           kSubChunks * K * static_cast<int>(sizeof(float));
  }
};

/// A warp's copy of 16 rows of queries, without waiting; those from `valid` > 0 on are the last
/// valid row's.
template <int K>
__device__ void load_queries(bf16* tile, const bf16* source, int token_stride, int valid,
                             int lane) {
  for (int item = lane; item < kTile * (K / 8); item += 32) {
    const int row = item / (K / 8), column = item % (K / 8) * 8;
    copy_16_bytes(tile + row * row_stride(K) + column,
                  source + rows_apart(min(row, valid - 1), token_stride) + column, true);
  }
}

/// The left operands of a sub-chunk of queries: as they read the state, and their scores.
template <int K>
struct Readings {
  FragmentA of_state[K / 16];
  FragmentA scores[kSubChunks];  // by distance in sub-chunks; 0 is the queries' own

  /// `queries` are 16 rows in the channels' order.
  __device__ Readings(const ScanTiles& tiles, const bf16* queries, int tile, int lane) {
    constexpr int kStride = row_stride(K);
    const int own_rows = tile * kTile * kStride;
    const int thread_part = lane / 4 * kStride + lane % 4 * 8;
    FragmentC sums[kSubChunks];
    for (FragmentC& c : sums) c.clear();
#pragma unroll
    for (int g = 0; g < K / 32; ++g) {
      const bf16* query = queries + thread_part + 32 * g;
      const bf16* middle = tiles.from_middle + own_rows + thread_part + 32 * g;
      const bf16* start = tiles.from_start + own_rows + thread_part + 32 * g;
      const uint4 upper = load_piece(query), lower = load_piece(query + 8 * kStride);
      const uint4 own_upper = multiply(upper, load_piece(middle));
      const uint4 own_lower = multiply(lower, load_piece(middle + 8 * kStride));
      const bf16* own_keys = tiles.to_middle + own_rows + 32 * g;
      multiply_add(sums[0], {{own_upper.x, own_lower.x, own_upper.y, own_lower.y}},
                   load_b<K>(own_keys, lane));
      multiply_add(sums[0], {{own_upper.z, own_lower.z, own_upper.w, own_lower.w}},
                   load_b<K>(own_keys + 16, lane));
      FragmentC earlier[2] = {widened(upper.x, lower.x, upper.y, lower.y),
                              widened(upper.z, lower.z, upper.w, lower.w)};
      scale_pair(earlier[0], earlier[1], load_piece(start), load_piece(start + 8 * kStride));
#pragma unroll
      for (int distance = 1; distance < kSubChunks; ++distance) {
        if (distance > tile) continue;
        const int key_tile = tile - distance;
        const bf16* keys = tiles.to_end + key_tile * kTile * kStride + 32 * g;
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          multiply_add(sums[distance], to_a(earlier[h]), load_b<K>(keys + 16 * h, lane));
          scale_columns(earlier[h], tiles.decay + key_tile * K + 32 * g + 16 * h, lane);
        }
      }
      of_state[2 * g] = to_a(earlier[0]);
      of_state[2 * g + 1] = to_a(earlier[1]);
    }
    keep_lower(sums[0], lane);
#pragma unroll
    for (int distance = 0; distance < kSubChunks; ++distance)
      scores[distance] = to_a(sums[distance]);
  }

 private:
  __device__ static FragmentC widened(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    const float2 w = unpack(a), x = unpack(b), y = unpack(c), z = unpack(d);
    return {{w.x, w.y, x.x, x.y, y.x, y.y, z.x, z.y}};
  }
};

/// Writes 16 rows of 32 columns as float32.
__device__ void store_32_wide(float* target, int64_t stride, const FragmentC& low,
                              const FragmentC& high, int valid, int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = lane / 4 + 8 * half, i = 2 * half;
    if (row >= valid) continue;
    float4* pointer = reinterpret_cast<float4*>(target + row * stride + lane % 4 * 8);
    pointer[0] = {low.x[i], low.x[i + 1], low.x[i + 4], low.x[i + 5]};
    pointer[1] = {high.x[i], high.x[i + 1], high.x[i + 4], high.x[i + 5]};
  }
}

template <int K>
__global__ void __launch_bounds__(kThreads, K <= 64 ? 3 : 1) fwd_kernel(const GatedScanParams p) {
  extern __shared__ __align__(16) char memory[];
  const int V = p.value_dim, stride = row_stride(V);
  const FwdShared<K> shared(memory, V);
  const ScanBlock block = make_block(p);
  const int tile = block.warp % kSubChunks, lane = block.lane;
  const int valid = block.chunk.length - tile * kTile;
  const int64_t token = static_cast<int64_t>(block.chunk.first_token) + tile * kTile;
  const int heads_at_once = blockDim.x / (32 * kSubChunks);
  int g = block.warp / kSubChunks;
  bf16* queries = shared.queries + block.warp * kTile * row_stride(K);
  const auto load_head = [&] {
    if (valid > 0 && g < block.group) {
      load_queries<K>(queries, row_of(p.q, token, block.first_head + g), p.q.token_stride, valid,
                      lane);
    }
  };
  load_head();
  load_rows_by_position(shared.state, static_cast<const bf16*>(p.states) + block.index * K * V, V,
                        V, K, K);
  load_rows_by_position(shared.values, row_of(p.v, block.chunk.first_token, block.value_head),
                        p.v.token_stride, V, kChunkTokens, block.chunk.length);
  make_tiles<K>(shared.tiles, p, block);
  wait_for_copies();
  __syncthreads();
  if (valid <= 0) return;

  const int64_t out_stride = static_cast<int64_t>(p.heads) * V;
  while (g < block.group) {
    wait_for_copies();
    __syncwarp();
    const Readings<K> readings(shared.tiles, queries, tile, lane);
    const int64_t out_at = token * out_stride + static_cast<int64_t>(block.first_head + g) * V;
    g += heads_at_once;
    __syncwarp();
    load_head();  // the next one's queries are on their way
#pragma unroll 1
    for (int v = 0; v < V; v += 32) {
      FragmentC out[2];
      out[0].clear();
      out[1].clear();
      const auto add = [&](const FragmentA& a, const bf16* rows) {
        multiply_add(out[0], a, load_b_transposed(rows + v, stride, lane));
        multiply_add(out[1], a, load_b_transposed(rows + v + 16, stride, lane));
      };
#pragma unroll
      for (int i = 0; i < K / 16; ++i) {
        add(readings.of_state[i], shared.state + i * kTile * stride);
      }
#pragma unroll
      for (int distance = 0; distance < kSubChunks; ++distance) {
        if (distance > tile) continue;
        add(readings.scores[distance], shared.values + (tile - distance) * kTile * stride);
      }
      if (p.is_out_wide) {
        store_32_wide(static_cast<float*>(p.out) + out_at + v, out_stride, out[0], out[1], valid,
                      lane);
      } else {
        store_32_channels(static_cast<bf16*>(p.out) + out_at + v, out_stride, out[0], out[1], valid,
                          lane);
      }
    }
  }
}

}  // namespace

cudaError_t launch_gated_scan_fwd(const GatedScanParams& params, cudaStream_t stream) {
  return with_key_dim(params.key_dim, [&](auto key_dim) {
    constexpr int K = decltype(key_dim)::value;
    const int threads = params.heads == params.state_heads ? kThreads / 2 : kThreads;
    return launch_over_chunks(fwd_kernel<K>, threads, FwdShared<K>::bytes(params.value_dim), params,
                              stream);
  });
}

}  // namespace tigon::cuda
