// After the heads of a chunk: what the state after it gives dv, dk and the gates; and the kernel.
#pragma once
#include "ops/gated_scan/gated_scan_bwd.cuh"

namespace tigon::cuda {

/// The factors of dk in the channels' order: exp(T − c) over exp(c), exp(m − c) over exp(c − m).
template <int K, int V>
__device__ void make_key_factors(BwdShared<K, V>& shared, const GatedScanParams& p,
                                 const ScanBlock& block) {
  for (int item = threadIdx.x; item < kSubChunks * (K / 2); item += kBwdThreads) {
    const int sub_chunk = item / (K / 2), channel = item % (K / 2) * 2;
    const int start = sub_chunk * kTile * row_stride(K) + channel;
    float2 gate[kTile];
    load_gates(gate, p, block, sub_chunk, channel);
    const auto put = [&](bf16* tile, int i, float2 pair) {
      store_pair(tile + start + i * row_stride(K), pair.x, pair.y);
    };
    visit_decays(
        gate, [](auto...) {}, [&](int i, float2 decay) { put(shared.from_start, i, decay); },
        [&](int i, float2 to_middle, float2) { put(shared.from_middle, i, to_middle); });
  }
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
  for (int g = 0; g < V / 32; ++g) {
    store_32_channels(target + 32 * g, static_cast<int64_t>(p.state_heads) * V, gradient[2 * g],
                      gradient[2 * g + 1], valid, lane);
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
    scale_by_channels<K>(of_own[0], of_own[1], shared.from_middle + rows + 32 * g, lane);
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
    sum = warp_sum(sum);
    const float* decay = shared.decay + row;
    if (block.lane == 0) {
      shared.state_dots[row] = sum * decay[0] * decay[K] * decay[2 * K] * decay[3 * K];
    }
  }
}

/// tile[rows of a warp][32 columns] = or −= two fragments.
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

/// The gates' gradients from up_to_row, after_row and state_dots; all threads.
template <int K, int V>
__device__ void store_gate_gradients(BwdShared<K, V>& shared, const ScanBlock& block,
                                     const GatedScanParams& p) {
  constexpr int kStride = row_stride(K);
  float* up_to = shared.up_to_row();
  const float* after = shared.after_row();
  const int length = block.chunk.length;
  constexpr int kRounds = (kSubChunks * K + kBwdThreads - 1) / kBwdThreads;
  float found[kRounds][kTile];
#pragma unroll
  for (int round = 0; round < kRounds; ++round) {
    const int item = threadIdx.x + round * kBwdThreads;
    if (item >= kSubChunks * K) break;
    const int sub_chunk = item / K, position = item % K, first = sub_chunk * kTile;
    float sum = shared.state_dots[position];
    for (int row = 0; row < first; ++row) sum += after[row * kStride + position];
    for (int row = first + kTile; row < kChunkTokens; ++row) sum += up_to[row * kStride + position];
      // What lies behind the row at hand comes off from the front.
#pragma unroll
    for (int i = 0; i < kTile; ++i) {
      found[round][i] = sum;
      sum += after[(first + i) * kStride + position];
    }
    float behind = 0;
#pragma unroll
    for (int i = kTile - 1; i >= 0; --i) {
      behind += up_to[(first + i) * kStride + position];
      found[round][i] += behind;
    }
    const int channel = position_of(position);
    const int64_t token = static_cast<int64_t>(block.chunk.first_token) + first;
#pragma unroll
    for (int i = 0; i < kTile; ++i) {
      const bool is_there = first + i < length;
      if (is_there) {
        const float2 gates = load_log2_gates(p.log_gate, token + i, block.gate_head, channel & ~1);
        if ((channel & 1 ? gates.y : gates.x) <= kLowestLogGate) found[round][i] = 0;
      } else {
        found[round][i] = 0;
      }
      if (p.gate_gradient_kind == GateGradient::kPerChannel && is_there) {
        p.gate_gradient[((token + i) * p.state_heads + block.state_head) * K + channel] =
            found[round][i];
      }
    }
  }
  if (p.gate_gradient_kind == GateGradient::kPerChannel) return;
  __syncthreads();
#pragma unroll
  for (int round = 0; round < kRounds; ++round) {
    const int item = threadIdx.x + round * kBwdThreads;
    if (item >= kSubChunks * K) break;
#pragma unroll
    for (int i = 0; i < kTile; ++i) {
      up_to[(item / K * kTile + i) * kStride + item % K] = found[round][i];
    }
  }
  __syncthreads();
  if (p.gate_gradient_kind == GateGradient::kFixed) {
    for (int position = threadIdx.x; position < K; position += kBwdThreads) {
      float sum = 0;
      for (int row = 0; row < kChunkTokens; ++row) sum += up_to[row * kStride + position];
      p.gate_gradient[block.index * K + position_of(position)] = sum;
    }
    return;
  }
  for (int row = block.warp; row < length; row += kBwdWarps) {
    float sum = 0;
    for (int position = block.lane; position < K; position += 32) {
      sum += up_to[row * kStride + position];
    }
    sum = warp_sum(sum);
    const int64_t token = static_cast<int64_t>(block.chunk.first_token) + row;
    if (block.lane == 0) p.gate_gradient[token * p.state_heads + block.state_head] = sum;
  }
}

template <int K, int V>
__global__ void __launch_bounds__(kBwdThreads, K <= 64 && V <= 64 ? 2 : 1)
    gated_scan_bwd_kernel(const GatedScanParams p) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<BwdShared<K, V>*>(memory);
  const ScanBlock block = make_block(p);
  const int tile = block.warp % kSubChunks, role = block.warp / kSubChunks, lane = block.lane;
  const int length = block.chunk.length, valid = length - tile * kTile;
  const int64_t token = block.chunk.first_token;

