#include "ops/gated_scan/block_decays.h"

#include <ATen/Functions.h>

namespace tigon {
namespace {

// Pairs of halves of h tokens: [M, Hg, C, Kg] → two [M, Hg, P, h, Kg].
struct Halves {
  Halves(const at::Tensor& x, int64_t h) {
    const at::Tensor pairs = x.unflatten(2, {x.size(2) / (2 * h), 2, h});
    first = pairs.select(3, 0);
    second = pairs.select(3, 1);
    first_last = first.select(3, h - 1);
    second_last = second.select(3, h - 1);
  }
  at::Tensor first, second;
  at::Tensor first_last, second_last;  // [M, Hg, P, Kg]: the last token of each half
};

}  // namespace

BlockDecays block_decays(const at::Tensor& log_gate) {
  const int64_t C = log_gate.size(2);
  BlockDecays decays;
  // Within groups of h tokens: prefix is the sum from the group's start through the token, suffix
  // the sum after the token through the group's end.
  at::Tensor prefix = log_gate.clone(at::MemoryFormat::Contiguous);
  at::Tensor suffix = at::zeros_like(prefix);
  for (int64_t h = 1; h < C; h *= 2) {
    Halves p(prefix, h), s(suffix, h);
    decays.to_border.push_back(at::stack({s.first, p.second}, 3).exp_());
    s.first.add_(p.second_last.unsqueeze(3));
    p.second.add_(p.first_last.unsqueeze(3));
  }
  decays.from_start = prefix.exp_();
  decays.to_end = suffix.exp_();
  decays.whole = decays.from_start.select(2, C - 1);
  return decays;
}

at::Tensor block_decays_backward(const BlockDecays& dlog) {
  const at::Tensor dprefix = dlog.from_start, dsuffix = dlog.to_end;
  const int64_t C = dprefix.size(2);
  dprefix.select(2, C - 1).add_(dlog.whole);
  for (int64_t h = C / 2, level = static_cast<int64_t>(dlog.to_border.size()) - 1; h >= 1;
       h /= 2, --level) {
    Halves dp(dprefix, h), ds(dsuffix, h);
    const at::Tensor dfirst_whole = dp.second.sum(3), dsecond_whole = ds.first.sum(3);
    ds.first.add_(dlog.to_border[level].select(3, 0));
    dp.second.add_(dlog.to_border[level].select(3, 1));
    dp.first_last.add_(dfirst_whole);
    dp.second_last.add_(dsecond_whole);
  }
  return dprefix;
}

}  // namespace tigon
