"""A linearized model of the Llama kind in plain PyTorch, for transformers' `trust_remote_code=True`.

Written by tigon into every folder it exports. A layer is a Llama layer whose attention is one of the mixers of
mixers_tigon.py.

Shapes: B batch, T new tokens, P cached tokens, H query heads, G KV heads, D head size,
M hidden size, V vocabulary.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from .configuration_tigon import TigonConfig
from .mixers_tigon import make_mixer
from .rotary_tigon import rotary_embedding


class TigonCache:
    """A batch's memory: one LayerMemory a layer, and how many tokens each sequence has had.

    `generate()` makes and carries one; pass it back as `past_key_values` to continue a sequence.
    """

    is_compileable = False
    is_croppable = False  # a recurrent state cannot be rolled back

    def __init__(self, layers):
        self.layers = layers
        self.seen_columns = 0  # padding included
        self.lengths = None  # [B] real tokens

    def get_seq_length(self, layer_idx=0):
        """Columns of `input_ids` taken in so far, padding included."""
        return self.seen_columns

    def reorder_cache(self, beam_idx):
        """Rows continue as copies of others: beam search."""
        self.lengths = self.lengths.index_select(0, beam_idx.to(self.lengths.device))
        for layer in self.layers:
            layer.select(beam_idx)

    def num_bytes(self):
        """Of all live tensors; constant in length unless the model is a hybrid with softmax layers."""
        return sum(t.nbytes for layer in self.layers for t in layer.tensors())


class TigonRMSNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * y.to(x.dtype)


class TigonMLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        bias = config.base_layer("mlp_bias")
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=bias)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=bias)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class TigonAttention(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.config = config
        self.mixer = make_mixer(config, layer)
        D, bias = config.head_dim, config.base_layer("qkv_bias")
        self.q_proj = nn.Linear(config.hidden_size, config.num_attention_heads * D, bias=bias)
        self.k_proj = nn.Linear(config.hidden_size, config.num_key_value_heads * D, bias=bias)
        self.v_proj = nn.Linear(config.hidden_size, config.num_key_value_heads * D, bias=bias)
        self.o_proj = nn.Linear(config.num_attention_heads * D, config.hidden_size, bias=config.base_layer("output_bias"))
        self.q_norm = self.k_norm = None
        if config.base_layer("qk_norm"):
            self.q_norm = TigonRMSNorm(D, config.rms_norm_eps)
            self.k_norm = TigonRMSNorm(D, config.rms_norm_eps)

    def forward(self, x, positions, is_real, rotary, memory):
        """x [B, T, M]; positions and is_real [B, T]; memory: a LayerMemory or None."""
        B, T, _ = x.shape
        q, k, v = (
            projection(x).view(B, T, -1, self.config.head_dim).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.q_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if memory is None:
            memory = self.mixer.make_memory()
        out = self.mixer(x, q, k, v, positions, is_real, rotary, memory)
        return self.o_proj(out.transpose(1, 2).reshape(B, T, -1))


class TigonDecoderLayer(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.self_attn = TigonAttention(config, layer)
        self.mlp = TigonMLP(config)
        self.input_layernorm = TigonRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = TigonRMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x, positions, is_real, rotary, memory):
        x = x + self.self_attn(self.input_layernorm(x), positions, is_real, rotary, memory)
        return x + self.mlp(self.post_attention_layernorm(x))


class TigonPreTrainedModel(PreTrainedModel):
    config_class = TigonConfig
    base_model_prefix = "model"
    _no_split_modules = ["TigonDecoderLayer"]
    _is_stateful = True  # a recurrent state cannot be rolled back


class TigonModel(TigonPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(TigonDecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = TigonRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_init()

    def make_cache(self):
        return TigonCache([layer.self_attn.mixer.make_memory() for layer in self.layers])

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        past_key_values=None,
        inputs_embeds=None,
        use_cache=None,
        output_hidden_states=False,
        **unused,
    ):
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache and past_key_values is None:
            past_key_values = self.make_cache()
        B, T = x.shape[:2]
        is_real = new_columns_mask(attention_mask, B, T, past_key_values, x.device)
        # Positions count real tokens: left padding does not move them.
        counts = is_real.long().cumsum(dim=1)
        if past_key_values is not None:
            if past_key_values.lengths is None:
                past_key_values.lengths = torch.zeros(B, dtype=torch.long, device=x.device)
            positions = past_key_values.lengths[:, None] + counts - 1
            past_key_values.lengths = past_key_values.lengths + counts[:, -1]
            past_key_values.seen_columns += T
        else:
            positions = counts - 1
        positions = positions.clamp(min=0)
        tokens = positions.max().item() + 1 if self.config.rope_parameters["rope_type"] == "dynamic" else 0
        rotary = rotary_embedding(self.config, tokens, x.device)
        hidden_states = (x,)
        for i, layer in enumerate(self.layers):
            memory = None if past_key_values is None else past_key_values.layers[i]
            x = layer(x, positions, is_real, rotary, memory)
            if memory is not None and self.config.has_rounded_states():
                memory.round_states(past_key_values.lengths - 1)
            if output_hidden_states:
                hidden_states += (x,)
        x = self.norm(x)
        return BaseModelOutputWithPast(
            last_hidden_state=x,
            past_key_values=past_key_values,
            hidden_states=hidden_states[:-1] + (x,) if output_hidden_states else None,
        )


def new_columns_mask(attention_mask, B, T, cache, device):
    """[B, T] which of the new tokens are real, from a mask over all tokens or over the new ones."""
    if attention_mask is None:
        return torch.ones(B, T, dtype=torch.bool, device=device)
    seen = 0 if cache is None else cache.seen_columns
    if attention_mask.dim() != 2 or attention_mask.shape[0] != B or attention_mask.shape[1] not in (T, seen + T):
        raise ValueError(
            f"attention_mask: expected shape [{B}, {seen + T}] or [{B}, {T}], found {list(attention_mask.shape)}"
        )
    is_real = attention_mask[:, -T:].to(device).bool()
    # A hole in a sequence would take up room in the window. Decoding (T = 1) cannot make one.
    if T > 1:
        had_tokens = torch.zeros(B, 1, dtype=torch.bool, device=device)
        if cache is not None and cache.lengths is not None:
            had_tokens = (cache.lengths > 0)[:, None]
        before = torch.cat([had_tokens, is_real[:, :-1]], dim=1)
        resumes = is_real & ~before & (before.cumsum(dim=1) > 0)
        if resumes.any():
            raise ValueError("attention_mask: expected padding on the left, found a hole inside a sequence")
    return is_real


class TigonForCausalLM(TigonPreTrainedModel, GenerationMixin):
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config):
        super().__init__(config)
        self.model = TigonModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def _prepare_cache_for_generation(self, generation_config, model_kwargs, *unused):
        # generate() would make its own kind of cache.
        if generation_config.use_cache and model_kwargs.get("past_key_values") is None:
            model_kwargs["past_key_values"] = self.model.make_cache()

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        past_key_values=None,
        inputs_embeds=None,
        labels=None,
        use_cache=None,
        output_hidden_states=None,
        logits_to_keep=0,
        **unused,
    ):
        use_cache = self.config.use_cache if use_cache is None else use_cache
        # Training needs no memory of the batch.
        use_cache = use_cache and not self.training
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_hidden_states=output_hidden_states or False,
        )
        hidden = outputs.last_hidden_state
        if isinstance(logits_to_keep, int) and logits_to_keep > 0:
            hidden = hidden[:, -logits_to_keep:]
        logits = self.lm_head(hidden)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
        )


__all__ = ["TigonCache", "TigonForCausalLM", "TigonModel", "TigonPreTrainedModel"]
