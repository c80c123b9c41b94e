#include "model/tensor_io.h"

#include <ATen/ATen.h>

#include <cstring>

#include "support/catch.h"
#include "support/compare.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"

using namespace tigon;
using namespace tigon::testing;

TEST_CASE("Tensors of every type survive a file, from any device and layout") {
  const TemporaryFolder folder;
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const at::ScalarType type : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong,
                                    at::kInt, at::kShort, at::kChar, at::kByte, at::kBool}) {
    tensors.emplace_back(at::toString(type), (random_tensor({3, 5}, 1) * 3).abs().to(type));
  }
  tensors.emplace_back("transposed", random_tensor({4, 6}, 2).t());
  tensors.emplace_back("scalar", random_tensor({}, 3));
  tensors.emplace_back("empty", at::empty({0, 4}));
  tensors.emplace_back("trained", random_tensor({2}, 4).requires_grad_());
  save_tensors(folder / "all.safetensors", tensors, {{"format", "pt"}});

  const SafetensorsFile file(folder / "all.safetensors");
  CHECK(file.tensors().size() == tensors.size());
  CHECK(file.metadata().at("format") == "pt");
  for (const auto& [name, tensor] : tensors) {
    check_bitwise(name, to_tensor(file.at(name), test_device()), tensor.contiguous());
  }
}

TEST_CASE("A view is converted to the wanted type and never shared") {
  const at::Tensor source = random_tensor({3, 5}, 1).cpu();
  const TensorView view = view_of(source);
  check_bitwise("converted", to_tensor(view, test_device(), at::kBFloat16),
                source.to(at::kBFloat16));
  const at::Tensor copy = to_tensor(view, at::kCPU);
  copy.zero_();
  CHECK(source.abs().max().item<double>() > 0);
}

TEST_CASE("Data between two elements' addresses is read all the same") {
  const at::Tensor source = random_tensor({8}, 1).cpu();
  std::vector<std::byte> memory(source.nbytes() + 1);
  std::memcpy(memory.data() + 1, source.const_data_ptr(), source.nbytes());
  TensorView view = view_of(source);
  view.data = memory.data() + 1;
  check_bitwise("unaligned", to_tensor(view, at::kCPU), source);
}

TEST_CASE("Types that safetensors lacks and repeated names are refused") {
  const TemporaryFolder folder;
  check_refused([] { to_dtype(at::kComplexFloat); }, "ComplexFloat cannot be written");
  const at::Tensor one = at::ones({1});
  check_refused(
      [&] {
        save_tensors(folder / "x.safetensors", {{"a", one}, {"a", one}});
      },
      "tensor a is given twice");
  CHECK_FALSE(std::filesystem::exists(folder / "x.safetensors"));
}
