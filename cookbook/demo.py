"""What `make demo` shows: memory working on nine months of one person's life. No key, no network, nothing left behind.

It replays `conversations/lisbon.jsonl` (written for this project) into a fresh store under a simulated clock, so that
"as of last month" means what it says, and it checks every claim it prints: exit code 1 if one does not hold.
`--keep FOLDER` leaves the store there for the command line.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.table import Table
from rich.tree import Tree

from memos_agents import Agent, MemCube, MemOS, VersionRef

CONVERSATION = Path(__file__).parent / "conversations" / "lisbon.jsonl"
USER = "mara"
MARA, JUNO = Agent(id="mara", kind="user"), Agent(id="juno", kind="assistant")
SUMMARISER = Agent(id="summariser", kind="model")
STORE, PAGE = "demo.db", "provenance.html"
LOOKED_AT = 3  # a question counts as answered when the right turn is among this many hits

# A question, and a pattern that only the turns which answer it match.
QUESTIONS = (
    ("How did the half marathon on 29 March go?", r"2:07:41"),
    (
        "Is Mara allergic to walnuts or hazelnuts?",
        r"It's not walnuts\. It's hazelnuts|walnuts are fine, hazelnuts aren't",
    ),
    ("Who is Bacci's vet now?", r"Dr\. Beatriz Antunes at the clinic|vet is Dr\. Beatriz Antunes"),
    ("Does Mara eat fish?", r"done with being a strict vegetarian|Pescatarian: fish"),
    ("What does Inês think of slides?", r"no deck in my first month|raw quotes and no slides"),
    ("What happened to the flat in Graça?", r"The Graça flat was a scam"),
    ("What is the grocery budget since August?", r"Let's make it 420|Grocery budget: 420"),
    ("Where does Tomás work since August?", r"Since 1 August he's been|since 1 August Tomás works"),
)

console = Console(highlight=False, width=min(Console().width, 110) if Console().is_terminal else 110)


class Calendar:
    """The clock of the demo's store: it stands where the story is."""

    def __init__(self) -> None:
        self.today = day("2026-01-01")

    def __call__(self) -> datetime:
        return self.today


@dataclass
class Facts:
    """What the application keeps besides the turns: one cube for each thing that it wants to know for sure."""

    home: MemCube
    hospital: MemCube
    clinic: MemCube


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the store in this folder")
    keep: Path | None = parser.parse_args().keep
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="memos-demo-") as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        store = folder / STORE
        check(not store.exists(), f"{store} exists already; give --keep another folder")
        calendar = Calendar()
        with MemOS.open(store, clock=calendar) as memos:
            facts = replay(memos, calendar)
            answer_questions(memos)
            travel_in_time(memos, facts)
            derive_and_change(memos, folder)
            forget(memos, folder)
            verify(memos)
    say_goodbye(time.perf_counter() - started, keep)


def replay(memos: MemOS, calendar: Calendar) -> Facts:
    """Add the conversation session by session, each at its own time, and keep three facts beside it."""
    messages = [json.loads(line) for line in CONVERSATION.read_text(encoding="utf-8").splitlines()]
    sessions = [(name, list(turns)) for name, turns in groupby(messages, key=lambda message: message["session_id"])]
    heading(
        "1  Remember",
        f"{len(messages)} turns between Mara and her assistant Juno, {len(sessions)} sessions, January to September "
        "2026. Every turn is embedded and indexed on this machine; nothing is sent anywhere.",
    )
    facts: dict[str, MemCube] = {}
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("adding turns", total=len(messages))
        for name, turns in sessions:
            calendar.today = datetime.fromisoformat(turns[-1]["created_at"])
            memos.add(turns, user_id=USER, session_id=name)
            keep_facts(memos, name, facts)
            progress.advance(task, len(turns))
    calendar.today = day("2026-09-30")
    stats = memos.stats(user_id=USER)
    check(stats.cubes == len(messages) + len(facts), f"{stats.cubes} cubes after adding {len(messages)} turns")
    console.print(f"  {stats.cubes} cubes, {stats.versions} versions, each with its source, author and two times.")
    return Facts(**facts)


