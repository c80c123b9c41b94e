#include "export/hf_folder.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "core/log.h"
#include "data/llama2c_tokenizer.h"
#include "embedded/python_files.h"
#include "export/hf_config.h"
#include "export/merge_check.h"
#include "export/model_card.h"
#include "export/weights_writer.h"
#include "io/atomic_file.h"
#include "linearize/mixer_parameters.h"
#include "lora/adapter_folder.h"
#include "model/tensor_io.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 10> kCopiedNames = {"tokenizer.model",
                                                           "tokenizer.json",
                                                           "tokenizer_config.json",
                                                           "special_tokens_map.json",
                                                           "added_tokens.json",
                                                           "vocab.json",
                                                           "merges.txt",
                                                           "chat_template.jinja",
                                                           "chat_template.json",
                                                           "generation_config.json"};
// Licences and the like: LICENSE, LICENSE.txt, USE_POLICY.md, …
constexpr std::array<std::string_view, 4> kLicencePrefixes = {"LICENSE", "LICENCE", "NOTICE",
                                                              "USE_POLICY"};

bool is_licence(const std::string& name) {
  std::string upper = name;
  std::ranges::transform(upper, upper.begin(), [](unsigned char c) { return std::toupper(c); });
  return std::ranges::any_of(kLicencePrefixes,
                             [&](std::string_view prefix) { return upper.starts_with(prefix); });
}

bool is_wanted_beside_weights(const std::string& name) {
  return is_licence(name) || std::ranges::find(kCopiedNames, name) != kCopiedNames.end();
}

using NameFilter = bool (*)(const std::string& name);

void copy_if_wanted(const fs::path& file, const fs::path& folder, NameFilter is_wanted) {
  const std::string name = file.filename().string();
  if (!fs::is_regular_file(file) || !is_wanted(name)) return;
  std::error_code code;
  fs::copy_file(file, folder / name, code);
  if (code) fail("cannot copy {}: {}", file.string(), code.message());
}

void copy_base_files(const fs::path& base, const fs::path& folder, NameFilter is_wanted) {
  // A model that was drawn at random may have a tokenizer file and no folder.
  if (!fs::is_directory(base)) return copy_if_wanted(base, folder, is_wanted);
  for (const auto& entry : fs::directory_iterator(base)) {
    copy_if_wanted(entry.path(), folder, is_wanted);
  }
}

/// A llama2.c tokenizer becomes the sentencepiece model that it was made from.
void write_llama2c_tokenizer(const fs::path& base, const fs::path& folder) {
  if (!fs::is_directory(base) || fs::exists(folder / "tokenizer.model")) return;
  const auto file = find_llama2c_tokenizer(base);
  if (!file) return;
  write_file_atomically(folder / "tokenizer.model",
                        sentencepiece_model_of_llama2c(read_text_file(*file), file->string()));
}

/// A bare sentencepiece file leaves transformers to guess, and its guess drops the leading space.
void complete_tokenizer(const fs::path& folder) {
  const bool is_bare = fs::exists(folder / "tokenizer.model") &&
                       !fs::exists(folder / "tokenizer_config.json") &&
                       !fs::exists(folder / "tokenizer.json");
  if (is_bare) {
    write_json_file(folder / "tokenizer_config.json",
                    {{"tokenizer_class", "LlamaTokenizer"}, {"add_bos_token", true}});
  }
}

DType parse_dtype(const std::string& name) {
  const std::optional<DType> dtype = dtype_from_name(name);
  const bool is_weight_type =
      dtype == DType::kFloat32 || dtype == DType::kFloat16 || dtype == DType::kBFloat16;
  if (!is_weight_type) {
    fail("dtype of exported weights: expected float32, float16 or bfloat16, found \"{}\"", name);
  }
  return *dtype;
}

/// What the base's files hold; a model without a folder says in its config what it wants.
DType base_dtype(const LoadedModel& loaded) {
  if (loaded.folder.empty()) return parse_dtype(loaded.model.config.dtype);
  return Checkpoint(loaded.folder).at("model.embed_tokens.weight").dtype;
}

/// What the weights are written as: what was asked for, else what the base's files hold, else,
/// where the base was rounded when it was loaded, what memory holds.
DType choose_export_dtype(const LoadedModel& loaded, const ExportOptions& options) {
  if (!options.dtype.empty()) return parse_dtype(options.dtype);
  const DType base = base_dtype(loaded);
  const DType held = to_dtype(loaded.model.weights.embed_tokens.scalar_type());
  if (held == base || held == DType::kFloat32) return base;
  log_warning("export",
              "the base's files hold {}, but it was loaded as {}: weights are written as {}",
              dtype_name(base), dtype_name(held), dtype_name(held));
  return held;
}

void write_text(const fs::path& path, std::string_view text) {
  write_file_atomically(path, text);
}

}  // namespace

void export_merged(const LoadedModel& loaded, const Conversion& conversion, const fs::path& out,
                   const ExportOptions& options) {
  const DType dtype = choose_export_dtype(loaded, options);
  AtomicFolder folder(out, options.replace);
  const fs::path& path = folder.path();
  copy_base_files(options.base_folder, path, is_wanted_beside_weights);
  write_llama2c_tokenizer(options.base_folder, path);
  complete_tokenizer(path);
  write_json_file(path / "config.json", exported_config(loaded, dtype));
  write_json_file(path / "conversion_report.json", report_to_json(conversion.report));
  write_text(path / "README.md",
             model_card(fs::absolute(out).lexically_normal().filename().string(), loaded,
                        conversion.report, options));
  if (!loaded.plan.is_teacher()) {
    for (const std::string_view name : embedded::python_files_names()) {
      write_text(path / name, embedded::python_files(name));
    }
  }
  write_merged_weights(path, loaded.model, loaded.stack, dtype, options.max_shard_bytes);
  check_written_folder(loaded, path, dtype);
  folder.commit();
}

void export_adapter(const LoadedModel& loaded, const LoraOptions& lora, const fs::path& out,
                    const ExportOptions& options) {
  AtomicFolder folder(out, options.replace);
  copy_base_files(options.base_folder, folder.path(), is_licence);
  write_adapter(folder.path(), loaded.model.weights, lora, options.base_folder.string());
  const bool has_base = fs::exists(options.base_folder / "config.json");
  write_adapter_plan(
      folder.path(),
      {.plan = loaded.plan,
       .base_fingerprint = has_base ? checkpoint_fingerprint(options.base_folder) : ""});
  const auto parameters = mixer_parameters(loaded.stack);
  if (!parameters.empty()) save_tensors(folder.path() / "new_parameters.safetensors", parameters);
  folder.commit();
}

}  // namespace tigon
