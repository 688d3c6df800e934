"""Models that memory needs: what turns text into vectors, and language models on this machine that memory can enter.

`base` holds the protocols; each other file holds one kind of model and imports its library only when the model is
first used, so that importing this package costs nothing. A model here knows texts, vectors and weights, and must not
know cubes, scopes, vaults or time: the same text gives the same vector whoever asks. Weights are read from installed
packages or from a folder the caller names, checked by digest; a model hub is asked only for an id that the caller gave.
Rejected: a registry of models by name (configuration decides elsewhere; here one passes the object), and taking one
framework's embedding class as our interface (its users would install it, everybody else would pay for it).
"""
