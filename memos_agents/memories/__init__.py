"""The three forms of memory: how a payload becomes bytes and enters a model.

Plaintext needs nothing from here. `activation` is keys and values with a manifest (packed by `kv_codec`, kept in memory
by `prefix_cache`); parametric memory (LoRA) comes with a later release. With `models` the only place that may import
torch.
"""
