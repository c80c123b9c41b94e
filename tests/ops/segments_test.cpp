#include "ops/segments.h"

#include "support/catch.h"
#include "support/compare.h"
#include "support/refusal.h"

namespace tigon::testing {
namespace {

TEST_CASE("segments from lengths know their sizes", "[segments]") {
  const Segments segments = Segments::from_lengths({3, 0, 1}, test_device());
  CHECK(segments.count() == 3);
  CHECK(segments.total == 4);
  CHECK(segments.longest == 3);
  CHECK_FALSE(segments.are_equal);
  CHECK(segments.cu_seqlens.device().type() == test_device().type());
  check_bitwise("cu_seqlens", segments.cu_seqlens.cpu(), at::tensor({0, 3, 3, 4}, at::kInt));
  CHECK(Segments::from_lengths({7, 7}, test_device()).are_equal);
  CHECK(Segments::from_lengths({}, test_device()).count() == 0);
}

TEST_CASE("segments are read back from cu_seqlens", "[segments]") {
  const Segments made = Segments::from_lengths({5, 0, 2}, test_device());
  const Segments read = Segments::from_cu_seqlens(made.cu_seqlens, 7);
  CHECK(read.lengths == made.lengths);
  CHECK(read.longest == 5);
  const std::vector<int64_t> lengths = {5, 0, 2};
  CHECK(Segments::from_op_arguments(made.cu_seqlens, lengths, 7).lengths == made.lengths);
  CHECK(Segments::from_op_arguments(made.cu_seqlens, std::nullopt, 7).lengths == made.lengths);
}

TEST_CASE("segments refuse cu_seqlens that are none", "[segments]") {
  const auto read = [](const std::vector<int>& values, int64_t total) {
    return Segments::from_cu_seqlens(at::tensor(values, at::kInt).to(test_device()), total);
  };
  check_refused([&] { read({1, 4}, 4); }, "cu_seqlens: expected to start at 0, found 1");
  check_refused([&] { read({0, 4}, 5); }, "number of tokens 5, found 4");
  check_refused([&] { read({0, 4, 3, 5}, 5); }, "expected never to decrease, found 3");
  check_refused(
      [&] {
        Segments::from_cu_seqlens(at::tensor({0, 4}, at::kLong), 4);
      },
      "cu_seqlens: expected int32 [S+1], found Long [2]");
  check_refused([&] { Segments::from_cu_seqlens({}, 4); }, "found nothing");
}

TEST_CASE("segments refuse lengths that contradict cu_seqlens", "[segments]") {
  const at::Tensor cu_seqlens = at::tensor({0, 2, 4}, at::kInt);
  const auto read = [&](std::vector<int64_t> lengths) {
    return Segments::from_op_arguments(cu_seqlens, lengths, 4);
  };
  check_refused([&] { read({4}); }, "expected one for each of the 2 segments");
  check_refused([&] { read({2, 1}); }, "expected the sum 4");
  check_refused([&] { read({5, -1}); }, "expected no negative length, found -1");
  check_refused([&] { Segments::from_lengths({3, -2}, at::kCPU); }, "found -2");
  check_refused([&] { Segments::from_lengths({int64_t{1} << 31}, at::kCPU); },
                "at most 2147483647 tokens");
}

TEST_CASE("the keys of the queries are the last of each segment", "[segments]") {
  const Segments queries = Segments::from_lengths({2, 0, 1}, test_device());
  const Segments keys = Segments::from_lengths({5, 3, 1}, test_device());
  check_bitwise("rows", query_rows(queries, keys).cpu(), at::tensor({3, 4, 8}, at::kLong));
  CHECK_FALSE(query_rows(queries, queries).defined());
}

TEST_CASE("A range of segments is a batch of its own", "[segments]") {
  const Segments all = Segments::from_lengths({3, 0, 5, 2, 7}, at::kCPU);
  const Segments middle = all.range(1, 3);
  CHECK(middle.lengths == std::vector<int64_t>{0, 5, 2});
  CHECK(middle.total == 7);
  CHECK(middle.longest == 5);
  CHECK_FALSE(middle.are_equal);
  CHECK(middle.cu_seqlens.scalar_type() == at::kInt);
  CHECK(middle.cu_seqlens.equal(at::tensor({0, 0, 5, 7}, at::kInt)));
}

TEST_CASE("Runs of segments begin no segment too far behind", "[segments]") {
  const auto runs = [](std::vector<int64_t> lengths, int64_t most_tokens) {
    return runs_of_segments(Segments::from_lengths(std::move(lengths), at::kCPU), most_tokens);
  };
  using Counts = std::vector<int64_t>;
  CHECK(runs({3, 5, 2}, 8) == Counts{3});
  CHECK(runs({3, 5, 2}, 7) == Counts{2, 1});
  CHECK(runs({3, 5, 2}, 0) == Counts{1, 1, 1});
  CHECK(runs({100}, 7) == Counts{1});            // how far a segment reaches does not count
  CHECK(runs({0, 0, 9, 0, 0}, 0) == Counts{5});  // nor where an empty one begins
  CHECK(runs({9, 0, 1}, 4) == Counts{2, 1});
}

TEST_CASE("key segments are those of the queries unless given", "[segments]") {
  const Segments queries = Segments::from_lengths({2, 1}, test_device());
  const at::Tensor cu_seqlens = at::tensor({0, 2, 5}, at::kInt);
  const std::vector<int64_t> lengths = {2, 3};
  const auto read = [&](const std::optional<at::Tensor>& cu, at::OptionalIntArrayRef given,
                        int64_t total) {
    return Segments::keys_from_op_arguments(cu, given, total, queries).lengths;
  };
  CHECK(read(std::nullopt, std::nullopt, 3) == queries.lengths);
  CHECK(read(cu_seqlens, std::nullopt, 5) == lengths);
  CHECK(read(cu_seqlens, lengths, 5) == lengths);
  check_refused([&] { read(std::nullopt, std::nullopt, 5); },
                "k: expected one key for each of the 3 queries where key_cu_seqlens is not given");
  check_refused([&] { read(std::nullopt, lengths, 5); },
                "key_lengths: expected only together with key_cu_seqlens");
}

}  // namespace
}  // namespace tigon::testing
