"""Finding a Java that a server runs on: by running it, because no folder's name and no variable proves a release."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from memos_agents.errors import InvalidRequest
from memos_agents.infrastructure.servers.programs import ToolMissing, ask, find_program

# Debian and Fedora, RPMs of vendors, container images, version managers
_LINUX = ("/usr/lib/jvm/*", "/usr/lib64/jvm/*", "/usr/java/*", "/opt/java/*", "/opt/*jdk*", "/opt/*jre*")
_MAC = (
    "/Library/Java/JavaVirtualMachines/*/Contents/Home",
    "/opt/homebrew/opt/openjdk*",
    "/usr/local/opt/openjdk*",
)
_OF_USER = (".sdkman/candidates/java/*", ".jdks/*", ".asdf/installs/java/*", ".local/share/mise/installs/java/*")
_OF_USER_ON_MAC = ("Library/Java/JavaVirtualMachines/*/Contents/Home",)
_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Java:
    """A Java program and its release (17, 21, 25)."""

    path: Path
    release: int

    @property
    def home(self) -> Path:
        """The folder that JAVA_HOME would name."""
        return self.path.resolve().parent.parent


def find_java(
    accepted: Sequence[int], *, environ: Mapping[str, str], given: Path | None = None, root: Path = Path("/")
) -> Java:
    """The first Java whose release is in `accepted`: `given`, else JAVA_HOME, PATH, the usual folders of the system.

    Runs each candidate until one fits (0.1 s each). A `given` one that does not fit is `InvalidRequest`; none anywhere
    is `ToolMissing`, which names those that were found. Tests give another `root`.
    """
    if given is not None:
        return _check_given(given, accepted, environ)
    found: list[Java] = []
    for path in candidates(environ, root=root):
        java = inspect_java(path, environ)
        if java is not None:
            found.append(java)
            if java.release in accepted:
                return java
    seen = ", ".join(f"{java.release} ({java.path})" for java in found) or "none"
    best = accepted[-1] if 21 not in accepted else 21
    raise ToolMissing(
        f"this needs Java {_either(accepted)}; found: {seen}. Install one (Debian, Ubuntu: apt install "
        f"openjdk-{best}-jre-headless; Fedora: dnf install java-{best}-openjdk-headless; macOS: brew install "
        f"openjdk@{best}; or a build of Eclipse Temurin) or point JAVA_HOME at one",
        accepted=tuple(accepted),
        found=tuple(java.release for java in found),
    )


def candidates(environ: Mapping[str, str], *, platform: str = sys.platform, root: Path = Path("/")) -> Iterator[Path]:
    """Java programs in the order in which they are tried, each once, links followed. Tests give another `root`."""
    seen: set[Path] = set()
    for path in _places(environ, platform, root):
        if path.is_file() and (real := path.resolve()) not in seen:
            seen.add(real)
            yield path


def inspect_java(path: Path, environ: Mapping[str, str]) -> Java | None:
    """Run `path` to learn its release; None if it is no Java that runs here."""
    answer = ask([path, "-version"], environ=_without_options(environ), seconds=_SECONDS)
    release = parse_release("\n".join(answer.lines)) if answer is not None and answer.is_good else None
    return None if release is None else Java(path=path, release=release)


def parse_release(text: str) -> int | None:
    """The release that `java -version` names.

    >>> parse_release('openjdk version "21.0.4" 2024-07-16'), parse_release('java version "1.8.0_402"')
    (21, 8)
    """
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match[1]) if match else None


def accepts(java: Java, options: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether this Java starts with `options`: builds differ in the modules they ship."""
    answer = ask([java.path, *options, "-version"], environ=_without_options(environ), seconds=_SECONDS)
    return answer is not None and answer.is_good


def _check_given(path: Path, accepted: Sequence[int], environ: Mapping[str, str]) -> Java:
    program = path / "bin" / "java" if path.is_dir() else path
    java = inspect_java(program, environ)
    if java is None:
        raise InvalidRequest(f"{str(path)!r} is no Java that runs here; name its program or the folder above bin/java")
    if java.release not in accepted:
        raise InvalidRequest(
            f"{str(path)!r} is Java {java.release}, and this server needs Java {_either(accepted)}; name another one",
            found=java.release,
            accepted=tuple(accepted),
        )
    return java


def _places(environ: Mapping[str, str], platform: str, root: Path) -> Iterator[Path]:
    if home := environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if on_path := find_program("java", environ):
        yield on_path
    folders = [(root, pattern.removeprefix("/")) for pattern in (_MAC if platform == "darwin" else _LINUX)]
    if home := environ.get("HOME"):
        patterns = (*_OF_USER, *(_OF_USER_ON_MAC if platform == "darwin" else ()))
        folders += [(Path(home), pattern) for pattern in patterns]
    for base, pattern in folders:
        for folder in sorted(base.glob(pattern)):
            yield folder / "bin" / "java"


def _without_options(environ: Mapping[str, str]) -> dict[str, str]:
    """Options from the environment would change what is asked, and are announced on the output."""
    return {
        name: value
        for name, value in environ.items()
        if name not in {"JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS"}
    }


def _either(accepted: Sequence[int]) -> str:
    return " or ".join(map(str, accepted))