  HeadPieces<K, kBwdThreads> queries;
  HeadPieces<V, kBwdThreads> gradients;
  const auto load_head = [&](int g) {
    const int head = block.first_head + g;
    queries.load(row_of(p.q, token, head), p.q.token_stride, K, length);
    gradients.load(row_of(p.out_gradient, token, head), p.out_gradient.token_stride, V, length);
  };
  load_head(0);
  load_state(shared.state, static_cast<const bf16*>(p.states) + block.index * K * V, K, V);
  load_rows_by_position(shared.values, row_of(p.v, token, block.value_head), p.v.token_stride, V,
                        length);
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
    wait_for_copies();
    __syncthreads();
    queries.visit(K, [&](int row, int group, const uint4& piece) {
      const int at = row * row_stride(K), channel = group * 8;
      store_by_position(shared.queries_from_start + at, group,
                        multiply(piece, load_piece(shared.from_start + at + channel)));
      store_by_position(shared.queries_from_middle + at, group,
                        multiply(piece, load_piece(shared.from_middle + at + channel)));
    });
    gradients.visit(V, [&](int row, int group, const uint4& piece) {
      store_by_position(shared.out_gradients + row * row_stride(V), group, piece);
    });
    __syncthreads();
    if (g + 1 < block.group) load_head(g + 1);
    if (role == 0) {
      add_value_gradient(sums, shared, tile, lane);
    } else {
      add_key_gradient(own, later, shared, tile, lane);
    }
    __syncthreads();
    bf16* target = static_cast<bf16*>(p.q_gradient) + (token + tile * kTile) * query_stride +
                   static_cast<int64_t>(block.first_head + g) * K;
#pragma unroll
    for (int i = 0; i < (K / 32 + 1) / 2; ++i) {
      const int group = 2 * i + role;
      if (group >= K / 32) break;
      make_query_gradient(y[i], target, query_stride, shared, tile, group, valid, lane);
    }
  }
  __syncthreads();
  load_state(shared.state_gradient(),
             static_cast<const bf16*>(p.state_gradients) + block.index * K * V, K, V);
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
    if (group >= K / 32) break;
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
