"""What strikes: one function for each fault, which sets it up, yields how edgeq ended, and heals it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from scene import FINISHED, MEASURE, Call, Ended, Scene

from edgeq.testing import sshd as servers
from edgeq.testing.sshd import started_through

SHORT = (*MEASURE[:2], "--seconds", "0.1", *MEASURE[4:], "--timeout-seconds", "4")


# The link ------------------------------------------------------------------------------------------------------------


def cut(scene: Scene) -> Iterator[Ended]:
    """Nothing passes and nothing closes."""
    proxy = scene.through_a_proxy()
    yield scene.strike(lambda call: proxy.cut())
    proxy.mend()


def reset(scene: Scene) -> Iterator[Ended]:
    """Both ends get an RST."""
    proxy = scene.through_a_proxy()
    yield scene.strike(lambda call: proxy.reset())
    proxy.mend()


def delayed(scene: Scene) -> Iterator[Ended]:
    """A slow road: 200 ms each way."""
    proxy = scene.through_a_proxy(delay_seconds=0.2)
    yield scene.run()
    proxy.mend()


def throttled(scene: Scene) -> Iterator[Ended]:
    """64 kB/s each way."""
    proxy = scene.through_a_proxy(bytes_per_second=64e3)
    yield scene.run()
    proxy.mend()


def throttled_answer(scene: Scene) -> Iterator[Ended]:
    """The answer takes longer than silence may last, and the lease's signs of life come behind it."""
    proxy = scene.through_a_proxy()

    def throttle(call: Call) -> None:
        proxy.bytes_per_second = 16e3

    yield scene.strike(throttle)
    proxy.mend()


def throttled_upload(scene: Scene) -> Iterator[Ended]:
    """Half a minute of upload, with what is in the buffers on the way before each sign of life."""
    proxy = scene.through_a_proxy(bytes_per_second=256e3)
    scene.bundle = scene.stage.large
    yield scene.run()
    proxy.mend()


def corrupted(scene: Scene) -> Iterator[Ended]:
    """A bit flips on the way; SSH's integrity check must see it."""
    proxy = scene.through_a_proxy()
    yield scene.strike(lambda call: proxy.corrupt())
    proxy.mend()


def refused(scene: Scene) -> Iterator[Ended]:
    """Nobody listens."""
    scene.register(port=servers.free_port())
    yield scene.run()
    scene.register()


# Keys ----------------------------------------------------------------------------------------------------------------


def host_key_changed(scene: Scene) -> Iterator[Ended]:
    """The device was set up anew, or somebody is in between."""
    _boot(scene, lambda: [path.unlink() for path in scene.server.folder.glob("host_key*")])
    yield scene.run()
    scene.register()


def unknown_host_key(scene: Scene) -> Iterator[Ended]:
    """Nobody has vouched for the device."""
    (scene.folder / "known_hosts").write_text("")
    yield scene.run()
    scene.register()


def wrong_user_key(scene: Scene) -> Iterator[Ended]:
    """The device does not know our key."""
    scene.register(identity=servers.make_key(scene.folder / "home/other"))
    yield scene.run()
    for path in (scene.folder / "home").glob("other*"):
        path.unlink()
    scene.register()


# The far end freezes, dies, starts again -----------------------------------------------------------------------------


def frozen(scene: Scene) -> Iterator[Ended]:
    """The server and all that it started are stopped."""
    yield scene.strike(lambda call: scene.server.freeze())
    scene.server.thaw()
    scene.mend()


def frozen_runner(scene: Scene) -> Iterator[Ended]:
    """The runner is stopped for longer than it may take; the agent beside it lives."""
    scene.measure = SHORT
    runner: list[int] = []
    scene.step = "preflight: 1/1"
    call = scene.at_the_step()
    give_up = time.monotonic() + 20
    while not (runner := _runners(scene)) and time.monotonic() < give_up:
        time.sleep(0.01)
    for pid in runner:
        os.kill(pid, signal.SIGSTOP)
    call.struck = time.monotonic()
    yield call.end()


def _runners(scene: Scene) -> list[int]:
    """Processes of the deployed bundle's runner."""
    found = []
    for pid in started_through(scene.server):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            found += [pid] if b"runner/__main__.py\0bench" in words else []
    return found


