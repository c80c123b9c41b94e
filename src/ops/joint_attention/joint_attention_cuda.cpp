// joint_attention on the GPU: fused kernels for bf16 where they can serve the call, for features of
// second order those of its parts, the plain definition elsewhere.
#include <ATen/cuda/CUDAContextLight.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "ops/checks.h"
#include "ops/chunks/chunk_tables.h"
#include "ops/joint_attention/joint_attention_call.h"
#include "ops/joint_attention/joint_attention_params.h"
#include "ops/joint_attention/joint_attention_parts.h"
#include "ops/joint_attention/second_order_cuda.h"
#include "ops/kernel_arguments.h"

namespace tigon {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr const char* kOp = "joint_attention";

/// What gradients flow to.
enum Input : size_t { kQ, kK, kV, kWQ, kBQ, kWK, kBK, kLogImportance, kLogMix, kLogTau, kInputs };

std::array<at::Tensor*, kInputs> inputs_of(JointAttentionCall& call) {
  return {&call.q,        &call.k,           &call.v,        &call.maps.w_q,
          &call.maps.b_q, &call.maps.w_k,    &call.maps.b_k, &call.log_importance,
          &call.log_mix,  &call.maps.log_tau};
}

/// Whether there are kernels for this head size whose blocks fit the GPU's shared memory (sm_90 and
/// sm_100: all; sm_80: heads of 64 and 96; sm_89: of 64).
bool fits_device(int64_t head_dim, const at::Device& device) {
  const int bytes = cuda::joint_shared_memory(static_cast<int>(head_dim));
  const auto available = at::cuda::getDeviceProperties(device.index())->sharedMemPerBlockOptin;
  return bytes > 0 && static_cast<size_t>(bytes) <= available;
}

bool kernels_serve(const JointAttentionCall& call) {
  return call.q.scalar_type() == at::kBFloat16 && fits_device(call.q.size(2), call.q.device()) &&
         call.segments.total > 0 && call.q.size(1) > 0 && !call.initial_state &&
         call.options.window_keys % cuda::kChunkTokens == 0 &&
         call.segments.lengths == call.key_segments.lengths;
}

/// The parts' checks, which the kernels' path does not go through.
void check_for_kernels(const JointAttentionCall& call) {
  const int64_t H = call.q.size(1), D = call.q.size(2), Hkv = call.k.size(1);
  TORCH_CHECK(Hkv > 0 && H % Hkv == 0, "[", kOp, "] k: expected a number of heads that divides ", H,
              ", found ", Hkv);
  check_dtype(kOp, "key_positions", call.key_positions, at::kLong);
  check_dtype(kOp, "inverse_frequencies", call.inverse_frequencies, at::kFloat);
  check_shape(kOp, "inverse_frequencies", call.inverse_frequencies, {D / 2});
  check_device(kOp, "key_positions", call.key_positions, call.q);
  check_device(kOp, "inverse_frequencies", call.inverse_frequencies, call.q);
  check_device(kOp, "cu_seqlens", call.segments.cu_seqlens, call.q);
}

/// What the forward pass keeps for the backward pass.
struct Forward {
  at::Tensor out;           // [N, H, D] bf16
  at::Tensor states;        // [C, Hkv, 2D, D] bf16
  at::Tensor masses;        // [C, Hkv, 2D] float32
  at::Tensor log2_sum_exp;  // [N, H] float32
  at::Tensor far_weights;   // [N, H] float32
};

/// What every kernel of one call reads, and the tensors that it lives in.
struct Launch {
  /// Lays out the chunks, packs the weights and makes the keys' feature maps.
  Launch(const JointAttentionCall& call, bool is_backward)
      : device(call.q.device()),
        stream(c10::cuda::getCurrentCUDAStream(device.index())),
        N(call.q.size(0)),
        H(call.q.size(1)),
        D(call.q.size(2)),
        Hkv(call.k.size(1)),
        S(call.segments.count()) {
    const ChunkTables tables =
        make_chunk_tables(call.segments, call.key_positions, call.inverse_frequencies,
                          call.options.rope_scale, stream);
    C = tables.count;
    keep(tables.chunks);
    params.q = rows(with_head_rows(call.q));
    params.k = rows(with_head_rows(call.k));
    params.v = rows(with_head_rows(call.v));
    params.chunk_offsets = keep(tables.offsets).const_data_ptr<int32_t>();
    params.chunks = tables.data();
    params.rotations = numbers(tables.rotations);
    params.tokens = N;
    params.chunk_count = tables.count;
    params.segments = static_cast<int>(S);
    params.heads = static_cast<int>(H);
    params.kv_heads = static_cast<int>(Hkv);
    params.head_dim = static_cast<int>(D);
    // Where a window holds every chunk, longer ones are the same.
    params.window_chunks =
        static_cast<int>(std::min(call.options.window_keys / cuda::kChunkTokens, C));
    params.softmax_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(D)));
    params.w_q = numbers(call.maps.w_q);
    params.w_k = numbers(call.maps.w_k);
    params.b_q = numbers(call.maps.b_q);
    params.b_k = numbers(call.maps.b_k);
    params.log_importance = numbers(call.log_importance);
    params.longest_log_importance = static_cast<float>(kLongestLogImportance);
    params.log_mix = numbers(call.log_mix);
    params.log_tau = numbers(call.maps.log_tau);
    params.least_log_tau = static_cast<float>(std::log(kShortestDecayTime));
    params.packed_w_q = make({H, D, D}, at::kBFloat16).data_ptr();
    params.packed_w_k = make({Hkv, D, D}, at::kBFloat16).data_ptr();
    if (is_backward) {
      params.transposed_w_q = make({H, D, D}, at::kBFloat16).data_ptr();
      params.transposed_w_k = make({Hkv, D, D}, at::kBFloat16).data_ptr();
    }
    log_decay = make({Hkv, 2 * D}, at::kFloat);
    params.log_decay = log_decay.data_ptr<float>();
    C10_CUDA_CHECK(cuda::launch_joint_prepare(params, stream));
    params.mapped_keys = rows(make({N, Hkv, 2 * D}, at::kBFloat16));
    params.rotated_keys = rows(make({N, Hkv, D}, at::kBFloat16));
    C10_CUDA_CHECK(cuda::launch_joint_keys(params, stream));
  }

  void use(const Forward& forward) {
    params.out = rows(forward.out);
    params.states = keep(forward.states).data_ptr();
    params.masses = keep(forward.masses).data_ptr<float>();
    params.log2_sum_exp = keep(forward.log2_sum_exp).data_ptr<float>();
    params.far_weights = keep(forward.far_weights).data_ptr<float>();
  }

  at::Tensor keep(const at::Tensor& tensor) {
    kept.push_back(tensor);
    return tensor;
  }
  cuda::HeadRows rows(const at::Tensor& x) { return head_rows(keep(x)); }
  const float* numbers(const at::Tensor& x) {
    return keep(x.to(at::kFloat).contiguous()).const_data_ptr<float>();
  }
  at::Tensor make(at::IntArrayRef shape, at::ScalarType type) {
    return keep(at::empty(shape, options(type)));
  }
  at::TensorOptions options(at::ScalarType type) const {
    return at::TensorOptions(type).device(device);
  }

  at::Device device;
  cudaStream_t stream;
  cuda::JointParams params = {};
  int64_t N, H, D, Hkv, S, C;
  at::Tensor log_decay;  // [Hkv, 2D]
  std::vector<at::Tensor> kept;
};

