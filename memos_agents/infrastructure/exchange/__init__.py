"""MemLoader and MemDumper: lossless bundles, checked before anything is given out.

`bundle` writes and reads them, `manifest` has the format, `atomic` the files that are there whole or not at all. Knows
vault-neutral records and no backend. Rejected: pickles and database dumps, which run code or tie a backup to one
version of one backend.
"""
