// How long the recurrence of each head remembers.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/rows.h"
#include "io/json_file.h"
#include "model/forward.h"

namespace tigon {

/// Of one head's state: tokens until half of what a token wrote is left, ln 2 / −mean(log a) of a
/// channel. Infinite where nothing fades.
struct HeadHalfLives {
  int64_t layer = 0;
  int64_t head = 0;  // KV head; query head where each has a state of its own
  double shortest = 0, median = 0, longest = 0;  // over the head's channels
};

/// Runs the model, adapters on, over the rows, rows_per_batch at once; gates that depend on the
/// tokens are averaged over them. Layers without a recurrence have no entry.
std::vector<HeadHalfLives> measure_half_lives(const Model& model, const MixerStack& stack,
                                              const RowSet& rows, int64_t rows_per_batch);

/// [{"layer", "head", "shortest", "median", "longest"}], infinite ones null.
Json half_lives_to_json(const std::vector<HeadHalfLives>& heads);
std::string half_lives_to_text(const std::vector<HeadHalfLives>& heads);

}  // namespace tigon
