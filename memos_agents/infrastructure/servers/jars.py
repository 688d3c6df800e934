"""The server's jars: fetched by the user's own Maven into the user's cache, complete or not at all.

The pom below is only a list; nothing is compiled and nothing enters our package. Jars stay one by one, because service
files and log4j's plugin list must not be merged. The list stands alone: another dependency beside it may lift netty to
a version that the server does not run with.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TypeAlias

from memos_agents.infrastructure.servers.java import Java
from memos_agents.infrastructure.servers.locking import locked
from memos_agents.infrastructure.servers.programs import ServerFailed, ToolMissing, find_program, quotable

Progress: TypeAlias = Callable[[str, int, int], None]
"""Told what is going on, how much of it is done and how much there is (0: not known)."""

POM = """<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local.memos</groupId>
  <artifactId>neo4j-server-jars</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.neo4j</groupId>
      <artifactId>neo4j</artifactId>
      <version>${neo4j.version}</version>
    </dependency>
    <dependency>
      <groupId>org.neo4j.app</groupId>
      <artifactId>neo4j-server</artifactId>
      <version>${neo4j.version}</version>
    </dependency>
  </dependencies>
  <build>
    <plugins>
      <plugin>
        <groupId>org.apache.maven.plugins</groupId>
        <artifactId>maven-dependency-plugin</artifactId>
        <version>3.8.1</version>
        <configuration>
          <outputDirectory>${project.basedir}/jars</outputDirectory>
          <includeScope>runtime</includeScope>
          <useBaseVersion>true</useBaseVersion>
        </configuration>
      </plugin>
    </plugins>
  </build>
</project>
"""
# By its full name: looking a short one up fails first where no repository answers, with a misleading complaint
_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_MANIFEST = "jars.json"
# The entry point was renamed on the way from 5 to 2026: look rather than guess
_ENTRY_POINTS = ("org/neo4j/server/Neo4jCommunity.class", "org/neo4j/server/CommunityEntryPoint.class")
_SECONDS_TO_FETCH = 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Jars:
    """A folder that holds every jar of one version, and the class that starts the server."""

    folder: Path
    entry_point: str


def find_maven(environ: Mapping[str, str]) -> Path:
    """Where Maven is; `ToolMissing` says how to get it."""
    found = find_program("mvn", environ)
    if found is None:
        raise ToolMissing(
            "without Docker the server's files are fetched by Maven, and there is no `mvn` on the search path. Install "
            "it (Debian, Ubuntu: apt install maven; Fedora: dnf install maven; macOS: brew install maven)"
        )
    return found


def cached_jars(version: str, cache: Path) -> Jars | None:
    """The jars of a version if the cache holds all of them, each of the size that it had when it was fetched."""
    folder = cache / "jars" / version
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
        is_whole = all(sizes.get(name) == size for name, size in manifest["size_bytes"].items())
        return Jars(folder=folder, entry_point=str(manifest["entry_point"])) if is_whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def fetch_jars(
    version: str, *, cache: Path, java: Java, environ: Mapping[str, str], progress: Progress | None = None
) -> Jars:
    """The jars of a version, from the cache or, the first time, by Maven (120-160 MB; a minute on a good line).

    A damaged or incomplete cache is noticed and fetched again. Processes that ask at once fetch once. Raises
    `ToolMissing` without Maven, `ServerFailed` with Maven's last lines when it fails.
    """
    if (jars := cached_jars(version, cache)) is not None:
        return jars
    maven = find_maven(environ)
    place = cache / "jars"
    with locked(place / f"{version}.lock", seconds=_SECONDS_TO_FETCH):
        if (jars := cached_jars(version, cache)) is not None:
            return jars
        for left in place.glob(f".{version}.*"):  # of a fetch that was killed: its lock is ours now
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".{version}.", dir=place) as staging:
            fetched = _run_maven(maven, version, Path(staging), java, environ, progress)
            _write_manifest(fetched, version)
            target = place / version
            if target.exists():
                shutil.rmtree(target)
            fetched.replace(target)
    jars = cached_jars(version, cache)
    if jars is None:
        raise ServerFailed(f"the jars of Neo4j {version} were changed while they were fetched; try again")
    return jars


def _run_maven(
    maven: Path, version: str, folder: Path, java: Java, environ: Mapping[str, str], progress: Progress | None
) -> Path:
    (folder / "pom.xml").write_text(POM, encoding="utf-8")
    environ = dict(environ)
    if "JAVA_HOME" not in environ and find_program("java", environ) is None:
        environ["JAVA_HOME"] = str(java.home)
    last: deque[str] = deque(maxlen=200)
    fetched = 0
    with subprocess.Popen(  # noqa: S603  # the user's Maven, arguments of ours, no shell
        [str(maven), "-B", f"-Dneo4j.version={version}", _GOAL],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            for line in process.stdout or ():
                last.append(quotable(line))
                if re.search(r"Downloaded from\b.*\.jar\b", last[-1]):
                    fetched += 1
                if progress is not None:
                    progress(f"fetching the jars of Neo4j {version} with Maven", fetched, 0)
        except BaseException:
            process.kill()
            raise
    jars = folder / "jars"
    if process.returncode or not any(jars.glob("neo4j-*.jar")):
        complaints = [
            line
            for line in takewhile(lambda line: "full stack trace" not in line, last)
            if re.match(r"\[ERROR\] .", line)
        ]
        raise ServerFailed(
            f"Maven could not fetch Neo4j {version} (exit code {process.returncode}); it needs a repository that has "
            "org.neo4j:neo4j, and a line to it (proxies and mirrors are set in ~/.m2/settings.xml)",
            output=complaints or last,
            exit_code=process.returncode,
        )
    return jars


def _write_manifest(folder: Path, version: str) -> None:
    jars = sorted(folder.glob("*.jar"))
    sizes = {path.name: path.stat().st_size for path in jars}
    entry_point = _find_entry_point(path for path in jars if path.name.startswith("neo4j"))
    if entry_point is None:
        raise ServerFailed(f"none of the {len(jars)} jars of Neo4j {version} has a known entry point")
    manifest = {"version": version, "entry_point": entry_point, "size_bytes": sizes}
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _find_entry_point(jars: Iterable[Path]) -> str | None:
    found: set[str] = set()
    for path in jars:
        with zipfile.ZipFile(path) as jar:
            found.update(set(_ENTRY_POINTS) & set(jar.namelist()))
    return next((name.removesuffix(".class").replace("/", ".") for name in _ENTRY_POINTS if name in found), None)
