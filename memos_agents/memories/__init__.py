"""The three forms of memory: how a payload becomes bytes and enters a model.

Plaintext needs nothing from here yet; activation (KV caches) and parametric (LoRA) memory come with later releases and
are the only place, with `models`, that may import torch.
"""
