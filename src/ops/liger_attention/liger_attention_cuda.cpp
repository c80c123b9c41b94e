// liger_attention on the GPU: fused kernels for bf16 where they can serve the call, the plain
// definition elsewhere.
#include <ATen/cuda/CUDAContextLight.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <cmath>

#include "ops/checks.h"
#include "ops/chunks/chunk_tables.h"
#include "ops/kernel_arguments.h"
#include "ops/kernel_launch.h"
#include "ops/liger_attention/liger_attention_call.h"
#include "ops/liger_attention/liger_attention_params.h"

namespace tigon {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr const char* kOp = "liger_attention";

/// Whether there are kernels for this head size whose blocks fit the GPU's shared memory (sm_90 and
/// sm_100: all; sm_80: heads of 64 and 96; sm_89: none).
bool fits_device(int64_t head_dim, const at::Device& device) {
  const int bytes = cuda::liger_shared_memory(static_cast<int>(head_dim));
  const auto available = at::cuda::getDeviceProperties(device.index())->sharedMemPerBlockOptin;
  return bytes > 0 && static_cast<size_t>(bytes) <= available;
}

/// Whether this build and this GPU have Hopper's kernels for the head size.
bool has_hopper_kernels(int64_t head_dim, const at::Device& device) {
  const cudaDeviceProp& properties = *at::cuda::getDeviceProperties(device.index());
  return properties.major == 9 && properties.minor == 0 &&
         cuda::has_liger_bwd_keys_hopper(static_cast<int>(head_dim));
}

bool kernels_serve(const LigerAttentionCall& call) {
  return call.q.scalar_type() == at::kBFloat16 && fits_device(call.q.size(2), call.q.device()) &&
         call.segments.total > 0 && call.q.size(1) > 0 &&
         call.options.window_keys <= cuda::kMaxWindowKeys &&
         call.segments.lengths == call.key_segments.lengths &&
         (!call.initial_state || call.initial_state->scalar_type() == at::kFloat);
}

/// The parts' checks, which the kernels' path does not go through.
void check_for_kernels(const LigerAttentionCall& call) {
  const int64_t H = call.q.size(1), D = call.q.size(2), Hkv = call.k.size(1);
  TORCH_CHECK(Hkv > 0 && H % Hkv == 0,
              "[liger_attention] k: expected a number of heads that divides ", H, ", found ", Hkv);
  check_dtype(kOp, "key_positions", call.key_positions, at::kLong);
  check_dtype(kOp, "inverse_frequencies", call.inverse_frequencies, at::kFloat);
  check_shape(kOp, "inverse_frequencies", call.inverse_frequencies, {D / 2});
  check_device(kOp, "key_positions", call.key_positions, call.q);
  check_device(kOp, "inverse_frequencies", call.inverse_frequencies, call.q);
  check_device(kOp, "cu_seqlens", call.segments.cu_seqlens, call.q);
  if (!call.initial_state) return;
  check_shape(kOp, "initial_state", *call.initial_state, {call.segments.count(), Hkv, D, D});
  check_device(kOp, "initial_state", *call.initial_state, call.q);
}

/// What is made of the keys, and the recurrence between chunks (LigerParams says which shapes); the
/// backward pass reads all of it again.
struct ChunkStates {
  at::Tensor rotated_keys, keys_to_middle, from_middle;
  at::Tensor links, decays;
  at::Tensor before;  // [C, Hkv, D, D] bf16
  at::Tensor final;   // [S, Hkv, D, D] float32

  variable_list tensors() const {
    return {rotated_keys, keys_to_middle, from_middle, links, decays, before, final};
  }
  /// The way back; `tensors` are the first.
  static ChunkStates from(const at::Tensor* tensors) {
    return {.rotated_keys = tensors[0],
            .keys_to_middle = tensors[1],
            .from_middle = tensors[2],
            .links = tensors[3],
            .decays = tensors[4],
            .before = tensors[5],
            .final = tensors[6]};
  }
};

using Launch = KernelLaunch<cuda::LigerParams>;

/// Lays out the chunks.
Launch start(const LigerAttentionCall& call) {
  const int64_t D = call.q.size(2);
  Launch launch;
  launch.stream = c10::cuda::getCurrentCUDAStream(call.q.device().index());
  cuda::LigerParams& p = launch.params;
  p.q = head_rows(launch.keep(with_head_rows(call.q)));
  p.k = head_rows(launch.keep(with_head_rows(call.k)));
  p.v = head_rows(launch.keep(with_head_rows(call.v)));
  p.segments = static_cast<int>(call.segments.count());
  p.heads = static_cast<int>(call.q.size(1));
  p.kv_heads = static_cast<int>(call.k.size(1));
  p.head_dim = static_cast<int>(D);
  p.window_keys = static_cast<int>(call.options.window_keys);
  p.softmax_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(D)));
  p.inverse_normalizer = static_cast<float>(1 / call.options.gate_normalizer);
  p.mix = static_cast<float>(call.options.mix);
  if (call.initial_state) {
    p.initial_state = launch.keep(call.initial_state->contiguous()).const_data_ptr<float>();
  }

  const ChunkTables tables =
      make_chunk_tables(call.segments, call.key_positions, call.inverse_frequencies,
                        call.options.rope_scale, launch.stream);
  p.chunk_count = tables.count;
  p.chunk_offsets = launch.keep(tables.offsets).const_data_ptr<int32_t>();
  launch.keep(tables.chunks);
  p.chunks = tables.data();
  p.rotations = launch.keep(tables.rotations).const_data_ptr<float>();
  return launch;
}

