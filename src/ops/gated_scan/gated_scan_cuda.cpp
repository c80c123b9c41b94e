// gated_scan on the GPU: kernels for bf16 where they can serve the call, the plain definition
// elsewhere.
#include <ATen/ceil_div.h>
#include <ATen/cuda/CUDAContextLight.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <limits>

#include "ops/checks.h"
#include "ops/chunks/chunk_tables.h"
#include "ops/gated_scan/gated_scan_arguments.h"
#include "ops/gated_scan/gated_scan_params.h"
#include "ops/gated_scan/without_delay.h"
#include "ops/kernel_arguments.h"
#include "ops/kernel_launch.h"

namespace tigon {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kMultiple = 32;  // of the rows and columns of the kernels' states

/// Channels of the kernels' keys: zeros behind those that there are.
int64_t key_channels(const GatedScanCall& call) {
  return at::round_up(call.q.size(2), kMultiple);
}

/// Columns of the kernels' values: with a normalizer one of ones and zeros behind it.
int64_t value_columns(const GatedScanCall& call) {
  return call.v.size(2) + (call.normalizer ? kMultiple : 0);
}

bool fits_device(const GatedScanCall& call) {
  const int K = static_cast<int>(key_channels(call)), V = static_cast<int>(value_columns(call));
  const auto available =
      at::cuda::getDeviceProperties(call.q.device().index())->sharedMemPerBlockOptin;
  return cuda::has_gated_scan_kernels(K, V) &&
         static_cast<size_t>(cuda::gated_scan_shared_memory(K, V)) <= available;
}

/// Decoding (one token a segment) needs no chunks.
bool kernels_serve(const GatedScanCall& call) {
  const auto is_bf16 = [](const at::Tensor& x) { return x.scalar_type() == at::kBFloat16; };
  return is_bf16(call.q) && is_bf16(call.k) && is_bf16(call.v) && call.segments.longest > 1 &&
         call.v.size(2) <= 128 && fits_device(call);
}

/// What the kernels take, and all that needs a gradient.
struct KernelInputs {
  at::Tensor q, k, v;   // [N, H, K], [N, Hk, K], [N, Hv, V] bf16, V with a normalizer's columns
  at::Tensor log_gate;  // [N or 1, Hg, K or 1] float32 or bf16
  at::Tensor initial_state;  // [S, Hs, K, V] float32, or undefined
};

struct Shape {
  Segments segments;
  int64_t state_heads;
  bool is_out_wide;
};

cuda::ScanRows rows_of(const at::Tensor& x) {
  return {x.data_ptr(), static_cast<int>(x.stride(0)), static_cast<int>(x.stride(1))};
}

/// Rows that the kernels can take one from another with 32-bit strides.
at::Tensor with_near_rows(const at::Tensor& x) {
  constexpr int64_t kMost = std::numeric_limits<int>::max();
  return x.stride(0) <= kMost && x.stride(1) <= kMost ? x : x.clone(at::MemoryFormat::Contiguous);
}

/// Its last dimension dense and its rows at multiples of 8 bytes.
at::Tensor with_pair_rows(const at::Tensor& x) {
  const bool is_per_head = x.size(2) == 1;
  const bool fits =
      is_per_head || (x.stride(2) == 1 && x.stride(0) % 2 == 0 && x.stride(1) % 2 == 0 &&
                      reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 8 == 0);
  return fits ? x : x.clone(at::MemoryFormat::Contiguous);
}

using Launch = KernelLaunch<cuda::GatedScanParams>;

/// Lays out the chunks.
Launch start(const KernelInputs& x, const Shape& shape) {
  Launch launch;
  launch.stream = c10::cuda::getCurrentCUDAStream(x.q.device().index());
  cuda::GatedScanParams& p = launch.params;
  p.q = rows_of(launch.keep(with_vector_rows(with_near_rows(x.q))));
  p.k = rows_of(launch.keep(with_vector_rows(with_near_rows(x.k))));
  p.v = rows_of(launch.keep(with_vector_rows(with_near_rows(x.v))));
  const at::Tensor gates = launch.keep(with_pair_rows(with_near_rows(x.log_gate)));
  p.log_gate.data = gates.const_data_ptr();
  p.log_gate.is_bf16 = gates.scalar_type() == at::kBFloat16;
  p.log_gate.is_per_head = gates.size(2) == 1;
  p.log_gate.token_stride = gates.size(0) == 1 ? 0 : static_cast<int>(gates.stride(0));
  p.log_gate.head_stride = static_cast<int>(gates.stride(1));
  p.segments = static_cast<int>(shape.segments.count());
  p.heads = static_cast<int>(x.q.size(1));
  p.key_heads = static_cast<int>(x.k.size(1));
  p.value_heads = static_cast<int>(x.v.size(1));
  p.gate_heads = static_cast<int>(x.log_gate.size(1));
  p.state_heads = static_cast<int>(shape.state_heads);
  p.key_dim = static_cast<int>(x.q.size(2));
  p.value_dim = static_cast<int>(x.v.size(2));
  p.is_out_wide = shape.is_out_wide;
  if (x.initial_state.defined()) {
    p.initial_state = launch.keep(x.initial_state.contiguous()).const_data_ptr<float>();
  }
  const ChunkTables chunks = make_chunk_tables(shape.segments, launch.stream);
  p.chunk_offsets = launch.keep(chunks.offsets).const_data_ptr<int32_t>();
  launch.keep(chunks.chunks);
  p.chunks = chunks.data();
  p.chunk_count = chunks.count;
  return launch;
}

/// The recurrence between chunks; the backward pass reads it again.
struct ChunkStates {
  at::Tensor before;  // [C, Hs, K, V] bf16, by position
  at::Tensor decays;  // [C, Hs, K] float32, by position
};

struct Forward {
  at::Tensor out, final_state;
  ChunkStates states;
};

Forward gated_scan_fwd(const KernelInputs& x, const Shape& shape) {
  const c10::cuda::CUDAGuard guard(x.q.device());
  Launch launch = start(x, shape);
  cuda::GatedScanParams& p = launch.params;
  const int64_t N = x.q.size(0), H = x.q.size(1), K = x.q.size(2), V = x.v.size(2);
  const int64_t C = p.chunk_count, S = p.segments, Hs = p.state_heads;
  const auto on_device = at::TensorOptions(x.q.device());
  const auto wide = on_device.dtype(at::kFloat), narrow = on_device.dtype(at::kBFloat16);
  Forward result{.out = at::empty({N, H, V}, shape.is_out_wide ? wide : narrow),
                 .final_state = at::empty({S, Hs, K, V}, wide),
                 .states = {at::empty({C, Hs, K, V}, narrow), at::empty({C, Hs, K}, wide)}};
  p.additions = launch.make({C, Hs, K, V}, at::kFloat, x.q.device()).mutable_data_ptr<float>();
  p.decays = result.states.decays.mutable_data_ptr<float>();
  p.states = result.states.before.mutable_data_ptr();
  p.final_state = result.final_state.mutable_data_ptr<float>();
  p.out = result.out.mutable_data_ptr();
  C10_CUDA_CHECK(cuda::launch_gated_scan_states(p, launch.stream));
  C10_CUDA_CHECK(cuda::launch_gated_scan_fwd(p, launch.stream));
  return result;
}

/// [N, Hs, D] → [N, heads, D]: the sum over the state heads that share one, in float32.
at::Tensor sum_to_heads(const at::Tensor& x, int64_t heads) {
  if (x.size(1) == heads) return x;
  return x.unflatten(1, {heads, -1}).sum(2, false, at::kFloat).to(x.scalar_type());
}

struct Gradients {
  at::Tensor q, k, v, log_gate, initial_state;  // the last two undefined if not wanted
};

Gradients gated_scan_bwd(const KernelInputs& x, const Shape& shape, const ChunkStates& states,
                         const at::Tensor& out_gradient, const at::Tensor& state_gradient,
                         bool wants_gate, bool wants_initial_state) {
  const c10::cuda::CUDAGuard guard(x.q.device());
  Launch launch = start(x, shape);
  cuda::GatedScanParams& p = launch.params;
  const int64_t N = x.q.size(0), H = x.q.size(1), K = x.q.size(2), V = x.v.size(2);
  const int64_t C = p.chunk_count, Hs = p.state_heads;
  const at::Device device = x.q.device();
  const auto narrow = at::TensorOptions(at::kBFloat16).device(device);
  const at::Tensor upstream =
      out_gradient.defined() ? out_gradient.to(at::kBFloat16) : at::zeros({N, H, V}, narrow);
  p.out_gradient = rows_of(launch.keep(with_vector_rows(with_near_rows(upstream))));
  if (state_gradient.defined()) {
    p.final_state_gradient = launch.keep(state_gradient.contiguous()).const_data_ptr<float>();
  }
  p.decays = states.decays.data_ptr<float>();
  p.states = states.before.data_ptr();
  Gradients gradients;
  gradients.q = at::empty({N, H, K}, narrow);
  gradients.k = at::empty({N, Hs, K}, narrow);
  gradients.v = at::empty({N, Hs, V}, narrow);
  p.q_gradient = gradients.q.mutable_data_ptr();
  p.k_gradient = gradients.k.mutable_data_ptr();
  p.v_gradient = gradients.v.mutable_data_ptr();
  const bool is_fixed = x.log_gate.size(0) == 1, is_per_head = x.log_gate.size(2) == 1;
  if (wants_gate) {
    const auto wide = narrow.dtype(at::kFloat);
    if (is_fixed) {
      gradients.log_gate = at::empty({C, Hs, K}, wide);
    } else {
      gradients.log_gate = at::empty({N, Hs, is_per_head ? 1 : K}, wide);
    }
    p.gate_gradient_kind = is_fixed      ? cuda::GateGradient::kFixed
                           : is_per_head ? cuda::GateGradient::kPerHead
                                         : cuda::GateGradient::kPerChannel;
    p.gate_gradient = gradients.log_gate.mutable_data_ptr<float>();
  }
  if (wants_initial_state) {
    gradients.initial_state = empty_rows(x.initial_state);
    p.initial_state_gradient = gradients.initial_state.mutable_data_ptr<float>();
  }
  p.state_gradient_additions =
      launch.make({C, Hs, K, V}, at::kFloat, device).mutable_data_ptr<float>();
  p.state_gradients = launch.make({C, Hs, K, V}, at::kBFloat16, device).mutable_data_ptr();
  C10_CUDA_CHECK(cuda::launch_gated_scan_bwd_states(p, launch.stream));
  C10_CUDA_CHECK(cuda::launch_gated_scan_bwd(p, launch.stream));

  gradients.k = sum_to_heads(gradients.k, x.k.size(1));
  gradients.v = sum_to_heads(gradients.v, x.v.size(1));
  if (wants_gate) {
    at::Tensor& dlog = gradients.log_gate;
    if (is_fixed) dlog = dlog.sum(0, true);
    if (is_fixed && is_per_head) dlog = dlog.sum(2, true);
    dlog = sum_to_heads(dlog, x.log_gate.size(1)).to(x.log_gate.scalar_type());
  }
  return gradients;
}

/// The shape, carried by the graph.
struct KeptShape : torch::CustomClassHolder {
  explicit KeptShape(Shape shape_to_keep) : shape(std::move(shape_to_keep)) {}
  Shape shape;
};

class GatedScan : public torch::autograd::Function<GatedScan> {
 public:
  enum Input : size_t { kQ, kK, kV, kLogGate, kInitialState };

