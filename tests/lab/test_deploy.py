"""Bundles and their way to a device: what is refused here, what is sent, what is found there."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edgeq import store
from edgeq.errors import BuildError, CommandFailed, NotWritable
from edgeq.lab import deploy
from edgeq.lab.transports import Transport, local, ssh
from edgeq.testing import models
from edgeq.testing.bundles import make_bundle
from edgeq.testing.sshd import Server
from edgeq.testing.transport import FakeTransport
from edgeq.types import Bundle, Device

SHA = "0" * 64


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    x, _ = models.tiny_samples(models.CONV_SHAPE, models.CLASSES, 16)
    make_bundle(models.conv_tflite(folder), folder / "bundle", [x])
    return folder / "bundle"


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A bundle that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "bundle"))


@pytest.fixture(params=["local", "ssh"])
def transport(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Transport]:
    """An open connection of each kind; bundles go to `device` of the test's folder."""
    there = str(tmp_path / "device")
    if request.param == "local":
        with local.connect(Device(name="here", transport="local", folder=there)) as opened:
            yield opened
    else:
        server: Server = request.getfixturevalue("sshd")
        with ssh.connect(server.device(folder=there)) as opened:
            yield opened


def change(folder: Path, **words: Any) -> Path:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **words}))
    return folder


def with_files(folder: Path, *more: dict[str, Any]) -> Path:
    return change(folder, files=[*json.loads((folder / "manifest.json").read_text())["files"], *more])


def entry(path: str, size_bytes: int = 1, sha256: str = SHA) -> dict[str, Any]:
    return {"path": path, "size_bytes": size_bytes, "sha256": sha256}


# What is refused here ------------------------------------------------------------------------------------------------


def test_a_bundle_is_loaded(folder: Path) -> None:
    bundle = deploy.load_bundle(folder)
    deploy.verify_local(bundle)
    assert (bundle.path, bundle.manifest.name) == (str(folder), "tiny")
    assert {"io.json", "golden.npz", "model.tflite", "runner/__main__.py"} <= {e.path for e in bundle.manifest.files}


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        "a/../../outside",
        "/etc/outside",
        "//outside",
        "",
        ".",
        "..",
        "./model.tflite",
        "runner//bench.py",
        "runner/",
        "a\\..\\b",
        "a\nb",
        "a\0b",
        "\x1b[31m",
        "manifest.json",
    ],
)
def test_names_that_lead_elsewhere(folder: Path, name: str) -> None:
    with pytest.raises(BuildError, match="is not a path inside the bundle") as caught:
        deploy.load_bundle(with_files(folder, entry(name)))
    assert caught.value.where == str(folder / "manifest.json")


def test_a_link_that_leads_elsewhere(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(BuildError, match="'link' is not a path inside"):
        deploy.load_bundle(with_files(folder, entry("link")))
    (folder / "link").unlink()
    (folder / "link").write_text("harmless")
    (folder / "out").symlink_to(tmp_path)
    with pytest.raises(BuildError, match="'out/secret' is not a path inside"):
        deploy.load_bundle(with_files(folder, entry("out/secret")))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (entry("model.tflite"), "listed twice"),
        (entry("x", size_bytes=-1), "size"),
        (entry("x", size_bytes=17 << 30), "more than 16 GiB"),
        (entry("x", sha256="0" * 63), "SHA-256"),
        (entry("x", sha256="G" * 64), "SHA-256"),
        (entry("x", sha256=SHA + "\n"), "SHA-256"),
        ({"path": "x"}, "size_bytes|sha256"),
        ({**entry("x"), "mode": 4755}, "mode"),
        ({**entry("x"), "size_bytes": "1"}, "size_bytes"),
        ({**entry("x"), "path": 1}, "path"),
    ],
)
def test_entries_that_cannot_be(folder: Path, words: dict[str, Any], says: str) -> None:
    with pytest.raises(BuildError, match=says):
        deploy.load_bundle(with_files(folder, words))


