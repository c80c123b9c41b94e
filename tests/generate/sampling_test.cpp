#include "generate/sampling.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "core/error.h"
#include "support/catch.h"
#include "support/compare.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

/// Probabilities in no order; the likeliest first are ids 3, 0, 4, 1, 2.
const std::vector<double> kProbabilities = {0.25, 0.10, 0.05, 0.40, 0.20};

std::vector<Random> make_randoms(int64_t count) {
  std::vector<Random> randoms;
  for (int64_t i = 0; i < count; ++i) randoms.emplace_back(derive_seed(7, std::to_string(i)));
  return randoms;
}

/// `count` rows of the same logits; an offset must not matter.
at::Tensor repeated_logits(int64_t count) {
  const at::Tensor row = at::tensor(kProbabilities, at::kDouble).log() + 3;
  return row.to(at::kFloat).to(test_device()).expand({count, -1}).contiguous();
}

std::vector<int64_t> draw(const SamplingOptions& options, int64_t count) {
  std::vector<Random> randoms = make_randoms(count);
  const at::Tensor ids = sample(repeated_logits(count), options, randoms).cpu();
  REQUIRE(ids.scalar_type() == at::kLong);
  REQUIRE(ids.sizes() == at::IntArrayRef({count}));
  return {ids.data_ptr<int64_t>(), ids.data_ptr<int64_t>() + count};
}

/// Each id's share of many draws is within five standard deviations of what it should be; ids of
/// probability 0 never appear.
void check_frequencies(const SamplingOptions& options, const std::vector<double>& expected) {
  constexpr int64_t kDraws = 20000;
  std::vector<int64_t> counts(expected.size(), 0);
  for (const int64_t id : draw(options, kDraws)) ++counts.at(id);
  for (size_t id = 0; id < expected.size(); ++id) {
    const double deviation = std::sqrt(expected[id] * (1 - expected[id]) / kDraws);
    const double found = static_cast<double>(counts[id]) / kDraws;
    INFO("id " << id << ": expected " << expected[id] << ", found " << found);
    CHECK(std::abs(found - expected[id]) <= 5 * deviation);
  }
}

std::vector<double> normalized(std::vector<double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  for (double& value : values) value /= sum;
  return values;
}

}  // namespace

TEST_CASE("temperature 0 takes the likeliest id and draws nothing") {
  std::vector<Random> randoms = make_randoms(3);
  const at::Tensor ids = sample(repeated_logits(3), {}, randoms).cpu();
  CHECK(ids.equal(at::tensor({3, 3, 3}, at::kLong)));
  CHECK(randoms[0].next() == make_randoms(1)[0].next());
}

TEST_CASE("temperature 1 draws from the model's distribution") {
  check_frequencies({.temperature = 1}, kProbabilities);
}

TEST_CASE("temperature flattens and sharpens the distribution") {
  std::vector<double> flat, sharp;
  for (const double p : kProbabilities) {
    flat.push_back(std::sqrt(p));
    sharp.push_back(p * p);
  }
  check_frequencies({.temperature = 2}, normalized(flat));
  check_frequencies({.temperature = 0.5}, normalized(sharp));
}

TEST_CASE("top_k draws among exactly the k likeliest") {
  check_frequencies({.temperature = 1, .top_k = 1}, {0, 0, 0, 1, 0});
  check_frequencies({.temperature = 1, .top_k = 2}, normalized({0.25, 0, 0, 0.40, 0}));
  check_frequencies({.temperature = 1, .top_k = 4}, normalized({0.25, 0.10, 0, 0.40, 0.20}));
  check_frequencies({.temperature = 1, .top_k = 99}, kProbabilities);
}

TEST_CASE("top_p draws among the shortest list that holds the probability") {
  check_frequencies({.temperature = 1, .top_p = 0.39}, {0, 0, 0, 1, 0});
  check_frequencies({.temperature = 1, .top_p = 0.41}, normalized({0.25, 0, 0, 0.40, 0}));
  check_frequencies({.temperature = 1, .top_p = 0.64}, normalized({0.25, 0, 0, 0.40, 0}));
  check_frequencies({.temperature = 1, .top_p = 0.66}, normalized({0.25, 0, 0, 0.40, 0.20}));
  check_frequencies({.temperature = 1, .top_p = 0.96}, kProbabilities);
  // Temperature comes first: at 0.5 id 3 alone holds 0.56.
  check_frequencies({.temperature = 0.5, .top_p = 0.5}, {0, 0, 0, 1, 0});
}

