"""MemVault: versioned storage of cubes, their provenance and their indexes, changed only by `commit`.

`base` is the protocol, `memory` its executable specification, `sqlite` the embedded default. A vault knows values
(`cube`, `provenance`) and nothing of models, agents or retrieval weights: text comes with its vectors, and search gets
columns to rank, not a score. Rejected: one class per table (content, index and provenance must change together), and
a query-language pass-through (isolation could not be argued in one place).
"""
