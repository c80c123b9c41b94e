// Losses of untrained stacks, kept in a folder so that runs of one teacher measure them once.
#pragma once
#include <filesystem>
#include <string>

#include "eval/perplexity.h"

namespace tigon {

/// The losses of one set of weights, as they are in a teacher's folder. Several processes may share
/// the folder: what one of them is measuring, the others wait for.
class KnownLosses {
 public:
  /// `weights` names them (checkpoint_fingerprint). The folder is made when the first loss is kept.
  KnownLosses(std::filesystem::path folder, std::string weights);

  /// evaluate_loss without adapters: read from the folder where these rows, this stack, dtype and
  /// kind of device are known, else measured and kept. `rows_per_batch` is not looked at. Stacks
  /// with parameters of their own are always measured. A damaged file is reported and made again.
  LossResult loss(const Model& model, const MixerStack& stack, const RowSet& rows,
                  int64_t rows_per_batch, const std::string& title) const;

 private:
  std::filesystem::path folder_;
  std::string weights_;
};

}  // namespace tigon
