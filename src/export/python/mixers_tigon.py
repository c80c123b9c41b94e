"""The mixers of a tigon model: what stands between q, k, v and the output projection of a layer.

  softmax       causal attention over all earlier tokens, or over the window that the base itself has in that
                layer (layers that a hybrid keeps); memory: all keys, or that window
  window        causal attention over the last `window_keys` tokens, itself included (window_tigon.py)
  window-sinks  the same and the first tokens of the sequence (window_tigon.py)
  liger-*       a window and a gated recurrence, averaged (liger_tigon.py)
  supra         a linear recurrence with learned feature maps (supra_tigon.py)
  lolcats       a window and linear attention under one denominator (lolcats_tigon.py)
  tigon         a window and a recurrence under one denominator (joint_tigon.py)

A mixer is an nn.Module: make_memory() makes what carries it from chunk to chunk, forward() see WindowMixer.
"""

from .joint_tigon import TigonMixer
from .liger_tigon import LigerAblationMixer, LigerMixer
from .lolcats_tigon import LolcatsMixer
from .supra_tigon import SupraMixer
from .window_tigon import WindowMixer, WindowSinksMixer

MIXERS = {
    "softmax": WindowMixer,
    "window": WindowMixer,
    "window-sinks": WindowSinksMixer,
    "liger-ablation": LigerAblationMixer,
    "supra": SupraMixer,
    "lolcats": LolcatsMixer,
    "tigon": TigonMixer,
}


def make_mixer(config, layer):
    return MIXERS.get(config.mixer_of_layer(layer), LigerMixer)(config, layer)
