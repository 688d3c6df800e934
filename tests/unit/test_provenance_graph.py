"""Laws of the provenance graph: it walks every edge once, says the same in PROV-JSON, and draws nothing it must not."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prov.model import ProvDocument

from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.moment import from_microseconds
from memos_agents.cube.payload import MemoryType
from memos_agents.cube.state import MemoryState
from memos_agents.errors import InvalidRequest
from memos_agents.infrastructure.provenance.graph import EntityNode, ProvenanceGraph, label_of, walk
from memos_agents.infrastructure.provenance.layout import lay_out, picture_of
from memos_agents.infrastructure.provenance.values import (
    Activity,
    Agent,
    Derivation,
    Relation,
    RelationKind,
    Source,
)

T0 = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>`--> "]; click v0 href "javascript:alert(3)" %% &amp;'


def cube_id(number: int) -> str:
    return f"0196bbbb-1111-7000-8000-{number:012d}"


def ref(number: int, version: int = 1) -> VersionRef:
    return VersionRef(cube_id(number), version)


def node(at: VersionRef, label: str = "a memory", **fields: object) -> EntityNode:
    known: dict[str, object] = {
        "memory_type": MemoryType.PLAINTEXT,
        "state": MemoryState.ACTIVATED,
        "content_hash": "ab" * 32,
        "recorded_at": T0,
    }
    return EntityNode(ref=at, label=label, **(known | fields))  # type: ignore[arg-type]


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)
times = st.integers(0, 4 * 10**15).map(from_microseconds)
json_values = st.none() | st.booleans() | st.integers(-9, 9) | names | st.lists(names, max_size=2)
agents = st.builds(
    Agent,
    id=st.sampled_from(["mara", "a b", "-x.", "ü/ö:"]),
    kind=st.sampled_from(["user", "model", "system"]),
    name=st.none() | names,
)


@st.composite
def graphs(draw: st.DrawFn) -> ProvenanceGraph:
    refs = draw(st.lists(st.builds(ref, st.integers(0, 5), st.integers(1, 3)), min_size=1, max_size=8, unique=True))
    activity_ids = draw(st.lists(names, max_size=3, unique=True))
    sources = draw(
        st.lists(st.builds(Source, id=names, kind=names, locator=names, sha256=st.none() | names), max_size=3)
    )
    maker = st.none() | (st.sampled_from(activity_ids) if activity_ids else st.none())
    states = {each: draw(st.sampled_from(MemoryState)) for each in refs}
    entities = [
        EntityNode(
            ref=each,
            memory_type=draw(st.sampled_from(MemoryType)),
            state=states[each],
            content_hash=draw(st.sampled_from(["", "ab" * 32])),
            recorded_at=draw(times),
            superseded_at=draw(st.none() | times),
            is_stale=draw(st.booleans()),
            generated_by=draw(maker),
            invalidated_by=draw(maker),
            label="" if states[each] is MemoryState.ERASED else draw(names),
        )
        for each in refs
    ]
    origins: st.SearchStrategy[VersionRef | str] = st.sampled_from([*refs, *(source.id for source in sources)])
    derivations = st.builds(
        Derivation,
        derived=st.sampled_from(refs),
        source=origins,
        kind=names.filter(bool),
    )
    relations = st.builds(
        Relation,
        source_id=st.builds(cube_id, st.integers(0, 7)),
        kind=st.sampled_from(RelationKind),
        target_id=st.builds(cube_id, st.integers(0, 7)),
        properties=st.dictionaries(names, json_values, max_size=2),
    )
    return ProvenanceGraph.build(
        draw(st.sampled_from(refs)),
        entities=entities,
        sources=sources,
        activities=[
            Activity(
                id=each,
                kind=draw(names.filter(bool)),
                started_at=draw(times),
                agent=draw(agents),
                parameters=draw(st.dictionaries(names, json_values, max_size=2)),
            )
            for each in activity_ids
        ],
        derivations=draw(st.lists(derivations, max_size=6)),
        revisions=draw(st.lists(st.integers(0, 3).map(lambda n: (ref(n, 2), ref(n, 1))), max_size=3)),
        relations=draw(st.lists(relations, max_size=3)),
        truncated=draw(st.booleans()),
    )


# --- walking -------------------------------------------------------------------------------------------------------


def neighbours_of(edges: Iterable[tuple[int, int]], calls: list[int] | None = None):
    def neighbours(frontier: Sequence[VersionRef], way: str) -> list[tuple[VersionRef, VersionRef]]:
        if calls is not None:
            calls.append(len(frontier))
        ends = [(ref(a), ref(b)) if way == "up" else (ref(b), ref(a)) for a, b in edges]
        return [(start, end) for start, end in ends if start in frontier]

    return neighbours


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25), st.integers(0, 4))
def test_a_walk_finds_exactly_what_is_within_reach(edges: list[tuple[int, int]], depth: int) -> None:
    found, truncated = walk(ref(0), "up", depth, neighbours_of(edges))
    reach = {0}
    for _ in range(depth):
        reach |= {b for a, b in edges if a in reach}
    assert set(found) == {ref(number) for number in reach}
    assert len(found) == len(set(found))
    assert not truncated


def test_both_ways_leave_out_siblings() -> None:
    edges = [(1, 0), (2, 0), (3, 1)]  # 1 and 2 come from 0, 3 comes from 1
    found, _ = walk(ref(1), "both", None, neighbours_of(edges))
    assert set(found) == {ref(1), ref(0), ref(3)}


def test_a_step_is_one_question_and_circles_end() -> None:
    calls: list[int] = []
    found, _ = walk(ref(0), "up", None, neighbours_of([(0, 1), (0, 2), (1, 3), (2, 3), (3, 0)], calls))
    assert len(found) == 4
    assert calls == [1, 2, 1]


def test_the_limit_is_kept_and_told() -> None:
    edges = [(0, number) for number in range(1, 50)]
    found, truncated = walk(ref(0), "up", None, neighbours_of(edges), limit=10)
    assert (len(found), truncated) == (10, True)
    found, truncated = walk(ref(0), "up", None, neighbours_of(edges), limit=50)
    assert (len(found), truncated) == (50, False)


# --- PROV-JSON -----------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(graphs())
def test_prov_json_is_lossless_and_valid(graph: ProvenanceGraph) -> None:
    text = json.dumps(graph.to_prov_json())
    assert ProvenanceGraph.from_prov_json(json.loads(text)) == graph
    document = ProvDocument.deserialize(content=text, format="json")
    again = document.serialize(format="json")
    assert ProvDocument.deserialize(content=again, format="json") == document
    assert ProvenanceGraph.from_prov_json(json.loads(again)) == graph


def sample() -> ProvenanceGraph:
    add = Activity(id="a1", kind="add", started_at=T0, agent=Agent(id="mara", kind="user", name="Mara"))
    fuse = Activity(id="a2", kind="fuse", started_at=T0 + timedelta(days=1), agent=Agent(id="m", kind="model"))
    erase = Activity(id="a3", kind="erase", started_at=T0 + timedelta(days=2), agent=add.agent)
    return ProvenanceGraph.build(
        ref(3),
        entities=[
            node(ref(1), "Lisbon", generated_by="a1", superseded_at=T0 + timedelta(hours=1)),
            node(ref(1, 2), "Porto", generated_by="a1"),
            node(ref(2), "", generated_by="a1", state=MemoryState.ERASED, invalidated_by="a3"),
            node(ref(3), "Mara moved", generated_by="a2", is_stale=True),
            node(ref(4), "never", generated_by="a1"),
        ],
        sources=[Source(id="s1", kind="file", locator="chat.json")],
        activities=[add, fuse, erase],
        derivations=[
            Derivation(derived=ref(3), source=ref(1), kind="fuse"),
            Derivation(derived=ref(3), source=ref(2), kind="fuse"),
            Derivation(derived=ref(1), source="s1"),
        ],
        revisions=[(ref(1, 2), ref(1))],
        relations=[Relation(source_id=cube_id(3), kind=RelationKind.CONTRADICTS, target_id=cube_id(4))],
    )


def test_prov_json_says_it_in_the_words_of_prov() -> None:
    document = ProvDocument.deserialize(content=json.dumps(sample().to_prov_json()), format="json")
    said = document.get_provn()
    for word in ("wasDerivedFrom", "wasGeneratedBy", "used", "wasAttributedTo", "wasAssociatedWith"):
        assert f"{word}(" in said, word
    assert "prov:Revision" in said
    assert "wasInvalidatedBy(" in said
    assert re.search(r"wasInfluencedBy\(.*memos:relation=\"CONTRADICTS\"", said)


def test_a_foreign_document_is_read_as_far_as_it_goes_and_the_rest_is_told() -> None:
    foreign = {
        "prefix": {"ex": "http://example.org/", "default": "http://example.com/"},
        "entity": {
            "ex:raw": {"prov:type": "ex:Dataset"},
            "ex:chart": {"prov:label": [{"$": "Crime chart", "lang": "en"}]},
            "loose": {},
        },
        "activity": {
            "ex:plot": {"prov:startTime": "2011-11-16T16:05:00+01:00", "prov:type": "ex:Plotting"},
            "ex:x": {},
        },
        "agent": {"ex:derek": {"prov:type": {"$": "prov:Person", "type": "prov:QUALIFIED_NAME"}}, "ex:idle": {}},
        "wasGeneratedBy": {"_:g": {"prov:entity": "ex:chart", "prov:activity": "ex:plot"}},
        "used": {"_:u": {"prov:activity": "ex:plot", "prov:entity": "ex:raw"}},
        "wasDerivedFrom": {
            "_:d": {"prov:generatedEntity": "ex:chart", "prov:usedEntity": "ex:raw"},
            "_:e": {"prov:generatedEntity": "loose", "prov:usedEntity": "ex:raw"},
        },
        "wasAssociatedWith": {"_:a": {"prov:activity": "ex:plot", "prov:agent": "ex:derek"}},
        "alternateOf": {"_:alt": {"prov:alternate1": "ex:chart", "prov:alternate2": "ex:raw"}},
        "bundle": {"ex:b": {"entity": {}}},
    }
    with pytest.raises(InvalidRequest, match="unplaced"):
        ProvenanceGraph.from_prov_json(foreign)
    unplaced: list[str] = []
    graph = ProvenanceGraph.from_prov_json(foreign, unplaced=unplaced)
    (chart,) = graph.entities
    assert (chart.label, chart.recorded_at) == ("Crime chart", datetime(2011, 11, 16, 15, 5, tzinfo=UTC))
    assert graph.root == chart.ref
    assert [source.locator for source in graph.sources] == ["http://example.com/loose", "http://example.org/raw"]
    assert graph.derivations == (Derivation(derived=chart.ref, source="http://example.org/raw"),)
    assert graph.activities[0].agent == Agent(id="http://example.org/derek", kind="user")
    assert graph.activities[0].kind == "Plotting"
    told = "\n".join(sorted(unplaced))
    assert len(unplaced) == 5, told
    for word in ("activity http://example.org/x", "agent http://example.org/idle", "_:e", "_:alt", "bundle"):
        assert word in told
    assert ProvenanceGraph.from_prov_json(graph.to_prov_json()) == graph


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"entity": []},
        {"entity": {"x:y": "text"}},
        {"prefix": 3},
        {"entity": {"a": {"prov:label": "no time"}}},
        {"entity": {"a": {"b": float("nan")}}},
        {"prefix": {"cube": "urn:memos-agents:cube:"}, "entity": {"cube:a/v1": {}}},
    ],
)
def test_what_is_no_lineage_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        ProvenanceGraph.from_prov_json(document, unplaced=[])  # type: ignore[arg-type]


# --- drawings ------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Collects what a browser would see: elements, attributes, text."""

    VOID = frozenset({"meta", "br", "img", "link", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.shown = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.shown += data


def hostile_graph() -> ProvenanceGraph:
    agent = Agent(id=HOSTILE, kind="user", name=HOSTILE)
    activity = Activity(id=HOSTILE, kind=HOSTILE, started_at=T0, agent=agent, parameters={HOSTILE: HOSTILE})
    bad = VersionRef(HOSTILE, 1)
    return ProvenanceGraph.build(
        ref(1),
        entities=[
            node(ref(1), HOSTILE[:80], generated_by=HOSTILE),
            node(ref(2), "\u202eevil\u2066\x07 text\u200b", generated_by=HOSTILE, content_hash=HOSTILE),
            node(bad, HOSTILE, invalidated_by=HOSTILE),
        ],
        sources=[Source(id=HOSTILE, kind=HOSTILE, locator="javascript:alert(1)//" + HOSTILE, sha256=HOSTILE)],
        activities=[activity],
        derivations=[
            Derivation(derived=ref(1), source=HOSTILE, kind=HOSTILE),
            Derivation(derived=ref(1), source=ref(2), kind=HOSTILE),
            Derivation(derived=ref(1), source=bad),
        ],
        relations=[
            Relation(source_id=cube_id(1), kind=RelationKind.MENTIONS, target_id=HOSTILE, properties={"p": HOSTILE})
        ],
    )


ELEMENTS = frozenset(
    "html head meta title style body main p h1 h2 code ul li span a div svg defs marker path g rect text table thead "
    "tbody tr th td".split()
)


def assert_harmless(html: str) -> Page:
    page = Page(html)
    assert page.open == []
    assert {tag for tag, _ in page.tags} <= ELEMENTS
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in ("src", "srcset", "style", "action")
            if name == "href":
                assert value is not None
                assert value.startswith("#"), (tag, value)
    policies = [attributes.get("content") for _, attributes in page.tags if "http-equiv" in attributes]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    return page


def test_hostile_texts_stay_texts_in_the_page() -> None:
    page = assert_harmless(hostile_graph().to_html())
    assert "<script>alert(1)</script>" in page.shown
    assert not set("\u202e\u2066\x07\u200b") & set(page.shown)
    assert "evil text" in page.shown


@settings(max_examples=60)
@given(graphs())
def test_any_graph_draws_a_well_formed_page(graph: ProvenanceGraph) -> None:
    html = graph.to_html()
    assert_harmless(html)
    ET.fromstring(html[html.index('<svg xmlns="') : html.rindex("</svg>") + 6])
    anchors = set(re.findall(r' id="([^"]+)"', html))
    assert set(re.findall(r'href="#([^"]+)"', html)) <= anchors


@settings(max_examples=60)
@given(graphs())
def test_any_graph_draws_a_chart_of_known_statements(graph: ProvenanceGraph) -> None:
    plain = r'"[^"<>`;]*(?:(?:#\d+;|<br/>)[^"<>`;]*)*"'
    statement = re.compile(
        rf"flowchart LR|    (?:[sv]\d+|more)(?:\[{plain}\]|\[\({plain}\)\])|"
        rf"    [sv]\d+ (?:-->|-\.->|==>)(?:\|{plain}\|)? [sv]\d+|    classDef \w+ [\w:#,. -]+|    class [sv\d,]+ \w+"
    )
    for line in graph.to_mermaid().splitlines():
        assert statement.fullmatch(line), line


def test_hostile_texts_stay_texts_in_the_chart() -> None:
    chart = hostile_graph().to_mermaid()
    assert "<script" not in chart
    assert "`" not in chart
    assert not [line for line in chart.splitlines() if line.strip().startswith(("click", "%%"))]


def test_an_erased_version_shows_no_content_even_if_a_store_left_a_label() -> None:
    secret = node(ref(1), "the secret word is xylograph", state=MemoryState.ERASED)
    graph = ProvenanceGraph.build(ref(1), entities=[secret])
    for drawn in (graph.to_html(), graph.to_mermaid(), json.dumps(graph.to_prov_json())):
        assert "xylograph" not in drawn
        assert "erased" in drawn


@settings(max_examples=60)
@given(graphs())
def test_boxes_never_overlap_and_stay_inside(graph: ProvenanceGraph) -> None:
    picture = picture_of(graph, 150)
    layout = lay_out(picture, 100.0, lambda _: 40.0)
    places = sorted(layout.corners.values())
    assert len(places) == len(graph.entities) + len(graph.sources)
    for (x, y), (other_x, other_y) in pairwise(places):
        assert abs(x - other_x) >= 100 or abs(y - other_y) >= 40 - 1e-6
    for x, y in places:
        assert -1e-6 <= x <= layout.width - 100 + 1e-6
        assert -1e-6 <= y <= layout.height - 40 + 1e-6


def test_a_large_graph_is_drawn_around_its_root_and_says_so() -> None:
    entities = [node(ref(number), f"turn {number}", recorded_at=T0 + timedelta(hours=number)) for number in range(400)]
    chain = [Derivation(derived=ref(number), source=ref(number + 1)) for number in range(399)]
    graph = ProvenanceGraph.build(ref(0), entities=entities, derivations=chain, truncated=True)
    html = graph.to_html()
    assert html.count('class="box') == 150
    assert ">turn 149<" in html[html.index("<svg") :]
    assert "250 more" in html
    assert html.count("<tr id=") == 400
    assert "more are not drawn" in graph.to_mermaid()


def test_a_build_is_the_same_whatever_the_order() -> None:
    graph = sample()
    parts = {
        name: tuple(reversed(getattr(graph, name))) * 2
        for name in ("entities", "sources", "activities", "derivations", "revisions", "relations")
    }
    assert ProvenanceGraph.build(graph.root, **parts) == graph  # type: ignore[arg-type]


@given(st.text(max_size=500))
def test_a_label_is_one_short_line(text: str) -> None:
    label = label_of(text)
    assert len(label) <= 80
    assert label == " ".join(label.split())
    assert label_of(label) == label


def test_a_thicket_is_drawn_in_reasonable_time_and_mermaid_takes_it() -> None:
    edges = [(here, there) for here in range(150) for there in range(here + 1, min(150, here + 30))]
    graph = ProvenanceGraph.build(
        ref(0),
        entities=[node(ref(number)) for number in range(150)],
        derivations=[Derivation(derived=ref(here), source=ref(there)) for here, there in edges],
    )
    started = time.process_time()
    html = graph.to_html()
    assert time.process_time() - started < 5  # 0.1 s here; ordering every line through every column took 10
    assert html.count('class="line derivation"') == len(edges) + 1  # and one in the legend
    assert graph.to_mermaid().count("-->") <= 500
