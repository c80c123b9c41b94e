// The scores inside blocks: score[i, j] = Σ_d q[i, d] k[j, d] · (gates of channel d after j through
// i) for j ≤ i, and 0 for j > i.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "ops/gated_scan/block_decays.h"

namespace tigon {

// Shapes: M blocks of C tokens, L state heads of G query heads each; Hk and Hg divide L.

/// q [M, L, C, G, K], k [M, Hk, C, K] → [M, L, C, G, C].
at::Tensor block_scores(const at::Tensor& q, const at::Tensor& k, const BlockDecays& decays);

struct BlockScoresGradient {
  at::Tensor q, k;                    // shaped as the inputs
  std::vector<at::Tensor> to_border;  // of the logarithms of BlockDecays::to_border
};

/// What dscores [M, L, C, G, C] holds for j > i is ignored.
BlockScoresGradient block_scores_backward(const at::Tensor& dscores, const at::Tensor& q,
                                          const at::Tensor& k, const BlockDecays& decays);

}  // namespace tigon