  static variable_list forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                               const at::Tensor& v, const at::Tensor& log_gate,
                               const std::optional<at::Tensor>& initial_state, const Shape& shape) {
    ctx->saved_data["shape"] = c10::IValue::make_capsule(c10::make_intrusive<KeptShape>(shape));
    ctx->set_materialize_grads(false);
    const at::Tensor state = initial_state.value_or(at::Tensor());
    const Forward result = gated_scan_fwd({q, k, v, log_gate, state}, shape);
    // The chunk states cost less to keep than to make again.
    ctx->save_for_backward({q, k, v, log_gate, state, result.states.before, result.states.decays});
    return {result.out, result.final_state};
  }

  static variable_list backward(AutogradContext* ctx, variable_list upstream) {
    refuse_double_backward("gated_scan");
    const variable_list saved = ctx->get_saved_variables();
    const auto capsule = ctx->saved_data["shape"].toCapsule();
    const Shape& shape = static_cast<const KeptShape&>(*capsule).shape;
    const KernelInputs x{saved[kQ], saved[kK], saved[kV], saved[kLogGate], saved[kInitialState]};
    const bool wants_gate = ctx->needs_input_grad(kLogGate);
    const bool wants_initial_state =
        x.initial_state.defined() && ctx->needs_input_grad(kInitialState);
    const Gradients gradients = gated_scan_bwd(x, shape, {saved[5], saved[6]}, upstream[0],
                                               upstream[1], wants_gate, wants_initial_state);
    variable_list result(6);  // one for each argument of forward
    if (ctx->needs_input_grad(kQ)) result[kQ] = gradients.q;
    if (ctx->needs_input_grad(kK)) result[kK] = gradients.k;
    if (ctx->needs_input_grad(kV)) result[kV] = gradients.v;
    result[kLogGate] = gradients.log_gate;
    result[kInitialState] = gradients.initial_state;
    return result;
  }
};