def keep_facts(memos: MemOS, session: str, facts: dict[str, MemCube]) -> None:
    """What an application (or an extraction step) writes down when it hears something it wants to know for sure."""

    def fact(name: str, text: str, since: str | None = None) -> None:
        true_from = day(since) if since else None
        facts[name] = memos.add(
            text, user_id=USER, key=name, collection="facts", semantic_type="fact", agent=JUNO, valid_from=true_from
        )[0]

    if session == "2026-01-06":
        fact("home", "Mara lives in Berlin, in Neukölln.")
    elif session == "2026-05-12":
        fact("home", "Mara lives in Lisbon, in Arroios.")
    elif session == "2026-05-20":
        fact("hospital", "Tomás works at the hospital Dona Estefânia.", since="2026-05-18")
    elif session == "2026-09-05":
        fact("home", "Mara lives in Lisbon, from 3 October in Campo de Ourique.")
    elif session == "2026-09-12":  # told now, true since August
        facts["hospital"] = memos.update(facts["hospital"].id, valid_to=day("2026-08-01"), agent=JUNO)
        fact("clinic", "Tomás works at a clinic in Alvalade.", since="2026-08-01")


def answer_questions(memos: MemOS) -> None:
    """Ask, and check that the turn that answers is among the first hits."""
    heading(
        "2  Ask",
        f"Hybrid search, exact and offline; a turn that answers must be among the first {LOOKED_AT} hits. Why it was "
        "found: context = its words and those around it, meaning = vectors, session = how well that fits, the rest = "
        "who said it, when, and in reply to what.",
    )
    for question, pattern in QUESTIONS:
        begun = time.perf_counter()
        hits = memos.search(question, user_id=USER, limit=10)
        milliseconds = (time.perf_counter() - begun) * 1000
        ranks = [rank for rank, hit in enumerate(hits, 1) if re.search(pattern, hit.cube.text)]
        if not ranks or ranks[0] > LOOKED_AT:
            for rank, hit in enumerate(hits, 1):
                say(f"{rank}. {escape(shortened(hit.cube.text))}", indent=4)
        check(bool(ranks) and ranks[0] <= LOOKED_AT, f"{question!r} has its turn not among {LOOKED_AT} hits: {ranks}")
        hit = hits[ranks[0] - 1]
        origin = memos.provenance(hit.cube.id, direction="up").activities[0]
        about = hit.cube.descriptive
        shares = " + ".join(f"{name} {share:.2f}" for name, share in hit.why.items() if share >= 0.005)
        say(f"\n[bold]{escape(question)}[/]  [dim]{milliseconds:.0f} ms[/]")
        say(f"[green]{ranks[0]}.[/] {escape(shortened(hit.cube.text))}", indent=4)
        say(f"[dim]why   {hit.score:.2f} = {escape(shares)}[/]", indent=7)
        say(
            f"[dim]from  {about.name} ({about.role}) in session {hit.cube.scope.session_id}; "
            f"recorded {when(hit.cube.recorded_at)} by {escape(origin.agent.id)} ({origin.kind})[/]",
            indent=7,
        )


def travel_in_time(memos: MemOS, facts: Facts) -> None:
    """Versions of a fact, what was believed last month, and what was true last month."""
    heading("3  Change", "A fact with a key: adding it again writes a new version, and the old one stays readable.")
    history = memos.history(facts.home.id)
    check([cube.version for cube in history] == [1, 2, 3], "the fact 'home' does not have three versions")
    table = Table("version", "believed from", "until", "text", box=None, padding=(0, 2), header_style="dim")
    for cube in history:
        until = when(cube.superseded_at) if cube.superseded_at else "now"
        table.add_row(str(cube.version), when(cube.recorded_at), until, escape(cube.text))
    console.print(table)

    console.print("\n  [bold]The same question at two times[/] (as_of: believed then; valid_at: true then)")
    last_month, mid_august = day("2026-08-31"), day("2026-08-15")
    table = Table("question", "as_of", "valid_at", "answer", box=None, padding=(0, 2), header_style="dim")
    for question, as_of, valid_at, expected in (
        ("Where does Mara live?", None, None, "Campo de Ourique"),
        ("Where does Mara live?", last_month, None, "Arroios"),
        ("Where does Mara live?", day("2026-03-01"), None, "Berlin"),
        ("Where does Tomás work?", None, mid_august, "Alvalade"),
        ("Where does Tomás work?", last_month, mid_august, "Dona Estefânia"),
    ):
        hit = memos.search(question, user_id=USER, collection="facts", as_of=as_of, valid_at=valid_at, limit=1)[0]
        check(expected in hit.cube.text, f"{question!r} as of {as_of}, valid at {valid_at}, found {hit.cube.text!r}")
        table.add_row(
            question, when(as_of) if as_of else "now", when(valid_at) if valid_at else "", escape(hit.cube.text)
        )
    console.print(table)
    console.print("  [dim]Mara said on 12 September that Tomás had changed his job on 1 August: hence the last two.[/]")


