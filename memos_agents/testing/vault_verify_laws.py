"""Laws of `verify`: it finds nothing in a sound vault and something in a damaged one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from memos_agents.cube.memcube import MemCube
from memos_agents.cube.payload import ArtefactPayload
from memos_agents.testing.vault_scribe import FullVault, Scribe, VaultLaws
from memos_agents.testing.vault_transfer_laws import story

Damage = Callable[[FullVault, MemCube], None]


class VerifyLaws(VaultLaws):
    """Finding damage. `damages` are a backend's own ways to break a store behind its back, given a cube with vectors,
    derived from a superseded version, and in the log.
    """

    damages: ClassVar[Mapping[str, Damage]] = {}

    def test_a_long_history_is_sound(self, vault: FullVault, scribe: Scribe) -> None:
        story(scribe)
        assert vault.verify() == []

    def test_a_missing_blob_is_found(self, vault: FullVault, scribe: Scribe) -> None:
        blob = vault.blobs.put(b"tensor")
        cube = scribe.cube(payload=ArtefactPayload(blobs={"kv": blob}))
        scribe.commit(writes=[cube])
        assert vault.verify() == []
        vault.blobs.delete([blob.sha256])
        problems = vault.verify()
        assert [problem.cube_id for problem in problems] == [cube.id]
        assert problems[0].kind == "blob"

    def test_an_unnamed_blob_is_no_damage(self, vault: FullVault) -> None:
        vault.blobs.put(b"left by a crash between put and commit")
        assert vault.verify() == []

    def test_each_planted_damage_is_found(self, tmp_path: Path) -> None:
        missed = []
        for number, (name, plant) in enumerate(self.damages.items()):
            vault = self.make_vault(tmp_path / str(number))
            cube = story(Scribe(vault))["derived"]
            assert vault.verify() == []
            plant(vault, cube)
            if not vault.verify():
                missed.append(name)
            vault.close()
        assert not missed, f"verify did not find {missed}"
