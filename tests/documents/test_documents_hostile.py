"""Hostile YAML and JSON: one clear error each, quickly, and nothing but a dataclass or an EdgeqError."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq import documents
from edgeq.documents.reader import parse
from edgeq.errors import EdgeqError, TargetError
from edgeq.types import Cpu

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 6.0

BOMB = "a: &a [x, x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(9))

HOSTILE = [
    ("anchors bomb", BOMB, "anchors and aliases"),
    ("alias", "arch: *x\ncore: y", "anchors and aliases"),
    ("anchor on a key", "&k arch: a\ncore: b", "without anchor or tag"),
    ("python tag", "arch: !!python/object/apply:os.system [id]\ncore: b", "tags are not allowed"),
    ("string tag", "arch: !!str a\ncore: b", "tags are not allowed"),
    ("own tag", "arch: !x a\ncore: b", "tags are not allowed"),
    ("tag on a key", "!!str arch: a\ncore: b", "without anchor or tag"),
    ("merge key", "<<: {arch: a}\ncore: b", "merge keys"),
    ("duplicate key", "arch: a\ncore: b\narch: c", "appears twice"),
    ("two documents", "arch: a\n---\narch: b", "only one document"),
    ("list on top", "- a", "must be a mapping, got a list"),
    ("text on top", "just words", "must be a mapping"),
    ("empty", "", "must be a mapping, got nothing"),
    ("comments only", "# nothing\n", "must be a mapping, got nothing"),
    ("list as key", "? [a]\n: 1", "a key must be a plain word"),
    ("open brace", "{", "not YAML"),
    ("open bracket", "arch: [1", "not YAML"),
    ("tab", "\tarch: 1", "not YAML"),
    ("bad escape", 'arch: "\\q"', "not YAML"),
    ("control character", "arch: \x07", "not YAML"),
    ("NUL", "arch: a\0", "NUL"),
    ("nan", "arch: .nan", "not a number that can be used"),
    ("infinity", "arch: -.inf", "not a number that can be used"),
    ("huge exponent", "arch: 1e9999", "too large"),
    ("huge integer", "arch: 99999999999999999999", "too large"),
    ("deep list", "arch: " + "[" * 5000 + "]" * 5000, "deep"),
    ("deep mapping", "arch: " + "{a: " * 5000, "deep"),
    ("deep blocks", "- " * 100_000, "deep"),
    ("many values", "arch: [" + "1," * 200_000 + "]", "more than 100000 values"),
    ("long key", "k" * 1000 + ": 1", "key is too long"),
    ("long scalar line", "arch: " + "x" * 1_000_000, "core: is missing"),
    ("many lines", "a\n" * 300_000, "must be a mapping"),
    ("many comments", "#\n" * 400_000, "must be a mapping"),
    ("large", "#" * (documents.YAML_LIMIT_BYTES + 1), "larger than 1 MiB"),
    ("surrogate", 'arch: "\\ud800"\ncore: b', "cannot be used as plain data"),
    ("byte soup", b"arch: \xff\xfe", "not UTF-8"),
    ("utf-16", "arch: a".encode("utf-16"), "NUL"),
    ("unknown version", "%YAML 9.9\n---\narch: a\ncore: b", "not YAML"),
]


@pytest.mark.parametrize(("text", "message"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_hostile_yaml_is_one_error_in_time(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    start = time.process_time()
    with pytest.raises(TargetError) as caught:
        documents.load_yaml(path, Cpu, error=TargetError)
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400
    assert (caught.value.where or "").startswith(str(path))
    assert time.process_time() - start < SECONDS


HOSTILE_JSON = [
    ("", "not JSON"),
    ("{", "not JSON"),
    ("[]", "must be a mapping"),
    ('{"arch": NaN, "core": "b"}', "NaN"),
    ('{"arch": "a", "core": "b", "clock_hz": Infinity}', "Infinity"),
    ('{"arch": "a", "core": "b", "clock_hz": 1e999}', "cannot be used as plain data"),
    ('{"arch": "a", "arch": "b", "core": "c"}', "'arch' appears twice"),
    ("[" * 100_000, "nested too deeply"),
    ('{"a":' * 50_000, "nested too deeply"),
    ('{"arch": "a", "core": "b", "cores": ' + "9" * 5000 + "}", "not a stage file"),
    ('{"arch": "\\ud800", "core": "b"}', "cannot be used as plain data"),
    ('{"arch": "a", "core": "b", "rm": 1}', "rm: unknown key"),
    ("arch: a", "not JSON"),
]


@pytest.mark.parametrize(("text", "message"), HOSTILE_JSON, ids=range(len(HOSTILE_JSON)))
def test_hostile_json_is_one_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(TargetError) as caught:
        documents.load_json(path, Cpu, error=TargetError)
    assert message in caught.value.message


def test_json_with_a_million_keys_is_refused_in_time(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("{" + ",".join(f'"k{i}": 0' for i in range(300_000)) + ', "k1": 0}')
    start = time.process_time()
    with pytest.raises(EdgeqError, match="'k1' appears twice"):
        documents.load_json(path, Cpu)
    assert time.process_time() - start < SECONDS


@pytest.mark.parametrize("load", [documents.load_yaml, documents.load_json])
def test_what_is_not_a_file_is_refused(tmp_path: Path, load: object) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, message in [
        (tmp_path / "absent", "no such file"),
        (tmp_path, "not a regular file"),
        (pipe, "not a regular file"),
        (Path("/dev/zero"), "not a regular file"),
        (tmp_path / ("n" * 300), "file name too long"),
        (Path("a\0b"), "cannot read"),
    ]:
        with pytest.raises(EdgeqError, match=message):
            load(path, Cpu)  # type: ignore[operator]


def test_loop_of_links_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "loop.yaml"
    path.symlink_to(path)
    with pytest.raises(EdgeqError, match="cannot read"):
        documents.load_yaml(path, Cpu)


SEEDS = [path.read_bytes() for path in sorted((ROOT / "targets").glob("*.yaml"))]
BITS = [b"&a ", b"*a", b"!!python/name:os.system ", b"<<: ", b"{", b"}", b"[", b"]", b"\t", b"\0", b"\xff", b"'", b'"']
BITS += [
    b"---\n",
    b"...",
    b"%YAML 1.1\n",
    b": ",
    b"- ",
    b"? ",
    b"|\n",
    b">\n",
    b"1e999",
    b".nan",
    b"\n",
    b"  ",
    b"#",
    b"0x",
    b"~",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A profile with up to six places cut out, doubled or overwritten."""
    text = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(text)))
        stop = min(len(text), start + draw(st.integers(0, 30)))
        text[start:stop] = draw(st.sampled_from([*BITS, b"", bytes(text[start:stop]) * 2]) | st.binary(max_size=6))
    return bytes(text)


@settings(max_examples=1500, deadline=5000, suppress_health_check=list(HealthCheck))
@given(content=mutated())
def test_mutated_profiles_never_surprise(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(content)
    try:
        data, lines = documents.read_yaml(path)
    except EdgeqError as error:
        assert "\n" not in error.message
        return
    assert isinstance(data, dict)
    assert all(1 <= line <= content.count(b"\n") + content.count(b"\r") + 1 for line in lines.values())


@settings(max_examples=500, deadline=5000)
@given(text=st.text(max_size=200))
def test_any_text_parses_or_says_why(text: str) -> None:
    try:
        parse(text)
    except documents.PathError as problem:
        assert str(problem)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from([item.name for item in dataclasses.fields(Cpu)])


@settings(max_examples=500, deadline=5000)
@given(data=st.dictionaries(FIELDS | st.text(max_size=6), JSON_VALUES, max_size=6))
def test_any_data_decodes_or_says_why(data: dict[str, object]) -> None:
    try:
        found = documents.decode(Cpu, data, where="memory")
    except EdgeqError as error:
        assert error.where == "memory"
        return
    assert isinstance(found.arch, str)
    assert isinstance(found.cores, int)
    assert not isinstance(found.cores, bool)
    assert isinstance(found.features, tuple)