void use_states(Launch& launch, const ChunkStates& states) {
  launch.params.rotated_keys = states.rotated_keys.data_ptr();
  launch.params.keys_to_middle = states.keys_to_middle.data_ptr();
  launch.params.from_middle = states.from_middle.data_ptr();
  launch.params.links = states.links.data_ptr<float>();
  launch.params.decays = states.decays.data_ptr<float>();
  launch.params.states = states.before.data_ptr();
  launch.params.final_state = states.final.data_ptr<float>();
}

ChunkStates make_states(Launch& launch, const LigerAttentionCall& call) {
  const int64_t S = call.segments.count(), Hkv = call.k.size(1), D = call.q.size(2);
  const int64_t C = launch.params.chunk_count;
  const at::TensorOptions numbers = at::TensorOptions(at::kFloat).device(call.q.device());
  const at::TensorOptions operands = numbers.dtype(at::kBFloat16);
  const auto make_tile = [&] { return at::empty({C, Hkv, cuda::kChunkTokens, D}, operands); };
  const ChunkStates states{.rotated_keys = make_tile(),
                           .keys_to_middle = make_tile(),
                           .from_middle = make_tile(),
                           .links = at::empty({C, Hkv, cuda::kLinks, D}, numbers),
                           .decays = at::empty({C, Hkv, D}, numbers),
                           .before = at::empty({C, Hkv, D, D}, operands),
                           .final = at::empty({S, Hkv, D, D}, numbers)};
  use_states(launch, states);
  C10_CUDA_CHECK(cuda::launch_liger_key_tiles(launch.params, launch.stream));
  C10_CUDA_CHECK(cuda::launch_liger_states(launch.params, launch.stream));
  return states;
}

struct Forward {
  at::Tensor out;
  ChunkStates states;
};

Forward liger_attention_fwd(const LigerAttentionCall& call) {
  const c10::cuda::CUDAGuard guard(call.q.device());
  Launch launch = start(call);
  Forward result{.out = empty_rows(call.q), .states = make_states(launch, call)};
  launch.params.out = head_rows(result.out);
  C10_CUDA_CHECK(cuda::launch_liger_fwd(launch.params, launch.stream));
  return result;
}

struct Gradients {
  at::Tensor q, k, v;
  at::Tensor initial_state;  // undefined if not wanted
};

Gradients liger_attention_bwd(const LigerAttentionCall& call, const ChunkStates& states,
                              const at::Tensor& out_gradient, const at::Tensor& state_gradient,
                              bool wants_initial_state) {
  const c10::cuda::CUDAGuard guard(call.q.device());
  const int64_t N = call.q.size(0), H = call.q.size(1), D = call.q.size(2), Hkv = call.k.size(1);
  const at::Device device = call.q.device();
  Launch launch = start(call);
  use_states(launch, states);
  cuda::LigerParams& p = launch.params;
  const at::Tensor upstream =
      out_gradient.defined() ? out_gradient : at::zeros_like(call.q, call.q.options());
  p.out_gradient = head_rows(launch.keep(with_head_rows(upstream)));
  if (state_gradient.defined()) {
    p.final_state_gradient = launch.keep(state_gradient.contiguous()).const_data_ptr<float>();
  }
  Gradients gradients;
  gradients.q = empty_rows(call.q);
  gradients.k = empty_rows(call.k);
  gradients.v = empty_rows(call.v);
  p.q_gradient = head_rows(gradients.q);
  p.k_gradient = head_rows(gradients.k);
  p.v_gradient = head_rows(gradients.v);
  if (wants_initial_state) {
    gradients.initial_state = empty_rows(*call.initial_state);
    p.initial_state_gradient = gradients.initial_state.mutable_data_ptr<float>();
  }
  p.state_gradient_additions =
      launch.make({p.chunk_count, Hkv, D, D}, at::kBFloat16, device).mutable_data_ptr();
  p.state_gradients =
      launch.make({p.chunk_count, Hkv, D, D}, at::kBFloat16, device).mutable_data_ptr();
  p.decay_gradients =
      launch.make({p.chunk_count, Hkv, D}, at::kFloat, device).mutable_data_ptr<float>();
  p.query_gate_gradients = launch.make({N, H, D}, at::kBFloat16, device).mutable_data_ptr();
  p.log2_sum_exp = launch.make({N, H}, at::kFloat, device).mutable_data_ptr<float>();
  p.row_dots = launch.make({N, H}, at::kFloat, device).mutable_data_ptr<float>();
  C10_CUDA_CHECK(cuda::launch_liger_bwd_queries(p, launch.stream));
  C10_CUDA_CHECK(cuda::launch_liger_bwd_states(p, launch.stream));
  C10_CUDA_CHECK(has_hopper_kernels(D, device)
                     ? cuda::launch_liger_bwd_keys_hopper(p, launch.stream)
                     : cuda::launch_liger_bwd_keys(p, launch.stream));
  return gradients;
}

