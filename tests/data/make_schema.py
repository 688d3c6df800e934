"""Writes `schema_N.db.gz`, a store as this release makes it, for every later release to open (N is its schema).

    python tests/data/make_schema.py

Run it once, in the commit that adds a schema and before the next one does; never again for an old schema: the file must
stay as the release of its time wrote it. Ids, times and bytes are the same in every run.
"""

from __future__ import annotations

import gzip
import random
import tempfile
from pathlib import Path

from memos_agents import MemOS
from memos_agents.cube.identity import IdSource
from memos_agents.infrastructure.vault.sqlite import SqliteVault
from memos_agents.infrastructure.vault.sqlite.schema import MIGRATIONS
from memos_agents.testing import FixedClock, HashEmbedder

FOLDER = Path(__file__).parent


def fill(path: Path) -> None:
    """A little of everything: versions, a derivation, a relation, a source, a key, an erasure, a snapshot, uses."""
    vault = SqliteVault(path)
    memos = MemOS(
        vault, embedder=HashEmbedder(dimension=16), clock=FixedClock(), ids=IdSource(random.Random(1).getrandbits)
    )
    memos.add("Mara moved to Lisbon in May.", user_id="mara", key="home", role="user", name="Mara")
    memos.update(memos.get(key="home", user_id="mara").id, "Mara moved to Porto in September.")
    letter = memos.add("The letter came from the city hall.", user_id="mara", derived_from="https://example.org/letter")
    summary = memos.add("Mara lives in Porto now.", user_id="mara", derived_from=letter, tags=["summary"])
    memos.add("Noah plays the cello on Tuesdays.", user_id="noah", metadata={"day": "Tuesday"}, ttl_seconds=1e9)
    memos.relate(letter[0], "CONTRADICTS", summary[0], properties={"why": "another city"})
    memos.freeze(letter[0])
    passport = memos.add("The passport number is 12345.", user_id="mara")
    memos.snapshot("before the erasure")
    memos.erase(passport)
    memos.search("Where does Mara live?", user_id="mara", limit=1)
    vault.close()


def main() -> None:
    """Write a store of the present schema."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "memos.db"
        fill(path)
        packed = gzip.compress(path.read_bytes(), mtime=0)
    (FOLDER / f"schema_{len(MIGRATIONS)}.db.gz").write_bytes(packed)


if __name__ == "__main__":
    main()
