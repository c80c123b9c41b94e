#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "io/json_file.h"
#include "io/safetensors.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/safetensors_bytes.h"
#include "support/shared_material.h"
#include "support/temporary_folder.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

constexpr const char* kIndex = "model.safetensors.index.json";

/// A shard whose tensors hold one float each.
void write_shard(const TemporaryFolder& folder, const std::string& name,
                 const std::vector<std::pair<std::string, float>>& tensors) {
  Json header = Json::object();
  std::string data;
  for (const auto& [tensor, value] : tensors) {
    header[tensor] = {
        {"dtype", "F32"}, {"shape", {1}}, {"data_offsets", {data.size(), data.size() + 4}}};
    data += float_bytes({value});
  }
  folder.write(name, safetensors_bytes(header.dump(), data));
}

void write_index(const TemporaryFolder& folder, const Json& weight_map) {
  write_json_file(folder / kIndex, {{"metadata", {{"total_size", 8}}}, {"weight_map", weight_map}});
}

void check_folder_refused(const TemporaryFolder& folder, const std::string& message) {
  check_refused<Error>([&] { Checkpoint{folder.path()}; }, message);
}

}  // namespace

TEST_CASE("checkpoint: one file") {
  const TemporaryFolder folder;
  write_shard(folder, "model.safetensors", {{"a", 1.0f}, {"b", 2.0f}});
  const Checkpoint checkpoint(folder.path());
  CHECK(checkpoint.folder() == folder.path());
  CHECK(checkpoint.tensors().size() == 2);
  CHECK(floats_of(checkpoint.at("b")) == std::vector<float>{2.0f});
  CHECK(checkpoint.find("c") == nullptr);
  check_refused<Error>([&] { checkpoint.at("c"); },
                       folder.path().string() + ": tensor c is missing");
}

TEST_CASE("checkpoint: shards, also after a move") {
  const TemporaryFolder folder;
  write_shard(folder, "m-1.safetensors", {{"a", 1.0f}, {"c", 3.0f}});
  write_shard(folder, "m-2.safetensors", {{"b", 2.0f}});
  write_index(folder,
              {{"a", "m-1.safetensors"}, {"b", "m-2.safetensors"}, {"c", "m-1.safetensors"}});
  Checkpoint first(folder.path());
  const Checkpoint checkpoint = std::move(first);
  REQUIRE(checkpoint.tensors().size() == 3);
  CHECK(floats_of(checkpoint.at("a")) == std::vector<float>{1.0f});
  CHECK(floats_of(checkpoint.at("b")) == std::vector<float>{2.0f});
  CHECK(floats_of(checkpoint.at("c")) == std::vector<float>{3.0f});
}

TEST_CASE("checkpoint: an index of the single file itself") {
  const TemporaryFolder folder;
  write_shard(folder, "model.safetensors", {{"a", 1.0f}});
  write_index(folder, {{"a", "model.safetensors"}});
  CHECK(Checkpoint(folder.path()).tensors().size() == 1);
}

TEST_CASE("checkpoint: folders without weights") {
  const TemporaryFolder folder;
  check_folder_refused(folder,
                       "no weights: expected model.safetensors or "
                       "model.safetensors.index.json");
  check_refused<Error>([&] { Checkpoint(folder / "absent"); },
                       "absent: expected a model folder, found nothing");
  check_refused<Error>([&] { Checkpoint(folder.write("file", "")); },
                       "file: expected a model folder, found a file");
  for (const char* pickle : {"pytorch_model.bin", "consolidated.00.pth", "model.pt"}) {
    const TemporaryFolder with_pickle;
    with_pickle.write(pickle, "\x80");
    check_folder_refused(with_pickle, std::string("found ") + pickle + ", a pickle file");
  }
}

TEST_CASE("checkpoint: all disagreements of index and shards, in one message") {
  const TemporaryFolder folder;
  write_shard(folder, "m-1.safetensors", {{"a", 1.0f}, {"twice", 1.0f}, {"extra", 1.0f}});
  write_shard(folder, "m-2.safetensors", {{"b", 2.0f}, {"twice", 1.0f}});
  write_index(folder, {{"a", "m-1.safetensors"},
                       {"b", "m-2.safetensors"},
                       {"gone", "m-2.safetensors"},
                       {"twice", "m-1.safetensors"}});
  check_folder_refused(folder, folder.path().string() + ": 3 problems\n");
  check_folder_refused(folder,
                       "\n  extra in m-1.safetensors is not listed in " + std::string(kIndex));
  check_folder_refused(folder, "\n  twice is in m-2.safetensors, but " + std::string(kIndex) +
                                   " says m-1.safetensors");
  check_folder_refused(folder, "\n  gone is not in m-2.safetensors, as listed");
}

TEST_CASE("checkpoint: many problems are counted, the first shown") {
  const TemporaryFolder folder;
  write_shard(folder, "m.safetensors", {{"a", 1.0f}});
  Json map = {{"a", "m.safetensors"}};
  for (int i = 0; i < 20; ++i) map["t" + std::to_string(i)] = "m.safetensors";
  write_index(folder, map);
  check_folder_refused(folder, ": 20 problems");
  check_folder_refused(folder, "\n  and 12 more");
}

TEST_CASE("checkpoint: missing and broken shards") {
  const TemporaryFolder folder;
  write_shard(folder, "m-1.safetensors", {{"a", 1.0f}});
  write_index(folder, {{"a", "m-1.safetensors"}, {"b", "m-2.safetensors"}});
  check_folder_refused(
      folder, "1 problem\n  " + std::string(kIndex) + " lists m-2.safetensors, which is missing");
  const auto broken = folder.write("m-2.safetensors", "short");
  check_folder_refused(folder, broken.string() + ": expected at least 8 bytes");
}

TEST_CASE("checkpoint: broken indexes") {
  const auto refuse = [](const std::string& index, const std::string& message) {
    const TemporaryFolder folder;
    folder.write(kIndex, index);
    check_folder_refused(folder, message);
  };
  refuse("{", "not valid JSON");
  refuse("[]", "expected an object with a non-empty \"weight_map\"");
  refuse("{}", "expected an object with a non-empty \"weight_map\"");
  refuse(R"({"weight_map": {}})", "expected an object with a non-empty \"weight_map\"");
  refuse(R"({"weight_map": {"a": 1}})", "tensor a: expected a file name, found 1");
  for (const char* name : {"../x.safetensors", "/etc/x.safetensors", "sub/x.safetensors", "", "..",
                           "pytorch_model.bin"}) {
    refuse(R"({"weight_map": {"a": ")" + std::string(name) + "\"}}",
           "expected the name of a .safetensors file in this folder");
  }
  refuse(R"({"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}})",
         "key \"a\" appears twice");
}

TEST_CASE("checkpoint: a single file that the index does not list") {
  const TemporaryFolder folder;
  write_shard(folder, "model.safetensors", {{"a", 1.0f}});
  write_shard(folder, "m-1.safetensors", {{"a", 1.0f}});
  write_index(folder, {{"a", "m-1.safetensors"}});
  check_folder_refused(folder, "does not list model.safetensors, which is there too");
}

TEST_CASE("checkpoint: a real model") {
  TIGON_SHARED_OR_SKIP(path, "models/gutenberg-25m");
  const Checkpoint checkpoint(path);
  // 8 layers of 9 tensors, the embedding and the last norm.
  CHECK(checkpoint.tensors().size() == 74);
}
