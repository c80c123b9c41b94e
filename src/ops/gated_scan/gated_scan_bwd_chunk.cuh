// After the heads of a chunk: what the state after it gives dv, dk and the gates; and the kernel.
#pragma once
#include "ops/gated_scan/gated_scan_bwd.cuh"
#include "ops/lane_sums.cuh"

namespace tigon::cuda {

/// exp(T − c) over exp(c), and which log-gates were bounded; all threads.
template <int K, int V>
__device__ void make_key_factors(BwdShared<K, V>& shared, const GatedScanParams& p,
                                 const ScanBlock& block) {
  for (int item = threadIdx.x; item < kSubChunks * K; item += kBwdThreads) {
    const int sub_chunk = item / K, channel = item % K;
    float log_gate[kTile];
    load_log2_gates(log_gate, p, block, sub_chunk, channel);
    bf16* factor = shared.from_start + sub_chunk * kTile * row_stride(K) + channel;
    uint32_t bounded = 0;
    float decay = 1;
#pragma unroll
    for (int i = kTile - 1; i >= 0; --i) {
      factor[i * row_stride(K)] = __float2bfloat16_rn(decay);
      decay *= exp2_fast(log_gate[i]);
      bounded |= (log_gate[i] <= kLowestLogGate ? 1u : 0u) << i;
    }
    shared.bounded()[sub_chunk * K + position_of(channel)] = static_cast<uint16_t>(bounded);
  }
}

/// Sixteen bytes of exp(c − m) → exp(m − c).
__device__ inline uint4 inverse(const uint4& x) {
  const auto two = [](uint32_t pair) {
    const float2 wide = unpack(pair);
    return pack(reciprocal(wide.x), reciprocal(wide.y));
  };
  return {two(x.x), two(x.y), two(x.z), two(x.w)};
}

/// k_j exp(b_end − b_j): the decay of the sub-chunks after the keys' own.
template <int K>
__device__ void scale_to_chunk_end(FragmentC& c, const float* decay, int tile, int column,
                                   int lane) {
  for (int j = tile + 1; j < kSubChunks; ++j) scale_columns(c, decay + j * K + column, lane);
}

/// dv += k_j exp(b_end − b_j) dS, and writes it.
template <int K, int V>
__device__ void finish_value_gradient(FragmentC* gradient, BwdShared<K, V>& shared,
                                      const ScanBlock& block, int tile, const GatedScanParams& p) {
  const int lane = block.lane, valid = block.chunk.length - tile * kTile;
#pragma unroll
  for (int g = 0; g < K / 16; ++g) {
    const bf16* keys = shared.to_end + tile * kTile * row_stride(K) + 16 * g;
    FragmentC c = widened(load_a<K>(keys, lane));
    scale_to_chunk_end<K>(c, shared.decay, tile, 16 * g, lane);
    const FragmentA a = to_a(c);
#pragma unroll
    for (int n = 0; n < V / 16; ++n) {
      const bf16* rows = shared.state_gradient() + 16 * g * row_stride(V) + 16 * n;
      multiply_add(gradient[n], a, load_b_transposed<V>(rows, lane));
    }
  }
  const int64_t token = static_cast<int64_t>(block.chunk.first_token) + tile * kTile;
  bf16* target = static_cast<bf16*>(p.v_gradient) + (token * p.state_heads + block.state_head) * V;
#pragma unroll
  for (int n = 0; n < V / 16; ++n) {
    store_rows(target + 16 * n, static_cast<int64_t>(p.state_heads) * V, gradient[n], valid, lane);
  }
}

/// Adds dS to dk and writes it; own becomes k ⊙ dk without dS, later k ⊙ dk of dS.
template <int K, int V>
__device__ void finish_key_gradient(FragmentC* own, FragmentC* later, BwdShared<K, V>& shared,
                                    const ScanBlock& block, int tile, const GatedScanParams& p) {
  const int lane = block.lane, valid = block.chunk.length - tile * kTile;
  const int rows = tile * kTile * row_stride(K);
  const int64_t token = static_cast<int64_t>(block.chunk.first_token) + tile * kTile;
  bf16* target = static_cast<bf16*>(p.k_gradient) + (token * p.state_heads + block.state_head) * K;
#pragma unroll
  for (int g = 0; g < K / 32; ++g) {
    FragmentC of_state[2], of_own[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int n = 2 * g + h;
      FragmentC& state = of_state[h];
      state.clear();
#pragma unroll
      for (int v = 0; v < V / 16; ++v) {
        const bf16* values = shared.values + tile * kTile * row_stride(V) + 16 * v;
        const bf16* gradient = shared.state_gradient() + 16 * n * row_stride(V) + 16 * v;
        multiply_add(state, load_a<V>(values, lane), load_b<V>(gradient, lane));
      }
      scale_to_chunk_end<K>(state, shared.decay, tile, 16 * n, lane);
      // Products with k, before the sums lose their parts.
      const FragmentC sum_own = own[n], sum_later = later[n];
      own[n].clear();
      later[n].clear();
      add_product<K>(own[n], sum_own, shared.to_middle + rows + 16 * n, lane);
      add_product<K>(own[n], sum_later, shared.to_end + rows + 16 * n, lane);
      add_product<K>(later[n], state, shared.to_end + rows + 16 * n, lane);
      of_own[h] = sum_own;
#pragma unroll
      for (int i = 0; i < 8; ++i) state.x[i] += sum_later.x[i];
    }
    scale_by_channels<K>(of_state[0], of_state[1], shared.from_start + rows + 32 * g, lane);
    const bf16* middle =
        shared.from_middle + rows + 32 * g + lane / 4 * row_stride(K) + lane % 4 * 8;
    scale_pair(of_own[0], of_own[1], inverse(load_piece(middle)),
               inverse(load_piece(middle + 8 * row_stride(K))));
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int i = 0; i < 8; ++i) of_state[h].x[i] += of_own[h].x[i];
    }
    store_32_channels(target + 32 * g, static_cast<int64_t>(p.state_heads) * K, of_state[0],
                      of_state[1], valid, lane);
  }
}

