#include "export/merge_check.h"

#include "core/error.h"
#include "core/log.h"
#include "core/random.h"
#include "model/relative_rms.h"

namespace tigon {
namespace {

// Long enough that windows of the usual 64 keys slide and states fill; short enough to cost
// seconds.
constexpr int64_t kProbeSequences = 2;
constexpr int64_t kProbeTokens = 128;

std::vector<std::vector<int64_t>> probe_sequences(int64_t vocab_size) {
  Random random(derive_seed(0, "export probe"));
  std::vector<std::vector<int64_t>> sequences(kProbeSequences);
  for (auto& sequence : sequences) {
    for (int64_t i = 0; i < kProbeTokens; ++i) {
      sequence.push_back(static_cast<int64_t>(random.below(static_cast<uint64_t>(vocab_size))));
    }
  }
  return sequences;
}

at::Tensor logits_in_memory(const LoadedModel& loaded, const Batch& batch) {
  const at::NoGradGuard no_grad;
  return logits_of(loaded.model, forward_hidden(loaded.model, loaded.stack, batch));
}

}  // namespace

double merge_tolerance(DType written, at::ScalarType compute) {
  return written == DType::kFloat32 && compute == at::kFloat ? 1e-3 : 3e-2;
}

void check_written_folder(const LoadedModel& loaded, const std::filesystem::path& folder,
                          DType written) {
  const Batch batch =
      make_batch(probe_sequences(loaded.model.config.vocab_size), loaded.model.device);
  const double difference = relative_rms(streamed_logits(folder, loaded.model.compute_dtype, batch),
                                         logits_in_memory(loaded, batch));
  const double tolerance = merge_tolerance(written, loaded.model.compute_dtype);
  // Written so that NaN is refused too.
  if (!(difference <= tolerance)) {
    fail(
        "export refused: the logits of the merged weights (written as {}) differ from the unmerged "
        "model's by {:.3g} (relative RMS), expected at most {:.3g}",
        dtype_name(written), difference, tolerance);
  }
  log_info("export", "merged logits differ from unmerged by {:.2g} (at most {:.2g} is accepted)",
           difference, tolerance);
}

}  // namespace tigon
