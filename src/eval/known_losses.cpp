#include "eval/known_losses.h"

#include <optional>

#include "core/error.h"
#include "core/log.h"
#include "data/content_hash.h"
#include "io/file_lock.h"
#include "io/json_fields.h"
#include "linearize/mixer_parameters.h"
#include "model/tensor_io.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

/// Everything that decides a loss.
Json describe(const std::string& weights, const Model& model, const MixerStack& stack,
              const RowSet& rows) {
  Json mixers = Json::array();
  for (const auto& mixer : stack) mixers.push_back(mixer->kind() + ": " + mixer->describe());
  return {{"weights", weights},
          {"rows", rows.key()},
          {"dtype", dtype_name(to_dtype(model.compute_dtype))},
          {"device", model.device.is_cpu() ? "cpu" : "cuda"},
          {"mixers", std::move(mixers)}};
}

/// nullopt if there is no such file, or it is about something else.
std::optional<LossResult> read_loss(const fs::path& file, const Json& of) {
  if (!fs::exists(file)) return std::nullopt;
  try {
    const Json json = read_json_file(file);
    const JsonFields fields(json, file.string());
    if (!fields.has("of") || *fields.find("of") != of) return std::nullopt;
    LossResult result;
    result.nats_per_token = fields.positive("nats_per_token");
    result.perplexity = fields.positive("perplexity");
    result.tokens = fields.integer("tokens", 1, std::numeric_limits<int64_t>::max());
    return result;
  } catch (const Error& error) {
    log_warning("eval", "{}; the loss is measured again", error.what());
    return std::nullopt;
  }
}

}  // namespace

KnownLosses::KnownLosses(fs::path folder, std::string weights)
    : folder_(std::move(folder)), weights_(std::move(weights)) {}

LossResult KnownLosses::loss(const Model& model, const MixerStack& stack, const RowSet& rows,
                             int64_t rows_per_batch, const std::string& title) const {
  const auto measure = [&] {
    return evaluate_loss(model, stack, rows, rows_per_batch, /*use_adapters=*/false, title);
  };
  if (!mixer_parameters(stack).empty()) return measure();
  const Json of = describe(weights_, model, stack, rows);
  const std::string name = ContentHash().add(of.dump()).hex();
  const fs::path file = folder_ / (name + ".json");
  if (const auto known = read_loss(file, of)) return *known;
  std::error_code code;
  fs::create_directories(folder_, code);
  if (code) fail("eval.known: cannot create {}: {}", folder_.string(), code.message());
  FileLock lock(folder_ / (name + ".lock"));
  lock.lock();
  if (const auto known = read_loss(file, of)) return *known;
  const LossResult result = measure();
  write_json_file(file, {{"nats_per_token", result.nats_per_token},
                         {"perplexity", result.perplexity},
                         {"tokens", result.tokens},
                         {"of", of}});
  lock.remove();
  return result;
}

}  // namespace tigon