/// state_dots, from S and dS in shared memory; all threads.
template <int K, int V>
__device__ void make_state_dots(BwdShared<K, V>& shared, const ScanBlock& block) {
  for (int row = block.warp; row < K; row += kBwdWarps) {
    const bf16* state = shared.state + row * row_stride(V);
    const bf16* gradient = shared.state_gradient() + row * row_stride(V);
    float sum = 0;
    for (int v = 2 * block.lane; v < V; v += 64) {
      const float2 pair = product(load_pair(state + v), load_pair(gradient + v));
      sum += pair.x + pair.y;
    }
    sum = sum_of_lanes(sum);
    const float* decay = shared.decay + row;
    if (block.lane == 0) {
      shared.state_dots()[row] = sum * decay[0] * decay[K] * decay[2 * K] * decay[3 * K];
    }
  }
}

/// 16 rows and columns of a float tile = factor · c, or += it.
template <int K, bool kAdd>
__device__ void put_fragment(float* tile, const FragmentC& c, int lane, float factor) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float2* at = reinterpret_cast<float2*>(tile + fragment_row(i, lane) * row_stride(K) +
                                           fragment_column(i, lane));
    const float2 before = kAdd ? *at : float2{0, 0};
    *at = {before.x + factor * c.x[2 * i], before.y + factor * c.x[2 * i + 1]};
  }
}

/// One channel of one sub-chunk: its gates' gradients from what comes before, inside and behind.
template <int K, int V>
__device__ void gate_gradients(float (&found)[kTile], BwdShared<K, V>& shared, int sub_chunk,
                               int position) {
  constexpr int kStride = row_stride(K);
  const int first = sub_chunk * kTile * kStride + position;
  const uint32_t bounded = shared.bounded()[sub_chunk * K + position];
  float before = shared.state_dots()[position], behind = 0;
  for (int j = 0; j < sub_chunk; ++j) before += shared.after_sums()[j * K + position];
  for (int j = sub_chunk + 1; j < kSubChunks; ++j) behind += shared.up_to_sums()[j * K + position];
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    found[i] = before;
    before += shared.after_row()[first + i * kStride];
  }
#pragma unroll
  for (int i = kTile - 1; i >= 0; --i) {
    behind += shared.up_to_row()[first + i * kStride];
    found[i] = bounded >> i & 1 ? 0.0f : found[i] + behind;
  }
}

