// Calls of window_attention and the formula as one writes it down.
#pragma once
#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "ops/op_run.h"
#include "ops/window_attention/window_attention.h"

namespace tigon::testing {

struct WindowCase {
  std::vector<int64_t> lengths, key_lengths;
  WindowAttentionOptions options;
  int64_t H = 4, Hkv = 2, D = 6;

  Segments queries() const { return Segments::from_lengths(lengths, test_device()); }
  Segments keys() const { return Segments::from_lengths(key_lengths, test_device()); }
};

/// q, k, v in float64.
inline std::vector<at::Tensor> random_inputs(const WindowCase& c) {
  return {random_tensor({c.queries().total, c.H, c.D}, 1, at::kDouble),
          random_tensor({c.keys().total, c.Hkv, c.D}, 2, at::kDouble),
          random_tensor({c.keys().total, c.Hkv, c.D}, 3, at::kDouble)};
}

/// q, k, v → out, lse.
inline OpFunction window_op(const WindowCase& c) {
  return [c](const std::vector<at::Tensor>& x) -> std::vector<at::Tensor> {
    const auto [out, lse] = window_attention(x[0], x[1], x[2], c.queries(), c.keys(), c.options);
    return {out, lse};
  };
}

/// All scores of one segment at once: the formula as one writes it down.
inline OpFunction dense(const WindowCase& c) {
  return [c](const std::vector<at::Tensor>& x) -> std::vector<at::Tensor> {
    const double scale = c.options.scale == 0 ? 1 / std::sqrt(c.D) : c.options.scale;
    const auto options = at::TensorOptions(at::kLong).device(test_device());
    std::vector<at::Tensor> outs, lses;
    int64_t query = 0, key = 0;
    for (size_t s = 0; s < c.lengths.size(); ++s) {
      const int64_t T = c.lengths[s], Tk = c.key_lengths[s];
      const auto heads = [&](const at::Tensor& y, int64_t first, int64_t length) {
        return y.narrow(0, first, length).repeat_interleave(c.H / y.size(1), 1).transpose(0, 1);
      };
      const at::Tensor i = at::arange(Tk - T, Tk, options).unsqueeze(1),
                       j = at::arange(Tk, options);
      at::Tensor visible = j <= i;
      if (c.options.window_keys > 0) {
        visible = visible & ((j > i - c.options.window_keys) | (j < c.options.sinks));
      }
      const at::Tensor scores =
          (heads(x[0], query, T).matmul(heads(x[1], key, Tk).mT()) * scale)
              .masked_fill(~visible, -std::numeric_limits<double>::infinity());  // [H, T, Tk]
      outs.push_back(scores.softmax(-1).matmul(heads(x[2], key, Tk)).transpose(0, 1));
      lses.push_back(scores.logsumexp(-1).t());
      query += T;
      key += Tk;
    }
    return {at::cat(outs), c.options.return_lse ? at::cat(lses) : at::Tensor()};
  };
}

}  // namespace tigon::testing