/// Conversions and paddings that autograd takes back.
KernelInputs kernel_inputs(const GatedScanCall& call) {
  KernelInputs x{call.q, call.k, call.v, call.log_gate, call.initial_state};
  if (x.log_gate.scalar_type() != at::kBFloat16) x.log_gate = x.log_gate.to(at::kFloat);
  if (x.initial_state.defined()) x.initial_state = x.initial_state.to(at::kFloat);
  if (call.normalizer) {
    const int64_t M = x.v.size(0), Hv = x.v.size(1);
    x.v = at::constant_pad_nd(at::cat({x.v, at::ones({M, Hv, 1}, x.v.options())}, 2),
                              {0, kMultiple - 1});
    if (x.initial_state.defined()) {
      x.initial_state = at::constant_pad_nd(x.initial_state, {0, kMultiple - 1});
    }
  }
  if (const int64_t more = key_channels(call) - call.q.size(2); more > 0) {
    x.q = at::constant_pad_nd(x.q, {0, more});
    x.k = at::constant_pad_nd(x.k, {0, more});
    if (x.log_gate.size(2) > 1) x.log_gate = at::constant_pad_nd(x.log_gate, {0, more});
    if (x.initial_state.defined()) {
      x.initial_state = at::constant_pad_nd(x.initial_state, {0, 0, 0, more});
    }
  }
  return x;
}