/// The gates' gradients from up_to_row, after_row and state_dots; all threads.
template <int K, int V>
__device__ void store_gate_gradients(BwdShared<K, V>& shared, const ScanBlock& block,
                                     const GatedScanParams& p) {
  constexpr int kStride = row_stride(K);
  const int length = block.chunk.length;
  for (int item = threadIdx.x; item < kSubChunks * K; item += kBwdThreads) {
    const int first = item / K * kTile * kStride + item % K;
    float up_to = 0, after = 0;
#pragma unroll
    for (int i = 0; i < kTile; ++i) {
      up_to += shared.up_to_row()[first + i * kStride];
      after += shared.after_row()[first + i * kStride];
    }
    shared.up_to_sums()[item] = up_to;
    shared.after_sums()[item] = after;
  }
  __syncthreads();
  for (int item = threadIdx.x; item < kSubChunks * K; item += kBwdThreads) {
    const int sub_chunk = item / K, position = item % K;
    float found[kTile];
    gate_gradients(found, shared, sub_chunk, position);
    if (p.gate_gradient_kind == GateGradient::kPerChannel) {
      const int64_t token = static_cast<int64_t>(block.chunk.first_token) + sub_chunk * kTile;
      const int row = p.state_heads * K;
      float* target = p.gate_gradient + token * row + block.state_head * K + position_of(position);
#pragma unroll
      for (int i = 0; i < kTile; ++i) {
        if (sub_chunk * kTile + i < length) target[rows_apart(i, row)] = found[i];
      }
    } else {
      // Nobody else reads these.
#pragma unroll
      for (int i = 0; i < kTile; ++i) {
        const bool is_there = sub_chunk * kTile + i < length;
        shared.up_to_row()[(sub_chunk * kTile + i) * kStride + position] =
            is_there ? found[i] : 0.0f;
      }
    }
  }
  if (p.gate_gradient_kind == GateGradient::kPerChannel) return;
  __syncthreads();
  if (p.gate_gradient_kind == GateGradient::kFixed) {
    for (int position = threadIdx.x; position < K; position += kBwdThreads) {
      float sum = 0;
      for (int row = 0; row < length; ++row) sum += shared.up_to_row()[row * kStride + position];
      p.gate_gradient[block.index * K + position_of(position)] = sum;
    }
    return;
  }
  for (int row = block.warp; row < length; row += kBwdWarps) {
    float sum = 0;
    for (int position = block.lane; position < K; position += 32) {
      sum += shared.up_to_row()[row * kStride + position];
    }
    sum = sum_of_lanes(sum);
    const int64_t token = static_cast<int64_t>(block.chunk.first_token) + row;
    if (block.lane == 0) p.gate_gradient[token * p.state_heads + block.state_head] = sum;
  }
}

/// q ⊙ exp(c) and q ⊙ exp(c − m) of one head; all threads.
template <int K, int V>
__device__ void scale_queries(BwdShared<K, V>& shared) {
  for (int item = threadIdx.x; item < kChunkTokens * (K / 8); item += kBwdThreads) {
    const int group = item % (K / 8), at = item / (K / 8) * row_stride(K);
    const uint4 piece = load_piece(shared.queries + at + group * 8);
    store_by_position(shared.queries_from_start + at, group,
                      multiply(piece, load_piece(shared.from_start + at + group * 8)));
    store_by_position(shared.queries_from_middle + at, group,
                      multiply(piece, load_piece(shared.from_middle + at + group * 8)));
  }
}