def killed_runner(scene: Scene, number: signal.Signals = signal.SIGKILL) -> Iterator[Ended]:
    """As by the kernel that is out of memory."""
    yield scene.strike(lambda call: [os.kill(pid, number) for pid in _runners(scene)])


def killed_session(scene: Scene) -> Iterator[Ended]:
    """The sshd processes that serve us; the one that listens lives."""

    def kill(call: Call) -> None:
        ours = started_through(scene.server)
        for pid in servers.descendants(scene.server.process.pid):
            if pid not in ours:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    yield scene.strike(kill)


def killed_device(scene: Scene) -> Iterator[Ended]:
    """All that runs there, at once."""
    yield scene.strike(lambda call: scene.server.stop())
    scene.start_server()
    scene.mend()


def rebooted(scene: Scene) -> Iterator[Ended]:
    """All that runs there, its temporary files too; it is back before edgeq has ended."""

    def reboot(call: Call) -> None:
        _boot(scene, lambda: shutil.rmtree(scene.server.folder / "tmp"))
        (scene.server.folder / "tmp").mkdir()

    yield scene.strike(reboot)
    scene.mend()


def _boot(scene: Scene, meanwhile: Callable[[], object]) -> None:
    scene.server.stop()
    meanwhile()
    scene.start_server()


# Disks and folders ---------------------------------------------------------------------------------------------------


def disk_full_there(scene: Scene) -> Iterator[Ended]:
    """There is no room before anything is sent."""
    scene.bundle = scene.stage.large
    scene.tmpfs(scene.there, "4m")
    yield scene.run()
    subprocess.run(["mount", "-o", "remount,size=64m", str(scene.there)], check=True, timeout=20)


def disk_fills_there(scene: Scene) -> Iterator[Ended]:
    """Somebody else takes the room while files are sent."""
    scene.tmpfs(scene.there, "24m")
    yield scene.strike(lambda call: _fill(scene.there))
    (scene.there / "filler").unlink()
    scene.mend()


def disk_full_here(scene: Scene) -> Iterator[Ended]:
    """There is no room for the result."""
    scene.tmpfs(scene.out, "4m")
    yield scene.strike(lambda call: _fill(scene.out))
    (scene.out / "filler").unlink()


def _fill(folder: Path) -> None:
    with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as stream:
        while stream.write(bytes(4096)) == 4096:
            pass


def read_only_there(scene: Scene) -> Iterator[Ended]:
    """The device's disk was mounted read-only, as after an error."""
    scene.tmpfs(scene.there, "16m")
    subprocess.run(["mount", "-o", "remount,ro", str(scene.there)], check=True, timeout=20)
    yield scene.run()
    subprocess.run(["mount", "-o", "remount,rw", str(scene.there)], check=True, timeout=20)


def no_permission_there(scene: Scene) -> Iterator[Ended]:
    """The folder there may be written by nobody."""
    scene.register(folder="/proc/sys/edgeq")
    yield scene.run()
    scene.register()


def read_only_here(scene: Scene) -> Iterator[Ended]:
    """The result cannot be written, from the beginning."""
    scene.tmpfs(scene.out, "16m")
    subprocess.run(["mount", "-o", "remount,ro", str(scene.out)], check=True, timeout=20)
    yield scene.run()
    subprocess.run(["mount", "-o", "remount,rw", str(scene.out)], check=True, timeout=20)


def no_history(scene: Scene) -> Iterator[Ended]:
    """The database of runs is on a disk that cannot be written."""
    state = scene.folder / "home/.local/state/edgeq"
    scene.tmpfs(state, "16m")
    subprocess.run(["mount", "-o", "remount,ro", str(state)], check=True, timeout=20)
    yield scene.run()
    subprocess.run(["mount", "-o", "remount,rw", str(state)], check=True, timeout=20)


# The runtime ---------------------------------------------------------------------------------------------------------


def no_runtime(scene: Scene) -> Iterator[Ended]:
    """A Python without any package."""
    scene.register(python=_bare(scene) / "bin/python3")
    yield scene.run()
    _site(scene).write_text(sysconfig.get_path("purelib") + "\n")


