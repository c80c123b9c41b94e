"""Adapter folders in both directions: tigon opens peft's, peft opens tigon's; same logits."""

import json
import os
import subprocess

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import BINARY, check_close, run_tigon
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM


@pytest.fixture
def model_folder(tmp_path):
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=101,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def ids():
    return torch.randint(0, 101, (2, 29), generator=torch.Generator().manual_seed(2))


def base_model(folder):
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def tigon_logits(tmp_path, model, adapter, ids):
    read, out = tmp_path / "ids.safetensors", tmp_path / "logits.safetensors"
    save_file({"ids": ids.to(torch.int32)}, read)
    arguments = ["--model", model, "--ids", read, "--out", out, "--dtype", "float32"]
    if adapter:
        arguments += ["--adapter", adapter]
    run_tigon("logits", "--device", "cpu", *arguments)
    return load_file(out)["logits"]


def check_same_logits(tmp_path, model_folder, adapter, adapted, ids):
    with torch.no_grad():
        expected, base = adapted(ids).logits, base_model(model_folder)(ids).logits
    # The adapter matters, or the comparison would show nothing.
    assert (expected - base).norm() > 0.05 * base.norm()
    check_close("base", tigon_logits(tmp_path, model_folder, None, ids), base, "kFloat32Model")
    found = tigon_logits(tmp_path, model_folder, adapter, ids)
    check_close("adapted", found, expected, "kFloat32Model")


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], "all-linear"])
def test_tigon_opens_an_adapter_of_peft(tmp_path, model_folder, ids, targets):
    config = peft.LoraConfig(
        r=5, lora_alpha=15, lora_dropout=0.1, target_modules=targets, task_type="CAUSAL_LM"
    )
    adapted = peft.get_peft_model(base_model(model_folder), config).eval()
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(tmp_path / "adapter")
    check_same_logits(tmp_path, model_folder, tmp_path / "adapter", adapted, ids)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_rslora", True),
        ("use_dora", True),
        ("bias", "all"),
        ("modules_to_save", ["lm_head"]),
        ("rank_pattern", {"v_proj": 2}),
        ("alpha_pattern", {"v_proj": 2}),
        ("layers_to_transform", [0]),
    ],
)
def test_tigon_refuses_what_changes_the_mathematics(tmp_path, model_folder, ids, key, value):
    config = peft.LoraConfig(
        r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", **{key: value}
    )
    peft.get_peft_model(base_model(model_folder), config).save_pretrained(tmp_path / "adapter")
    message = rf"exited 1:(.|\n)*adapter_config.json: {key}: expected"
    with pytest.raises(AssertionError, match=message):
        tigon_logits(tmp_path, model_folder, tmp_path / "adapter", ids)


def test_peft_opens_an_adapter_of_tigon(tmp_path, model_folder, ids):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    folders = {"TIGON_MODEL_FOLDER": str(model_folder), "TIGON_ADAPTER_FOLDER": str(adapter)}
    command = [BINARY / "lora_test", "[.write_adapter]"]
    subprocess.run(command, env=os.environ | folders, check=True, capture_output=True)
    adapted = peft.PeftModel.from_pretrained(base_model(model_folder), adapter).eval()
    assert adapted.peft_config["default"].target_modules == {"q_proj", "o_proj", "gate_proj"}
    # peft only warns about tensors it does not know: compare every one.
    state = peft.get_peft_model_state_dict(adapted)
    stored = load_file(adapter / "adapter_model.safetensors")
    assert state.keys() == stored.keys()
    for name, tensor in stored.items():
        assert torch.equal(state[name], tensor), name
    check_same_logits(tmp_path, model_folder, adapter, adapted, ids)


@torch.no_grad()
def test_an_adapter_trained_on_the_reference_window(tmp_path, model_folder, ids):
    """As the reference Liger code leaves them: rank 8 on q, k and v, trained under a window of 65 keys."""
    student = tmp_path / "student"
    run_tigon("convert", "--model", model_folder, "--recipe", "liger-gla", "--out", student, "window_keys=65")
    assert json.loads((student / "config.json").read_text())["linearize"]["window_keys"] == 65
    model = AutoModelForCausalLM.from_pretrained(student, trust_remote_code=True, dtype=torch.float32)
    config = peft.LoraConfig(r=8, target_modules=["q_proj", "k_proj", "v_proj"], task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(model, config).eval()
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(tmp_path / "adapter")
    ids = torch.randint(0, 101, (2, 140), generator=torch.Generator().manual_seed(4))  # past the window
    expected, base = adapted(ids).logits, model_without(adapted, ids)
    assert (expected - base).norm() > 0.05 * base.norm()
    check_close("adapted", tigon_logits(tmp_path, student, tmp_path / "adapter", ids), expected, "kFloat32Student")


def model_without(adapted, ids):
    with adapted.disable_adapter():
        return adapted(ids).logits
