"""Embeddings from any server that speaks OpenAI's HTTP interface: OpenAI, vLLM, Ollama, llama.cpp, TEI."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from memos_agents.errors import AccessDenied, BackendUnavailable, IncompatibleModel, InvalidRequest, MemOSError
from memos_agents.models.pooling import checked_texts, mean_by_owner, unit_rows, windows

if TYPE_CHECKING:
    from openai import OpenAI, OpenAIError

_PROBE = "The quick brown fox jumps over the lazy dog."
_NO_KEY = "unused"


class OpenAICompatibleEmbedder:
    """An embedding model behind `POST {base_url}/embeddings`.

    `dimension` is checked against every answer; without it one text is embedded when it is first needed, so name it to
    open a store without a network. With `shorten` the server is asked for vectors of that length (its `dimensions`
    parameter, which not every server has). `api_key` None sends no key of yours: keys in the environment are not read,
    because they would go to whatever `base_url` names. Texts longer than `max_characters` are cut into equal windows
    (at most 32, evenly spread) and their vectors averaged; `batch_size` windows go in one request.

    The fingerprint is made of the model's name and the dimension: a server that changes the model behind a name is not
    noticed. Raises `BackendUnavailable` (down, slow, busy: retry), `AccessDenied` (key refused), `InvalidRequest`
    (unknown model, address or too long a text), `IncompatibleModel` (another dimension, no numbers).
    """

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        api_key: str | None = None,
        dimension: int | None = None,
        shorten: bool = False,
        timeout_seconds: float = 30.0,
        max_retries: int = 2,
        batch_size: int = 64,
        max_characters: int = 8_000,
    ) -> None:
        address = urlsplit(base_url)
        if address.scheme not in {"http", "https"} or not address.hostname:
            raise InvalidRequest("base_url must look like 'http://localhost:8000/v1', with http or https and a host")
        if address.username or address.password or address.query:
            raise InvalidRequest("base_url must hold no user, password or query; pass the key as api_key")
        if not model:
            raise InvalidRequest("model must name the embedding model as the server knows it")
        if shorten and dimension is None:
            raise InvalidRequest("shorten=True needs dimension=, the length to ask for")
        for name, value in (("dimension", dimension), ("batch_size", batch_size), ("max_characters", max_characters)):
            if value is not None and value < 1:
                raise InvalidRequest(f"{name} must be at least 1, not {value}")
        self._base_url, self._model, self._key = base_url, model, api_key
        self._batch_size, self._max_characters = batch_size, max_characters
        self._shortened = dimension if shorten else None
        self._dimension = dimension
        self._lock = threading.Lock()
        self._client = _client(base_url, api_key, timeout_seconds, max_retries)

    def __repr__(self) -> str:
        return f"OpenAICompatibleEmbedder(base_url={self._base_url!r}, model={self._model!r})"

    @property
    def fingerprint(self) -> str:
        """Model and dimension; embeds one text if the dimension is not known yet."""
        return f"openai:{self._model}:{self.dimension}"

    @property
    def dimension(self) -> int:
        """Length of the vectors; embeds one text if it was not given."""
        with self._lock:
            if self._dimension is None:
                self._dimension = self._request([_PROBE], None).shape[1]
            return self._dimension

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit rows, shape (len(texts), dimension); blank texts, which servers refuse, are not sent."""
        checked = checked_texts(texts)
        pieces: list[str] = []
        owners: list[int] = []
        for owner, text in enumerate(checked):
            parts = [text[start:stop] for start, stop in windows(len(text), self._max_characters)]
            parts = [part for part in parts if part.strip()]
            pieces += parts
            owners += [owner] * len(parts)
        vectors = np.zeros((len(pieces), self.dimension), dtype=np.float32)
        for start in range(0, len(pieces), self._batch_size):
            stop = start + self._batch_size
            vectors[start:stop] = self._request(pieces[start:stop], self.dimension)
        return mean_by_owner(vectors, owners, len(checked))

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the vector of one text, shape (dimension,)."""
        vector: NDArray[np.float32] = self.embed([text])[0]
        return vector

    def close(self) -> None:
        """Close the connections; the embedder cannot be used afterwards."""
        self._client.close()

    def _request(self, texts: list[str], dimension: int | None) -> NDArray[np.float32]:
        from openai import OpenAIError, omit

        failure: MemOSError
        try:
            # Floats, because not every compatible server knows base64, which the client would ask for.
            answer = self._client.embeddings.create(
                model=self._model, input=texts, dimensions=self._shortened or omit, encoding_format="float"
            )
            found = [item.embedding for item in sorted(answer.data, key=lambda item: item.index)]
        except OpenAIError as error:
            failure = self._translated(error)
        except (AttributeError, TypeError, ValueError, RuntimeError) as error:
            failure = IncompatibleModel(
                f"{self._base_url} gave no answer to be understood as embeddings ({type(error).__name__}); "
                "check that base_url is that of an OpenAI-compatible server, usually ending in /v1.",
                base_url=self._base_url,
            )
        else:
            return unit_rows(found, rows=len(texts), dimension=dimension, origin=f"{self._model} at {self._base_url}")
        # Raised outside the handler: the original carries request headers and, in some servers' words, the key.
        raise failure

    def _translated(self, error: OpenAIError) -> MemOSError:
        status = getattr(error, "status_code", None)
        said = str(error)[:300] if self._key is None else str(error).replace(self._key, "***")[:300]
        where = {"base_url": self._base_url, "model": self._model, "status": status}
        if status in {401, 403}:
            return AccessDenied(f"{self._base_url} refused the key (HTTP {status}); pass a valid api_key.", **where)
        if status is not None and 400 <= status < 500 and status not in {408, 409, 425, 429}:
            return InvalidRequest(
                f"{self._base_url} refused to embed with {self._model!r}: {said}; check model, base_url and "
                "max_characters.",
                **where,
            )
        return BackendUnavailable(f"{self._base_url} did not embed: {said}; try again later.", **where)


def _client(base_url: str, api_key: str | None, timeout_seconds: float, max_retries: int) -> OpenAI:
    try:
        from openai import OpenAI
    except ImportError as error:
        raise ImportError(
            "OpenAICompatibleEmbedder needs the OpenAI client: pip install 'memos-agents[openai]'"
        ) from error
    key = api_key or _NO_KEY
    # Every credential is given, so that the client does not take one from the environment to this address.
    client = OpenAI(
        base_url=base_url,
        api_key=key,
        admin_api_key="",
        organization="",
        project="",
        default_headers={"Authorization": f"Bearer {key}"},
        timeout=timeout_seconds,
        max_retries=max_retries,
    )
    client.organization = client.project = None  # "" would be sent as an empty header
    return client
