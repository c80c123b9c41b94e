#include "ops/gated_scan/block_scores.h"

#include <ATen/Functions.h>

#include "ops/gated_scan/head_groups.h"

namespace tigon {
namespace {

bool gates_are_per_head(const at::Tensor& q, const BlockDecays& decays) {
  return decays.whole.size(-1) == 1 && q.size(-1) != 1;
}

// [M, L, C, G, C] → [M, L, C, G]: each token's score of itself. A view.
at::Tensor own_scores(const at::Tensor& scores) {
  return scores.diagonal(0, 2, 4).mT();
}

// [M, L, C, G, C] → [M, L, P, h, G, h]: the scores of second halves of h tokens for the first
// halves before them. A view.
at::Tensor pair_scores(const at::Tensor& scores, int64_t h) {
  const int64_t P = scores.size(2) / (2 * h);
  return scores.unflatten(4, {P, 2, h})
      .unflatten(2, {P, 2, h})
      .diagonal(0, 2, 6)  // [M, L, 2, h, G, 2, h, P]
      .select(2, 1)
      .select(4, 0)  // [M, L, h, G, h, P]
      .movedim(-1, 2);
}

// Second halves of q: [M, L, C, G, K] → [M, L, P, h, G, K].
at::Tensor second_halves(const at::Tensor& q, int64_t h) {
  return q.unflatten(2, {q.size(2) / (2 * h), 2, h}).select(3, 1);
}

// First halves of k: [M, Hk, C, K] → [M, Hk, P, h, K].
at::Tensor first_halves(const at::Tensor& k, int64_t h) {
  return k.unflatten(2, {k.size(2) / (2 * h), 2, h}).select(3, 0);
}

// q and k of one level, each times its decay to the border between the halves.
struct Decayed {
  Decayed(const at::Tensor& q, const at::Tensor& k, const at::Tensor& to_border, int64_t h)
      : queries(grouped_product(second_halves(q, h), to_border.select(3, 1).unsqueeze(4))),
        keys(grouped_product(first_halves(k, h), to_border.select(3, 0))) {}
  at::Tensor queries;  // [M, L, P, h, G, K]
  at::Tensor keys;     // [M, max(Hk, Hg), P, h, K]
};

at::Tensor channel_scores(const at::Tensor& q, const at::Tensor& k, const BlockDecays& decays) {
  const int64_t C = q.size(2), G = q.size(3);
  const at::Tensor scores = at::zeros({q.size(0), q.size(1), C, G, C}, q.options());
  own_scores(scores).copy_(grouped_matmul(q, k.unsqueeze(-1)).squeeze(-1));
  size_t level = 0;
  for (int64_t h = 1; h < C; h *= 2, ++level) {
    const Decayed decayed(q, k, decays.to_border[level], h);
    pair_scores(scores, h).copy_(
        grouped_matmul(decayed.queries.flatten(3, 4), decayed.keys.mT()).unflatten(3, {h, G}));
  }
  return scores;
}

BlockScoresGradient channel_scores_backward(const at::Tensor& dscores, const at::Tensor& q,
                                            const at::Tensor& k, const BlockDecays& decays) {
  const int64_t C = q.size(2), Hk = k.size(1), Hg = decays.whole.size(1);
  BlockScoresGradient d;
  const at::Tensor down = own_scores(dscores).unsqueeze(-1);  // [M, L, C, G, 1]
  d.q = grouped_product(down, k.unsqueeze(3));
  d.k = sum_heads(q.mT().matmul(down).squeeze(-1), Hk);
  size_t level = 0;
  for (int64_t h = 1; h < C; h *= 2, ++level) {
    const at::Tensor& to_border = decays.to_border[level];
    const Decayed decayed(q, k, to_border, h);
    const at::Tensor dpairs = pair_scores(dscores, h).flatten(3, 4);  // [M, L, P, h·G, h]
    const at::Tensor dqueries = grouped_matmul(dpairs, decayed.keys).view_as(decayed.queries);
    const at::Tensor dkeys =
        sum_heads(dpairs.mT().matmul(decayed.queries.flatten(3, 4)), decayed.keys.size(1));
    second_halves(d.q, h).add_(grouped_product(dqueries, to_border.select(3, 1).unsqueeze(4)));
    first_halves(d.k, h).add_(sum_heads(grouped_product(dkeys, to_border.select(3, 0)), Hk));
    d.to_border.push_back(at::stack(
        {sum_heads(dkeys * decayed.keys, Hg), sum_heads((dqueries * decayed.queries).sum(4), Hg)},
        3));
  }
  return d;
}

// The decays from token j to token i of gates per head: [M, Hg, C, 1, C], 0 for j > i.
at::Tensor pair_decays(const BlockDecays& decays) {
  const at::Tensor& whole = decays.whole;  // [M, Hg, 1]
  const int64_t C = decays.from_start.size(2);
  const at::Tensor pairs = at::zeros({whole.size(0), whole.size(1), C, 1, C}, whole.options());
  own_scores(pairs).fill_(1);
  size_t level = 0;
  for (int64_t h = 1; h < C; h *= 2, ++level) {
    const at::Tensor& to_border = decays.to_border[level];
    const at::Tensor products = to_border.select(3, 1) * to_border.select(3, 0).mT();
    pair_scores(pairs, h).copy_(products.unsqueeze(4));
  }
  return pairs;
}

at::Tensor undecayed_scores(const at::Tensor& q, const at::Tensor& k) {
  return grouped_matmul(q.flatten(2, 3), k.mT()).unflatten(2, {q.size(2), q.size(3)});
}

BlockScoresGradient head_scores_backward(const at::Tensor& dscores, const at::Tensor& q,
                                         const at::Tensor& k, const BlockDecays& decays) {
  const int64_t C = q.size(2), G = q.size(3);
  const at::Tensor decay = pair_decays(decays);
  const at::Tensor dproducts = grouped_product(dscores, decay);  // 0 for j > i
  const at::Tensor rows = dproducts.flatten(2, 3);               // [M, L, C·G, C]
  BlockScoresGradient d;
  d.q = grouped_matmul(rows, k).unflatten(2, {C, G});
  d.k = sum_heads(rows.mT().matmul(q.flatten(2, 3)), k.size(1));
  const at::Tensor dlog = sum_heads((dproducts * undecayed_scores(q, k)).sum(3, true),
                                    decays.whole.size(1));  // [M, Hg, C, 1, C]
  for (int64_t h = 1; h < C; h *= 2) {
    const at::Tensor pairs = pair_scores(dlog, h).squeeze(4);  // [M, Hg, P, h, h]
    d.to_border.push_back(at::stack({pairs.sum(3), pairs.sum(4)}, 3).unsqueeze(-1));
  }
  return d;
}

}  // namespace

at::Tensor block_scores(const at::Tensor& q, const at::Tensor& k, const BlockDecays& decays) {
  if (gates_are_per_head(q, decays)) {
    return grouped_product(undecayed_scores(q, k), pair_decays(decays));
  }
  return channel_scores(q, k, decays);
}

BlockScoresGradient block_scores_backward(const at::Tensor& dscores, const at::Tensor& q,
                                          const at::Tensor& k, const BlockDecays& decays) {
  return gates_are_per_head(q, decays) ? head_scores_backward(dscores, q, k, decays)
                                       : channel_scores_backward(dscores, q, k, decays);
}

}  // namespace tigon
