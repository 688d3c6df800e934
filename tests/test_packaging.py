"""What a stranger installs is what stands in the checkout: every file, the right metadata, nothing under foreign names.

Builds run without a network: the build backend and uv are test dependencies, so there is no build isolation.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import uv

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = ("memos_agents", "connectors", "graphs")
LEFTOVERS = shutil.ignore_patterns("__pycache__", "*.pyc", ".*_cache")


def installed_files() -> dict[str, Path]:
    """Every file of the package in the checkout, by the path it must have once installed."""
    files: dict[str, Path] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            within = path.relative_to(ROOT)
            is_through_link = within.parts[0] == "memos_agents" and within.parts[1] in FOLDERS
            is_source = path.is_file() and "__pycache__" not in within.parts and not path.name.startswith(".")
            if is_source and not is_through_link:
                name = within if folder == "memos_agents" else Path("memos_agents") / within
                files[name.as_posix()] = path
    return files


def tracked_files() -> list[Path]:
    """Every file that is, or would be, in the repository; a checkout without git has no answer."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode:
        pytest.skip("not a git checkout, so which files belong to the project is not known")
    paths = (ROOT / name for name in listing.stdout.split("\0") if name)
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def run(command: list[str], cwd: Path, **environment: str) -> str:
    """Standard output of a command that must succeed, with a bare environment beside what is given."""
    kept = {"PATH": "/usr/bin:/bin", "HOME": str(cwd), "UV_OFFLINE": "1", "UV_NO_CONFIG": "1", **environment}
    done = subprocess.run(command, cwd=cwd, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of a copy of the checkout, and the wheel built from that sdist."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=LEFTOVERS)
    dist = tmp_path_factory.mktemp("dist")
    command = [uv.find_uv_bin(), "build", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(dist)]
    run(command, cwd=copy, UV_CACHE_DIR=str(tmp_path_factory.mktemp("cache")))
    return dist


@pytest.fixture(scope="module")
def wheel(artefacts: Path) -> Iterator[zipfile.ZipFile]:
    (path,) = artefacts.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


@pytest.fixture(scope="module")
def wheel_site(artefacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel is installed into, without its dependencies."""
    (path,) = artefacts.glob("*.whl")
    site = tmp_path_factory.mktemp("site")
    command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--python", sys.executable]
    cache = str(tmp_path_factory.mktemp("cache"))
    run([*command, "--target", str(site), str(path)], cwd=site, UV_CACHE_DIR=cache)
    return site


def test_the_wheel_built_through_the_sdist_holds_every_source_file_unchanged(wheel: zipfile.ZipFile) -> None:
    expected = {name: path.read_bytes() for name, path in installed_files().items()}
    built = {name: wheel.read(name) for name in wheel.namelist() if ".dist-info/" not in name}
    assert (expected.keys() - built.keys(), built.keys() - expected.keys()) == (set(), set())
    assert [name for name in built if built[name] != expected[name]] == []
    assert {"memos_agents/py.typed", "memos_agents/connectors/__init__.py", "memos_agents/graphs/__init__.py"} <= set(
        built
    )


def test_the_sdist_is_enough_to_build_from(artefacts: Path) -> None:
    (path,) = artefacts.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "memos_agents/py.typed", "connectors/__init__.py"} <= names


def test_the_package_list_names_every_package() -> None:
    found = {Path(name).parent.as_posix().replace("/", ".") for name in installed_files() if name.endswith(".py")}
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert (found - set(listed), set(listed) - found) == (set(), set())
    assert listed == sorted(listed)


def test_the_metadata_says_what_the_project_file_says(metadata: Message, wheel: zipfile.ZipFile) -> None:
    project = PROJECT["project"]
    assert (metadata["Name"], metadata["Version"]) == (project["name"], project["version"])
    assert metadata["Requires-Python"] == project["requires-python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert sorted(metadata.get_all("Provides-Extra") or []) == sorted(project["optional-dependencies"])
    base = {_name_of(line) for line in metadata.get_all("Requires-Dist") or [] if "extra ==" not in line}
    assert base == {_name_of(line) for line in project["dependencies"]}
    assert "Apache License" in wheel.read(next(n for n in wheel.namelist() if n.endswith("LICENSE"))).decode()


def test_every_dependency_has_a_lower_bound_and_none_is_pinned() -> None:
    project = PROJECT["project"]
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name != "all"}
    for line in [*project["dependencies"], *(line for lines in extras.values() for line in lines)]:
        assert ">=" in line or re.search(r">=?\d", line), line
        assert "==" not in line, line
    (everything,) = project["optional-dependencies"]["all"]
    assert sorted(re.findall(r"[\w-]+", everything.partition("[")[2])) == sorted(extras)


def test_both_console_scripts_start_the_same_program() -> None:
    scripts = {point.name: point.value for point in entry_points(group="console_scripts")}
    assert scripts["memos"] == scripts["memos-agents"] == "memos_agents.cli:main"


def test_no_global_connectors_or_graphs_beside_the_editable_install(tmp_path: Path) -> None:
    assert _importable(tmp_path) == "memos_agents.connectors memos_agents.graphs"


def test_no_global_connectors_or_graphs_beside_the_installed_wheel(wheel_site: Path, tmp_path: Path) -> None:
    assert _importable(tmp_path, site=wheel_site) == "memos_agents.connectors memos_agents.graphs"
    assert sorted(path.name for path in wheel_site.glob("*/__init__.py")) == ["__init__.py"]
    assert {"memos", "memos-agents"} <= {path.name for path in (wheel_site / "bin").iterdir()}


def test_the_constraints_hold_every_requirement_with_hashes() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    held = {_name_of(block) for block in blocks}
    assert all("--hash=sha256:" in block for block in blocks)
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *PROJECT["build-system"]["requires"]]
    wanted += [line for name, lines in project["optional-dependencies"].items() if name != "all" for line in lines]
    wanted += [line for lines in PROJECT["dependency-groups"].values() for line in lines if isinstance(line, str)]
    assert {_name_of(line) for line in wanted} <= held


def test_no_file_names_a_registry_or_a_folder_of_somebodys_machine() -> None:
    # Written so that this file does not hold what it looks for.
    folders = "|".join(("root", "work", "tmp", "home/[a-z]+", "Users/[A-Za-z]+"))
    machine = re.compile(rf"(?<![\w.])/(?:{folders})/")
    registry = re.compile(
        r"https?://[\w.:-]+/(?:simple|maven2|npm|artifactory|pypi)\b|pythonhosted[.]org|--(?:extra-)?index-ur[l]"
    )
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if machine.search(line) or registry.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    assert not found, "\n".join(found)


def test_no_lock_file_that_names_a_registry_is_in_the_repository() -> None:
    assert not {path.name for path in tracked_files()} & {"uv.lock", "poetry.lock", "package-lock.json", "Pipfile.lock"}


def _name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match.group()).lower()


def _importable(empty: Path, site: Path | None = None) -> str:
    """Which of our folders a program elsewhere can import; with `site`, from that folder and nothing else."""
    program = f"""
import importlib.util, sys
site = {str(site) if site else None!r}
if site: sys.path.insert(0, site)
names = ["connectors", "graphs", "tests", "memos_agents.connectors", "memos_agents.graphs"]
print(*[name for name in names if importlib.util.find_spec(name)])
if site: assert importlib.util.find_spec("memos_agents").origin.startswith(site)
"""
    # -S leaves out site-packages and with it the editable install.
    return run([sys.executable, "-P", *(["-S"] if site else []), "-c", program], cwd=empty).strip()