/// The outputs are `forward.out` and the final state.
std::pair<Forward, at::Tensor> joint_attention_fwd(const JointAttentionCall& call) {
  const c10::cuda::CUDAGuard guard(call.q.device());
  Launch launch(call, /*is_backward=*/false);
  const int64_t N = launch.N, H = launch.H, D = launch.D, Hkv = launch.Hkv;
  const int64_t S = launch.S, C = launch.C;
  const Forward forward{.out = empty_rows(call.q),
                        .states = launch.make({C, Hkv, 2 * D, D}, at::kBFloat16),
                        .masses = launch.make({C, Hkv, 2 * D}, at::kFloat),
                        .log2_sum_exp = launch.make({N, H}, at::kFloat),
                        .far_weights = launch.make({N, H}, at::kFloat)};
  const at::Tensor state = launch.make({S, Hkv, 2 * D, D + 1}, at::kFloat);
  launch.use(forward);
  launch.params.final_state = state.data_ptr<float>();
  C10_CUDA_CHECK(cuda::launch_joint_states(launch.params, launch.stream));
  C10_CUDA_CHECK(cuda::launch_joint_fwd(launch.params, launch.stream));
  return {forward, state};
}

/// The gradients of inputs_of(call) from that of `out`.
variable_list joint_attention_bwd(const JointAttentionCall& call, const Forward& forward,
                                  const at::Tensor& out_gradient) {
  const c10::cuda::CUDAGuard guard(call.q.device());
  Launch launch(call, /*is_backward=*/true);
  const int64_t N = launch.N, H = launch.H, D = launch.D, Hkv = launch.Hkv;
  const int64_t S = launch.S, C = launch.C;
  launch.use(forward);
  cuda::JointParams& p = launch.params;
  const auto numbers = [&](at::IntArrayRef shape) { return launch.make(shape, at::kFloat); };
  const auto zeros = [&](at::IntArrayRef shape) {
    return launch.keep(at::zeros(shape, launch.options(at::kFloat)));
  };
  const at::Tensor q = empty_rows(call.q), k = empty_rows(call.k), v = empty_rows(call.v);
  const at::Tensor log_mix = numbers({N, H}), log_importance = numbers({N, Hkv});
  const int64_t splits = (N + cuda::kSplitTokens - 1) / cuda::kSplitTokens;
  const at::Tensor weights = numbers({splits, H + Hkv, D, D});
  const at::Tensor biases = numbers({splits, H + Hkv, D});
  const at::Tensor query_decays = zeros({C, 4, H, 2 * D}), key_decays = zeros({C, 4, Hkv, 2 * D});
  const at::Tensor state_decays = numbers({S, Hkv, 2 * D});

  p.out_gradient = launch.rows(with_head_rows(out_gradient));
  p.q_gradient = launch.rows(q);
  p.k_gradient = launch.rows(k);
  p.v_gradient = launch.rows(v);
  p.log_mix_gradient = log_mix.data_ptr<float>();
  p.log_importance_gradient = log_importance.data_ptr<float>();
  p.query_logit_gradients = launch.rows(launch.make({N, H, D}, at::kBFloat16));
  p.key_logit_gradients = launch.rows(launch.make({N, Hkv, D}, at::kBFloat16));
  p.weight_gradients = weights.data_ptr<float>();
  p.bias_gradients = biases.data_ptr<float>();
  p.query_decay_gradients = query_decays.data_ptr<float>();
  p.key_decay_gradients = key_decays.data_ptr<float>();
  p.state_decay_gradients = state_decays.data_ptr<float>();
  p.rotated_queries = launch.rows(launch.make({N, H, D}, at::kBFloat16));
  p.weighted_queries = launch.rows(launch.make({N, H, 2 * D}, at::kBFloat16));
  p.row_dots = numbers({N, H}).data_ptr<float>();
  p.state_gradients = launch.make({C, Hkv, 2 * D, D}, at::kBFloat16).data_ptr();
  p.mass_gradients = numbers({C, Hkv, 2 * D}).data_ptr<float>();
  C10_CUDA_CHECK(cuda::launch_joint_bwd_queries(p, launch.stream));
  C10_CUDA_CHECK(cuda::launch_joint_bwd_states(p, launch.stream));
  C10_CUDA_CHECK(cuda::launch_joint_bwd_window_keys(p, launch.stream));
  C10_CUDA_CHECK(cuda::launch_joint_bwd_far_keys(p, launch.stream));
  C10_CUDA_CHECK(cuda::launch_joint_bwd_weights(p, launch.stream));

  const at::Tensor weight = weights.sum(0), bias = biases.sum(0);
  const at::Tensor log_decay =
      query_decays.flatten(0, 1).sum(0).view({Hkv, H / Hkv, 2 * D}).sum(1) +
      key_decays.flatten(0, 1).sum(0) + state_decays.sum(0);
  // log a = −e^−log_tau where the decay time is its bound or longer.
  const at::Tensor log_tau = at::where(call.maps.log_tau >= std::log(kShortestDecayTime),
                                       log_decay * launch.log_decay.neg(), 0.0);
  return {q,
          k,
          v,
          weight.narrow(0, 0, H),
          bias.narrow(0, 0, H),
          weight.narrow(0, H, Hkv),
          bias.narrow(0, H, Hkv),
          log_importance,
          log_mix,
          log_tau};
}

