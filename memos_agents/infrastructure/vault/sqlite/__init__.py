"""The embedded vault: one SQLite file, the standard library's `sqlite3` and nothing else.

`vault` is the front; `engine` owns the connections, `apply` writes a commit, `reading` and `lineage` answer,
`searching` keeps scopes as columns, `scrubbing` removes erased bytes, `restoring` and `transfer` move records. Needs
SQLite 3.38 or newer with FTS5. Rejected: extensions, which many Python builds cannot load, and a second file for
vectors or text, which could disagree with the first.
"""

from memos_agents.infrastructure.vault.sqlite.vault import SqliteVault

__all__ = ["SqliteVault"]
