#include "eval/position_loss.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "eval/perplexity.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/tiny_rows.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;

TEST_CASE("the loss by position is that of each position's predictions") {
  const TemporaryFolder folder;
  const RowSet rows = tiny_rows(folder.path(), {.seq_len = 50, .order = "file", .max_rows = 3});
  const Model model = random_model(tiny_text_config());
  const MixerStack stack = make_teacher_stack(model.config);
  const auto parts = loss_by_position(model, stack, rows, 2, true, 4, "test");
  REQUIRE(parts.size() == 4);  // of 13, 13, 13 and 11 tokens
  std::vector<double> sums(4);
  std::vector<int64_t> counts(4);
  for (int64_t i = 0; i < rows.size(); ++i) {
    const Row row = rows.row(i);
    const std::vector<int64_t> tokens(row.tokens.begin(), row.tokens.end());
    const at::Tensor log_probabilities =
        logits_of(model, forward_hidden(model, stack, make_batch({tokens}, model.device)))
            .to(at::kDouble)
            .log_softmax(1)
            .cpu();
    for (size_t position = 0; position + 1 < tokens.size(); ++position) {
      sums[position / 13] -=
          log_probabilities[static_cast<int64_t>(position)][tokens[position + 1]].item<double>();
      ++counts[position / 13];
    }
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    CHECK(parts[i].first == static_cast<int64_t>(13 * i));
    CHECK(parts[i].last == (i == 3 ? 49 : static_cast<int64_t>(13 * i + 12)));
    CHECK(parts[i].tokens == counts[i]);
    CHECK(parts[i].nats_per_token ==
          Approx(sums[i] / static_cast<double>(counts[i])).epsilon(kFloat32Op));
  }
  const auto whole = loss_by_position(model, stack, rows, 2, true, 1, "test");
  CHECK(whole[0].nats_per_token ==
        Approx(evaluate_loss(model, stack, rows, 2, true, "test").nats_per_token)
            .epsilon(kFloat32Op));
  check_refused<UsageError>([&] { loss_by_position(model, stack, rows, 2, true, 0, "test"); },
                            "expected 1 to its 50 tokens, found 0");
}

TEST_CASE("positions count from the start of a document where borders separate documents") {
  const TemporaryFolder folder;
  const RowSet rows =
      tiny_rows(folder.path(), {.seq_len = 400, .borders = "documents", .order = "file"});
  const Model model = random_model(tiny_text_config());
  const MixerStack stack = make_teacher_stack(model.config);
  const auto parts = loss_by_position(model, stack, rows, 2, true, 400, "test");
  int64_t segments = 0;
  for (int64_t i = 0; i < rows.size(); ++i) {
    for (const int64_t length : rows.row(i).segment_lengths) segments += length > 1;
  }
  CHECK(parts[0].tokens == segments);
  CHECK(parts[399].tokens == 0);
}

TEST_CASE("losses by position beside the teacher's") {
  const std::vector<PositionLoss> model = {{0, 511, 1024, 3.25}, {512, 1023, 1022, 3.0}};
  const std::vector<PositionLoss> teacher = {{0, 511, 1024, 3.2}, {512, 1023, 1022, 3.0}};
  CHECK(positions_to_text(model, teacher) ==
        "positions    predictions  nats/token  teacher      gap\n"
        "-----------  -----------  ----------  -------  -------\n"
        "0 to 511           1,024      3.2500   3.2000  +0.0500\n"
        "512 to 1023        1,022      3.0000   3.0000  +0.0000\n");
  CHECK(positions_to_json(model, teacher)[1].at("gap") == 0);
  CHECK(!positions_to_json(model, std::nullopt)[0].contains("teacher"));
}