/// The same through the plain definition, for upstream gradients of the state.
variable_list plain_bwd(JointAttentionCall call, const std::array<bool, kInputs>& needed,
                        const variable_list& upstream) {
  const c10::AutoGradMode with_gradients(true);
  variable_list leaves, outputs, gradients, result(kInputs);
  const auto inputs = inputs_of(call);
  for (size_t i = 0; i < kInputs; ++i) {
    *inputs[i] = inputs[i]->detach().requires_grad_(needed[i]);
    if (needed[i]) leaves.push_back(*inputs[i]);
  }
  const JointAttentionResult found = joint_attention_plain(call);
  for (const auto& [output, gradient] :
       {std::pair(found.out, upstream[0]), std::pair(found.state, upstream[1])}) {
    if (!gradient.defined()) continue;
    outputs.push_back(output);
    gradients.push_back(gradient);
  }
  const variable_list all =
      torch::autograd::grad(outputs, leaves, gradients, std::nullopt, false, /*allow_unused=*/true);
  for (size_t i = 0, next = 0; i < kInputs; ++i) {
    if (needed[i]) result[i] = all[next++];
  }
  return result;
}

/// The call, carried by the graph without its differentiable tensors.
struct KeptCall : torch::CustomClassHolder {
  explicit KeptCall(JointAttentionCall call_to_keep) : call(std::move(call_to_keep)) {
    for (at::Tensor* input : inputs_of(call)) *input = at::Tensor();
  }
  JointAttentionCall call;
};

