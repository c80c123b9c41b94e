#include "apps/program.h"
#include "linearize/convert.h"
#include "support/compare.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

std::vector<std::string> logits_arguments(const TinyFolders& tiny,
                                          const std::filesystem::path& model) {
  return {"logits",
          "--model",
          model,
          "--ids",
          tiny.folder / "ids.safetensors",
          "--out",
          tiny.folder / "out.safetensors",
          "--device",
          "cpu",
          "--dtype",
          "float32"};
}

void write_ids(const TinyFolders& tiny, const at::Tensor& ids, const std::string& name = "ids") {
  save_tensors(tiny.folder / "ids.safetensors", {{name, ids}});
}

at::Tensor one_row(const std::vector<int64_t>& ids, at::ScalarType type) {
  return at::tensor(at::IntArrayRef(ids)).to(type).unsqueeze(0);
}

void check_refused_ids(const TinyFolders& tiny, const std::string& message) {
  check_fails(logits_arguments(tiny, tiny.teacher()), 1, message);
  CHECK_FALSE(std::filesystem::exists(tiny.folder / "out.safetensors"));
}

}  // namespace

TEST_CASE("logits writes what a forward pass over each row gives") {
  const TinyFolders tiny;
  // More tokens than are computed at once, and the last part is a shorter one.
  const int64_t length = 300;
  at::Tensor ids = at::empty({2, length}, at::kInt);
  for (int64_t row = 0; row < 2; ++row) {
    ids[row] = at::tensor(random_tokens(length, kTinyVocabulary, row)).to(at::kInt);
  }
  const std::filesystem::path student = tiny.student(load_plan("liger-gla", {"window_keys=16"}));
  for (const std::filesystem::path& folder : {tiny.teacher(), student}) {
    for (const at::ScalarType type : {at::kInt, at::kLong}) {
      write_ids(tiny, ids.to(type));
      const ChildResult result = tigon_program(logits_arguments(tiny, folder));
      INFO(result.standard_error);
      REQUIRE(result.exit_code == 0);
      CHECK(result.standard_output.empty());
      const SafetensorsFile file(tiny.folder / "out.safetensors");
      const at::Tensor found = to_tensor(file.at("logits"), at::kCPU);
      const LoadedModel loaded = load_any_model(folder, at::kFloat, at::kCPU);
      const at::NoGradGuard no_grad;
      for (int64_t row = 0; row < 2; ++row) {
        const at::Tensor hidden = forward_hidden(
            loaded.model, loaded.stack,
            make_batch({random_tokens(length, kTinyVocabulary, row)}, loaded.model.device));
        check_close("logits", found[row], logits_of(loaded.model, hidden), kFloat32Model);
      }
    }
  }
}

TEST_CASE("logits refuses ids that are out of range, misshapen or of another type") {
  const TinyFolders tiny;
  write_ids(tiny, one_row({1, 2, kTinyVocabulary}, at::kInt));
  check_refused_ids(tiny, "tensor ids: expected token ids from 0 to 399, found 400");
  write_ids(tiny, one_row({1, -2, 3}, at::kLong));
  check_refused_ids(tiny, "found -2");
  write_ids(tiny, one_row({1, 2, 3}, at::kInt)[0]);
  check_refused_ids(tiny, "tensor ids: expected the shape [B, T], found [3]");
  write_ids(tiny, at::empty({0, 3}, at::kInt));
  check_refused_ids(tiny, "found [0, 3]");
  write_ids(tiny, one_row({1, 2}, at::kFloat));
  check_refused_ids(tiny, "tensor ids: expected int32 or int64, found float32");
  write_ids(tiny, one_row({1, 2}, at::kInt), "tokens");
  check_refused_ids(tiny, "tensor ids is missing");
  std::filesystem::remove(tiny.folder / "ids.safetensors");
  check_refused_ids(tiny, "ids.safetensors");
}

TEST_CASE("logits that cannot be written leave nothing behind") {
  const TinyFolders tiny;
  write_ids(tiny, at::ones({4, 500}, at::kInt));
  const std::vector<std::string> before = tiny.folder.names();
  check_fails(logits_arguments(tiny, tiny.teacher()), 1, "out.safetensors",
              {.max_file_bytes = 100000});
  CHECK(tiny.folder.names() == before);
  std::vector<std::string> nowhere = logits_arguments(tiny, tiny.teacher());
  nowhere.at(6) = tiny.folder / "missing" / "out.safetensors";
  check_fails(nowhere, 1, "missing");
}
