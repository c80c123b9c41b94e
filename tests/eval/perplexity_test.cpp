#include "eval/perplexity.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "core/error.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/tiny_rows.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

struct Direct {
  double sum = 0;
  int64_t tokens = 0;
};

/// Adds the loss of one segment as its definition says: logits of the segment alone, in float64.
void add_segment(const Model& model, const MixerStack& stack, const std::vector<int64_t>& tokens,
                 Direct& direct) {
  const at::NoGradGuard no_grad;
  const Batch batch = make_batch({tokens}, model.device);
  const at::Tensor log_probabilities =
      logits_of(model, forward_hidden(model, stack, batch)).to(at::kDouble).log_softmax(1).cpu();
  for (size_t i = 0; i + 1 < tokens.size(); ++i) {
    direct.sum -= log_probabilities[i][tokens[i + 1]].item<double>();
    ++direct.tokens;
  }
}

Direct direct_loss(const Model& model, const MixerStack& stack, const RowSet& rows) {
  Direct direct;
  for (int64_t i = 0; i < rows.size(); ++i) {
    const Row row = rows.row(i);
    auto start = row.tokens.begin();
    for (const int64_t length : row.segment_lengths) {
      add_segment(model, stack, {start, start + length}, direct);
      start += length;
    }
  }
  return direct;
}

}  // namespace

TEST_CASE("evaluate_loss counts and sums every prediction of rows without borders") {
  const TemporaryFolder folder;
  const RowSet rows = tiny_rows(folder.path(), {.seq_len = 48, .order = "file", .max_rows = 7});
  const Model model = random_model(tiny_text_config());
  const MixerStack stack = make_teacher_stack(model.config);
  const Direct direct = direct_loss(model, stack, rows);
  // 3 does not divide 7.
  const LossResult found = evaluate_loss(model, stack, rows, 3, true, "test");
  CHECK(found.tokens == 7 * 47);
  CHECK(found.tokens == direct.tokens);
  CHECK(found.nats_per_token ==
        Approx(direct.sum / static_cast<double>(direct.tokens)).epsilon(kFloat32Op));
  CHECK(found.perplexity == Approx(std::exp(found.nats_per_token)));
  CHECK(evaluate_loss(model, stack, rows, 100, true, "test").nats_per_token ==
        Approx(found.nats_per_token).epsilon(kFloat32Op));
}

TEST_CASE("evaluate_loss resets at document borders and counts no prediction across them") {
  const TemporaryFolder folder;
  const RowSet rows =
      tiny_rows(folder.path(), {.seq_len = 400, .borders = "documents", .order = "file"});
  const Model model = random_model(tiny_text_config());
  const MixerStack stack = make_teacher_stack(model.config);
  int64_t num_segments = 0;
  for (int64_t i = 0; i < rows.size(); ++i) {
    num_segments += static_cast<int64_t>(rows.row(i).segment_lengths.size());
  }
  REQUIRE(num_segments > rows.size());
  const Direct direct = direct_loss(model, stack, rows);
  const LossResult found = evaluate_loss(model, stack, rows, 2, true, "test");
  CHECK(found.tokens == rows.size() * 400 - num_segments);
  CHECK(found.tokens == direct.tokens);
  CHECK(found.nats_per_token ==
        Approx(direct.sum / static_cast<double>(direct.tokens)).epsilon(kFloat32Op));
}

TEST_CASE("evaluate_loss counts only what a masked row counts") {
  const TemporaryFolder folder;
  const RowSet rows = masked_tiny_rows(folder.path(), 12);
  const Model model = random_model(tiny_text_config());
  const MixerStack stack = make_teacher_stack(model.config);
  const at::NoGradGuard no_grad;
  double sum = 0;
  int64_t tokens = 0;
  for (int64_t i = 0; i < rows.size(); ++i) {
    const Row row = rows.row(i);
    size_t start = 0;
    for (const int64_t length : row.segment_lengths) {
      const std::vector<int64_t> segment(row.tokens.begin() + start,
                                         row.tokens.begin() + start + length);
      const at::Tensor log_probabilities =
          logits_of(model, forward_hidden(model, stack, make_batch({segment}, model.device)))
              .to(at::kDouble)
              .log_softmax(1)
              .cpu();
      for (int64_t j = 1; j < length; ++j) {
        if (row.counted[start + static_cast<size_t>(j)] == 0) continue;
        sum -= log_probabilities[j - 1][segment[static_cast<size_t>(j)]].item<double>();
        ++tokens;
      }
      start += static_cast<size_t>(length);
    }
  }
  REQUIRE(tokens > 0);
  REQUIRE(tokens < rows.size() * 150);
  const LossResult found = evaluate_loss(model, stack, rows, 2, true, "test");
  CHECK(found.tokens == tokens);
  CHECK(found.nats_per_token == Approx(sum / static_cast<double>(tokens)).epsilon(kFloat32Op));
}

TEST_CASE("evaluate_loss refuses an empty batch and a loss that is not finite") {
  const TemporaryFolder folder;
  const RowSet rows = tiny_rows(folder.path(), {.seq_len = 32, .order = "file", .max_rows = 2});
  Model model = random_model(tiny_text_config());
  const MixerStack stack = make_teacher_stack(model.config);
  CHECK_THROWS_AS(evaluate_loss(model, stack, rows, 0, true, "test"), UsageError);
  model.weights.norm.fill_(std::numeric_limits<double>::quiet_NaN());
  check_refused([&] { evaluate_loss(model, stack, rows, 1, true, "test"); },
                "expected a finite loss, found nan");
}

TEST_CASE("recovered_share is 0 at the window, 1 at the teacher, negative beyond the window") {
  CHECK(recovered_share(3.2976, 3.1049, 3.2976) == 0);
  CHECK(recovered_share(3.2976, 3.1049, 3.1049) == 1);
  // The published figures: liger-gla after 20 M tokens, and a trained window of 64 keys.
  CHECK(recovered_share(3.2976, 3.1049, 3.3229) == Approx(-0.1313).margin(1e-4));
  CHECK(recovered_share(3.2976, 3.1049, 3.2581) == Approx(0.2050).margin(1e-4));
}
