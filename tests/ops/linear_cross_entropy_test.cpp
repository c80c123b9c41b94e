#include "ops/linear_cross_entropy/linear_cross_entropy.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include "ops/cross_entropy_definition.h"
#include "support/allocations.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/gradcheck.h"
#include "support/refusal.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

void check_against_definition(int64_t N, int64_t M, int64_t V, at::ScalarType type,
                              double tolerance) {
  INFO("N " << N << ", M " << M << ", V " << V);
  const at::Tensor targets = random_targets(N, V);
  const at::Tensor hidden = random_tensor({N, M}, 1, type).requires_grad_(true);
  const at::Tensor head = random_tensor({V, M}, 2, type).requires_grad_(true);
  const at::Tensor expected = cross_entropy_definition(hidden, head, targets) * 3;
  const auto plain = torch::autograd::grad({expected}, {hidden, head});
  const LinearCrossEntropyResult result = linear_cross_entropy(hidden, head, targets);
  const auto gradients = torch::autograd::grad({result.loss * 3}, {hidden, head});
  CHECK(result.count.scalar_type() == at::kLong);
  CHECK(result.count.item<int64_t>() == targets.ne(kIgnoredTarget).sum().item<int64_t>());
  CHECK(!result.count.requires_grad());
  CHECK(result.loss.dim() == 0);
  check_close("loss", result.loss * 3, expected, tolerance);
  check_close("dhidden", gradients[0], plain[0], tolerance);
  check_close("dhead", gradients[1], plain[1], tolerance);
}

}  // namespace

TEST_CASE("linear_cross_entropy is the cross-entropy of the head's logits",
          "[linear_cross_entropy]") {
  for (const int64_t N : {1, 63, 65}) {
    for (const int64_t V : {1, 63, 65}) {
      check_against_definition(N, 17, V, at::kDouble, kExactMath);
      check_against_definition(N, 17, V, at::kFloat, kFloat32Op);
    }
  }
}

TEST_CASE("linear_cross_entropy gradients", "[linear_cross_entropy]") {
  for (const int64_t N : {1, 63, 65}) {
    const at::Tensor targets = random_targets(N, 11);
    check_gradients(
        [&](const std::vector<at::Tensor>& in) {
          return std::vector<at::Tensor>{linear_cross_entropy(in[0], in[1], targets).loss};
        },
        {{"hidden", random_tensor({N, 5}, 1, at::kDouble)},
         {"head", random_tensor({11, 5}, 2, at::kDouble)}});
  }
}

