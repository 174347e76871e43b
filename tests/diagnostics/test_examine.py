import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, PackagePath
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import soundfile
import torch
import wandb
from torch import Tensor

from hourglass_sep import Separator, audio, doctor
from hourglass_sep.checkpoints import store
from hourglass_sep.diagnostics import codecs, examine, optional, separation
from hourglass_sep.diagnostics.findings import REINSTALL
from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.support import devices
from hourglass_sep.support.errors import AudioError, UserError

KEY = "0123456789" * 4
ROW = {"status", "label", "what", "text", "remedy", "optional"}


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home and current folder of somebody who has set up nothing and has no GPU."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setattr(devices, "found", lambda: {"cpu": "1 thread(s)"})
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("HOURGLASS_DATA_DIR", "NETRC", *(name for name in os.environ if name.startswith("WANDB_"))):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Leave the other sections out."""

    def leave(*keys: str) -> None:
        monkeypatch.setattr(examine, "SECTIONS", {key: examine.SECTIONS[key] for key in keys})

    return leave


def one(rows: list[dict[str, Any]]) -> dict[str, Any]:
    (row,) = rows
    return row


def named(rows: list[dict[str, Any]], what: str) -> dict[str, Any]:
    return one([row for row in rows if row["what"] == what])


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment)


def test_the_report_says_everything_works_to_somebody_without_data_or_account(
    nobody: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    assert doctor.run([]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert not err
    assert lines[-1] == "everything works, except for what is optional: MIR-1K, W&B login"
    assert [line for line in lines if not line.startswith(" ")][:-1] == [
        *("versions", "devices", "sound files", "weights", "data sets", "Weights & Biases", "self-test")
    ]
    statuses = {line.split()[0] for line in lines if re.match(r"  \w", line)}
    assert statuses == {"ok", "missing"}
    assert "-> wandb login" in out
    assert all(len(line) <= 80 and line == line.rstrip() for line in lines if "/" not in line)
    assert not list(temporary.iterdir()) + list(nobody.iterdir())


def test_json_is_one_object_with_every_section_and_needs_neither_lightning_nor_hydra() -> None:
    code = (
        "import sys; from hourglass_sep import doctor; code = doctor.run(['--json']); "
        "heavy = {'pytorch_lightning', 'lightning_fabric', 'torchmetrics', 'hydra', 'matplotlib'}; "
        "print(*heavy & set(sys.modules), file=sys.stderr); sys.exit(code)"
    )
    result = python(code, OMP_NUM_THREADS="1")
    assert (result.returncode, result.stderr) == (0, "\n")
    found = json.loads(result.stdout)
    sections = {"versions", "devices", "codecs", "weights", "data", "wandb", "self_test"}
    assert set(found) == {"works", "verdict", "seconds"} | sections
    assert found["works"] is True
    assert all(found[key] and set(row) >= ROW for key in sections for row in found[key])
    assert found["seconds"] < 60


@pytest.mark.parametrize("harm", ["header", "NaN", "not as installed", "none"])
def test_a_broken_weights_file_is_named_and_makes_the_exit_code_1(
    harm: str, only: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    for path in store.WEIGHTS_DIR.glob("*.*s*"):
        shutil.copy(path, folder)
    path = folder / "default.safetensors"
    content = bytearray(path.read_bytes())
    if harm == "header":
        content[20] ^= 0x80
        path.write_bytes(content)
    elif harm == "NaN":
        tensors = safetensors.torch.load(bytes(content))
        next(iter(tensors.values())).view(-1)[7] = torch.nan
        safetensors.torch.save_file(tensors, path)
    elif harm == "not as installed":  # a flipped bit of a weight loads well
        content[-100] ^= 1
        path.write_bytes(content)
        record(path, store.WEIGHTS_DIR / path.name, monkeypatch)
    else:
        path.unlink()
    monkeypatch.setattr(store, "WEIGHTS_DIR", folder)
    only("devices", "weights")
    assert doctor.run(["--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    row = one([row for row in found["weights"] if row["what"] == "default weights"])
    assert [row["status"] for row in found["weights"] if row["what"] != "default weights"] == ["ok"]  # the large ones
    assert str(folder) in row["text"]
    assert row["status"] == ("missing" if harm == "none" else "failed")
    words = {"header": "damaged", "NaN": "NaN", "not as installed": "installed", "none": "no default"}
    assert words[harm] in row["text"]
    assert found["verdict"] == f"does not work: default weights -> {REINSTALL}"


def record(path: Path, shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pip have installed a path, with the content of another."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(shipped.read_bytes()).digest()).decode().rstrip("=")

    class Recorded(PackagePath):
        def locate(self) -> Path:
            return path

    file = Recorded("hourglass_sep/weights/default.safetensors")
    file.hash = type("Hash", (), {"value": digest})()
    monkeypatch.setattr("importlib.metadata.files", lambda name: [file])


def test_weights_are_described_by_size_hash_and_card_and_may_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    path = store.WEIGHTS_DIR / "default.safetensors"
    card = json.loads(path.with_suffix(".json").read_text())
    record(path, path, monkeypatch)
    row = one([row for row in separation.shipped_weights() if row["what"] == "default weights"])
    assert row["status"] == "ok"
    assert row["parameters"] == sum(value.numel() for value in Separator.from_pretrained().network.parameters())
    assert row["bytes"] == path.stat().st_size
    assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert row["sha256"][:16] in row["text"]
    assert (row["sources"], row["sample_rate_hz"], row["channels"]) == (card["sources"], 8000, 1)
    assert (row["trained_on"], row["licence"]) == (card["facts"]["trained_on"], "MIT")
    scores = card["facts"]["test_scores_db"]
    for name in SOURCES:
        assert row["test_scores_db"][name]["gnsdr"] == scores[name]["gnsdr"]
        assert f"{name} {scores[name]['gnsdr']}" in row["text"]


def test_every_format_that_is_written_and_the_usual_ones_of_phones_and_videos_are_tried() -> None:
    rows = codecs.codecs()[1:]
    ours = [f"{name} {depth}".strip() for name, form in audio.FORMATS.items() for depth in form.subtypes]
    assert [row["what"] for row in rows if row["writable"]] == ours
    assert {".m4a", ".aac", ".wma", ".opus", ".webm", ".mp4"} == {row["suffix"] for row in rows if not row["writable"]}
    assert all(row["status"] == "ok" and row["readable"] and row["error"] is None for row in rows)


def test_a_format_that_cannot_be_written_is_reported_and_not_raised(
    only: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = soundfile.SoundFile

    def without_mp3(*arguments: Any, **options: Any) -> Any:
        if options.get("format") == "MP3":
            raise soundfile.LibsndfileError(1, "no encoder here: ")
        return whole(*arguments, **options)

    monkeypatch.setattr(soundfile, "SoundFile", without_mp3)
    only("codecs")
    assert doctor.run([]) == 1
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "does not work: mp3 -> pip install --force-reinstall soundfile"
    assert re.search(r"failed +not written +mp3: ", out)
    assert re.search(r"ok +read, written +wav 16, wav 24, wav float32, flac 16, flac 24, ogg\n", out)
    row = named(codecs.codecs(), "mp3")
    assert (row["readable"], row["writable"]) == (None, False)
    assert "tones.mp3" in row["error"]
    assert "/" not in row["error"]


def swapped(waveform: Tensor, rate: int) -> tuple[Tensor, int]:
    return waveform.flip(0), rate


def halved(waveform: Tensor, rate: int) -> tuple[Tensor, int]:
    return waveform / 2, rate


def cut(waveform: Tensor, rate: int) -> tuple[Tensor, int]:
    return waveform[:, : waveform.shape[1] // 2], rate


def slowed(waveform: Tensor, rate: int) -> tuple[Tensor, int]:
    return waveform, 44100


def mono(waveform: Tensor, rate: int) -> tuple[Tensor, int]:
    return waveform[:1], rate


def refused(waveform: Tensor, rate: int) -> tuple[Tensor, int]:
    raise AudioError("it cannot be read as audio (why): damaged, or no sound file")


@pytest.mark.parametrize("change", [swapped, halved, cut, slowed, mono, refused])
def test_a_format_that_is_read_as_something_else_is_reported(change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read, harmed = audio.read, (".ogg",)
    monkeypatch.setattr(audio, "read", lambda path: change(*read(path)) if path.suffix in harmed else read(path))
    rows = codecs.codecs()
    bad = {row["what"]: row for row in rows if row["status"] != "ok"}
    assert {what: (row["readable"], row["writable"], row["status"]) for what, row in bad.items()} == {
        "ogg": (False, True, "failed"),
    }
    assert ("(why)" if change is refused else "written") in bad["ogg"]["error"]


def test_a_decoder_that_ffmpeg_lacks_is_reported(only: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "_READ_ONLY", {"m4a": "no_such_decoder", "wma": "wmav2"})
    rows = codecs.codecs()
    assert (named(rows, "m4a")["status"], named(rows, "wma")["status"]) == ("failed", "ok")
    assert "no_such_decoder" in named(rows, "m4a")["error"]
    monkeypatch.setitem(sys.modules, "av", None)
    only("codecs")
    found = examine.examine()
    assert not found["works"]
    assert "m4a, wma -> pip install --force-reinstall av" in found["verdict"]
    assert "no PyAV" in found["codecs"][0]["text"]


@pytest.mark.parametrize("named_by", ["environment", "default"])
def test_mir1k_is_found_and_counted_where_training_looks(
    named_by: str, tiny_mir1k: Path, nobody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_mir1k
    if named_by == "environment":
        monkeypatch.setenv("HOURGLASS_DATA_DIR", str(root))
    else:
        root = nobody / "data" / "MIR-1K"
        shutil.copytree(tiny_mir1k, root)
    row = one(optional.data_sets())
    assert (row["status"], row["path"]) == ("ok", str(root))
    assert row["clips"] == {"training": 2, "validation": 3, "test": 2}
    assert row["text"] == f"2 training, 3 validation, 2 test clips in {root}"


def test_without_mir1k_the_folder_and_the_variable_are_named(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = one(optional.data_sets())
    assert (row["status"], row["optional"]) == ("missing", True)
    assert f"{nobody}/data/MIR-1K (HOURGLASS_DATA_DIR is not set)" in row["text"]
    monkeypatch.setenv("HOURGLASS_DATA_DIR", "~/elsewhere")
    assert f"{nobody}/elsewhere (HOURGLASS_DATA_DIR)" in one(optional.data_sets())["text"]


def test_a_login_is_seen_in_the_environment_and_in_a_netrc_of_the_right_host_and_no_key_is_told(
    nobody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen() -> tuple[bool, str]:
        row = one(optional.wandb_login())
        assert KEY not in json.dumps(row)
        assert row["optional"]
        assert (row["status"] == "ok") == row["logged_in"]
        return row["logged_in"], row["text"].replace(wandb_host(), "HOST")

    assert seen() == (False, "none for HOST; runs are logged offline")
    netrc = nobody / ".netrc"
    netrc.write_text(f"machine {wandb_host()}\n login user\n password {KEY}\n")
    netrc.chmod(0o600)
    assert seen() == (True, "for HOST; runs are logged online")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert seen() == (True, "for HOST; WANDB_MODE=offline")
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8080/")
    assert seen() == (False, "none for wandb.example.org:8080; runs are logged offline")
    monkeypatch.setenv("WANDB_API_KEY", f"local-{KEY}")
    assert seen() == (True, "for wandb.example.org:8080; runs are logged online")


def wandb_host() -> str:
    return wandb.Settings().base_url.partition("//")[2]


def test_a_key_that_wandb_would_refuse_is_no_login(only: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from wandb.sdk.lib.wbauth.validation import check_api_key

    only("wandb")
    for key in (KEY, KEY[1:], f"local-{KEY}", f"local-{KEY[1:]}"):
        monkeypatch.setenv("WANDB_API_KEY", key)
        row = one(optional.wandb_login())
        assert row["logged_in"] == (check_api_key(key) is None)
        assert row["status"] == ("ok" if row["logged_in"] else "failed")
        assert examine.examine()["works"]


def test_the_self_test_gains_far_more_than_it_asks_for_within_seconds() -> None:
    row = one(separation.self_test())
    assert row["status"] == "ok"
    assert min(row["gain_db"].values()) > separation.LEAST_GAIN_DB + 3
    assert row["sum_error"] < separation.SUM_TOLERANCE / 5
    assert row["seconds"] < 5
    assert row["real_time_factor"] == pytest.approx(row["seconds"] / separation.SELF_TEST_SECONDS, abs=1e-3)


def leaky(stems: dict[str, Tensor]) -> dict[str, Tensor]:
    return stems | {"vocals": stems["vocals"] + 1e-4}


def broken(stems: dict[str, Tensor]) -> dict[str, Tensor]:
    return stems | {"vocals": stems["vocals"] * torch.nan}


def exchanged(stems: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(zip(SOURCES, [stems[name] for name in reversed(SOURCES)], strict=True))


def shared(stems: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict.fromkeys(SOURCES, (stems["vocals"] + stems["accompaniment"]) / 2)


def silent(stems: dict[str, Tensor]) -> dict[str, Tensor]:
    whole = stems["vocals"] + stems["accompaniment"]
    return {"accompaniment": whole, "vocals": torch.zeros_like(whole)}


def crashed(stems: dict[str, Tensor]) -> dict[str, Tensor]:
    raise RuntimeError("out of memory")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (leaky, "add up to the song but for 0.0001"),
        (broken, "NaN"),
        (exchanged, "should be +6"),
        (shared, "should be +6"),
        (silent, "should be +6"),
        (crashed, "RuntimeError: out of memory"),
    ],
)
def test_the_self_test_catches_a_separator_that_does_not_separate(
    change: Any, words: str, only: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    separate = Separator.separate
    monkeypatch.setattr(Separator, "separate", lambda *arguments: change(dict(separate(*arguments))))
    only("self_test")
    assert doctor.run(["--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert words in one(found["self_test"])["text"]
    assert found["verdict"] == f"does not work: separation on cpu -> {REINSTALL}"


def test_every_device_is_tried_and_one_that_does_not_work_is_named(only: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "found", lambda: {"gpu9": "a GPU without a driver", "cpu": "1 thread(s)"})
    only("devices", "self_test")
    found = examine.examine()
    assert [row["what"] for row in found["devices"]] == ["gpu9", "cpu", "machine"]
    assert [(row["label"], row["status"]) for row in found["self_test"]] == [("gpu9", "failed"), ("cpu", "ok")]
    assert found["verdict"].startswith("does not work: separation on gpu9 -> separate with -d cpu")


def test_dependencies_that_are_missing_or_out_of_bounds_are_named_with_what_to_install(
    only: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        "numpy>=1",
        "torch==1.0.*",
        "no-such-library>=2",
        "of-another-system>=2; sys_platform == 'amiga'",
        "rich<1; extra == 'dev'",
        "pytest>=1; extra == 'dev'",
        "pytest>=1; extra == 'test'",
        "no-such-tool>=2; extra == 'dev'",
    ]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: lines)
    only("versions")
    found = examine.examine()
    assert [(row["what"], row["status"], row["label"], row["remedy"]) for row in found["versions"][3:]] == [
        ("numpy", "ok", "dependencies", ""),
        ("torch", "failed", "dependencies", "pip install 'torch==1.0.*'"),
        ("no-such-library", "missing", "dependencies", "pip install 'no-such-library>=2'"),
        ("rich", "failed", "optional", "pip install 'rich<1'"),
        ("pytest", "ok", "optional", ""),
    ]
    assert found["verdict"] == (
        "does not work: torch -> pip install 'torch==1.0.*'; no-such-library -> pip install 'no-such-library>=2'"
    )


def test_a_checkout_that_is_not_installed_works(only: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.requires", requires)
    only("versions")
    found = examine.examine()
    assert found["works"]
    assert found["versions"][-1]["remedy"] == "pip install -e ."


def test_what_is_left_of_an_installation_without_torch_is_told_and_without_rich_as_json() -> None:
    code = "import sys; sys.modules['torch'] = None; {}; from hourglass_sep.doctor import main; main()"
    result = python(code.format("pass"))
    assert (result.returncode, result.stderr) == (1, "")
    failed = re.findall(r"failed +(\w.*?)  ", result.stdout)
    assert failed == ["devices", "sound files", "weights", "data sets", "self-test"]
    assert re.search(r"ok +program +hourglass_sep", result.stdout)
    result = python(code.format("sys.modules['rich'] = None"))
    assert (result.returncode, result.stderr) == (1, "")
    assert json.loads(result.stdout)["verdict"].startswith("does not work: devices, sound files, weights, self-test ->")


def test_mistakes_on_the_command_line_end_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        doctor.run(["--jsn"])
    capsys.readouterr()

    def run() -> int:
        raise UserError("this is wrong: do that")

    monkeypatch.setattr(doctor, "run", run)
    with pytest.raises(SystemExit, match="2"):
        doctor.main()
    assert capsys.readouterr().err == "error: this is wrong: do that\n"
