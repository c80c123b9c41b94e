#include "generate/prefill.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace tigon {
namespace {

/// The pieces of prompts that one forward pass reads.
struct Pass {
  std::vector<std::vector<int64_t>> pieces;
  std::vector<int64_t> slots;
  std::vector<int64_t> last_tokens;  // where in the pass a prompt ends
};

/// Takes pieces from prompt `next` on, starting at its token `offset`, until the pass is full;
/// moves both to where the following pass starts.
Pass take_pass(const std::vector<std::vector<int64_t>>& prompts, int64_t chunk, size_t& next,
               int64_t& offset) {
  Pass pass;
  int64_t taken = 0;
  while (next < prompts.size() && taken < chunk) {
    const auto& prompt = prompts[next];
    const int64_t rest = static_cast<int64_t>(prompt.size()) - offset;
    const int64_t count = std::min(rest, chunk - taken);
    pass.pieces.emplace_back(prompt.begin() + offset, prompt.begin() + offset + count);
    pass.slots.push_back(static_cast<int64_t>(next));
    taken += count;
    offset += count;
    if (count == rest) {
      pass.last_tokens.push_back(taken - 1);
      ++next;
      offset = 0;
    }
  }
  return pass;
}

}  // namespace

at::Tensor prefill(const Model& model, const MixerStack& stack,
                   const std::vector<std::vector<int64_t>>& prompts, int64_t chunk,
                   ModelState& state) {
  std::vector<at::Tensor> last_hidden;  // prompts end in order, pass after pass
  size_t next = 0;
  int64_t offset = 0;
  while (next < prompts.size()) {
    const Pass pass = take_pass(prompts, chunk, next, offset);
    const Batch batch = make_batch(pass.pieces, model.device, &state, pass.slots);
    const at::Tensor hidden = forward_hidden(model, stack, batch, {.state = &state});
    const at::Tensor ends = at::tensor(pass.last_tokens, at::kLong).to(model.device);
    last_hidden.push_back(hidden.index_select(0, ends));
  }
  return logits_of(model, at::cat(last_hidden));
}

}  // namespace tigon