TEST_CASE("linear_cross_entropy chunks hold at most what is asked", "[linear_cross_entropy]") {
  for (const auto& [width, bytes] :
       {std::pair<int64_t, int64_t>{4, kPlainLogitBytes}, {2, kKernelLogitBytes}}) {
    for (const int64_t V : {1, 257, 32'000, 128'256, 500'000'000}) {
      for (const int64_t N : {1, 63, 8192, 1'000'000}) {
        INFO("N " << N << ", V " << V << ", bytes " << bytes);
        const int64_t chunk = cross_entropy_chunk_tokens(N, V, width, bytes);
        CHECK(chunk >= 1);
        CHECK(chunk <= N);
        CHECK((chunk == 1 || chunk * V * width <= bytes));
        // No more chunks than the bound makes necessary.
        const int64_t most = std::max<int64_t>(bytes / (width * V), 1);
        CHECK((N + chunk - 1) / chunk <= (N + most - 1) / most);
      }
    }
  }
  CHECK(cross_entropy_chunk_tokens(0, 32'000) == 1);
}

TEST_CASE("linear_cross_entropy never allocates the logits of all tokens",
          "[linear_cross_entropy]") {
  const int64_t bytes = test_device().is_cuda() ? kKernelLogitBytes : kPlainLogitBytes;
  const int64_t M = 4, V = 200'001, N = 4 * bytes / (V * 4);
  const int64_t chunk_bytes = cross_entropy_chunk_tokens(N, V, 4, bytes) * V * 4;
  REQUIRE(chunk_bytes * 3 < N * V * 4);
  const at::Tensor targets = random_targets(N, V);
  const at::Tensor hidden = random_tensor({N, M}, 1).requires_grad_(true);
  const at::Tensor teacher = random_tensor({N, M}, 3);
  const at::Tensor head = random_tensor({V, M}, 2).requires_grad_(true);
  constexpr int64_t kRounding = int64_t{1} << 20;  // allocators round up
  // Once before: what the matrix library allocates on its first call is not the op's.
  linear_cross_entropy(hidden.narrow(0, 0, 2), head, targets.narrow(0, 0, 2)).loss.backward();
  hidden.mutable_grad() = head.mutable_grad() = at::Tensor();
  {
    const AllocationRecorder recorder;
    linear_cross_entropy(hidden, head, targets).loss.backward();
    CHECK(recorder.largest() >= chunk_bytes);  // the recorder sees what is allocated
    CHECK(recorder.largest() <= chunk_bytes + kRounding);
    // One chunk of logits, and the sum, a chunk's part and the scaled copy of the head's gradient.
    CHECK(recorder.peak() <= chunk_bytes + 4 * V * M * 4 + 4 * kRounding);
  }
  {
    const AllocationRecorder recorder;
    token_negative_log_likelihood(hidden, head, targets);
    CHECK(recorder.largest() <= chunk_bytes + kRounding);
  }
  {
    const AllocationRecorder recorder;
    linear_cross_entropy(hidden, head.detach(), targets).loss.backward();
    CHECK(recorder.peak() <= chunk_bytes + 4 * kRounding);  // a frozen head pays nothing
  }
  {
    // Two chunks of logits in the same memory.
    const int64_t pair_bytes = cross_entropy_chunk_tokens(N, V, 8, bytes) * V * 8;
    REQUIRE(pair_bytes <= bytes);
    const AllocationRecorder recorder;
    linear_cross_entropy(hidden, head.detach(), targets, teacher, 0.5, 0.5).loss.backward();
    CHECK(recorder.largest() <= pair_bytes / 2 + kRounding);
    CHECK(recorder.peak() <= pair_bytes + 4 * kRounding);
  }
}

TEST_CASE("linear_cross_entropy over several chunks", "[linear_cross_entropy]") {
  REQUIRE(cross_entropy_chunk_tokens(100, 200'000) == 50);
  check_against_definition(100, 4, 200'000, at::kDouble, kExactMath);
  if (!test_device().is_cuda()) return;
  REQUIRE(cross_entropy_chunk_tokens(400, 200'001, 4, kKernelLogitBytes) == 200);
  check_against_definition(400, 4, 200'001, at::kFloat, kFloat32Op);
}

TEST_CASE("linear_cross_entropy with nothing to count", "[linear_cross_entropy]") {
  const at::Tensor hidden = random_tensor({5, 3}, 1).requires_grad_(true);
  const at::Tensor head = random_tensor({7, 3}, 2).requires_grad_(true);
  const at::TensorOptions ids = at::TensorOptions(at::kLong).device(test_device());
  const auto result = linear_cross_entropy(hidden, head, at::full({5}, kIgnoredTarget, ids));
  CHECK(result.loss.item<float>() == 0);
  CHECK(result.count.item<int64_t>() == 0);
  result.loss.backward();
  CHECK(hidden.grad().count_nonzero().item<int64_t>() == 0);
  CHECK(head.grad().count_nonzero().item<int64_t>() == 0);
  const auto empty = linear_cross_entropy(hidden.narrow(0, 0, 0), head, at::empty({0}, ids));
  CHECK(empty.loss.item<float>() == 0);
  CHECK(empty.count.item<int64_t>() == 0);
}

TEST_CASE("linear_cross_entropy with extreme logits stays finite", "[linear_cross_entropy]") {
  check_close(
      "loss",
      linear_cross_entropy(random_tensor({9, 3}, 1) * 1e4, random_tensor({7, 3}, 2) * 1e4,
                           random_targets(9, 7))
          .loss,
      cross_entropy_definition(random_tensor({9, 3}, 1, at::kDouble) * 1e4,
                               random_tensor({7, 3}, 2, at::kDouble) * 1e4, random_targets(9, 7)),
      kFloat32Op);
}

TEST_CASE("linear_cross_entropy gives frozen inputs no gradient", "[linear_cross_entropy]") {
  const at::Tensor targets = random_targets(9, 7);
  const at::Tensor hidden = random_tensor({9, 3}, 1), head = random_tensor({7, 3}, 2);
  const at::Tensor trained_hidden = hidden.clone().requires_grad_(true);
  linear_cross_entropy(trained_hidden, head, targets).loss.backward();
  CHECK(trained_hidden.grad().defined());
  CHECK(!head.grad().defined());
  const at::Tensor trained_head = head.clone().requires_grad_(true);
  linear_cross_entropy(hidden, trained_head, targets).loss.backward();
  CHECK(trained_head.grad().defined());
  CHECK(!hidden.grad().defined());
  CHECK(!linear_cross_entropy(hidden, head, targets).loss.requires_grad());
}

TEST_CASE("linear_cross_entropy takes non-contiguous input", "[linear_cross_entropy]") {
  const at::Tensor hidden = random_tensor({5, 63}, 1).t().requires_grad_(true);
  const at::Tensor head = random_tensor({5, 65}, 2).t().requires_grad_(true);
  const at::Tensor targets =
      at::stack({random_targets(63, 65), random_targets(63, 65)}, 1).select(1, 0);
  REQUIRE(!hidden.is_contiguous());
  REQUIRE(!targets.is_contiguous());
  const auto found =
      torch::autograd::grad({linear_cross_entropy(hidden, head, targets).loss}, {hidden, head});
  const auto expected =
      torch::autograd::grad({cross_entropy_definition(hidden, head, targets)}, {hidden, head});
  check_close("dhidden", found[0], expected[0], kFloat32Op);
  check_close("dhead", found[1], expected[1], kFloat32Op);
}

TEST_CASE("linear_cross_entropy in bfloat16", "[linear_cross_entropy]") {
  const at::Tensor targets = random_targets(65, 127);
  const auto leaf = [](at::IntArrayRef shape, uint64_t seed, at::ScalarType type) {
    return (random_tensor(shape, seed, at::kBFloat16) * 0.25).to(type).requires_grad_(true);
  };
  const at::Tensor hidden = leaf({65, 63}, 1, at::kBFloat16),
                   head = leaf({127, 63}, 2, at::kBFloat16);
  const at::Tensor wide_hidden = leaf({65, 63}, 1, at::kDouble);
  const at::Tensor wide_head = leaf({127, 63}, 2, at::kDouble);
  const at::Tensor loss = linear_cross_entropy(hidden, head, targets).loss;
  const at::Tensor plain = cross_entropy_definition(hidden, head, targets);
  const at::Tensor wide = cross_entropy_definition(wide_hidden, wide_head, targets);
  CHECK(loss.scalar_type() == at::kFloat);
  check_low_precision("loss", loss.to(at::kBFloat16), plain, wide);
  const auto found = torch::autograd::grad({loss}, {hidden, head});
  const auto same = torch::autograd::grad({plain}, {hidden, head});
  const auto reference = torch::autograd::grad({wide}, {wide_hidden, wide_head});
  check_low_precision("dhidden", found[0], same[0], reference[0]);
  check_low_precision("dhead", found[1], same[1], reference[1]);
  // A head kept in float32 is cast for the product and gets its gradient in float32.
  const at::Tensor float_head = leaf({127, 63}, 2, at::kFloat);
  const auto mixed =
      torch::autograd::grad({linear_cross_entropy(hidden, float_head, targets).loss}, {float_head});
  CHECK(mixed[0].scalar_type() == at::kFloat);
  check_bitwise("float32 head", mixed[0].to(at::kBFloat16), found[1]);
}

TEST_CASE("linear_cross_entropy is served by its kernel on a GPU", "[linear_cross_entropy]") {
  const int64_t N = 1000, M = 8, V = 32'000;
  const at::Tensor targets = random_targets(N, V);
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    const at::Tensor hidden = random_tensor({N, M}, 1, type).requires_grad_(true);
    const at::Tensor head = random_tensor({V, M}, 2, type);
    // Once before: what the matrix library allocates on its first call is not the op's.
    linear_cross_entropy(hidden, head, targets).loss.backward();
    const AllocationRecorder recorder;
    linear_cross_entropy(hidden, head, targets).loss.backward();
    // All logits at once and in place; the plain definition makes wide ones beside them.
    CHECK((recorder.peak() <= N * V * 2 + (int64_t{4} << 20)) == test_device().is_cuda());
  }
}

TEST_CASE("linear_cross_entropy of wide rows", "[linear_cross_entropy]") {
  for (const int64_t V : {1025, 8192, 8209, 40'003}) {  // with whole vectors and without
    check_against_definition(11, 24, V, at::kFloat, kFloat32Op);
  }
}

TEST_CASE("token_negative_log_likelihood of every token", "[linear_cross_entropy]") {
  const at::Tensor targets = random_targets(65, 33);
  const at::Tensor hidden = random_tensor({65, 17}, 1, at::kDouble).requires_grad_(true);
  const at::Tensor head = random_tensor({33, 17}, 2, at::kDouble);
  const at::Tensor expected = at::cross_entropy_loss(at::linear(hidden, head), targets, {},
                                                     at::Reduction::None, kIgnoredTarget);
  const at::Tensor found = token_negative_log_likelihood(hidden, head, targets);
  check_close("float64", found, expected, kExactMath);
  CHECK(!found.requires_grad());
  CHECK(found.index({targets.eq(kIgnoredTarget)}).count_nonzero().item<int64_t>() == 0);
  const at::Tensor narrow =
      token_negative_log_likelihood(hidden.to(at::kFloat), head.to(at::kFloat), targets);
  CHECK(narrow.scalar_type() == at::kFloat);
  check_close("float32", narrow, expected, kFloat32Op);
}

TEST_CASE("linear_cross_entropy refuses wrong input", "[linear_cross_entropy]") {
  const at::Tensor hidden = random_tensor({5, 3}, 1), head = random_tensor({7, 3}, 2);
  const at::Tensor targets = random_targets(5, 7);
  const auto refused = [](const at::Tensor& hidden, const at::Tensor& head,
                          const at::Tensor& targets, const std::string& text) {
    check_refused([&] { linear_cross_entropy(hidden, head, targets); },
                  "[linear_cross_entropy] " + text);
    check_refused([&] { token_negative_log_likelihood(hidden, head, targets); },
                  "[token_negative_log_likelihood] " + text);
  };
  const std::string device = ": expected device " + hidden.device().str() + ", found meta";
  refused(hidden.to(at::kLong), head, targets,
          "hidden: expected a floating-point dtype, found Long");
  refused(hidden[0], head, targets, "hidden: expected shape [any, any], found [3]");
  refused(hidden, head.to(at::kLong), targets, "head: expected a floating-point dtype, found Long");
  refused(hidden, head.narrow(1, 0, 2), targets, "head: expected shape [any, 3], found [7, 2]");
  refused(hidden, head.narrow(0, 0, 0), targets, "head: expected at least one row, found none");
  refused(hidden, head.to(at::kMeta), targets, "head" + device);
  refused(hidden, head, targets.to(at::kInt), "targets: expected dtype Long, found Int");
  refused(hidden, head, targets.narrow(0, 0, 4), "targets: expected shape [5], found [4]");
  refused(hidden, head, targets.to(at::kMeta), "targets" + device);
}

TEST_CASE("linear_cross_entropy refuses targets outside the vocabulary", "[linear_cross_entropy]") {
  // On a GPU the lookup's device assertion ends the process instead: a check would stall the queue.
  const at::Tensor hidden = random_tensor({5, 3}, 1).cpu(), head = random_tensor({7, 3}, 2).cpu();
  for (const int64_t wrong : {int64_t{7}, int64_t{-1}, int64_t{-101}}) {
    at::Tensor targets = random_targets(5, 7).cpu();
    targets[4] = wrong;
    check_refused([&] { linear_cross_entropy(hidden, head, targets); },
                  "[linear_cross_entropy] targets: expected ids from 0 to 6 (or -100), found " +
                      std::to_string(wrong) + " at 4");
  }
}

TEST_CASE("linear_cross_entropy refuses double backward", "[linear_cross_entropy]") {
  const at::Tensor hidden = random_tensor({5, 3}, 1).requires_grad_(true);
  const at::Tensor loss =
      linear_cross_entropy(hidden, random_tensor({7, 3}, 2), random_targets(5, 7)).loss;
  check_refused([&] { torch::autograd::grad({loss}, {hidden}, {}, true, /*create_graph=*/true); },
                "[linear_cross_entropy] double backward");
}
