"""Settings of a process: where memory is kept, whose it is, and which model embeds it.

Read in one place, `load_settings`, in this order (the first that says something wins): flags, environment variables
`MEMOS_<NAME>`, one TOML file. The file is the one that `MEMOS_CONFIG` names, else `memos.toml` in the working folder,
else `memos/config.toml` in the user's configuration folder. Nothing is read when this module is imported.

    store = "~/notes.db"            # relative paths count from the file's folder
    user = "mara"
    embedder = "openai"
    embedder_url = "http://localhost:11434/v1"
    embedder_model = "nomic-embed-text"

A file that merely lies in the working folder may have come with somebody else's repository, so it may not make us run
code, send text to an address, or carry a key: `embedder = "module:attribute"`, `embedder_url` and `embedder_api_key`
are refused there.
"""

from __future__ import annotations

import difflib
import os
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from memos_agents.errors import InvalidRequest

if TYPE_CHECKING:
    from memos_agents.models.base import Embedder

PREFIX = "MEMOS_"
CONFIG_VARIABLE = "MEMOS_CONFIG"
BUILT_IN_EMBEDDERS = ("minilm", "openai", "none")

_Name = Annotated[str, Field(min_length=1)]


class Settings(BaseModel):
    """What a front (the command line, a server) needs to open a store. Keys are the names in file and environment.

    `embedder`: "minilm" (default; local, no network), "openai" (any server that speaks OpenAI's embeddings API; needs
    `embedder_model`), "none" (words only, no vectors), or "module:attribute" naming an embedder, or a class or function
    that makes one without arguments. `embedder_dimension` is the length of the server's vectors; without it the server
    is asked when the store opens. `durability`: "full" survives a power cut, "relaxed" may lose the last commits.
    `user`, `agent`, `session` are the default scope.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    store: str = "memos.db"
    tenant: _Name = "default"
    user: _Name | None = None
    agent: _Name | None = None
    session: _Name | None = None
    embedder: str = "minilm"
    embedder_url: str | None = None
    embedder_model: str | None = None
    embedder_api_key: SecretStr | None = None
    embedder_dimension: int | None = Field(default=None, gt=0)
    durability: Literal["full", "relaxed"] = "full"
    cache_dir: Path | None = None

    @field_validator("embedder")
    @classmethod
    def _is_an_embedder(cls, value: str) -> str:
        if value in BUILT_IN_EMBEDDERS or _names_code(value):
            return value
        close = difflib.get_close_matches(value.lower(), BUILT_IN_EMBEDDERS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else 'or "module:attribute" for an embedder of your own'
        raise ValueError(f'{value[:80]!r} is not one of "minilm", "openai", "none"; {hint}')


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Settings and, for each key that was set, the place that set it ("--store", "MEMOS_STORE", a file's path)."""

    settings: Settings
    origins: Mapping[str, str] = field(default_factory=dict)


def load_settings(*, flags: Mapping[str, object], environ: Mapping[str, str], folder: Path) -> Loaded:
    """Merge flags (None: not given), `environ` and the settings file found from `folder`.

    Raises `InvalidRequest` for an unknown key, a wrong value or an unreadable file, naming the place. An unknown
    environment variable is refused only if it looks like a misspelling of ours: other programs use the prefix too.
    """
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    path, is_chosen = _find_file(environ, folder)
    if path is not None:
        found = _read_file(path)
        if not is_chosen:
            _refuse_risky(found, path)
        values |= found
        origins |= dict.fromkeys(found, str(path))
    found = _read_environment(environ)
    values |= found
    origins |= {key: PREFIX + key.upper() for key in found}
    for key, value in flags.items():
        if value is not None:
            values[key] = value
            origins[key] = "--" + key.replace("_", "-")
    try:
        return Loaded(settings=Settings.model_validate(values), origins=origins)
    except ValidationError as error:
        raise InvalidRequest(_explain(error, origins)) from None  # the cause would show the values, keys among them


def make_embedder(settings: Settings) -> Embedder | None:
    """Make the embedder that the settings name; None for "none". Loads no weights and opens no connection yet.

    Raises `InvalidRequest` when something is missing, `ImportError` naming the extra when a package is.
    """
    if settings.embedder == "none":
        return None
    if settings.embedder == "minilm":
        from memos_agents.models.embedding import default_embedder

        return default_embedder()
    if settings.embedder == "openai":
        if not settings.embedder_model:
            raise InvalidRequest(
                'embedder = "openai" needs a model; set MEMOS_EMBEDDER_MODEL, e.g. to "text-embedding-3-small", '
                "and MEMOS_EMBEDDER_URL for a server of your own"
            )
        from memos_agents.models.openai import OpenAICompatibleEmbedder

        secret = settings.embedder_api_key
        return OpenAICompatibleEmbedder(
            base_url=settings.embedder_url or "https://api.openai.com/v1",
            model=settings.embedder_model,
            api_key=secret.get_secret_value() if secret else None,
            dimension=settings.embedder_dimension,
        )
    return _load_embedder(settings.embedder)


