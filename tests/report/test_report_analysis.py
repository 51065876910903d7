"""The report of `edgeq analyze`: whole HTML, nothing hostile in it, every operator in the tables."""

from __future__ import annotations

import base64
import dataclasses
import html.parser
import io
import re
from xml.etree import ElementTree  # the pictures are our own

import pytest
from rich.console import Console

from edgeq.report import analysis as rows
from edgeq.report import html as pages
from edgeq.report import plots
from edgeq.types import Analysis, Blame, OperatorAnalysis, StepAnalysis, WeightAnalysis
from edgeq.types.analysis import HistogramCounts

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% for x in y %}",
    "$\\frac{1}{0}$",
    "\x1b[31m\x07 bell",
    "</title></style><h1>",
    "javascript:alert(1)",
    "a\u202eb",
)
VOID = {"meta", "img", "br", "link"}


class Reader(html.parser.HTMLParser):
    """Every tag, closed in order; texts and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def operator(index: int = 0, name: str = "conv", **changes: object) -> OperatorAnalysis:
    counts = HistogramCounts(low=-1.0, high=2.0, counts=(1, 5, 0, 2))
    costs = dict.fromkeys(rows.QUANTIZERS, 40.0)
    weight = WeightAnalysis(
        operand=1, name=name, dtype="int8", granularity="per-channel", sqnr_db=41.0, expected_db=42.0,
        clipped_share=0.0, channel_spread=3.5, range=(-1.0, 1.0), quantizers=costs, histogram=counts,
    )  # fmt: skip
    content: dict[str, object] = {
        "index": index, "type": "CONV_2D", "name": name, "accumulated_db": 30.0, "alone_db": 35.0, "expected_db": 36.0,
        "runtime_db": 200.0, "range": (-1.0, 1.0), "used": (-0.5, 2.0), "dtype": "int8", "clipped_share": 0.25,
        "weights": (weight,), "quantizers": costs, "histogram": counts,
    }  # fmt: skip
    return OperatorAnalysis(**{**content, **changes})  # type: ignore[arg-type]


def found(*operators: OperatorAnalysis, blame: Blame | None = None, model: str = "m.tflite") -> Analysis:
    steps = tuple(
        StepAnalysis(step=step, path=model, what="what it is", sqnr_db=value)  # type: ignore[arg-type]
        for step, value in (("prepared", 200.0), ("quantized", 21.5), ("runtime", None))
    )
    return Analysis(
        model=model, quantized=model, format="tflite", samples=3, steps=steps, operators=operators, first_wrong=blame,
        guilty=blame, notes=("a note",), tools={"edgeq": "1"}, seconds=1.5,
    )  # fmt: skip


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def text(analysis: Analysis, **options: bool) -> str:
    console = Console(file=io.StringIO(), width=220, color_system=None)
    console.print(rows.terminal(analysis, **options))
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    page = pages.analysis(found(operator(), operator(1, "dense")))
    reader = read(page)
    assert page.startswith("<!DOCTYPE html>")
    assert not [tag for tag, _ in reader.tags if tag in ("script", "link", "iframe", "object", "base", "form")]
    sources = [attributes.get("src") or "" for tag, attributes in reader.tags if tag == "img"]
    assert len(sources) == 3
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert not re.search(r"(?:src|href)=(?!.data:)", page)
    policy = next(attributes for tag, attributes in reader.tags if "http-equiv" in attributes)
    assert (policy["content"] or "").startswith("default-src 'none'")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_only_text(name: str) -> None:
    blame = Blame(step="quantized", index=0, type=name, name=name, excess_db=20.0, why=(name,))
    bad = operator(0, name, type=name, why=(name,), excess_db={"quantized": 20.0})
    missing = OperatorAnalysis(index=1, type=name, name=name, unavailable=name)
    page = pages.analysis(found(bad, missing, blame=blame, model=name))
    plain = pages.analysis(found(operator(0, "x", why=("x",), excess_db={"quantized": 20.0}), dataclasses.replace(missing, type="x", name="x", unavailable="x"), blame=dataclasses.replace(blame, type="x", name="x", why=("x",))))  # noqa: E501  # fmt: skip
    reader, harmless = read(page), read(plain)
    assert [tag for tag, _ in reader.tags] == [tag for tag, _ in harmless.tags]
    assert not [key for _, attributes in reader.tags for key in attributes if key.startswith("on")]
    assert rows.printable(name) in reader.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", page)
    assert "\x1b" not in text(found(bad, missing, blame=blame, model=name))


def test_pictures_hold_numbers_only() -> None:
    name = HOSTILE[0]
    row = operator(0, name, type=name, why=("x",))
    with plots.quiet():
        pictures = [plots.histograms(row), plots.layers([row, operator(1)])]
    for picture in pictures:
        svg = base64.b64decode(picture.split(",", 1)[1]).decode()
        assert "alert" not in svg
        assert ElementTree.fromstring(svg).tag.endswith("svg")  # noqa: S314


def test_pictures_of_nothing_and_of_extremes_are_drawn() -> None:
    empty = operator(0, histogram=None, range=None, weights=(), alone_db=None, accumulated_db=None, expected_db=None)
    wide = operator(1, histogram=HistogramCounts(low=-1e30, high=1e30, counts=(0, 0)), alone_db=-90.0)
    point = operator(2, histogram=HistogramCounts(low=1.0, high=1.0, counts=(7,)))
    with plots.quiet():
        for row in (empty, wide, point):
            assert len(plots.histograms(row)) > 1000
        assert len(plots.layers([empty, wide, point])) > 1000
        assert plots.layers([operator(i) for i in range(100)]) == plots.layers([operator(i) for i in range(100)])


def test_only_the_worst_operators_have_pictures() -> None:
    many = [operator(i, f"op{i}", alone_db=50.0 - i) for i in range(20)]
    page = read(pages.analysis(found(*many), plotted=3))
    assert sum(tag == "img" for tag, _ in page.tags) == 3 + 1
    assert page.text.count("op0") >= 1


def test_the_terminal_shows_every_operator_and_the_verdict() -> None:
    blame = Blame(step="runtime", index=1, type="ADD", name="sum", excess_db=12.0, why=("kernels differ",))
    wrong = operator(1, "sum", type="ADD", why=("kernels differ",), excess_db={"runtime": 12.0})
    shown = text(found(operator(), wrong, blame=blame))
    for part in ("prepared", "equal", "21.5", "conv", "sum", "-0.5 .. 2", "25.00%", "k-means 4 bit", "a note"):
        assert part in shown, part
    assert "first wrong: operator 1 ADD (sum) in step runtime, 12.0 dB beyond what is due: kernels differ" in shown
    assert "most wrong" not in shown


def test_a_sound_conversion_says_so() -> None:
    assert "every operator costs what sound quantization costs there" in text(found(operator()))


def test_the_worst_come_first_but_in_order() -> None:
    listed = [operator(i, alone_db=value) for i, value in enumerate((50.0, 10.0, 40.0, 20.0, 30.0, 60.0, 15.0))]
    listed[5] = operator(5, alone_db=60.0, why=("x",), excess_db={"quantized": 30.0})
    assert [row.index for row in rows.worst(found(*listed), 3)] == [1, 5, 6]


@pytest.mark.parametrize("every", [False, True])
def test_quantizers_of_all_operators_are_shown_where_asked(every: bool) -> None:
    listed = [operator(i, f"o{i}") for i in range(9)]
    shown = text(found(*listed), every_operator=every)
    assert shown.count("operand 1 (int8)") == (9 if every else rows.WORST)


def test_numbers_read_well() -> None:
    assert rows.decibels(None) == "-"
    assert rows.decibels(200.0) == "equal"
    assert rows.decibels(-3.14) == "-3.1"
    assert rows.ends(None) == "float"
    assert rows.short("x" * 100).startswith("...")
    assert len(rows.short("x" * 100)) == rows.LENGTH
