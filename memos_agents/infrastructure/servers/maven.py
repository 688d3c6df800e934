"""A server as a plain process: jars from the cache, a Java that fits, a folder with settings, data and logs."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from memos_agents.infrastructure.servers import process
from memos_agents.infrastructure.servers.jars import Jars, Progress, fetch_jars, find_maven
from memos_agents.infrastructure.servers.java import Java, accepts, find_java
from memos_agents.infrastructure.servers.keeping import Resources, Sighting, size_bytes
from memos_agents.infrastructure.servers.record import How, Record
from memos_agents.infrastructure.servers.versions import fitting_java

LOG = Path("logs") / "console.log"
_FOLDERS = ("conf", "data", "import", "licenses", "logs", "plugins", "run", "temporary")
# Heap and these flags are read by Neo4j's start script, not by the server, so they are given here. Unknown -XX flags of
# another Java are passed over.
_FLAGS = (
    "-XX:+IgnoreUnrecognizedVMOptions",
    "-XX:+UseG1GC",
    "-XX:-OmitStackTraceInFastThrow",
    "-XX:+UnlockExperimentalVMOptions",
    "-XX:+TrustFinalNonStaticFields",
    "-XX:+DisableExplicitGC",
    "-Djdk.nio.maxCachedBufferSize=1024",
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-Dio.netty.leakDetection.level=DISABLED",
    "-Djol.skipHotspotSAAttach=true",
    "-Dlog4j2.disable.jmx=true",
    "-Dlog4j.layout.jsonTemplate.maxStringLength=32768",
    "-Djava.awt.headless=true",
    "-Dfile.encoding=UTF-8",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
    "--enable-native-access=ALL-UNNAMED",
)
_VECTOR_INSTRUCTIONS = "--add-modules=jdk.incubator.vector"  # for the vector index; some builds of Java leave it out


@dataclass(frozen=True, slots=True, kw_only=True)
class MavenStarter:
    """Starts servers of one version as processes of their own."""

    java: Java
    jars: Jars
    version: str
    environ: Mapping[str, str]

    @property
    def how(self) -> How:
        """Which of the ways it is."""
        return "maven"

    @property
    def runner(self) -> str:
        """What runs the server, for people."""
        return f"Java {self.java.release}"

    def start(self, record: Record, folder: Path, *, resources: Resources, password: str | None) -> None:
        """Write the settings and start the process."""
        for name in _FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        settings = server_settings(record.port, resources, has_auth=record.has_auth)
        (folder / "conf" / "neo4j.conf").write_text(settings, encoding="utf-8")
        process.spawn(
            self._command(record, folder, resources),
            folder=folder,
            log=folder / LOG,
            cwd=self.jars.folder,  # so that no path stands in the class path, where a colon would split it
            environ=_server_environment(self.environ, folder),
            token=record.token,
        )

    def _command(self, record: Record, folder: Path, resources: Resources) -> list[str]:
        has_vectors = self.java.release >= 21 and accepts(self.java, [_VECTOR_INSTRUCTIONS], self.environ)
        return [
            str(self.java.path),
            *java_flags(self.java.release, self.version, resources),
            *([_VECTOR_INSTRUCTIONS] if has_vectors else []),
            f"-Djava.io.tmpdir={folder / 'temporary'}",  # native libraries are unpacked there: never a noexec folder
            f"-Dmemos.server={record.token}",
            "-cp",
            "./*",
            self.jars.entry_point,
            f"--home-dir={folder}",
            f"--config-dir={folder / 'conf'}",
            "--console-mode",
        ]


class ProcessKeeper:
    """Looks after a server that runs as a process."""

    def look(self, record: Record, folder: Path) -> Sighting:
        """See how the last start is."""
        pid = process.running_pid(folder, record.token)
        if pid is not None:
            return Sighting(state="alive", pid=pid)
        return Sighting(state="stopped" if process.written_pid(folder) is None else "died")

    def stop(self, record: Record, folder: Path, *, seconds: float) -> bool:
        """End it, by force after `seconds`; False if it did not run."""
        return process.stop(folder, record.token, seconds=seconds)

    def log(self, record: Record, folder: Path, *, lines: int) -> list[str]:
        """The last lines of its console."""
        try:
            with (folder / LOG).open(encoding="utf-8", errors="replace") as file:
                return [line.rstrip("\n") for line in deque(file, maxlen=lines)]
        except FileNotFoundError:
            return []

    def remove_data(self, record: Record, folder: Path) -> None:
        """Forget everything that the stopped server stored."""
        for name in _FOLDERS:
            shutil.rmtree(folder / name, ignore_errors=True)


def prepare_maven(
    version: str, *, cache: Path, environ: Mapping[str, str], java: Path | None = None, progress: Progress | None = None
) -> MavenStarter:
    """Find Java and the jars (see `fetch_jars`); `ToolMissing` says what is not here and how to get it."""
    found = find_java(fitting_java(version), environ=environ, given=java)
    jars = fetch_jars(version, cache=cache, java=found, environ=environ, progress=progress)
    return MavenStarter(java=found, jars=jars, version=version, environ=environ)


def check_tools(version: str, environ: Mapping[str, str]) -> None:
    """Raise `ToolMissing` unless Java and Maven are here; fetches and starts nothing."""
    find_java(fitting_java(version), environ=environ)
    find_maven(environ)


def server_settings(port: int, resources: Resources, *, has_auth: bool) -> str:
    """The settings file.

    Some keys are not known to every version, so the strict check, by which an unknown key stops the start, is off; it
    warns instead.
    """
    settings = {
        "server.config.strict_validation.enabled": "false",
        "server.default_listen_address": "127.0.0.1",
        "server.bolt.listen_address": f"127.0.0.1:{port}",
        "server.bolt.advertised_address": f"127.0.0.1:{port}",
        "server.http.enabled": "false",
        "server.https.enabled": "false",
        "dbms.security.auth_enabled": "true" if has_auth else "false",
        "dbms.usage_report.enabled": "false",
        "dbms.fleet_manager.enabled": "false",  # the newer ones offer themselves to Neo4j's console ...
        "server.fleet_discovery.enabled": "false",  # ... and announce themselves on the network
        "server.memory.pagecache.size": resources.page_cache,
        "db.tx_log.preallocate": "false",  # else 256 MB of log for each database
        "db.transaction.timeout": "120s",
        # A stop would wait ten seconds for clients that might still connect
        "internal.dbms.bolt.netty_server_shutdown_quiet_period": "0",
        "internal.dbms.bolt.netty_server_shutdown_quiet_period_duration": "0s",
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def java_flags(release: int, version: str, resources: Resources) -> Sequence[str]:
    """Flags for the Java of this release."""
    initial = resources.heap if size_bytes(resources.heap) < size_bytes("256m") else "256m"
    flags = [f"-Xms{initial}", f"-Xmx{resources.heap}", *_FLAGS]
    if resources.quick:
        flags.append("-XX:TieredStopAtLevel=1")
    if release >= 23:
        flags.append("--sun-misc-unsafe-memory-access=allow")
    if not version.startswith("5."):
        flags.append("-Dorg.neo4j.shaded.lucene9.vectorization.upperJavaFeatureVersion=25")
    return flags


def _server_environment(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Only what the server needs: no secrets of the caller, no JAVA_TOOL_OPTIONS; UTF-8, or file names break."""
    kept = {name: environ[name] for name in ("PATH", "HOME", "TZ") if name in environ}
    return {**kept, "LC_ALL": "C.UTF-8", "NEO4J_HOME": str(folder), "NEO4J_CONF": str(folder / "conf")}