def user_config_file(environ: Mapping[str, str], *, platform: str = sys.platform) -> Path:
    """Where this user's settings file is looked for."""
    home = Path(environ.get("HOME") or environ.get("USERPROFILE") or "~").expanduser()
    if platform == "win32":
        base = Path(environ.get("APPDATA") or home / "AppData" / "Roaming")
    elif platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    return base / "memos" / "config.toml"


def _find_file(environ: Mapping[str, str], folder: Path) -> tuple[Path | None, bool]:
    """The file to read, and whether the user chose it (rather than walked into its folder)."""
    named = environ.get(CONFIG_VARIABLE)
    if named:
        path = folder / Path(named).expanduser()
        if not path.is_file():
            raise InvalidRequest(f"{CONFIG_VARIABLE} names {named!r}, which is not a file; correct or unset it")
        return path, True
    local = folder / "memos.toml"
    if local.is_file():
        return local, False
    personal = user_config_file(environ)
    return (personal, True) if personal.is_file() else (None, True)


def _read_file(path: Path) -> dict[str, object]:
    try:
        found = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise InvalidRequest(f"the settings file {str(path)!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the settings file {str(path)!r} is not UTF-8; save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequest(f"the settings file {str(path)!r} is not valid TOML: {error}") from None
    for key in found:
        if key not in Settings.model_fields:
            raise InvalidRequest(f"{str(path)!r} sets {key!r}, which is no setting; {_suggest(key)}")
    for key in ("store", "cache_dir"):
        if isinstance(value := found.get(key), str) and "://" not in value and value != ":memory:":
            found[key] = str(path.parent / Path(value).expanduser())
    return found


def _refuse_risky(found: Mapping[str, object], path: Path) -> None:
    risky = [key for key in ("embedder_url", "embedder_api_key") if key in found]
    if isinstance(value := found.get("embedder"), str) and _names_code(value):
        risky.append("embedder")
    if risky:
        raise InvalidRequest(
            f"{str(path)!r} sets {risky[0]!r}, which is not taken from a file that merely lies in the working folder "
            f"(it could run code or send your text away); if you trust it, set {CONFIG_VARIABLE}={path.name}"
        )


def server_login(environ: Mapping[str, str] | None = None) -> tuple[str, str] | None:
    """The login for a Neo4j server that the environment gives (NEO4J_USERNAME, NEO4J_PASSWORD); None without one."""
    environ = os.environ if environ is None else environ
    password = environ.get("NEO4J_PASSWORD")
    return (environ.get("NEO4J_USERNAME") or "neo4j", password) if password else None


def _read_environment(environ: Mapping[str, str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE:
            continue
        key = variable.removeprefix(PREFIX).lower()
        if key in Settings.model_fields:
            if value:
                found[key] = value
        elif close := difflib.get_close_matches(key, Settings.model_fields, n=1, cutoff=0.8):
            raise InvalidRequest(
                f"the environment sets {variable}, which is no setting; did you mean {PREFIX}{close[0].upper()}?"
            )
    return found


def _explain(error: ValidationError, origins: Mapping[str, str]) -> str:
    """The first complaint, with the place that said it; never the value itself, which may be a secret."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    key = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        return f"{origins.get(key, key)} is no setting; {_suggest(key)}"
    complaint = first["msg"].removeprefix("Value error, ")
    return f"the setting {key!r} ({origins.get(key, 'default')}) is wrong: {complaint}"


def _suggest(key: str, known: Iterable[str] = tuple(Settings.model_fields)) -> str:
    names = list(known)
    close = difflib.get_close_matches(key.lower().replace("-", "_"), names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known settings: {', '.join(names)}"


def _names_code(value: str) -> bool:
    module, colon, attribute = value.partition(":")
    return bool(colon) and attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))


def _load_embedder(name: str) -> Embedder:
    """Import "module:attribute": an embedder, or a class or function that makes one."""
    import importlib

    from memos_agents.models.adapters import as_embedder

    module, _, attribute = name.partition(":")
    try:
        found: object = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise InvalidRequest(
            f"embedder {name!r}: there is no module {error.name!r}; install it or correct it"
        ) from error
    except AttributeError as error:
        raise InvalidRequest(f"embedder {name!r}: module {module!r} has no {attribute!r}") from error
    is_factory = isinstance(found, type) or (callable(found) and not hasattr(found, "embed"))
    return as_embedder(found() if is_factory and callable(found) else found)
