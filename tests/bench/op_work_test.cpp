// The least work of each op, against numbers counted by hand for a batch small enough to write
// down.
#include "bench/op_work.h"

#include "support/catch.h"

using namespace tigon;

namespace {

// 5 tokens in two segments, 4 query heads and 2 KV heads of 2: 8 numbers a token, 32 in the MLP.
OpSizes small() {
  return {.lengths = {2, 3},
          .heads = 4,
          .kv_heads = 2,
          .head_dim = 2,
          .vocabulary = 10,
          .lora_rank = 3,
          .window_keys = 2};
}

constexpr int64_t kBFloat16 = 2;
// Bytes in bfloat16: q and out 5·4·2·2, k and v together 2·5·2·2·2, positions 5·8.
constexpr int64_t kQueries = 80, kKeysValues = 80, kPositions = 40;
// Segments of 2 and 3 tokens: 1 + 2 and 1 + 2 + 2 pairs; 4 operations a pair, head and number.
constexpr int64_t kWindowFlop = 4 * 8 * 4 * 2;
// Two products of 2 × 2 states a token: 2 KV heads write, 4 query heads read.
constexpr int64_t kScanFlop = 2 * 5 * 4 * 6;
constexpr int64_t kStates = 2 * 2 * 2 * 2 * 4;  // [2, 2, 2, 2] float32

void check_passes(Work (*work)(const OpSizes&, int64_t, Pass), const Work& forward,
                  const Work& backward) {
  CHECK(work(small(), kBFloat16, Pass::kForward) == forward);
  CHECK(work(small(), kBFloat16, Pass::kForwardBackward) == forward + backward);
}

}  // namespace

TEST_CASE("sizes that follow from others") {
  CHECK(small().tokens() == 5);
  CHECK(small().hidden() == 8);
  CHECK(small().intermediate() == 32);
  CHECK(window_pairs(small()) == 8);
  OpSizes wide = small();
  wide.window_keys = 64;
  CHECK(window_pairs(wide) == 3 + 6);
}

TEST_CASE("least work of the mixers") {
  check_passes(window_attention_work, {2 * kQueries + kKeysValues, kWindowFlop},
               {3 * kQueries + 2 * kKeysValues, 2 * kWindowFlop});
  constexpr int64_t kGates = 5 * 2 * 2 * 4;
  check_passes(gated_scan_work, {2 * kQueries + kKeysValues + kGates + kStates, kScanFlop},
               {3 * kQueries + 2 * kKeysValues + 2 * kGates, 2 * kScanFlop});
  check_passes(liger_attention_work,
               {2 * kQueries + kKeysValues + kPositions + kStates, kWindowFlop + kScanFlop},
               {3 * kQueries + 2 * kKeysValues + kPositions, 2 * (kWindowFlop + kScanFlop)});
  // w and b of 6 heads, log_tau [2, 4], log_importance [5, 2], log_mix [5, 4].
  constexpr int64_t kTrained = (6 * (4 + 2) + 8 + 10 + 20) * 4;
  constexpr int64_t kJointStates = 2 * 2 * 4 * 3 * 4;
  // Feature maps: 2 × 2 matrices; states of 4 × 3.
  constexpr int64_t kJointFlop = kWindowFlop + 2 * 5 * 6 * 4 + 2 * 5 * 12 * 6;
  check_passes(joint_attention_work,
               {2 * kQueries + kKeysValues + kPositions + kTrained + kJointStates, kJointFlop},
               {3 * kQueries + 2 * kKeysValues + kPositions + 2 * kTrained, 2 * kJointFlop});
  // Of second order: maps to 14 numbers, 120 channels.
  constexpr int64_t kTrainedMaps = (6 * (2 * 14 + 14) + 2 * 120 + 10 + 20) * 4;
  constexpr int64_t kSecondOrderStates = 2 * 2 * 120 * 3 * 4;
  constexpr int64_t kSecondOrderFlop = kWindowFlop + 2 * 5 * 6 * 2 * 14 + 2 * 5 * 120 * 3 * 6;
  check_passes(
      joint_second_order_work,
      {2 * kQueries + kKeysValues + kPositions + kTrainedMaps + kSecondOrderStates,
       kSecondOrderFlop},
      {3 * kQueries + 2 * kKeysValues + kPositions + 2 * kTrainedMaps, 2 * kSecondOrderFlop});
}

TEST_CASE("least work of what is between them") {
  constexpr int64_t kRows = 5 * 8 * 2, kWeight = 8 * 2;
  check_passes(rms_norm_work, {2 * kRows + kWeight, 0}, {3 * kRows + kWeight, 0});
  check_passes(add_rms_norm_work, {4 * kRows + kWeight, 0}, {4 * kRows + kWeight, 0});
  check_passes(head_norm_work, {2 * kQueries, 0}, {3 * kQueries, 0});
  check_passes(rope_work, {2 * kQueries + kPositions, 0}, {2 * kQueries + kPositions, 0});
  constexpr int64_t kInner = 5 * 32 * 2;
  check_passes(swiglu_work, {3 * kInner, 0}, {5 * kInner, 0});
}

TEST_CASE("least work of the products") {
  constexpr int64_t kX = 5 * 8 * 2;
  {
    constexpr int64_t kWeight = 8 * 8 * 2, kAdapter = (3 * 8 + 8 * 3) * 4;
    constexpr int64_t kFlop = 2 * 5 * 8 * 8, kLowRank = 2 * 5 * (8 * 3 + 3 * 8);
    check_passes(lora_linear_work, {2 * kX + kWeight + kAdapter, kFlop + kLowRank},
                 {3 * kX + kWeight + 2 * kAdapter, kFlop + 2 * kLowRank});
  }
  {
    // q, k and v: 8 + 4 + 4 outputs.
    constexpr int64_t kWeight = 16 * 8 * 2, kOut = 5 * 16 * 2;
    constexpr int64_t kAdapters = (3 * 3 * 8 + 16 * 3) * 4;
    constexpr int64_t kFlop = 2 * 5 * 8 * 16, kLowRank = 2 * 5 * (3 * 3 * 8 + 16 * 3);
    check_passes(lora_linear_packed_work, {kX + kWeight + kAdapters + kOut, kFlop + kLowRank},
                 {2 * kX + kWeight + 2 * kAdapters + kOut, kFlop + 2 * kLowRank});
  }
  constexpr int64_t kHead = 10 * 8 * 2, kTargets = 5 * 8;
  check_passes(linear_cross_entropy_work, {kX + kHead + kTargets, 2 * 5 * 8 * 10},
               {kX, 2 * 5 * 8 * 10});
}

TEST_CASE("the floor is whatever takes longer, bytes or products") {
  const Ceilings ceilings{.bytes_per_s = 100, .flop_per_s = 1000};
  CHECK(ceilings.floor_seconds({200, 500}) == 2);
  CHECK(ceilings.floor_seconds({200, 5000}) == 5);
}
