// What a chunk's keys get from the queries that see them: scores with keys as rows, and the
// gradients they carry, 64 keys by 32 queries at a time.
#pragma once
#include "ops/liger_attention/liger_hopper_queries.cuh"

namespace tigon::cuda {

/// What a warpgroup sums: 64 keys by 64 columns, a warp 16 keys.
struct KeySums {
  PanelSums values;      // dv
  PanelSums window;      // of the rotated keys, before the scale of the softmax
  PanelSums recurrence;  // y
};

/// A thread's place among those that sum.
struct KeyPlace {
  int tile;    // of 16 keys
  int column;  // of 64 columns
  int lane;

  /// The same, but the compiler does not know, which would keep every address that follows from it
  /// in registers throughout a loop.
  __device__ KeyPlace again() const {
    KeyPlace place = *this;
    asm volatile("" : "+r"(place.tile), "+r"(place.lane));
    return place;
  }
};

// Steps of 16 through the contraction, as elements of a descriptor (16 bytes).
/// Along the columns of a tile's rows.
__device__ constexpr int row_step(int g) {
  return (g / 4 * kPanelElements + g % 4 * 16) / 8;
}
/// Along the rows of a panel.
__device__ constexpr int column_step(int c) {
  return c * 16 * kPanel / 8;
}

/// What the state's gradient gives: exp(b_end − b) φ(k) dS to dv, and φ(k) exp(b_end − b) ⊙ dS v to
/// y. Starts the sums.
template <int D>
__device__ void start_sums(KeySums& sums, HopperKeyShared<D>& shared, const KeyPlace& place) {
  const bf16* gradient = shared.state_gradient();
  const PanelPlace keys(shared.keys_to_end());
  const PanelPlace values(shared.values);
  const PanelPlace columns(gradient + place.column * kPanelElements);
  const PanelPlace rows(gradient + place.column * kPanel * D);
  begin_products();
#pragma unroll
  for (int g = 0; g < D / 16; ++g) {
    const int tile = g / 4 * (kPanel * D / 8);  // 64 rows of the state
    multiply_panels<true>(sums.values, keys + row_step(g), columns + tile + column_step(g % 4),
                          g > 0);
    multiply_panels<false>(sums.recurrence, values + row_step(g), rows + row_step(g), g > 0);
  }
  end_products();
  wait_for_products();
  settle(sums.values);
  settle(sums.recurrence);
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    const FragmentC to_end = widened(
        load_panel_a<D>(shared.keys_to_end(), place.tile, 4 * place.column + n, place.lane));
#pragma unroll
    for (int i = 0; i < 8; ++i) sums.recurrence[n].x[i] *= to_end.x[i];
    sums.window[n].clear();
  }
}

/// From scores to (1−mix) P, in place, and P ⊙ (dP − Σ P·dP) times 1−mix. 16 keys by 16 queries,
/// whose sums begin at `query_row`.
template <int D>
__device__ FragmentA finish_window(FragmentC& scores, const FragmentC& gradients,
                                   const HopperKeyShared<D>& shared, const KeyPlace& place,
                                   int query_row, const LigerParams& p) {
  const int lane = place.lane;
  keep_window_transposed(scores, query_row - place.tile * kTile, p.window_keys, lane);
  const float scale_log2 = p.softmax_scale * kLog2E;
  FragmentC result;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int column = query_row + fragment_column(2 * half, lane);
    const float2 log2_sum = *reinterpret_cast<const float2*>(shared.log2_sum_exp + column);
    const float2 dot = *reinterpret_cast<const float2*>(shared.row_dots + column);
#pragma unroll
    for (int i = 4 * half; i < 4 * half + 4; ++i) {
      scores.x[i] = exp2_fast(scores.x[i] * scale_log2 - (i % 2 == 0 ? log2_sum.x : log2_sum.y));
      result.x[i] = scores.x[i] * (gradients.x[i] - (i % 2 == 0 ? dot.x : dot.y));
    }
  }
  return to_a(result);
}

/// mix · A on top of (1−mix) P, for the chunk's queries from sub-chunk `first` on.
template <int D>
__device__ void add_recurrence_scores(FragmentC (&scores)[2], const HopperKeyShared<D>& shared,
                                      const KeyPlace& place, int first) {
  const PanelPlace queries = PanelPlace(shared.mapped_queries) + column_step(first);
  const PanelPlace keys = PanelPlace(shared.mapped_keys[0]) + first * (kPanel * D / 8);
  begin_products();
#pragma unroll
  for (int c = 0; c < 2; ++c) {
#pragma unroll
    for (int g = 0; g < D / 16; ++g) {
      multiply_columns(scores[c], keys + c * (kPanel * D / 8) + row_step(g),
                       queries + column_step(c) + row_step(g));
    }
  }
  end_products();
  wait_for_products();
  settle(scores);
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    if (first + c == place.tile) keep_upper(scores[c], place.lane);
  }
}