template <int K, int V>
__global__ void __launch_bounds__(kBwdThreads, K <= 64 && V <= 64 ? 2 : 1)
    gated_scan_bwd_kernel(const GatedScanParams p) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<BwdShared<K, V>*>(memory);
  const ScanBlock block = make_block(p);
  // The tiles differ in work: each scheduler gets a warp with much and one with little.
  const int role = block.warp / kSubChunks, place = block.warp % kSubChunks, lane = block.lane;
  const int tile = role == 0 ? place : kSubChunks - 1 - place;
  const int length = block.chunk.length, valid = length - tile * kTile;
  const int64_t token = block.chunk.first_token;
  constexpr int kGradientTiles = BwdShared<K, V>::kGradientTiles;

  const auto load_gradients = [&](int g) {
    load_rows_by_channel(shared.out_gradients[g % kGradientTiles],
                         row_of(p.out_gradient, token, block.first_head + g),
                         p.out_gradient.token_stride, V, kChunkTokens, length);
  };
  const auto load_queries = [&](int g) {
    load_rows_by_channel(shared.queries, row_of(p.q, token, block.first_head + g), p.q.token_stride,
                         K, kChunkTokens, length);
  };
  load_rows_by_channel(shared.state, static_cast<const bf16*>(p.states) + block.index * K * V, V, V,
                       K, K);
  load_rows_by_channel(shared.values, row_of(p.v, token, block.value_head), p.v.token_stride, V,
                       kChunkTokens, length);
  load_queries(0);
  load_gradients(0);
  make_tiles<K>(
      {shared.to_end, shared.to_middle, shared.from_start, shared.from_middle, shared.decay}, p,
      block);

  // dv, or the two parts of dk.
  FragmentC sums[V > 2 * K ? V / 16 : K / 8];
  for (FragmentC& c : sums) c.clear();
  FragmentC* own = sums;
  FragmentC* later = sums + K / 16;
  // Σ q ⊙ dq of a warp's queries: every other group of 32 channels.
  FragmentC y[(K / 32 + 1) / 2][2];
  for (auto& pair : y) {
    pair[0].clear();
    pair[1].clear();
  }
  const int64_t query_stride = static_cast<int64_t>(p.heads) * K;
  for (int g = 0; g < block.group; ++g) {
    if (kGradientTiles == 1 && g > 0) {
      __syncthreads();
      load_gradients(g);
    }
    wait_for_copies();
    __syncthreads();
    scale_queries(shared);
    __syncthreads();
    if (g + 1 < block.group) {
      load_queries(g + 1);
      if (kGradientTiles == 2) load_gradients(g + 1);
    }
    const bf16* out_gradients = shared.out_gradients[g % kGradientTiles];
    if (role == 0) {
      add_value_gradient(sums, shared, out_gradients, tile, lane);
    } else {
      add_key_gradient(own, later, shared, out_gradients, tile, lane);
    }
    __syncthreads();
    bf16* target = static_cast<bf16*>(p.q_gradient) + (token + tile * kTile) * query_stride +
                   static_cast<int64_t>(block.first_head + g) * K;
#pragma unroll
    for (int i = 0; i < (K / 32 + 1) / 2; ++i) {
      const int group = 2 * i + role;
      if (group >= K / 32) continue;
      make_query_gradient(y[i], target, query_stride, shared, out_gradients, tile, group, valid,
                          lane);
    }
  }
  __syncthreads();
  load_rows_by_channel(shared.state_gradient(),
                       static_cast<const bf16*>(p.state_gradients) + block.index * K * V, V, V, K,
                       K);
  make_key_factors(shared, p, block);
  wait_for_copies();
  __syncthreads();
  if (role == 0) {
    finish_value_gradient(sums, shared, block, tile, p);
  } else {
    finish_key_gradient(own, later, shared, block, tile, p);
  }
  if (p.gate_gradient == nullptr) return;
  make_state_dots(shared, block);
  __syncthreads();
  const int rows = tile * kTile * row_stride(K);
  if (role == 1) {
#pragma unroll
    for (int n = 0; n < K / 16; ++n) {
      put_fragment<K, false>(shared.up_to_row() + rows + 16 * n, own[n], lane, -1);
      put_fragment<K, false>(shared.after_row() + rows + 16 * n, later[n], lane, 1);
    }
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < (K / 32 + 1) / 2; ++i) {
    const int group = 2 * i + role;
    if (group >= K / 32) continue;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      put_fragment<K, true>(shared.up_to_row() + rows + 32 * group + 16 * h, y[i][h], lane, 1);
    }
  }
  __syncthreads();
  store_gate_gradients(shared, block, p);
}

template <int K>
cudaError_t launch_gated_scan_bwd_rows(const GatedScanParams& params, cudaStream_t stream) {
  return with_value_dim(params.value_dim, [&](auto value_dim) {
    constexpr int V = decltype(value_dim)::value;
    return launch_over_chunks(gated_scan_bwd_kernel<K, V>, kBwdThreads, sizeof(BwdShared<K, V>),
                              params, stream);
  });
}

}  // namespace tigon::cuda
