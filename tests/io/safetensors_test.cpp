// Reading right files, and writing.
#include "io/safetensors.h"

#include <fstream>
#include <set>

#include "core/error.h"
#include "io/json_file.h"
#include "support/catch.h"
#include "support/file_size_limit.h"
#include "support/refusal.h"
#include "support/safetensors_bytes.h"
#include "support/shared_material.h"
#include "support/temporary_folder.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

TensorView view_of(DType dtype, std::vector<int64_t> shape, const std::string& bytes) {
  return {.dtype = dtype,
          .shape = std::move(shape),
          .data = as_bytes(bytes).data(),
          .bytes = bytes.size()};
}

}  // namespace

TEST_CASE("safetensors: names, types, shapes, values and metadata") {
  const std::string bytes = safetensors_bytes(
      R"({"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
      R"("s":{"dtype":"I8","shape":[],"data_offsets":[8,9]},)"
      R"("none":{"dtype":"F32","shape":[3,0],"data_offsets":[8,8]}}  )",
      float_bytes({1.5f, -2.0f}) + "\x07");
  const SafetensorsFile file(as_bytes(bytes), "x");
  CHECK(file.tensors().size() == 3);
  CHECK(file.metadata() == std::map<std::string, std::string>{{"format", "pt"}});
  const TensorView& weight = file.at("w");
  CHECK(weight.dtype == DType::kFloat32);
  CHECK(weight.shape == std::vector<int64_t>{2, 1});
  CHECK(floats_of(weight) == std::vector<float>{1.5f, -2.0f});
  CHECK(file.at("s").shape.empty());
  CHECK(*file.at("s").data == std::byte{7});
  CHECK(file.at("none").bytes == 0);
  CHECK(file.find("absent") == nullptr);
  check_refused<Error>([&] { file.at("absent"); }, "x: tensor absent is missing");
}

TEST_CASE("safetensors: data at any alignment can be read") {
  for (size_t padding = 0; padding < 8; ++padding) {
    const std::string bytes = safetensors_bytes(
        R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})" + std::string(padding, ' '),
        float_bytes({2.5f}));
    const SafetensorsFile file(as_bytes(bytes), "x");
    CHECK(floats_of(file.at("w")) == std::vector<float>{2.5f});
  }
}

TEST_CASE("safetensors: a file without tensors") {
  CHECK(SafetensorsFile(as_bytes(safetensors_bytes("{}", "")), "x").tensors().empty());
}

TEST_CASE("safetensors: a written file reads back, every tensor aligned") {
  const TemporaryFolder folder;
  const std::string half = "abcdef", whole = float_bytes({1, 2}), byte = "z", empty;
  const std::map<std::string, TensorView> data = {
      {"byte", view_of(DType::kUInt8, {1}, byte)},
      {"half", view_of(DType::kBFloat16, {3}, half)},
      {"whole", view_of(DType::kFloat32, {1, 2}, whole)},
      {"empty", view_of(DType::kInt64, {0}, empty)}};
  std::vector<TensorSpec> specs;
  for (const auto& [name, view] : data) specs.push_back({name, view.dtype, view.shape});
  std::vector<std::string> asked;
  const auto give = [&](const std::string& name) {
    asked.push_back(name);
    return data.at(name);
  };
  write_safetensors(folder / "x.safetensors", specs, give, {{"format", "pt"}});
  CHECK(asked == std::vector<std::string>{"empty", "whole", "half", "byte"});
  CHECK(folder.names() == std::vector<std::string>{"x.safetensors"});

  const SafetensorsFile file(folder / "x.safetensors");
  CHECK(file.metadata().at("format") == "pt");
  REQUIRE(file.tensors().size() == data.size());
  for (const auto& [name, view] : data) {
    INFO(name);
    const TensorView& found = file.at(name);
    CHECK(found.dtype == view.dtype);
    CHECK(found.shape == view.shape);
    CHECK(std::string_view(reinterpret_cast<const char*>(found.data), found.bytes) ==
          std::string_view(reinterpret_cast<const char*>(view.data), view.bytes));
    CHECK(reinterpret_cast<uintptr_t>(found.data) % dtype_bytes(found.dtype) == 0);
  }
}

TEST_CASE("safetensors: what cannot be written leaves no file") {
  const TemporaryFolder folder;
  const std::string bytes = float_bytes({1, 2});
  const auto refuse = [&](const std::vector<TensorSpec>& specs, const std::string& message) {
    check_refused<Error>(
        [&] {
          write_safetensors(folder / "x", specs, [&](const std::string&) {
            return view_of(DType::kFloat32, {2}, bytes);
          });
        },
        message);
    CHECK(folder.names().empty());
  };
  refuse({{"a", DType::kFloat32, {2}}, {"a", DType::kFloat32, {2}}}, "tensor name a is taken");
  refuse({{"__metadata__", DType::kFloat32, {2}}}, "tensor name __metadata__ is taken");
  refuse({{"a", DType::kFloat32, {-2}}}, "tensor a has an impossible shape [-2]");
  refuse({{"a", DType::kFloat32, {int64_t{1} << 40, int64_t{1} << 40}}}, "impossible shape");
  refuse({{"a", DType::kFloat32, {2}}, {"b", DType::kFloat32, {1, 2}}},
         "tensor b: expected F32 [1, 2], found F32 [2]");
  refuse({{"a", DType::kFloat16, {2}}}, "tensor a: expected F16 [2], found F32 [2]");
}

TEST_CASE("safetensors: a tensor may be written in pieces, which must add up to its size") {
  const TemporaryFolder folder;
  const std::string bytes = float_bytes({1, 2, 3});
  const auto write = [&](std::vector<size_t> pieces) {
    stream_safetensors(folder / "x", {{"a", DType::kFloat32, {3}}},
                       [&](const TensorSpec& spec, const ByteSink& sink) {
                         CHECK(spec.name == "a");
                         size_t position = 0;
                         for (const size_t piece : pieces) {
                           sink(as_bytes(bytes).subspan(position, piece));
                           position += piece;
                         }
                       });
  };
  check_refused<Error>([&] { write({4, 4}); }, "tensor a: expected 12 bytes, found 8");
  check_refused<Error>([&] { write({}); }, "tensor a: expected 12 bytes, found 0");
  CHECK(folder.names().empty());
  write({1, 0, 11});
  CHECK(floats_of(SafetensorsFile(folder / "x").at("a")) == std::vector<float>{1, 2, 3});
}

TEST_CASE("safetensors: a full disk leaves no file and names the target") {
  const TemporaryFolder folder;
  const std::string bytes(1 << 16, '\0');
  const FileSizeLimit limit(4096);
  check_refused<Error>(
      [&] {
        write_safetensors(
            folder / "x.safetensors", {{"w", DType::kUInt8, {1 << 16}}},
            [&](const std::string&) { return view_of(DType::kUInt8, {1 << 16}, bytes); });
      },
      "cannot write " + (folder / "x.safetensors").string() + ": File too large");
  CHECK(folder.names().empty());
}

TEST_CASE("safetensors: a real model's file") {
  TIGON_SHARED_OR_SKIP(path, "models/gutenberg-25m/model.safetensors");
  const SafetensorsFile file(path);
  const TensorView& embedding = file.at("model.embed_tokens.weight");
  CHECK(embedding.dtype == DType::kBFloat16);
  CHECK(embedding.shape == std::vector<int64_t>{8192, 512});
  CHECK(file.at("model.layers.7.mlp.down_proj.weight").shape == std::vector<int64_t>{512, 1280});
}
