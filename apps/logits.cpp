// tigon logits: token ids in a file to logits in a file, for checks against other programs.

#include <ATen/ATen.h>

#include <algorithm>

#include "command.h"
#include "core/error.h"
#include "core/log.h"
#include "core/progress.h"
#include "linearize/convert.h"
#include "model/tensor_io.h"

namespace tigon {
namespace {

constexpr const char* kFooter = R"(Example:
  tigon logits --model DIR --ids ids.safetensors --out logits.safetensors --dtype float32

Reads the tensor `ids` [B,T], int32 or int64, and writes `logits` [B,T,V] float32. Each row is a
sequence of its own; nothing is put before it.)";

struct LogitsOptions {
  std::string model, adapter, ids, out;
  DeviceOptions device;
};

/// Logits of this many tokens are alive at once.
constexpr int64_t kTokensAtOnce = 256;

/// ids [B, T] int64 on the CPU.
at::Tensor read_ids(const std::string& path, int64_t vocab_size) {
  const SafetensorsFile file(path);
  const TensorView& view = file.at("ids");
  if (view.dtype != DType::kInt32 && view.dtype != DType::kInt64) {
    fail("{}: tensor ids: expected int32 or int64, found {}", path, dtype_name(view.dtype));
  }
  if (view.shape.size() != 2 || view.shape[0] < 1 || view.shape[1] < 1) {
    fail("{}: tensor ids: expected the shape [B, T], found [{}]", path,
         fmt::join(view.shape, ", "));
  }
  const at::Tensor ids = to_tensor(view, at::kCPU, at::kLong);
  const int64_t lowest = ids.min().item<int64_t>(), highest = ids.max().item<int64_t>();
  if (lowest < 0 || highest >= vocab_size) {
    fail("{}: tensor ids: expected token ids from 0 to {}, found {}", path, vocab_size - 1,
         lowest < 0 ? lowest : highest);
  }
  return ids;
}

/// Hands over the logits of one sequence, ids [T], in the order of its tokens.
void write_sequence(const LoadedModel& loaded, const at::Tensor& ids, const ByteSink& sink) {
  const std::vector<int64_t> tokens(ids.data_ptr<int64_t>(), ids.data_ptr<int64_t>() + ids.numel());
  const Batch batch = make_batch({tokens}, loaded.model.device);
  const at::Tensor hidden = forward_hidden(loaded.model, loaded.stack, batch);
  for (const at::Tensor& part : hidden.split(kTokensAtOnce)) {
    const at::Tensor logits = logits_of(loaded.model, part).cpu().contiguous();
    const TensorView view = view_of(logits);
    sink(std::span(view.data, view.bytes));
  }
}

void write_logits(const LogitsOptions& options) {
  const at::Device device = choose_device(options.device.device);
  const LoadedModel loaded = load_any_model(
      options.model, choose_dtype(options.device.dtype, device), device, options.adapter);
  const at::Tensor ids = read_ids(options.ids, loaded.model.config.vocab_size);
  const at::NoGradGuard no_grad;
  Progress progress("logits", ids.size(0), "rows");
  const TensorSpec logits{.name = "logits",
                          .dtype = DType::kFloat32,
                          .shape = {ids.size(0), ids.size(1), loaded.model.config.vocab_size}};
  stream_safetensors(options.out, {logits}, [&](const TensorSpec&, const ByteSink& sink) {
    for (int64_t row = 0; row < ids.size(0); ++row) {
      write_sequence(loaded, ids[row], sink);
      progress.update(row + 1);
    }
  });
  progress.finish();
  log_info("logits", "{}: logits [{}] float32", options.out, fmt::join(logits.shape, ", "));
}

}  // namespace

void add_logits(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("logits", "Logits of given token ids, for checks against other programs");
  const auto options = std::make_shared<LogitsOptions>();
  command->add_option("--model", options->model, "model folder, teacher or linearized")
      ->required()
      ->type_name("DIR");
  command->add_option("--adapter", options->adapter, "adapter folder put on the model")
      ->type_name("DIR");
  command->add_option("--ids", options->ids, "safetensors file with the tensor ids [B,T]")
      ->required()
      ->type_name("FILE");
  command->add_option("--out", options->out, "safetensors file to write")
      ->required()
      ->type_name("FILE");
  add_device_options(*command, options->device);
  command->footer(kFooter);
  command->callback([options] { write_logits(*options); });
}

}  // namespace tigon
