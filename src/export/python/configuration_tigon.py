"""Configuration of a model that tigon linearized: its base model's, and two blocks.

`base_layers` says what the base's family implies: which linear layers have a bias, whether each head
of q and k is normalised, the base's own sliding window in each layer (0: none; empty: no layer).
`linearize` says which mixer each layer has, with every number (see mixers_tigon.py):
  recipe           one of RECIPES
  window_keys      keys a token sees, itself included (not supra)
  layer_windows    {"7": 256}: window_keys of single layers (not supra)
  state_dtype      of recurrent states between tokens, float32 or bfloat16 (not window, window-sinks)
  hybrid           {"every": n, "layers": [...]}: layers that keep softmax attention
and the keys of the recipe itself, which the files of the mixers explain.
"""

from transformers import PretrainedConfig


RECIPES = (
    "window", "window-sinks", "liger-gla", "liger-hgrn2", "liger-gsa", "liger-mamba2", "liger-mlstm", "liger-retention",
    "liger-rwkv6", "liger-ablation", "supra", "lolcats", "tigon",
)  # fmt: skip


class TigonConfig(PretrainedConfig):
    model_type = "tigon"
    keys_to_ignore_at_inference = ["past_key_values"]

    def __init__(
        self,
        base_model_type="llama",
        linearize=None,
        base_layers=None,
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=None,
        head_dim=None,
        max_position_embeddings=2048,
        initializer_range=0.02,
        rms_norm_eps=1e-6,
        rope_theta=None,
        rope_scaling=None,
        rope_parameters=None,
        use_cache=True,
        pad_token_id=None,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
        **kwargs,
    ):
        self.base_model_type = base_model_type
        self.linearize = linearize
        self.base_layers = base_layers
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        implied = base_layers or {}
        self.num_key_value_heads = num_key_value_heads or implied.get("num_key_value_heads") or num_attention_heads
        self.head_dim = head_dim or implied.get("head_dim") or hidden_size // num_attention_heads
        self.max_position_embeddings = max_position_embeddings
        self.initializer_range = initializer_range
        self.rms_norm_eps = rms_norm_eps
        self.rope_parameters = _rope_parameters(rope_parameters, rope_scaling, rope_theta)
        self.use_cache = use_cache
        super().__init__(
            pad_token_id=pad_token_id,
            bos_token_id=bos_token_id,
            eos_token_id=eos_token_id,
            tie_word_embeddings=tie_word_embeddings,
            **kwargs,
        )

    def mixer_of_layer(self, layer):
        """"softmax", or the recipe."""
        if self.linearize is None:
            raise ValueError("config.json: expected a `linearize` block, found none")
        recipe = self.linearize["recipe"]
        if recipe not in RECIPES:
            raise ValueError(f"config.json: linearize.recipe: expected one of {', '.join(RECIPES)}, found {recipe}")
        every = self.linearize["hybrid"]["every"]
        is_softmax = layer in self.linearize["hybrid"]["layers"]
        if every > 0 and (layer + 1) % every == 0:
            is_softmax = True
        return "softmax" if is_softmax else recipe

    def window_of_layer(self, layer):
        """Keys a token sees in a layer, itself included; 0: all earlier ones."""
        if self.mixer_of_layer(layer) != "softmax":
            return self.linearize.get("layer_windows", {}).get(str(layer), self.linearize["window_keys"])
        windows = self.base_layer("windows", [])
        return windows[layer] if windows else 0

    def feature_rank_of_layer(self, layer):
        """Of a layer of the recipe tigon; 0: its features are a softmax."""
        return self.linearize["layer_feature_ranks"].get(str(layer), self.linearize["feature_rank"])

    def has_rounded_states(self):
        """Whether recurrent states are bfloat16 between tokens."""
        return (self.linearize or {}).get("state_dtype") == "bfloat16"

    def base_layer(self, key, default=False):
        return (self.base_layers or {}).get(key, default)


def _rope_parameters(rope_parameters, rope_scaling, rope_theta):
    """One form from the two that config.json files have: {"rope_type", "rope_theta", …}."""
    merged = {"rope_type": "default", "rope_theta": 10000.0}
    for source in (rope_scaling, rope_parameters):
        merged.update(source or {})
    if rope_theta is not None:
        merged["rope_theta"] = rope_theta
    if "type" in merged:  # the oldest spelling
        merged["rope_type"] = merged.pop("type")
    return merged