@pytest.mark.parametrize("key", ["model", "entry_point", "golden"])
def test_what_is_needed_must_be_listed(folder: Path, key: str) -> None:
    with pytest.raises(BuildError, match="'elsewhere' is not among its files"):
        deploy.load_bundle(change(folder, **{key: "elsewhere"}))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a": 1}', "\0", '{"files": NaN}', "[" * 100_000])
def test_manifests_that_are_none(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(BuildError) as caught:
        deploy.load_bundle(folder)
    assert str(caught.value.where).startswith(str(folder / "manifest.json"))


def test_no_bundle_at_all(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    for path in (tmp_path, tmp_path / "absent", Path("/dev/null")):
        with pytest.raises(BuildError, match="there is no bundle") as caught:
            deploy.load_bundle(path)
        assert "edgeq build" in str(caught.value.hint)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.text(max_size=30) | st.lists(st.sampled_from(["..", ".", "a", "", "runner"]), max_size=5).map("/".join))
@example("a/./b")
@example("\ud800")
@example("a" * 5000)
def test_any_name_is_inside_or_refused(made: Path, tmp_path: Path, name: str) -> None:
    root = tmp_path / "any"
    root.mkdir(exist_ok=True)
    shutil.copy(made / "manifest.json", root)
    with_files(root, entry(name))
    try:
        bundle = deploy.load_bundle(root)
    except BuildError:
        return
    assert name in {one.path for one in bundle.manifest.files}
    assert os.path.normpath(root / name) == f"{root}/{name}"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.unlink(), "has lost a file"),
        (lambda path: path.write_bytes(b""), "changed since it was built"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "changed since it was built"),
        (lambda path: path.write_bytes(bytes(path.stat().st_size)), "changed since it was built"),
        (lambda path: (path.unlink(), path.mkdir()), "has lost a file"),
    ],
)
def test_files_that_are_not_what_was_built_are_not_sent(folder: Path, spoil: Any, says: str) -> None:
    spoil(folder / "model.tflite")
    fake = FakeTransport()
    with pytest.raises(BuildError, match=f"{says}: model.tflite") as caught:
        deploy.deploy(deploy.load_bundle(folder), fake)
    assert "edgeq build" in str(caught.value.hint)
    assert (fake.files, fake.ran) == ({}, [])


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("tiny", "tiny"),
        ("../../etc", "etc"),
        ("a b/c;d", "a-b-c-d"),
        ("...", "bundle"),
        ("", "bundle"),
        ("-rf", "rf"),
        ("ü" * 9, "bundle"),
        ("x" * 500, "x" * 60),
    ],
)
def test_the_folder_is_named_by_the_content(folder: Path, name: str, wanted: str) -> None:
    bundle = deploy.load_bundle(change(folder, name=name))
    digest = store.sha256(folder / "manifest.json")[:12]
    for base in ("~/edgeq", "edgeq", "./edgeq/"):
        device = Device(name="d", transport="local", folder=base)
        assert deploy.folder_on(bundle, device) == f"edgeq/{wanted}-{digest}"
    assert deploy.deploy(bundle, FakeTransport(device=device)).folder == f"/home/fake/edgeq/{wanted}-{digest}"


# What is sent --------------------------------------------------------------------------------------------------------


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_is_sent_once(folder: Path, transport: Transport, tmp_path: Path) -> None:
    bundle, told = deploy.load_bundle(folder), []
    first = deploy.deploy(bundle, transport, progress=lambda step, done, total: told.append((step, done, total)))
    assert first.sent == (*(one.path for one in bundle.manifest.files), "manifest.json")
    assert (first.kept, first.sent_bytes) == ((), sum(path.stat().st_size for path in folder.rglob("*.*")))
    assert Path(first.folder).parent == tmp_path / "device"
    assert tree(Path(first.folder)) == tree(folder)
    assert told[:2] == [("compare", 0, 1), ("compare", 1, 1)]
    assert told[-1] == ("upload", first.sent_bytes, first.sent_bytes)
    stamps = {path: path.stat().st_mtime_ns for path in Path(first.folder).rglob("*")}
    second = deploy.deploy(bundle, transport)
    assert (second.sent, second.sent_bytes, second.kept, second.folder) == ((), 0, first.sent, first.folder)
    assert {path: path.stat().st_mtime_ns for path in Path(first.folder).rglob("*")} == stamps


