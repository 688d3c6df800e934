"""Settings: which source wins, what is refused, and that secrets stay secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from memos_agents.errors import InvalidRequest
from memos_agents.interface.settings import Loaded, load_settings, make_embedder, user_config_file


def load(folder: Path, environ: dict[str, str] | None = None, **flags: object) -> Loaded:
    """Settings as seen from `folder`, on a machine whose home is empty."""
    return load_settings(flags=flags, environ={"HOME": str(folder / "home"), **(environ or {})}, folder=folder)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    write(tmp_path / "memos.toml", 'user = "file"\nagent = "file"\nsession = "file"\n')
    found = load(tmp_path, {"MEMOS_USER": "environment", "MEMOS_AGENT": "environment"}, user="flag", agent=None)
    assert (found.settings.user, found.settings.agent, found.settings.session) == ("flag", "environment", "file")
    assert found.origins == {"user": "--user", "agent": "MEMOS_AGENT", "session": str(tmp_path / "memos.toml")}


def test_the_file_is_the_named_one_then_the_local_one_then_the_personal_one(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "HOME": str(tmp_path)}

    def user(extra: dict[str, str] | None = None) -> str | None:
        return load_settings(flags={}, environ={**environ, **(extra or {})}, folder=tmp_path).settings.user

    assert user() is None
    write(user_config_file(environ), 'user = "personal"')
    assert user() == "personal"
    write(tmp_path / "memos.toml", 'user = "local"')
    assert user() == "local"
    write(tmp_path / "other.toml", 'user = "named"')
    assert user({"MEMOS_CONFIG": "other.toml"}) == "named"


def test_a_path_in_a_file_counts_from_the_files_folder(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "m.toml", 'store = "kept/here.db"')
    found = load(tmp_path, {"MEMOS_CONFIG": "elsewhere/m.toml"})
    assert found.settings.store == str(tmp_path / "elsewhere" / "kept" / "here.db")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('embeder = "none"', "did you mean 'embedder'"),
        ('embedder = "minlm"', "did you mean 'minilm'"),
        ('durability = "fast"', "durability"),
        ("store = ", "not valid TOML"),
        ("colour = 3", "known settings: store"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place_and_a_suggestion(tmp_path: Path, text: str, told: str) -> None:
    write(tmp_path / "memos.toml", text)
    with pytest.raises(InvalidRequest) as caught:
        load(tmp_path)
    assert told in str(caught.value)
    assert "memos.toml" in str(caught.value)


def test_a_misspelt_variable_is_refused_and_a_foreign_one_is_not(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="did you mean MEMOS_EMBEDDER"):
        load(tmp_path, {"MEMOS_EMBEDER": "none"})
    load(tmp_path, {"MEMOS_SOMETHING_ELSE_ENTIRELY": "1"})


def test_a_named_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="MEMOS_CONFIG names"):
        load(tmp_path, {"MEMOS_CONFIG": "nowhere.toml"})


@pytest.mark.parametrize(
    "text", ['embedder = "os:getcwd"', 'embedder_url = "http://elsewhere/v1"', 'embedder_api_key = "k"']
)
def test_a_file_that_merely_lies_there_may_not_run_code_or_send_text(tmp_path: Path, text: str) -> None:
    write(tmp_path / "memos.toml", text)
    with pytest.raises(InvalidRequest, match=r"MEMOS_CONFIG=memos\.toml"):
        load(tmp_path)
    load(tmp_path, {"MEMOS_CONFIG": "memos.toml"})


def test_a_secret_is_never_shown(tmp_path: Path) -> None:
    found = load(tmp_path, {"MEMOS_EMBEDDER_API_KEY": "hunter2"})
    assert "hunter2" not in repr(found)
    assert "hunter2" not in found.settings.model_dump_json()
    with pytest.raises(InvalidRequest) as caught:
        load(tmp_path, {"MEMOS_EMBEDDER_API_KEY": "hunter2", "MEMOS_EMBEDDER_DIMENSION": "x"})
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_embedder_is_made_from_its_name(tmp_path: Path) -> None:
    def made(environ: dict[str, str]) -> object:
        return make_embedder(load(tmp_path, environ).settings)

    assert made({"MEMOS_EMBEDDER": "none"}) is None
    by_name = made({"MEMOS_EMBEDDER": "memos_agents.testing:HashEmbedder"})
    assert type(by_name).__name__ == "HashEmbedder"
    with pytest.raises(InvalidRequest, match="MEMOS_EMBEDDER_MODEL"):
        made({"MEMOS_EMBEDDER": "openai"})
    with pytest.raises(InvalidRequest, match="no module 'nowhere_at_all'"):
        made({"MEMOS_EMBEDDER": "nowhere_at_all:thing"})
    with pytest.raises(InvalidRequest, match="has no 'thing'"):
        made({"MEMOS_EMBEDDER": "memos_agents.errors:thing"})
