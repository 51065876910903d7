"""Jobs in an outside tool's Python, and what becomes of each: this interpreter stands for the tool's."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeq import targets, tools
from edgeq.conformance import outside
from edgeq.conformance.outside import Answer, Array, Job, _batch
from edgeq.errors import TargetError, ToolError
from edgeq.types import OperatorTable

ENGINE = """\
import os, signal, sys
import numpy as np

REFUSALS = (ValueError, IndexError)
seen = []

def run(model, feeds, outputs, settings):
    word = model.decode()
    seen.append(word)
    print("on stdout")
    print("said of", word, file=sys.stderr)
    if word == "refuse":
        raise ValueError("no such operator")
    if word == "mute":
        raise IndexError
    if word == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == "leave":
        os._exit(7)
    if word == "bug":
        raise KeyError("a bug of the engine")
    if word == "hang":
        signal.pause()
    if word == "seen":
        return [np.array(len(seen))]
    if word == "names":
        return [np.array(list(feeds))]
    return [values * settings.get("times", 1) for values in feeds.values()][:outputs]
"""
TOOL = tools.Tool(name="imp", version="1.2", python=Path(sys.executable), folder=Path())


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "engine.py"
    path.write_text(ENGINE)
    return path


def job(word: str, **feeds: Array) -> Job:
    return Job(word.encode(), feeds, 2)


def npz(**values: Array) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **values)  # type: ignore[arg-type]
    return stream.getvalue()


def zipped(name: str, content: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def header(shape: tuple[int, ...], dtype: str = "<f8") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def read_back(folder: Path, content: bytes) -> Answer:
    (folder / "0.out.npz").write_bytes(content)
    return outside._answer(folder, 0)


# --- a whole run -----------------------------------------------------------------------------


def test_outputs_come_back_in_the_order_of_jobs_and_of_feeds(engine: Path) -> None:
    first, second = np.array([1.5, -2.0], np.float32), np.array([[3, 4]], np.int8)
    jobs = [job("ok", b=first, a=second), job("names", z=first, a=second), job("ok", only=second)]
    two, names, one = outside.run(TOOL, engine, jobs, settings={"times": 2})
    assert two.outputs is not None
    assert [values.dtype.name for values in two.outputs] == ["float32", "int8"]
    assert [values.tolist() for values in two.outputs] == [[3.0, -4.0], [[6, 8]]]
    assert names.outputs is not None
    assert names.outputs[0].tolist() == ["z", "a"]
    assert one.outputs is not None
    assert len(one.outputs) == 1


def test_without_settings_and_without_feeds_a_job_runs_too(engine: Path) -> None:
    fed, empty = outside.run(TOOL, engine, [job("ok", x=np.ones(3, np.int16)), job("ok")])
    assert fed.outputs is not None
    assert fed.outputs[0].tolist() == [1, 1, 1]
    assert empty == Answer([])


def test_no_jobs_have_no_answers_and_the_engine_is_not_even_loaded(tmp_path: Path) -> None:
    assert outside.run(TOOL, tmp_path / "there is no engine.py", []) == []


def test_a_job_that_fails_says_how_and_leaves_its_neighbours_alone(engine: Path) -> None:
    fates = {
        "refuse": "no such operator",
        "mute": "IndexError",
        "crash": "died with SIGSEGV",
        "leave": "died with exit code 7",
    }
    jobs = [one for word in fates for one in (job(word), job("ok", x=np.arange(4)))]
    answers = outside.run(TOOL, engine, jobs)
    assert answers[0::2] == [Answer(None, raised, f"said of {word}") for word, raised in fates.items()]
    assert [answer.outputs[0].tolist() for answer in answers[1::2] if answer.outputs] == [[0, 1, 2, 3]] * 4


def test_a_worker_is_used_until_a_model_ends_it(engine: Path) -> None:
    words = ["seen", "refuse", "seen", "crash", "leave", "leave", "seen", "seen"]
    answers = outside.run(TOOL, engine, [job(word) for word in words])
    counts = [answer.outputs[0].item() if answer.outputs else None for answer in answers]
    assert counts == [1, None, 3, None, None, None, 1, 2]


def test_a_job_that_hangs_is_ended_and_named_with_its_time(engine: Path) -> None:
    first, second = outside.run(TOOL, engine, [job("hang"), job("hang")], item_seconds=0.1)
    assert first[:2] == second[:2] == (None, "no answer after 0.1 s")


def test_an_exception_that_is_no_refusal_is_a_broken_tool(engine: Path) -> None:
    with pytest.raises(ToolError, match=r"imp 1\.2 cannot run models: KeyError: 'a bug of the engine'"):
        outside.run(TOOL, engine, [job("ok"), job("bug"), job("ok")])


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("1 / 0", "cannot run models: ZeroDivisionError: division by zero"),
        ("import os; os._exit(3)", "the runtime cannot be loaded: died with exit code 3"),
        ("import no_such_runtime", "the environment of imp is broken: ModuleNotFoundError"),
    ],
)
def test_an_engine_that_does_not_work_is_the_tools_fault(tmp_path: Path, script: str, words: str) -> None:
    engine = tmp_path / "engine.py"
    engine.write_text(script + "\n")
    with pytest.raises(ToolError) as caught:
        outside.run(TOOL, engine, [job("refuse")])
    assert words in caught.value.message


# --- what a batch tells of its worker --------------------------------------------------------


@pytest.mark.parametrize(
    ("marks", "count", "done"),
    [
        (b"", 3, -1),
        (b".", 3, 0),
        (b"...", 3, 2),
        (b"....", 3, 3),
        (b".....", 3, 3),
        (b".", 0, 0),
    ],
)
def test_marks_in_the_pipe_count_finished_models_after_the_first(marks: bytes, count: int, done: int) -> None:
    reader, writer = os.pipe()
    os.write(writer, marks)
    os.close(writer)
    try:
        assert _batch.watch(reader, count, 30.0, 30.0) == (done, False)
    finally:
        os.close(reader)


@pytest.mark.parametrize(("marks", "done"), [(b"", -1), (b".", 0), (b"..", 1)])
def test_a_worker_that_writes_no_more_marks_is_late(marks: bytes, done: int) -> None:
    reader, writer = os.pipe()
    os.write(writer, marks)
    try:
        assert _batch.watch(reader, 5, 0.0, 0.0) == (done, True)
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "died with exit code 0"),
        (7 << 8, "died with exit code 7"),
        (255 << 8, "died with exit code 255"),
        (9, "died with SIGKILL"),
        (11 | 128, "died with SIGSEGV"),
        (6, "died with SIGABRT"),
    ],
)
def test_an_ending_is_named(status: int, words: str) -> None:
    assert _batch.named(status) == words


# --- answers read back -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a zip file"),
        (b"\x93NUMPY", "not a zip file"),
        (npz(**{"0": np.arange(9)})[:-30], "not a zip file"),
        (npz(**{"0": np.array([{}], dtype=object)}), "Object arrays cannot be loaded"),
        (zipped("0.npy", header((100,))), "expected 800 bytes got 0"),
        (zipped("0.npy", header((-3,))), "negative dimensions"),
        (zipped("0.npy", header((1 << 61,))), "too big"),
        (zipped("0.npy", b"\x93NUMPY\x09\x00" + bytes(20)), "format version"),
    ],
    ids=["empty", "no zip", "cut off", "pickle", "no data", "negative", "beyond memory", "version"],
)
def test_an_answer_that_is_no_plain_array_is_no_answer(tmp_path: Path, content: bytes, words: str) -> None:
    found = read_back(tmp_path, content)
    assert found.outputs is None
    assert found.raised.startswith("its answer cannot be read: ")
    assert words in found.raised


@pytest.mark.parametrize(("excess", "is_read"), [(0, True), (1, False)])
def test_an_answer_is_measured_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, excess: int, is_read: bool
) -> None:
    stream = io.BytesIO()
    np.save(stream, np.zeros(5000, np.int8))
    monkeypatch.setattr(outside, "_LARGEST_BYTES", len(stream.getvalue()) - excess)
    packed = zipped("0.npy", stream.getvalue(), zipfile.ZIP_DEFLATED)
    assert len(packed) < 1000
    found = read_back(tmp_path, packed)
    assert (found.outputs is not None) is is_read
    assert found.raised == ("" if is_read else "its answer cannot be read: it is too large")


@settings(max_examples=15, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_an_answer_that_ends_too_early_is_no_answer(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    whole = npz(**{"0": np.arange(6.0), "1": np.array([1, 2], np.int8)})
    found = read_back(tmp_path_factory.mktemp("cut"), whole[: int(share * len(whole))])
    assert found.outputs is None
    assert "cannot be read" in found.raised


@settings(max_examples=15, deadline=None)
@given(
    values=st.lists(
        arrays.arrays(
            st.sampled_from(["float32", "int8", "uint8", "int64", "bool"]), arrays.array_shapes(min_dims=0, max_dims=3)
        ),
        max_size=12,
    )
)
def test_what_a_batch_writes_is_read_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, values: list[Array]
) -> None:
    folder = tmp_path_factory.mktemp("batch")
    outside._write(folder, [Job(b"model", {}, len(values))], {})
    loaded = {"run": lambda *_: values, "REFUSALS": ()}
    _batch.answer(loaded, folder, {"outputs": [len(values)], "settings": {}}, 0)
    found = outside._answer(folder, 0)
    assert found.outputs is not None
    assert len(found.outputs) == len(values)
    for got, wanted in zip(found.outputs, values, strict=True):
        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_array_equal(got, wanted)
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize(
    ("raised", "chatter", "answer"),
    [
        (None, None, Answer(None, "it gave no answer", "")),
        (b"", b"", Answer(None, "it gave no answer", "")),
        (b" \n", b"a line\n", Answer(None, "it gave no answer", "a line")),
        (b"refused\n", None, Answer(None, "refused", "")),
        (b"bad \xff byte", b"\xfe", Answer(None, "bad \ufffd byte", "\ufffd")),
        (b"x" * 10_000, b"y" * 10_000, Answer(None, "x" * 4096, "y" * 4096)),
    ],
    ids=["no files", "empty", "blank", "refused", "no text", "long"],
)
def test_words_of_a_job_without_outputs(
    tmp_path: Path, raised: bytes | None, chatter: bytes | None, answer: Answer
) -> None:
    for name, content in (("0.raised", raised), ("0.err", chatter)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
    assert outside._answer(tmp_path, 0) == answer


def test_outputs_go_before_words(tmp_path: Path) -> None:
    (tmp_path / "0.raised").write_text("died later")
    found = read_back(tmp_path, npz(**{"0": np.array([5])}))
    assert found.outputs is not None
    assert found.raised == ""


# --- accelerators of a table -----------------------------------------------------------------


def test_a_table_that_no_accelerator_has_cannot_be_proved() -> None:
    table = OperatorTable(name="nobody", runtime="vela", version="1", source="s", operators={})
    with pytest.raises(TargetError, match="nobody cannot be proved"):
        outside.accelerators(table)


@pytest.mark.parametrize("name", ["ethos-u55", "qualcomm-htp"])
def test_accelerators_are_those_of_the_targets_that_name_the_table(name: str) -> None:
    wanted = [
        one.accelerator
        for one in targets.load_all()
        if one.accelerator and any(runtime.operators == name for runtime in one.runtimes)
    ]
    assert outside.accelerators(targets.load_table(name)) == wanted != []


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_no_damaged_answer_ends_a_proof(data: st.DataObject) -> None:
    whole = bytearray(npz(**{"0": np.arange(6, dtype=np.float32), "1": np.ones((2, 2), np.int8)}))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        found = read_back(Path(folder), bytes(whole[: data.draw(st.integers(1, len(whole)))]))
    assert found.raised if found.outputs is None else all(isinstance(one, np.ndarray) for one in found.outputs)


@pytest.mark.parametrize(
    "content",
    [
        zipped("other.npy", header((1,)) + bytes(8)),
        zipped("0.npy", b""),
        zipped("0.npy", b"no array at all"),
        zipped("0.npy", header((1 << 40,))),
    ],
)
def test_an_answer_that_is_none_is_told(tmp_path: Path, content: bytes) -> None:
    found = read_back(tmp_path, content)
    assert found.outputs is None
    assert found.raised.startswith("its answer cannot be read")