def derive_and_change(memos: MemOS, folder: Path) -> None:
    """A summary made from two turns stops being used at the moment one of them changes."""
    heading("4  Derive", "A summary knows the turns it was made from. When one of them changes, it is stale at once.")
    rent = turn(memos, "When did she sign for the lemon tree?", "1,400 a month, two years")
    van = turn(memos, "Who comes with the van on Saturday?", "Paulo, he'll come at nine")
    plan, ask = "Moving plan: Paulo brings the van at nine on 3 October; the rent is 1,400.", "What is the moving plan?"
    summary = memos.add(
        plan, user_id=USER, key="moving plan", semantic_type="summary", derived_from=[rent, van], agent=SUMMARISER
    )[0]
    check(found(memos, ask, summary), "the summary is not found")
    console.print(Padding(drawn(memos, summary), (0, 0, 0, 2)))
    page = memos.provenance(summary.id, direction="up").to_html()
    (folder / PAGE).write_text(page, encoding="utf-8")

    new = memos.update(van.id, van.text.replace("at nine", "at eleven"), expected_version=1, agent=MARA)
    check(memos.get(summary.id).is_stale, "the summary is not stale although its source changed")
    check(not found(memos, ask, summary), "a stale summary was returned")
    console.print("  Mara corrects the turn: eleven, not nine. The summary is [yellow]stale[/], search leaves it out.")
    memos.add(
        plan.replace("nine", "eleven"), user_id=USER, key="moving plan", semantic_type="summary",
        derived_from=[rent, new], agent=SUMMARISER,
    )  # fmt: skip
    check(found(memos, ask, summary), "the rebuilt summary is not found")
    console.print("  Rebuilt from the new version: found again, as version 2 of the same cube.")


def forget(memos: MemOS, folder: Path) -> None:
    """Erase what Mara asked to have deleted, with everything made from it, and look into the files."""
    heading("5  Forget", "On 27 September Mara asks: delete what I told you about Dr. Ahlersmann. All of it.")
    secret = "ahlersmann"
    hits = memos.search("Dr. Ahlersmann", user_id=USER, limit=10)
    turns = [hit.cube for hit in hits if secret in hit.cube.text.lower()]
    check(len(turns) == 3, f"{len(turns)} turns about her were found, not 3")
    text = "Dr. Ahlersmann supported Mara through the move."
    note = memos.add(text, user_id=USER, derived_from=turns[:1], agent=SUMMARISER)[0]
    before = bytes_with(folder, secret)
    check(before > 0, "the negative control: the files should hold the name before the erase")

    receipt = memos.erase([cube.id for cube in turns], agent=MARA)
    derived = [tombstone for tombstone in receipt.tombstones if tombstone.is_derived]
    check(note.id in {tombstone.ref.cube_id for tombstone in derived}, "what was derived was not erased")
    left = [hit for hit in memos.search("Dr. Ahlersmann", user_id=USER, limit=50) if secret in hit.cube.text.lower()]
    check(not left, "search still finds what was erased")
    check(bytes_with(folder, secret) == 0, "a file of the store still holds the name")
    verdict = receipt.verify(memos)
    check(receipt.is_complete and verdict.ok, f"the receipt does not hold: {verdict.problems}")
    console.print(f"  receipt   {receipt.activity_id} on {when(receipt.at)}, by {escape(receipt.agent.id)}")
    console.print(f"  erased    {len(turns)} turns and {len(derived)} note made from them; only hashes stay")
    console.print("  search    finds nothing any more")
    console.print(f"  grep      {before} places in the store's files held the name before, 0 hold it now")
    console.print("  receipt   verified against the store: [green]complete[/]")


