"""A linearized model of the Llama kind in plain PyTorch, for transformers' `trust_remote_code=True`.

Written by tigon into every folder it exports. A layer is a Llama layer whose attention is one of
  softmax    causal attention over all earlier tokens, or over the window that the base itself has in that
             layer (layers that a hybrid keeps); memory: all keys, or that window
  window     causal attention over the last `window_keys` tokens, itself included; memory: those keys
  liger-gla  (1 - mix) * window + mix * recurrence, where per KV head
               S_t = diag(a_t) S_{t-1} + softmax(k_t)^T v_t      o_t = softmax(q_t) S_t
               log a_t = logsigmoid(k_t) / gate_normalizer
             on q and k before RoPE; memory: the window's keys and one float32 matrix S.

Shapes: B batch, T new tokens, P cached tokens, H query heads, G KV heads, R = H / G query heads
of one KV head, D head size, W window keys, M hidden size, V vocabulary.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from .configuration_tigon import TigonConfig
from .rotary_tigon import rotary_embedding, rotate

# Tokens the recurrence takes at once. Within a chunk the decay between every pair of tokens is formed,
# so that only exponents <= 0 occur: memory grows with this number, the length of the loop shrinks.
SCAN_CHUNK = 16
# Queries of one block of window attention; a block reads its own keys and W - 1 earlier ones.
WINDOW_BLOCK = 128


def attend(q, k, v, visible):
    """Softmax attention. q [B, H, T, D], k and v [B, G, S, D], visible [B, T, S] -> [B, H, T, D]."""
    B, H, T, D = q.shape
    G = k.shape[1]
    # The query heads of a KV head lie one after another, so that k and v are never repeated.
    q = q.reshape(B, G, (H // G) * T, D)
    scores = (q @ k.transpose(-1, -2)).float() / math.sqrt(D)
    scores = scores.view(B, G, H // G, T, -1).masked_fill(~visible[:, None, None], -math.inf)
    weights = scores.softmax(dim=-1).to(q.dtype).view(B, G, (H // G) * T, -1)
    return (weights @ v).view(B, H, T, D)


def window_attention(q, k, v, q_positions, k_positions, q_is_real, window_keys):
    """Attention over the last `window_keys` real tokens of the same sequence.

    k, v and k_positions hold S >= T tokens of which the last T belong to q; k_positions is -1 where
    there is no token (padding, or a window that is not full yet).
    """
    T, S = q.shape[2], k.shape[2]
    outputs = []
    for start in range(0, T, WINDOW_BLOCK):
        stop = min(start + WINDOW_BLOCK, T)
        last = S - T + stop
        first = max(0, S - T + start - (window_keys - 1))
        q_at = q_positions[:, start:stop, None]  # [B, block, 1]
        k_at = k_positions[:, None, first:last]  # [B, 1, keys]
        visible = (k_at >= 0) & (k_at <= q_at) & (k_at > q_at - window_keys)
        # Padding sees all keys: its output is never used, but must not be NaN.
        visible = visible | ~q_is_real[:, start:stop, None]
        outputs.append(attend(q[:, :, start:stop], k[:, :, first:last], v[:, :, first:last], visible))
    return torch.cat(outputs, dim=2)


def gated_scan(q, k, v, log_gate, state):
    """S_t = diag(exp(log_gate_t)) S_{t-1} + k_t^T v_t, o_t = q_t S_t, in float32.

    q [B, H, T, D]; k, v, log_gate [B, G, T, D]; state [B, G, D, D] -> o [B, H, T, D], state.
    """
    B, H, T, D = q.shape
    G = k.shape[1]
    q = q.view(B, G, H // G, T, D)
    outputs = []
    for start in range(0, T, SCAN_CHUNK):
        here = slice(start, min(start + SCAN_CHUNK, T))
        qc, kc, vc = q[:, :, :, here], k[:, :, here], v[:, :, here]
        decay = log_gate[:, :, here].cumsum(dim=2)  # since the chunk's start, own token included
        # What the chunk's tokens read from the state before it ...
        before = (qc * decay.exp()[:, :, None]) @ state[:, :, None]
        # ... and from each other: the decay from token j to token i >= j, never a growing factor.
        between = decay[:, :, :, None] - decay[:, :, None]  # [B, G, i, j, D]
        length = between.shape[2]
        is_later = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
        between = between.masked_fill(is_later[:, :, None], -math.inf).exp()
        scores = torch.einsum("bgrid,bgijd,bgjd->bgrij", qc, between, kc)
        outputs.append(before + scores @ vc[:, :, None])
        # To the chunk's end.
        total = decay[:, :, -1:]
        state = total.exp().transpose(-1, -2) * state + (kc * (total - decay).exp()).transpose(-1, -2) @ vc
    return torch.cat(outputs, dim=3).view(B, H, T, D), state


class LayerMemory:
    """What one layer remembers: keys before RoPE, values, positions [B, P] (-1: none), and the state."""

    def __init__(self, kept_keys):
        self.kept_keys = kept_keys  # None: all
        self.k = self.v = self.positions = self.state = None

    def extend(self, k, v, positions):
        """Appends new tokens, returns all that they may see, and forgets what no later token sees."""
        if self.k is not None:
            k = torch.cat([self.k, k], dim=2)
            v = torch.cat([self.v, v], dim=2)
            positions = torch.cat([self.positions, positions], dim=1)
        forgotten = 0 if self.kept_keys is None else max(0, k.shape[2] - self.kept_keys)
        self.k, self.v, self.positions = k[:, :, forgotten:], v[:, :, forgotten:], positions[:, forgotten:]
        if forgotten > 0:
            # A slice alone would keep the whole prompt alive.
            self.k, self.v, self.positions = self.k.clone(), self.v.clone(), self.positions.clone()
        return k, v, positions

    def tensors(self):
        return [t for t in (self.k, self.v, self.positions, self.state) if t is not None]

    def select(self, rows):
        for name in ("k", "v", "positions", "state"):
            tensor = getattr(self, name)
            if tensor is not None:
                setattr(self, name, tensor.index_select(0, rows.to(tensor.device)))


class TigonCache:
    """A batch's memory: one LayerMemory a layer, and how many tokens each sequence has had.

    `generate()` makes and carries one; pass it back as `past_key_values` to continue a sequence.
    """

    is_compileable = False
    is_croppable = False  # a recurrent state cannot be rolled back

    def __init__(self, config):
        # A window of W keys needs W - 1 old ones beside the new token.
        windows = [config.window_of_layer(i) for i in range(config.num_hidden_layers)]
        self.layers = [LayerMemory(window - 1 if window > 0 else None) for window in windows]
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
        self.mixer = config.mixer_of_layer(layer)
        self.window = config.window_of_layer(layer)
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
        key_positions = positions.masked_fill(~is_real, -1)
        if memory is None:
            memory = LayerMemory(None)
        all_k, all_v, key_positions = memory.extend(k, v, key_positions)
        rotated_q = rotate(q, positions, rotary)
        rotated_k = rotate(all_k, key_positions, rotary)
        window = self.window or key_positions.shape[1]
        out = window_attention(rotated_q, rotated_k, all_v, positions, key_positions, is_real, window)
        if self.mixer == "liger-gla":
            mix = self.config.linearize["mix"]
            out = (1 - mix) * out.float() + mix * self.recurrence(q, k, v, is_real, memory)
            out = out.to(x.dtype)
        return self.o_proj(out.transpose(1, 2).reshape(B, T, -1))

    def recurrence(self, q, k, v, is_real, memory):
        q, k, v = q.float(), k.float(), v.float()
        log_gate = F.logsigmoid(k) / self.config.linearize["gate_normalizer"]
        # A padded position neither fades the state nor adds to it.
        is_padding = ~is_real[:, None, :, None]
        log_gate = log_gate.masked_fill(is_padding, 0)
        feature_k = k.softmax(dim=-1).masked_fill(is_padding, 0)
        state = memory.state
        if state is None:
            B, G, _, D = k.shape
            state = torch.zeros(B, G, D, D, dtype=torch.float32, device=k.device)
        out, memory.state = gated_scan(q.softmax(dim=-1), feature_k, v, log_gate, state)
        return out


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
            past_key_values = TigonCache(self.config)
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
            model_kwargs["past_key_values"] = TigonCache(self.config)

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