/// The call, carried by the graph without its differentiable tensors.
struct KeptCall : torch::CustomClassHolder {
  explicit KeptCall(LigerAttentionCall call_to_keep) : call(std::move(call_to_keep)) {
    call.q = call.k = call.v = at::Tensor();
    call.initial_state.reset();
  }
  LigerAttentionCall call;
};

class LigerAttention : public torch::autograd::Function<LigerAttention> {
 public:
  enum Input : size_t { kQ, kK, kV, kInitialState, kInputs };

  static variable_list forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                               const at::Tensor& v, const std::optional<at::Tensor>& initial_state,
                               const LigerAttentionCall& call) {
    ctx->saved_data["call"] = c10::IValue::make_capsule(c10::make_intrusive<KeptCall>(call));
    ctx->set_materialize_grads(false);
    const auto [out, states] = liger_attention_fwd(call);
    // The chunk states cost less to keep than to make again.
    variable_list kept = {q, k, v, initial_state.value_or(at::Tensor())};
    const variable_list made = states.tensors();
    kept.insert(kept.end(), made.begin(), made.end());
    ctx->save_for_backward(kept);
    return {out, states.final};
  }

  static variable_list backward(AutogradContext* ctx, variable_list upstream) {
    refuse_double_backward(kOp);
    const variable_list saved = ctx->get_saved_variables();
    const auto capsule = ctx->saved_data["call"].toCapsule();
    LigerAttentionCall call = static_cast<const KeptCall&>(*capsule).call;
    call.q = saved[kQ];
    call.k = saved[kK];
    call.v = saved[kV];
    if (saved[kInitialState].defined()) call.initial_state = saved[kInitialState];
    const bool wants_initial_state =
        call.initial_state.has_value() && ctx->needs_input_grad(kInitialState);
    const ChunkStates states = ChunkStates::from(&saved[kInputs]);
    Gradients gradients =
        liger_attention_bwd(call, states, upstream[0], upstream[1], wants_initial_state);
    variable_list result(5);  // one for each argument of forward
    if (ctx->needs_input_grad(kQ)) result[kQ] = gradients.q;
    if (ctx->needs_input_grad(kK)) result[kK] = gradients.k;
    if (ctx->needs_input_grad(kV)) result[kV] = gradients.v;
    if (wants_initial_state) result[kInitialState] = gradients.initial_state;
    return result;
  }
};

bool any_requires_gradient(const LigerAttentionCall& call) {
  return call.q.requires_grad() || call.k.requires_grad() || call.v.requires_grad() ||
         (call.initial_state && call.initial_state->requires_grad());
}

std::tuple<at::Tensor, at::Tensor> liger_attention_cuda(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& key_positions,
    const at::Tensor& inverse_frequencies, const at::Tensor& cu_seqlens, int64_t window_keys,
    double gate_normalizer, double mix, const std::optional<at::Tensor>& initial_state,
    double rope_scale, const std::optional<at::Tensor>& key_cu_seqlens,
    at::OptionalIntArrayRef lengths, at::OptionalIntArrayRef key_lengths) {
  const LigerAttentionCall call = check_liger_attention(
      q, k, v, key_positions, inverse_frequencies, cu_seqlens, window_keys, gate_normalizer, mix,
      initial_state, rope_scale, key_cu_seqlens, lengths, key_lengths);
  if (!kernels_serve(call)) {
    const LigerAttentionResult result = liger_attention_plain(call);
    return {result.out, result.state};
  }
  check_for_kernels(call);
  if (c10::GradMode::is_enabled() && any_requires_gradient(call)) {
    const variable_list result = LigerAttention::apply(q, k, v, initial_state, call);
    return {result[0], result[1]};
  }
  const Forward result = liger_attention_fwd(call);
  return {result.out, result.states.final};
}

}  // namespace

TORCH_LIBRARY_IMPL(tigon, CUDA, m) {
  m.impl("liger_attention", liger_attention_cuda);
}
TORCH_LIBRARY_IMPL(tigon, AutogradCUDA, m) {
  m.impl("liger_attention", liger_attention_cuda);
}

}  // namespace tigon