def crashing_runtime(scene: Scene, number: signal.Signals) -> Iterator[Ended]:
    """An interpreter that dies when it is built."""
    python = _bare(scene) / "bin/python3"
    package = scene.folder / "prepared/packages/ai_edge_litert"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = '9.9.9'\n")
    die = f"import os\nclass Interpreter:\n    def __init__(self, **words): os.kill(os.getpid(), {int(number)})\n"
    (package / "interpreter.py").write_text(die)
    real = Path(sysconfig.get_path("purelib"))
    for beside in real.glob("numpy*"):
        (package.parent / beside.name).symlink_to(beside)
    _site(scene).write_text(f"{package.parent}\n")
    scene.register(python=python)
    yield scene.run()
    _site(scene).write_text(f"{real}\n")


def _bare(scene: Scene) -> Path:
    place = scene.folder / "prepared/bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True, timeout=60)
    return place


def _site(scene: Scene) -> Path:
    folder = next((scene.folder / "prepared/bare/lib").glob("python3.*/site-packages"))
    return Path(folder) / "test.pth"


def crash_in_the_runs(scene: Scene, name: str) -> Iterator[Ended]:
    """It dies only when it works."""
    scene.python(f'case "$*" in *"__main__.py bench "*) kill -{name} $$ ;; esac\nexec "$PYTHON" "$@"')
    yield scene.run()
    scene.register()


def out_of_memory(scene: Scene) -> Iterator[Ended]:
    """The runner may take less memory than the interpreter needs."""
    scene.python('case "$*" in *"__main__.py bench "*) ulimit -v 160000 ;; esac\nexec "$PYTHON" "$@"')
    yield scene.run()
    scene.register()


def clock_far_off(scene: Scene) -> Iterator[Ended]:
    """The device's clock is a year ahead, as without a battery and a network."""
    python = _bare(scene) / "bin/python3"
    (scene.folder / "prepared/year_ahead.py").write_text(
        "import time\nreal = time.time\ntime.time = lambda: real() + 365 * 86400\n"
    )
    ahead = f"{sysconfig.get_path('purelib')}\n{scene.folder}/prepared\nimport year_ahead\n"
    _site(scene).write_text(ahead)
    scene.register(python=python)
    yield scene.run()
    _site(scene).write_text(sysconfig.get_path("purelib") + "\n")


# Devices that lie ----------------------------------------------------------------------------------------------------


def lying_runner(scene: Scene, lie: str) -> Iterator[Ended]:
    """The runner answers so instead of measuring."""
    scene.python(f'case "$*" in *"__main__.py bench "*) {lie} ;; esac\nexec "$PYTHON" "$@"')
    yield scene.run()
    scene.register()


def never_answers(scene: Scene) -> Iterator[Ended]:
    """The agent lives, the runner says nothing for longer than it may."""
    scene.measure = SHORT
    yield from lying_runner(scene, "exec sleep 3600")


def lying_agent(scene: Scene, lie: str) -> Iterator[Ended]:
    """What starts there is not edgeq's agent."""
    scene.python(lie)
    yield scene.run()
    scene.register()


def frames(text: str) -> str:
    """A program that greets as the agent does and then writes these frames for ever."""
    program = (
        "import sys,struct,time\nsys.stdout.buffer.write(b'\\nedgeq agent 1\\n')\n"
        f"def frame(kind, text): sys.stdout.buffer.write(struct.pack('>cI', kind, len(text)) + text)\n{text}\n"
        "sys.stdout.buffer.flush()\ntime.sleep(30)"
    )
    return f'exec "$PYTHON" -c "\n{program}"'


def paths_in_names(scene: Scene) -> Iterator[Ended]:
    """Names in the answer that would lead out of a folder or steer a terminal."""
    evil = r"../../../../evil\\u001b[2J"
    lie = f'"$PYTHON" "$@" | sed \'s#"ai_edge_litert"#"{evil}"#g; s#"hostname": "[^"]*"#"hostname": "{evil}"#\'; exit 0'
    yield from lying_runner(scene, lie)


# Files that change ---------------------------------------------------------------------------------------------------


def altered_there(scene: Scene) -> Iterator[Ended]:
    """The model changes on the device between deployment and measuring."""
    script = (
        'case "$*" in *"__main__.py bench "*) for m in "$HOME"/device/*/model.tflite; do printf x >> "$m"; done ;; esac'
    )
    scene.python(f'{script}\nexec "$PYTHON" "$@"')
    yield scene.run()
    scene.register()


