"""A detached process that is found again and never mistaken for another one.

The process writes its own id before it becomes the program, so a launcher that is killed meanwhile leaves no process
that nobody knows. Its arguments carry a random token; an id is believed only while the process with that id carries it,
so a reused id is never taken, and never killed, for ours.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from memos_agents.infrastructure.servers.programs import ServerFailed, ask

PID_FILE = "server.pid"
_PROC = Path("/proc")
_SECONDS_BETWEEN_LOOKS = 0.05
_SECONDS_TO_SPAWN = 30.0
# $1 the file for the process id, $2 the log, then the program: a file holds the whole id or does not exist
_SPAWN = """
ulimit -n 40000 2>/dev/null || ulimit -n "$(ulimit -Hn)" 2>/dev/null
pid_file=$1 log=$2; shift 2
sh -c 'echo $$ >"$0.new" && mv "$0.new" "$0" && exec "$@"' "$pid_file" "$@" </dev/null >>"$log" 2>&1 &
"""


def spawn(command: Sequence[str], *, folder: Path, log: Path, cwd: Path, environ: Mapping[str, str], token: str) -> int:
    """Start `command`, which must carry `token`, in a session of its own; return its process id.

    It outlives this process, is no child of it, and writes to `log`. A log of before is kept as `<log>.1`.
    """
    pid_file = folder / PID_FILE
    pid_file.unlink(missing_ok=True)
    if log.exists():
        log.replace(log.with_name(log.name + ".1"))
    done = subprocess.run(  # noqa: S603  # a constant script; program and paths are arguments
        ["/bin/sh", "-c", _SPAWN, "sh", str(pid_file), str(log), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env=dict(environ),
        start_new_session=True,
        check=False,
    )
    deadline = time.monotonic() + _SECONDS_TO_SPAWN
    while (pid := written_pid(folder)) is None:
        if done.returncode or time.monotonic() >= deadline:
            raise ServerFailed(
                f"{command[0]!r} could not be started", output=done.stderr.decode(errors="replace").splitlines()
            )
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    return pid


def written_pid(folder: Path) -> int | None:
    """The id that the last process in `folder` wrote; says nothing about whether it still runs."""
    try:
        text = (folder / PID_FILE).read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return int(text) if text.isdigit() and int(text) > 1 else None


def running_pid(folder: Path, token: str) -> int | None:
    """The id of the process that was started with `token`, if it runs."""
    pid = written_pid(folder)
    return pid if pid is not None and carries(pid, token) else None


def carries(pid: int, token: str) -> bool:
    """Whether a process with this id runs and has `token` among its arguments. A zombie has no arguments left."""
    if (_PROC / "self" / "cmdline").exists():
        return token.encode() in _arguments(pid)
    answer = ask(["ps", "-ww", "-o", "command=", "-p", str(pid)], environ=_PS_ENVIRONMENT, seconds=10)
    return answer is not None and token in answer.out


def stop(folder: Path, token: str, *, seconds: float) -> bool:
    """End the process that was started with `token`: ask, and after `seconds` kill. False if it did not run."""
    pid = running_pid(folder, token)
    if pid is None:
        (folder / PID_FILE).unlink(missing_ok=True)
        return False
    for sent, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 30.0)):
        if patience > 0 and carries(pid, token):
            _signal(pid, sent)
            if _is_gone(pid, token, seconds=patience):
                break
    else:
        if carries(pid, token):
            raise ServerFailed(f"process {pid} does not end, not even killed; look at the machine")
    (folder / PID_FILE).unlink(missing_ok=True)
    return True


def resident_bytes(pid: int) -> int | None:
    """Main memory that a process holds, None where the system does not say."""
    try:
        lines = (_PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        answer = ask(["ps", "-o", "rss=", "-p", str(pid)], environ=_PS_ENVIRONMENT, seconds=10)
        text = answer.out.strip() if answer is not None else ""
        return int(text) * 1024 if text.isdigit() else None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), None)


_PS_ENVIRONMENT: Mapping[str, str] = {"PATH": "/bin:/usr/bin", "LC_ALL": "C"}


def _arguments(pid: int) -> bytes:
    """The arguments of a process on Linux, empty if it ended. While a process becomes another program it has none."""
    place = _PROC / str(pid)
    try:
        for _ in range(20):
            if found := (place / "cmdline").read_bytes():
                return found
            if (place / "stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X"):
                break
            time.sleep(0.01)
    except (OSError, IndexError):
        pass
    return b""


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _is_gone(pid: int, token: str, *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while carries(pid, token):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    return True
