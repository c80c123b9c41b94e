"""Every family and rope type: tigon's logits against transformers', and exported students against tigon."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import check_close, run_tigon
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

torch.set_num_threads(1)  # tensors this small only wait for each other
VOCABULARY = 101
SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.25,
}  # fmt: skip


def yarn(**more):
    return {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32} | more


# name: class, config class, what differs
TEACHERS = {
    "llama-biases": (LlamaForCausalLM, LlamaConfig, {"attention_bias": True, "mlp_bias": True}),
    "llama-odd-heads": (
        LlamaForCausalLM, LlamaConfig, {"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 20},
    ),
    "llama-linear": (
        LlamaForCausalLM, LlamaConfig,
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.5}},
    ),
    "llama-dynamic": (
        LlamaForCausalLM, LlamaConfig,
        {"max_position_embeddings": 40, "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 3.0}},
    ),
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": 16}),
    "mistral-no-window": (MistralForCausalLM, MistralConfig, {"sliding_window": None, "head_dim": 24}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {"tie_word_embeddings": True}),
    "qwen2-sliding": (
        Qwen2ForCausalLM, Qwen2Config, {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 1},
    ),
    "qwen2-yarn": (Qwen2ForCausalLM, Qwen2Config, {"rope_parameters": yarn()}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 16}),
    "qwen3-yarn": (
        Qwen3ForCausalLM, Qwen3Config,
        {"head_dim": 32, "attention_bias": True, "rope_parameters": yarn(attention_factor=1.2, beta_fast=16.0)},
    ),
    "qwen3-sliding": (
        Qwen3ForCausalLM, Qwen3Config,
        {"head_dim": 16, "use_sliding_window": True, "sliding_window": 9,
         "layer_types": ["sliding_attention", "full_attention"]},
    ),
}  # fmt: skip
each_teacher = pytest.mark.parametrize("name", TEACHERS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("teachers")
    for seed, (name, (model_class, config_class, keys)) in enumerate(TEACHERS.items()):
        torch.manual_seed(seed)
        model = model_class(config_class(**(SIZES | keys)))
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith(".bias") or "_norm." in parameter_name:
                torch.nn.init.normal_(parameter, 0.5, 0.5)
        model.save_pretrained(root / name)
    return root


def ids_of(*shape):
    return torch.randint(3, VOCABULARY, shape, generator=torch.Generator().manual_seed(3))


def tigon_logits(tmp_path, model, ids):
    save_file({"ids": ids.to(torch.int32)}, tmp_path / "ids.safetensors")
    out = tmp_path / "logits.safetensors"
    run_tigon("logits", "--model", model, "--ids", tmp_path / "ids.safetensors", "--out", out,
              "--device", "cpu", "--dtype", "float32")  # fmt: skip
    return load_file(out)["logits"]


@each_teacher
@torch.no_grad()
def test_logits_equal_transformers(tmp_path, folders, name):
    model = TEACHERS[name][0].from_pretrained(folders / name, dtype=torch.float32, attn_implementation="eager").eval()
    ids = ids_of(2, 70)  # past the windows, past the trained length
    expected = model(ids).logits
    check_close("logits", tigon_logits(tmp_path, folders / name, ids), expected, "kFloat32Model")
    # What differs between the families matters here, or the comparison would show nothing.
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith(".bias") or "_norm." in parameter_name:
            parameter.fill_(0.0 if parameter_name.endswith(".bias") else 1.0)
            changed = True
            break
    else:
        changed = False
    if changed:
        assert (model(ids).logits - expected).norm() > 1e-3 * expected.norm()


@each_teacher
@torch.no_grad()
def test_students_equal_tigon(tmp_path, folders, name):
    out = tmp_path / "student"
    run_tigon("convert", "--model", folders / name, "--recipe", "liger-gla", "--out", out, "window_keys=8",
              "hybrid.layers=[1]")  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(out, trust_remote_code=True, dtype=torch.float32).eval()
    ids = ids_of(2, 70)
    whole = model(ids).logits
    check_close("logits", whole, tigon_logits(tmp_path, out, ids), "kFloat32Student")
    if "dynamic" in name:
        return  # chunks that end at different lengths are rotated at different frequencies
    cache, parts = None, []
    for part in ids.split([20, 1, 1, 48], dim=1):
        output = model(part, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        parts.append(output.logits)
    check_close("chunks", torch.cat(parts, dim=1), whole, "kFormsAgree")
