#include "ops/swiglu/swiglu.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/silu.h>
#include <torch/library.h>

#include "ops/checks.h"
#include "ops/swiglu/swiglu_call.h"

namespace tigon {

void check_swiglu(const at::Tensor& gate, const at::Tensor& up) {
  check_floating("swiglu", "gate", gate);
  check_shape("swiglu", "gate", gate, {kAnySize, kAnySize});
  check_dtype("swiglu", "up", up, gate.scalar_type());
  check_shape("swiglu", "up", up, {gate.size(0), gate.size(1)});
  check_device("swiglu", "up", up, gate);
}

void check_swiglu_packed(const at::Tensor& gate_up) {
  check_floating("swiglu_packed", "gate_up", gate_up);
  check_shape("swiglu_packed", "gate_up", gate_up, {kAnySize, kAnySize});
  TORCH_CHECK(gate_up.size(1) % 2 == 0,
              "[swiglu_packed] gate_up: expected an even last dimension, found ", gate_up.size(1));
}

GateAndUp halves(const at::Tensor& gate_up) {
  const int64_t F = gate_up.size(1) / 2;
  return {gate_up.narrow(1, 0, F), gate_up.narrow(1, F, F)};
}

at::Tensor swiglu_plain(const at::Tensor& gate, const at::Tensor& up) {
  return at::silu(gate) * up;
}

at::Tensor swiglu_packed_plain(const at::Tensor& gate_up) {
  const GateAndUp parts = halves(gate_up);
  return swiglu_plain(parts.gate, parts.up);
}

namespace {

at::Tensor swiglu_op(const at::Tensor& gate, const at::Tensor& up) {
  check_swiglu(gate, up);
  return swiglu_plain(gate, up);
}

at::Tensor swiglu_packed_op(const at::Tensor& gate_up) {
  check_swiglu_packed(gate_up);
  return swiglu_packed_plain(gate_up);
}

}  // namespace

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tigon::swiglu", "")
                             .typed<decltype(swiglu_op)>();
  return op.call(gate, up);
}

at::Tensor swiglu_packed(const at::Tensor& gate_up) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tigon::swiglu_packed", "")
                             .typed<decltype(swiglu_packed_op)>();
  return op.call(gate_up);
}

TORCH_LIBRARY_FRAGMENT(tigon, m) {
  m.def("swiglu(Tensor gate, Tensor up) -> Tensor");
  m.def("swiglu_packed(Tensor gate_up) -> Tensor");
}

TORCH_LIBRARY_IMPL(tigon, CompositeImplicitAutograd, m) {
  m.impl("swiglu", swiglu_op);
  m.impl("swiglu_packed", swiglu_packed_op);
}

}  // namespace tigon