def verify(memos: MemOS) -> None:
    """Hash chain, lineage, indexes and blobs of the whole store."""
    heading("6  Verify", "The log is a hash chain; content, index and provenance changed in the same transactions.")
    report = memos.verify()
    check(report.ok, f"verify found {report.problems}")
    kinds = Counter(entry.kind for entry in memos.log(user_id=USER, limit=1000))
    console.print("  log       " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
    console.print("  verify    [green]ok[/], no problems")


def say_goodbye(seconds: float, folder: Path | None) -> None:
    """Where to go next."""
    heading("Next", f"All of this took {seconds:.1f} s and every claim above was checked.")
    programs = Path(sys.executable).parent
    programs = programs.relative_to(Path.cwd()) if programs.is_relative_to(Path.cwd()) else programs
    if folder:
        say(f"{programs}/memos search 'Who is the vet?' --user {USER} --store {folder / STORE}")
        say(f"{folder / PAGE}: where the moving plan came from, drawn")
    else:
        say(f"{programs}/python cookbook/demo.py --keep lisbon: the same, and the store stays in lisbon/ for `memos`")
    say("cookbook/01_first_memory.py: the ideas one by one, as a script or a notebook")
    say("README.md: the API, the command line, guarantees and limits")


def turn(memos: MemOS, question: str, words: str) -> MemCube:
    """The turn that holds `words`, found by asking."""
    for hit in memos.search(question, user_id=USER, limit=20):
        if words in hit.cube.text:
            return hit.cube
    check(False, f"{question!r} did not find the turn with {words!r}")
    raise AssertionError


def drawn(memos: MemOS, cube: MemCube) -> Tree:
    """What `cube` was derived from, as a tree."""
    graph = memos.provenance(cube.id, direction="up")
    entities, acts = {node.ref: node for node in graph.entities}, {act.id: act for act in graph.activities}

    def label(ref: VersionRef) -> str:
        act = acts[entities[ref].generated_by or ""]
        return f"{escape(entities[ref].label)} [dim]({act.kind} by {escape(act.agent.id)}, {when(act.started_at)})[/]"

    tree = Tree(label(graph.root))
    for derivation in graph.derivations:
        if derivation.derived == graph.root and isinstance(derivation.source, VersionRef):
            tree.add(f"[dim]from[/] {label(derivation.source)}")
    return tree


def found(memos: MemOS, question: str, cube: MemCube) -> bool:
    return any(hit.cube.id == cube.id for hit in memos.search(question, user_id=USER))


def bytes_with(folder: Path, word: str) -> int:
    """How often `word` stands in the files under `folder`, whatever its case: what `grep` would see."""
    return sum(path.read_bytes().lower().count(word.encode()) for path in folder.rglob("*") if path.is_file())


def heading(title: str, text: str) -> None:
    console.print()
    console.print(Rule(f"[bold]{title}[/]", align="left"))
    say(escape(text))


def say(text: str, *, indent: int = 2) -> None:
    """Print with every line indented, also where it wraps."""
    console.print(Padding(text, (0, 0, 0, indent)))


def shortened(text: str) -> str:
    return f"“{text}”" if len(text) <= 170 else f"“{text[:167].rstrip()}...”"


def when(moment: datetime | None) -> str:
    return f"{moment.day} {moment:%b %Y}" if moment else "at an unknown time"


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def check(holds: bool, otherwise: str) -> None:
    """Stop with exit code 1 and say which claim of the demo does not hold."""
    if not holds:
        console.print(f"\n  [bold red]The demo failed:[/] {escape(otherwise)}")
        sys.exit(1)


if __name__ == "__main__":
    main()