def altered_before(scene: Scene) -> Iterator[Ended]:
    """A file on the device is not what was sent last time: it is sent again."""
    deploy = scene.call(["deploy", scene.bundle, "-d", "board", "--json"]).end()
    with (Path(deploy.document["folder"]) / "golden.npz").open("r+b") as stream:
        stream.write(b"\0\0")
    yield scene.run()


def altered_here(scene: Scene) -> Iterator[Ended]:
    """The bundle on this host is not what was built."""
    shutil.copytree(scene.bundle, scene.folder / "small")
    scene.bundle = scene.folder / "small"
    content = (scene.bundle / "model.tflite").read_bytes()
    (scene.bundle / "model.tflite").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    yield scene.run()
    (scene.bundle / "model.tflite").write_bytes(content)


def altered_while_sent(scene: Scene) -> Iterator[Ended]:
    """The bundle on this host changes while it is sent."""
    shutil.copytree(scene.stage.large, scene.folder / "large")
    padding = scene.folder / "large/padding.bin"
    last = padding.read_bytes()[-1]

    def write(byte: int) -> None:
        with padding.open("r+b") as stream:
            stream.seek(-1, os.SEEK_END)
            stream.write(bytes([byte]))

    scene.stage = type(scene.stage)(**{**vars(scene.stage), "large": scene.folder / "large"})
    yield scene.strike(lambda call: write(last ^ 1))
    write(last)
    scene.mend()


# This host -----------------------------------------------------------------------------------------------------------


def stopped(scene: Scene, number: signal.Signals) -> Iterator[Ended]:
    """edgeq itself is ended in the middle."""
    yield scene.strike(lambda call: call.process.send_signal(number))
    scene.mend()


def stopped_while_converting(scene: Scene, number: signal.Signals) -> Iterator[Ended]:
    """The long road: `edgeq run` from the float model."""
    target, data = "generic-linux-" + os.uname().machine, scene.stage.model.parent / "dataset.yaml"
    scene.verb = ["run", scene.stage.model, "-t", target, "-d", "board", "--data", data]
    yield scene.strike(lambda call: call.process.send_signal(number))


def stopped_in_a_fleet(scene: Scene, number: signal.Signals) -> Iterator[Ended]:
    """One of two devices is finished, the other is being measured."""
    scene.verb = ["profile", scene.bundle, "-d", FINISHED, "-d", "board"]
    yield scene.strike(lambda call: call.process.send_signal(number))


def stopped_after_the_result(scene: Scene, number: signal.Signals) -> Iterator[Ended]:
    """The measurement is on the disk, the report is not, or just so."""
    call = scene.call()
    give_up = time.monotonic() + 60
    while not scene.results() and time.monotonic() < give_up and call.process.poll() is None:
        time.sleep(0.001)
    call.struck = time.monotonic()
    call.process.send_signal(number)
    yield call.end()


def one_of_two(scene: Scene) -> Iterator[Ended]:
    """A device of two dies in the middle: the other's result stays."""
    scene.verb = ["profile", scene.bundle, "-d", FINISHED, "-d", "board"]
    yield from killed_device(scene)


def held(scene: Scene) -> Iterator[Ended]:
    """Another edgeq is measuring there."""
    other = _other(scene)
    yield scene.run()
    other.process.send_signal(signal.SIGINT)
    other.end()


def holder_dies(scene: Scene) -> Iterator[Ended]:
    """It had the device and was killed."""
    other = _other(scene)
    other.process.kill()
    other.end()
    yield scene.run()


def holder_vanishes(scene: Scene) -> Iterator[Ended]:
    """Another host had the device and its link was cut: nobody gives the lease back."""
    direct, proxy = scene.proxy, scene.through_a_proxy()
    other = _other(scene)
    proxy.cut()
    other.process.kill()
    other.end()
    scene.proxy = direct
    scene.register()
    yield scene.run()


def _other(scene: Scene) -> Call:
    """A second edgeq that measures for a minute."""
    long = ("--runs", "3", "--seconds", "60", "--warmup-seconds", "0", "--no-float", "--json")
    other = scene.call(
        ["profile", scene.bundle, "-d", "board", "-o", scene.folder / "home/.local/state/edgeq/other", *long]
    )
    other.until("runs")
    return other