def test_only_what_differs_is_sent_again(folder: Path, transport: Transport) -> None:
    bundle = deploy.load_bundle(folder)
    there = Path(deploy.deploy(bundle, transport).folder)
    (there / "model.tflite").write_bytes(b"altered")
    (there / "golden.npz").unlink()
    (there / "io.json").unlink()
    (there / "io.json").symlink_to("/dev/zero")
    (there / "runner/bench.py").unlink()
    os.mkfifo(there / "runner/bench.py")
    (there / "manifest.json").write_bytes((folder / "manifest.json").read_bytes() + b" ")
    again = deploy.deploy(bundle, transport)
    assert sorted(again.sent) == ["golden.npz", "io.json", "manifest.json", "model.tflite", "runner/bench.py"]
    assert tree(there) == tree(folder)
    assert not (there / "io.json").is_symlink()


def test_a_changed_bundle_goes_to_another_folder(folder: Path, transport: Transport) -> None:
    first = deploy.deploy(deploy.load_bundle(folder), transport)
    second = deploy.deploy(deploy.load_bundle(change(folder, name="tiny2")), transport)
    assert first.folder != second.folder
    assert Path(first.folder).parent == Path(second.folder).parent


def test_leftovers_of_a_killed_upload_are_swept(folder: Path, transport: Transport) -> None:
    """Only temporary files of what is sent, which nobody writes any more."""
    bundle = deploy.load_bundle(folder)
    there = Path(deploy.deploy(bundle, transport).folder)
    (there / "model.tflite").unlink()
    for name in (".model.tflite.abcd_123.part", ".other.abcd_123.part", ".model.tflite.part", "model.tflite.part"):
        (there / name).write_bytes(b"half")
    assert deploy.deploy(bundle, transport).sent == ("model.tflite",)
    left = sorted(path.name for path in there.glob("*.part")) + sorted(path.name for path in there.glob(".*.part"))
    assert set(left) == {".other.abcd_123.part", ".model.tflite.part", "model.tflite.part"}


def test_a_folder_in_the_way_of_a_file(folder: Path, transport: Transport) -> None:
    bundle = deploy.load_bundle(folder)
    there = Path(deploy.deploy(bundle, transport).folder)
    (there / "model.tflite").unlink()
    (there / "model.tflite").mkdir()
    with pytest.raises(NotWritable, match=r"model\.tflite: it is a folder"):
        deploy.deploy(bundle, transport)
    (there / "model.tflite").rmdir()
    assert deploy.deploy(bundle, transport).sent == ("model.tflite",)


def test_several_at_once(folder: Path, tmp_path: Path) -> None:
    """They write the same bytes; nobody sweeps away what another one still writes."""
    (folder / "padding.bin").write_bytes(os.urandom(4 << 20))
    size, sha = 4 << 20, store.sha256(folder / "padding.bin")
    bundle = deploy.load_bundle(with_files(folder, entry("padding.bin", size, sha)))
    device = Device(name="here", transport="local", folder=str(tmp_path / "device"))
    ended: list[object] = []

    def one() -> None:
        try:
            with local.connect(device) as transport:
                ended.append(deploy.deploy(bundle, transport).folder)
        except Exception as error:  # noqa: BLE001 shown by the assertion below
            ended.append(error)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 4
    assert len(set(map(str, ended))) == 1, ended
    assert tree(Path(str(ended[0]))) == tree(folder)


def test_home_is_where_a_relative_folder_starts(folder: Path) -> None:
    with local.connect(Device(name="here", transport="local", folder="~/.cache/edgeq")) as transport:
        found = deploy.deploy(deploy.load_bundle(folder), transport)
    assert Path(found.folder).parent == Path.home() / ".cache/edgeq"
    assert tree(Path(found.folder)) == tree(folder)


def test_a_device_that_answers_nonsense_gets_everything(folder: Path) -> None:
    """Hashes are believed only for paths that were asked for, and only if they are right."""

    class Liar(FakeTransport):
        def hash(self, paths: Any) -> dict[str, str]:
            return {"/etc/passwd": SHA, next(iter(paths)): SHA}

    liar, bundle = Liar(), deploy.load_bundle(folder)
    found = deploy.deploy(bundle, liar)
    assert (len(found.sent), found.kept) == (len(bundle.manifest.files) + 1, ())
    assert all(name.startswith(found.folder + "/") for name in liar.files)


def test_an_upload_that_fails_is_the_callers_error(folder: Path) -> None:
    class Broken(FakeTransport):
        def put(self, *_words: Any, **_more: Any) -> None:
            raise CommandFailed("no")

    bundle: Bundle = deploy.load_bundle(folder)
    with pytest.raises(CommandFailed):
        deploy.deploy(bundle, Broken())