class JointAttention : public torch::autograd::Function<JointAttention> {
 public:
  static variable_list forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                               const at::Tensor& v, const at::Tensor& w_q, const at::Tensor& b_q,
                               const at::Tensor& w_k, const at::Tensor& b_k,
                               const at::Tensor& log_importance, const at::Tensor& log_mix,
                               const at::Tensor& log_tau, const JointAttentionCall& call) {
    ctx->saved_data["call"] = c10::IValue::make_capsule(c10::make_intrusive<KeptCall>(call));
    ctx->set_materialize_grads(false);
    const auto [found, state] = joint_attention_fwd(call);
    // The chunk states cost less to keep than to make again; the feature maps do not.
    ctx->save_for_backward({q, k, v, w_q, b_q, w_k, b_k, log_importance, log_mix, log_tau,
                            found.out, found.states, found.masses, found.log2_sum_exp,
                            found.far_weights});
    return {found.out, state};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& upstream) {
    refuse_double_backward(kOp);
    const variable_list saved = ctx->get_saved_variables();
    const auto capsule = ctx->saved_data["call"].toCapsule();
    JointAttentionCall call = static_cast<const KeptCall&>(*capsule).call;
    const auto inputs = inputs_of(call);
    std::array<bool, kInputs> needed;
    for (size_t i = 0; i < kInputs; ++i) {
      *inputs[i] = saved[i];
      needed[i] = ctx->needs_input_grad(i);
    }
    variable_list result;
    if (upstream[1].defined()) {
      result = plain_bwd(call, needed, upstream);
    } else if (upstream[0].defined()) {
      const Forward forward{saved[kInputs], saved[kInputs + 1], saved[kInputs + 2],
                            saved[kInputs + 3], saved[kInputs + 4]};
      result = joint_attention_bwd(call, forward, upstream[0]);
    }
    result.resize(kInputs + 1);  // one for each argument of forward
    for (size_t i = 0; i < kInputs; ++i) {
      if (!needed[i]) result[i] = at::Tensor();
    }
    return result;
  }
};

bool any_requires_gradient(JointAttentionCall& call) {
  for (const at::Tensor* input : inputs_of(call)) {
    if (input->requires_grad()) return true;
  }
  return false;
}

std::tuple<at::Tensor, at::Tensor> joint_attention_cuda(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& key_positions,
    const at::Tensor& inverse_frequencies, const at::Tensor& w_q, const at::Tensor& b_q,
    const at::Tensor& w_k, const at::Tensor& b_k, const at::Tensor& log_importance,
    const at::Tensor& log_mix, const at::Tensor& log_tau, const at::Tensor& cu_seqlens,
    int64_t window_keys, const std::optional<at::Tensor>& initial_state, double rope_scale,
    const std::optional<at::Tensor>& key_cu_seqlens, at::OptionalIntArrayRef lengths,
    at::OptionalIntArrayRef key_lengths, bool second_order) {
  JointAttentionCall call = check_joint_attention(
      q, k, v, key_positions, inverse_frequencies, w_q, b_q, w_k, b_k, log_importance, log_mix,
      log_tau, cu_seqlens, window_keys, initial_state, rope_scale, key_cu_seqlens, lengths,
      key_lengths, second_order);
  if (second_order || !kernels_serve(call)) {
    const JointAttentionResult result = second_order_kernels_serve(call)
                                            ? joint_attention_of_second_order(call)
                                            : joint_attention_plain(call);
    return {result.out, result.state};
  }
  check_for_kernels(call);
  // Their gradients are float32, and autograd casts them to the dtypes of the arguments.
  for (at::Tensor* input : {&call.maps.w_q, &call.maps.b_q, &call.maps.w_k, &call.maps.b_k,
                            &call.log_importance, &call.log_mix, &call.maps.log_tau}) {
    *input = input->to(at::kFloat);
  }
  if (c10::GradMode::is_enabled() && any_requires_gradient(call)) {
    const variable_list result = JointAttention::apply(
        call.q, call.k, call.v, call.maps.w_q, call.maps.b_q, call.maps.w_k, call.maps.b_k,
        call.log_importance, call.log_mix, call.maps.log_tau, call);
    return {result[0], result[1]};
  }
  const auto [forward, state] = joint_attention_fwd(call);
  return {forward.out, state};
}

}  // namespace

TORCH_LIBRARY_IMPL(tigon, CUDA, m) {
  m.impl("joint_attention", joint_attention_cuda);
}
TORCH_LIBRARY_IMPL(tigon, AutogradCUDA, m) {
  m.impl("joint_attention", joint_attention_cuda);
}

}  // namespace tigon
