#include "ops/swiglu/swiglu.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/silu.h>
#include <torch/library.h>

#include "ops/checks.h"

namespace tigon {
namespace {

at::Tensor swiglu_plain(const at::Tensor& gate, const at::Tensor& up) {
  check_floating("swiglu", "gate", gate);
  check_shape("swiglu", "gate", gate, {kAnySize, kAnySize});
  check_dtype("swiglu", "up", up, gate.scalar_type());
  check_shape("swiglu", "up", up, {gate.size(0), gate.size(1)});
  check_device("swiglu", "up", up, gate);
  return at::silu(gate) * up;
}

}  // namespace

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tigon::swiglu", "")
                             .typed<at::Tensor(const at::Tensor&, const at::Tensor&)>();
  return op.call(gate, up);
}

}  // namespace tigon

TORCH_LIBRARY_FRAGMENT(tigon, m) {
  m.def("swiglu(Tensor gate, Tensor up) -> Tensor");
}

TORCH_LIBRARY_IMPL(tigon, CompositeImplicitAutograd, m) {
  m.impl("swiglu", tigon::swiglu_plain);
}