TEST_CASE("top_p counts the probability of what top_k kept") {
  // Of ids 3, 0, 4 (0.40, 0.25, 0.20 of 0.85), the first two hold 0.76.
  check_frequencies({.temperature = 1, .top_k = 3, .top_p = 0.7},
                    normalized({0.25, 0, 0, 0.40, 0}));
}

TEST_CASE("each draw inverts the cumulative distribution at the sequence's own number") {
  constexpr int64_t kDraws = 500;
  std::vector<Random> randoms = make_randoms(kDraws);
  const std::vector<int64_t> ids = draw({.temperature = 1}, kDraws);
  for (int64_t i = 0; i < kDraws; ++i) {
    const double uniform = randoms[i].uniform();
    double cumulative = 0;
    int64_t expected = -1;
    while (cumulative <= uniform) cumulative += kProbabilities[++expected];
    REQUIRE(ids[i] == expected);
  }
}

TEST_CASE("a sequence draws the same alone as in a batch") {
  for (const SamplingOptions& options :
       {SamplingOptions{.temperature = 1}, SamplingOptions{.temperature = 1.3, .top_k = 20},
        SamplingOptions{.temperature = 0.9, .top_p = 0.8}}) {
    const at::Tensor logits = random_tensor({16, 200}, 3) * 2;
    std::vector<Random> together = make_randoms(16);
    const at::Tensor ids = sample(logits, options, together).cpu();
    for (int64_t i = 0; i < 16; ++i) {
      std::vector<Random> alone = {make_randoms(16)[i]};
      REQUIRE(sample(logits.narrow(0, i, 1), options, alone).item<int64_t>() ==
              ids[i].item<int64_t>());
    }
    // Exactly one number was drawn a sequence.
    Random once = make_randoms(1)[0];
    once.uniform();
    CHECK(together[0].next() == once.next());
  }
}

TEST_CASE("logits that are not finite give no id") {
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    for (const SamplingOptions& options :
         {SamplingOptions{}, SamplingOptions{.temperature = 1},
          SamplingOptions{.temperature = 1, .top_k = 2, .top_p = 0.9}}) {
      at::Tensor logits = repeated_logits(2);
      logits[1][2] = bad;
      std::vector<Random> randoms = make_randoms(2);
      const at::Tensor ids = sample(logits, options, randoms).cpu();
      CHECK(ids[0].item<int64_t>() >= 0);
      CHECK(ids[1].item<int64_t>() == -1);
    }
  }
}

TEST_CASE("a token of probability 0 is never drawn") {
  at::Tensor logits = at::full({2000, 50}, -std::numeric_limits<double>::infinity(), at::kFloat);
  logits.select(1, 17).fill_(0);
  std::vector<Random> randoms = make_randoms(2000);
  const at::Tensor ids = sample(logits.to(test_device()), {.temperature = 1}, randoms).cpu();
  CHECK(ids.eq(17).all().item<bool>());
}

TEST_CASE("impossible sampling options are refused") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto refused = [](const SamplingOptions& options, const std::string& name) {
    CHECK_THROWS_AS(check_sampling_options(options), UsageError);
    CHECK_THROWS_WITH(check_sampling_options(options), Catch::Contains(name + ": expected"));
  };
  refused({.temperature = -0.1}, "temperature");
  refused({.temperature = nan}, "temperature");
  refused({.temperature = std::numeric_limits<double>::infinity()}, "temperature");
  refused({.top_k = -1}, "top_k");
  refused({.top_p = 0}, "top_p");
  refused({.top_p = 1.01}, "top_p");
  refused({.top_p = nan}, "top_p");
  CHECK_NOTHROW(check_sampling_options({.temperature = 1, .top_k = 5, .top_p = 1}));
}
