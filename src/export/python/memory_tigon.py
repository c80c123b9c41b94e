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
        return self.states[name]

    def tensors(self):
        return [*self.columns.values(), *self.states.values()]

    def select(self, rows):
        for kept in (self.columns, self.states):
            for name, tensor in kept.items():
                kept[name] = tensor.index_select(0, rows.to(tensor.device))
