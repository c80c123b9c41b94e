#include "support/compare.h"

#include <ATen/ATen.h>

#include <cmath>
#include <cstdlib>
#include <limits>

#include "core/random.h"
#include "support/catch.h"
#include "support/tolerance.h"

namespace tigon::testing {
namespace {

at::Tensor as_double(const at::Tensor& tensor) {
  return tensor.detach().to(at::kCPU, at::kDouble).contiguous();
}

std::string index_text(int64_t flat, at::IntArrayRef shape) {
  std::string text;
  for (int64_t d = static_cast<int64_t>(shape.size()) - 1; d >= 0; --d) {
    text = std::to_string(flat % shape[d]) + (text.empty() ? "" : ", ") + text;
    flat /= shape[d];
  }
  return "[" + text + "]";
}

at::ScalarType scalar_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return at::kDouble;
    case DType::kFloat32:
      return at::kFloat;
    case DType::kFloat16:
      return at::kHalf;
    case DType::kBFloat16:
      return at::kBFloat16;
    case DType::kInt64:
      return at::kLong;
    case DType::kInt32:
      return at::kInt;
    case DType::kInt16:
      return at::kShort;
    case DType::kInt8:
      return at::kChar;
    case DType::kUInt8:
      return at::kByte;
    case DType::kBool:
      return at::kBool;
  }
  return at::kFloat;
}

}  // namespace

at::Device test_device() {
  const char* name = std::getenv("TIGON_TEST_DEVICE");
  if (name == nullptr) return at::kCPU;
  const at::Device device{std::string(name)};
  // Tensors report the index too.
  return device.has_index() ? device : at::Device(device.type(), 0);
}

double relative_rms(const at::Tensor& found, const at::Tensor& expected) {
  if (!found.defined() || found.sizes() != expected.sizes())
    return std::numeric_limits<double>::infinity();
  const at::Tensor f = as_double(found), e = as_double(expected);
  if (!at::isfinite(f).all().item<bool>()) return std::numeric_limits<double>::infinity();
  const double error = (f - e).norm().item<double>(), scale = e.norm().item<double>();
  return scale == 0 ? error : error / scale;
}

void check_close(const std::string& name, const at::Tensor& found, const at::Tensor& expected,
                 double tolerance) {
  INFO(name);
  REQUIRE(found.defined());
  REQUIRE(found.sizes() == expected.sizes());
  const double error = relative_rms(found, expected);
  if (found.numel() > 0) {
    const at::Tensor f = as_double(found).flatten(), e = as_double(expected).flatten();
    const int64_t worst = at::nan_to_num(f - e, 1e300).abs().argmax().item<int64_t>();
    UNSCOPED_INFO("worst at " << index_text(worst, expected.sizes()) << ": found "
                              << f[worst].item<double>() << ", expected "
                              << e[worst].item<double>());
  }
  CHECK(error <= tolerance);
}

void check_bitwise(const std::string& name, const at::Tensor& found, const at::Tensor& expected) {
  INFO(name);
  REQUIRE(found.scalar_type() == expected.scalar_type());
  REQUIRE(found.sizes() == expected.sizes());
  CHECK(at::equal(found.detach().cpu(), expected.detach().cpu()));
}

void check_low_precision(const std::string& name, const at::Tensor& found, const at::Tensor& plain,
                         const at::Tensor& reference) {
  REQUIRE(found.scalar_type() == plain.scalar_type());
  const double ulp = found.scalar_type() == at::kHalf ? 0x1p-11 : 0x1p-8;
  REQUIRE((found.scalar_type() == at::kHalf || found.scalar_type() == at::kBFloat16));
  const double tolerance =
      kLowPrecisionFactor * relative_rms(plain, reference) + kLowPrecisionUlps * ulp;
  check_close(name, found, reference, tolerance);
}

at::Tensor golden(const SafetensorsFile& file, const std::string& name) {
  const TensorView& view = file.at(name);
  return at::from_blob(const_cast<std::byte*>(view.data), view.shape,
                       at::TensorOptions(scalar_type(view.dtype)))
      .clone()
      .to(test_device());
}

at::Tensor random_tensor(at::IntArrayRef shape, uint64_t seed, at::ScalarType dtype) {
  at::Tensor values = at::empty(shape, at::kDouble);
  Random random(seed);
  double* data = values.data_ptr<double>();
  for (int64_t i = 0; i < values.numel(); ++i) {
    const double radius = std::sqrt(-2 * std::log(1 - random.uniform()));
    data[i] = radius * std::cos(2 * M_PI * random.uniform());
  }
  return values.to(dtype).to(test_device());
}

}  // namespace tigon::testing
