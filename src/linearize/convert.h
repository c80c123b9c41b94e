// The conversion pass: a plan and a model to a stack and a report that says what became of every
// tensor.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "linearize/adapter_plan.h"
#include "linearize/plan.h"
#include "model/forward.h"

namespace tigon {

struct ReportedTensor {
  std::string name;
  std::string fate;  // "copied", "new (how initialised)", "dropped (why)"
  std::vector<int64_t> shape;
};

struct ConversionReport {
  std::string recipe;
  std::vector<std::string> layers;  // one line a layer: its mixer
  std::vector<ReportedTensor> tensors;
  int64_t base_parameters = 0, new_parameters = 0, dropped_parameters = 0;
};

struct Conversion {
  MixerStack stack;
  ConversionReport report;
};

/// `checkpoint`, where the weights came from a folder, adds the tensors that are not needed
/// (buffers of old checkpoints, a second copy of tied embeddings) to the report as dropped.
Conversion convert(const Plan& plan, const Model& model, const Checkpoint* checkpoint = nullptr);
/// The report of a stack that is already built.
ConversionReport make_report(const Plan& plan, const MixerStack& stack, const Model& model,
                             const Checkpoint* checkpoint = nullptr);
Json report_to_json(const ConversionReport& report);
/// For people: layers, then counts of copied / new / dropped with the new ones listed.
std::string report_to_text(const ConversionReport& report);
/// Runs of layers with the same mixer, one line each.
std::string layers_to_text(const std::vector<std::string>& layers);

/// A model folder of either kind, ready to run: a teacher (plan.is_teacher(), stack = teacher
/// stack) or a linearized folder.
struct LoadedModel {
  Model model;
  Plan plan;
  MixerStack stack;
  std::filesystem::path folder;
};

/// Loads DIR (teacher or linearized), and the adapter folder `adapter` on it if given: mixers of a
/// teacher folder are then rebuilt from the adapter's linearize.json; a plan or fingerprint that
/// does not fit is an error. A name that looks like a hub id is answered with the command that
/// downloads it.
LoadedModel load_any_model(const std::filesystem::path& folder, at::ScalarType dtype,
                           at::Device device, const std::filesystem::path& adapter = {});

/// The logits [N, V] float32 of a model folder of either kind, on the batch's device, holding only
/// one of its layers at a time.
at::Tensor streamed_logits(const std::filesystem::path& folder, at::ScalarType dtype,
                           const Batch& batch);

/// The plan in a folder's config.json: none for a teacher. Throws Error if the block is broken.
Plan read_folder_plan(const ModelConfig& config, const std::filesystem::path& folder);

/// Throws Error unless DIR is a model folder; the message says what else it is, or how to get it.
void require_model_folder(const std::filesystem::path& folder);

}  // namespace tigon