/// y from dP, which is 0 for queries before the keys.
template <int D>
__device__ void add_recurrence(PanelSums& sums, const FragmentA (&gradients)[2],
                               const HopperKeyShared<D>& shared, const KeyPlace& place, int first) {
  const PanelPlace queries =
      PanelPlace(shared.mapped_queries + place.column * kPanelElements) + column_step(first);
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    PanelSums part;
    begin_products();
    multiply_rows(part, gradients[c], queries + column_step(c), false);
    end_products();
    wait_for_products();
    settle(part);
    if (first + c < place.tile) continue;
    const bf16* mapped = shared.mapped_keys[0] + (first + c) * (kPanel * D);
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const FragmentC keys =
          widened(load_panel_a<D>(mapped, place.tile, 4 * place.column + n, place.lane));
#pragma unroll
      for (int i = 0; i < 8; ++i) sums[n].x[i] += part[n].x[i] * keys.x[i];
    }
  }
}

/// Two sub-chunks from `first` on of one head's queries of the chunk (`own`) or of the next one.
/// One code for both: the compiler would wait for every single product of two.
template <int D>
__device__ void add_queries(KeySums& sums, const HopperKeyShared<D>& shared, const KeyPlace& place,
                            bool own, int first, const LigerParams& p) {
  const PanelPlace queries(own ? shared.own_queries : shared.next_queries);
  const PanelPlace d_out(own ? shared.own_out_gradients : shared.next_out_gradients);
  const PanelPlace keys(shared.rotated_keys), values(shared.values);
  const int rows = column_step(first), columns = place.column * kPanelElements / 8 + rows;
  FragmentC scores[2], gradients[2];
  begin_products();
#pragma unroll
  for (int g = 0; g < D / 16; ++g) {
    multiply_half_panels(scores, keys + row_step(g), queries + rows + row_step(g), g > 0);
  }
#pragma unroll
  for (int g = 0; g < D / 16; ++g) {
    multiply_half_panels(gradients, values + row_step(g), d_out + rows + row_step(g), g > 0);
  }
  end_products();
  wait_for_products();
  settle(scores);
  settle(gradients);
  FragmentA window[2], recurrence[2];
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    // No query before all keys sees them, and none more than a window behind.
    const int tile = first + c;
    if (own ? tile < place.tile : tile > place.tile) {
      scores[c].clear();
      window[c] = recurrence[c] = FragmentA{};
      continue;
    }
    const int query_row = (own ? 0 : kChunkTokens) + tile * kTile;
    window[c] = finish_window<D>(scores[c], gradients[c], shared, place, query_row, p);
    if (own && tile == place.tile) keep_upper(gradients[c], place.lane);
    recurrence[c] = to_a(gradients[c]);
  }
  if (own) add_recurrence_scores<D>(scores, shared, place, first);
  FragmentA weights[2] = {to_a(scores[0]), to_a(scores[1])};
  begin_products();
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    multiply_rows(sums.window, window[c], queries + columns + column_step(c));
    multiply_rows(sums.values, weights[c], d_out + columns + column_step(c));
  }
  end_products();
  wait_for_products();
  settle(sums.values);
  settle(sums.window);
  if (own) add_recurrence<D>(sums.recurrence, recurrence, shared, place, first);
}

/// What a warp that sums does from the mapped keys to the last head.
template <int D>
__device__ void sum_heads(KeySums& sums, HopperKeyShared<D>& shared, const KeyPlace& place,
                          const KeyBlock& block, const LigerParams& p) {
  for (int item = threadIdx.x; item < kSubChunks * (D / 2); item += kSumThreads<D>) {
    map_distant<D>(shared, item / (D / 2), item % (D / 2) * 2);
  }
  publish_to_products();
  wait_at(kSummers, kSumThreads<D>);
  start_sums<D>(sums, shared, place);
  const int slots = block.slots(), turns = slots * block.group;
  for (int i = 0; i < slots; ++i) come_to(kIsFree + slot_of(block, i), kKeyThreads<D>);
#pragma unroll 1
  for (int turn = 0; turn < turns; ++turn) {
    const int slot = slot_of(block, turn % slots);
    const bool own = slot < 2;
    wait_at(kIsFull + slot, kKeyThreads<D>);
    add_queries<D>(sums, shared, place.again(), own, slot % 2 * 2, p);
    // Nobody waits for the next chunk's last queries to go.
    if (own || turn + slots < turns) come_to(kIsFree + slot, kKeyThreads<D>);
  }
}

}  // namespace tigon::cuda
