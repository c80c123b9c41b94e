"""What one layer remembers of a batch of sequences while it generates.

Shapes: B batch, G KV heads, P remembered tokens.
"""

import torch


class LayerMemory:
    """Of the last tokens (columns) keys before RoPE, values, positions [B, P] (-1: none) and what else a mixer
    keeps of each, and recurrent states."""

    def __init__(self, kept_keys):
        self.kept_keys = kept_keys  # None: all
        self.columns = {}  # name -> [B, P] or [B, G, P, ...]
        self.states = {}  # name -> [B, ...]

    def extend(self, **new):
        """Appends what new tokens bring, returns all by name, and forgets what no later token needs."""
        columns = {}
        for name, tensor in new.items():
            axis = 1 if tensor.dim() == 2 else 2
            old = self.columns.get(name)
            columns[name] = tensor if old is None else torch.cat([old, tensor], dim=axis)
            forgotten = 0 if self.kept_keys is None else max(0, columns[name].shape[axis] - self.kept_keys)
            kept = columns[name].narrow(axis, forgotten, columns[name].shape[axis] - forgotten)
            # A view alone would keep the whole prompt alive.
            self.columns[name] = kept.clone() if forgotten > 0 else kept
        return columns

    def state(self, name, *shape, like, dtype=torch.float32):
        """A recurrent state by name: zeros of this shape before the first token."""
        if name not in self.states:
            self.states[name] = torch.zeros(shape, dtype=dtype, device=like.device)
        return self.states[name].to(dtype)

    def round_states(self, positions):
        """Keeps recurrent states in bfloat16 until the next tokens; positions [B] of the last ones."""
        for name, state in self.states.items():
            if state.dtype == torch.float32:
                self.states[name] = stochastic_round(state, positions)

    def tensors(self):
        return [*self.columns.values(), *self.states.values()]

    def select(self, rows):
        for kept in (self.columns, self.states):
            for name, tensor in kept.items():
                kept[name] = tensor.index_select(0, rows.to(tensor.device))


WORD, HALF = 0xFFFFFFFF, 0xFFFF  # masks of 32 and 16 bits


def stochastic_round(x, positions):
    """x [B, ...] float32 to bfloat16: up or down at random, in proportion to what is left over, so that a sum grows
    by increments that bfloat16 could not add to it. The random bits are a hash of the position [B] of a sequence's
    last token and of a number's place in its row: the same sequence is always rounded alike."""
    flat = x.reshape(x.shape[0], -1)
    pairs = torch.arange((flat.shape[1] + 1) // 2, device=x.device)
    random = mix((mix((positions + 0x9E3779B9) & WORD)[:, None] + pairs) & WORD)
    random = torch.stack([random & HALF, random >> 16], dim=-1).flatten(1)[:, : flat.shape[1]]
    words = flat.view(torch.int32)
    moved = ((words + random.to(torch.int32)) & ~HALF).view(torch.float32)
    # Next to infinity only the way down is left.
    moved = torch.where(moved.isfinite(), moved, (words & ~HALF).view(torch.float32))
    return torch.where(flat.isfinite(), moved, flat).to(torch.bfloat16).view(x.shape)


def mix(x):
    """Scatters the bits of numbers of 32 bits, held in int64."""
    for _ in range(2):
        x = ((x ^ (x >> 16)) * 0x045D9F3B) & WORD
    return x ^ (x >> 16)
