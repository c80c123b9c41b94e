"""Runs exported folders and nothing else: run_exported.py REQUEST.json ANSWER.json FOLDER..., in a process of its own.

The request holds "prompts" (lists of ids, of unequal length) and "new_tokens". The answer holds for each folder and prompt the
greedy continuation from one left-padded batch with the model's cache, the same with chunked prefill, the argmax
tokens of forward passes without a cache over the prompt and the first of these continuations, and the bytes of the cache.
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM


def left_padded(prompts, pad):
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids, mask


@torch.no_grad()
def run(folder, prompts, new_tokens):
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    # An id that occurs in the prompts: padding must be known by the mask alone.
    ids, mask = left_padded(prompts, pad=prompts[0][0])
    options = {"attention_mask": mask, "max_new_tokens": new_tokens, "do_sample": False, "pad_token_id": 0}
    cached = model.generate(ids, **options, return_dict_in_generate=True)
    in_chunks = model.generate(ids, **options, prefill_chunk_size=7)
    longest = ids.shape[1]
    continuations = cached.sequences[:, longest:].tolist()
    uncached = []
    for prompt, continuation in zip(prompts, continuations, strict=True):
        logits = model(torch.tensor([prompt + continuation]), use_cache=False).logits[0]
        uncached.append(logits[len(prompt) - 1 : -1].argmax(-1).tolist())
    answer = {
        "class": type(model).__name__,
        "cached": continuations,
        "in_chunks": in_chunks[:, longest:].tolist(),
        "uncached": uncached,
    }
    if hasattr(cached.past_key_values, "num_bytes"):
        answer["cache_bytes"] = cached.past_key_values.num_bytes()
    return answer


def main(request_path, answer_path, *folders):
    with open(request_path) as file:
        request = json.load(file)
    torch.set_num_threads(1)  # tensors this small only wait for each other
    answers = {folder: run(folder, request["prompts"], request["new_tokens"]) for folder in folders}
    with open(answer_path, "w") as file:
        json.dump(answers, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