/// The first `size` along a dimension. A view of all would cost its gradient a copy.
at::Tensor first_of(const at::Tensor& x, int64_t dim, int64_t size) {
  return x.size(dim) == size ? x : x.narrow(dim, 0, size);
}

GatedScanResult by_kernels(const GatedScanCall& delayed) {
  check_device("gated_scan", "cu_seqlens", delayed.segments.cu_seqlens, delayed.q);
  const GatedScanCall call = without_delay_on_gpu(delayed);
  const KernelInputs x = kernel_inputs(call);
  const Shape shape{call.segments, call.state_heads, call.normalizer};
  at::Tensor out, state;
  const bool is_trained = x.q.requires_grad() || x.k.requires_grad() || x.v.requires_grad() ||
                          x.log_gate.requires_grad() ||
                          (x.initial_state.defined() && x.initial_state.requires_grad());
  if (c10::GradMode::is_enabled() && is_trained) {
    std::optional<at::Tensor> initial_state;
    if (x.initial_state.defined()) initial_state = x.initial_state;
    const variable_list result = GatedScan::apply(x.q, x.k, x.v, x.log_gate, initial_state, shape);
    out = result[0];
    state = result[1];
  } else {
    const Forward result = gated_scan_fwd(x, shape);
    out = result.out;
    state = result.final_state;
  }
  const int64_t columns = call.v.size(2) + (call.normalizer ? 1 : 0);
  return {first_of(out, 2, columns), first_of(first_of(state, 2, call.q.size(2)), 3, columns)};
}

std::tuple<at::Tensor, at::Tensor> gated_scan_cuda(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& log_gate,
    const at::Tensor& cu_seqlens, const std::optional<at::Tensor>& initial_state,
    int64_t state_heads, at::OptionalIntArrayRef lengths, bool normalizer, int64_t delay,
    const std::optional<at::Tensor>& key_cu_seqlens, at::OptionalIntArrayRef key_lengths) {
  const GatedScanCall call =
      check_gated_scan(q, k, v, log_gate, cu_seqlens, initial_state, state_heads, lengths,
                       normalizer, delay, key_cu_seqlens, key_lengths);
  const GatedScanResult result = kernels_serve(call) ? by_kernels(call) : gated_scan_plain(call);
  return {result.out, result.state};
}

}  // namespace

TORCH_LIBRARY_IMPL(tigon, CUDA, m) {
  m.impl("gated_scan", gated_scan_cuda);
}
TORCH_LIBRARY_IMPL(tigon, AutogradCUDA, m) {
  m.impl("gated_scan", gated_scan_cuda);
}

}  // namespace tigon
