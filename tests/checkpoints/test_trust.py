"""Networks of other packages: their code runs only if the user named the package, and errors are one line."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hourglass_sep import Separator
from hourglass_sep.checkpoints import rebuild
from hourglass_sep.checkpoints.store import KEY
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.support.errors import CheckpointError, SettingError

PACKAGE = "strangers"
"""Name of the other package, which `package` writes."""

CODE = '''
"""Importing this runs code: it leaves a file."""
import os
from pathlib import Path
import torch
from torch import nn
from torch.nn import Linear

(Path(__file__).parent / "imported").touch()


class Net(nn.Module):
    """Masks from a normalised magnitude; it counts batches, and shares a weight."""

    def __init__(self, width=3, sources=2):
        if width > 64:
            raise ValueError("width is\\ntoo much")
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.last = nn.Conv2d(width, sources, 1)
        self.again = self.last
        self.register_buffer("table", torch.tensor([[1, -7], [2**40 + 1, 5]]))
        self.register_buffer("again_the_table", self.table)
        self.register_buffer("flags", torch.tensor([True, False]))
        self.register_buffer("loud", torch.tensor([1e6]))

    def forward(self, magnitude):
        return torch.sigmoid(self.last(self.first(self.norm(magnitude)).relu()))[None]


class Outer:
    class Net(Net):
        pass


class Fails(nn.Module):
    def __init__(self):
        raise SystemError("no\\nluck")


def function():
    return Net()


not_a_class = Net()
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Another package that can be imported, but has not been."""
    folder = tmp_path / "site" / PACKAGE
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "nets.py").write_text(CODE)
    (folder / "broken.py").write_text("raise RuntimeError('no\\nGPU')")
    monkeypatch.syspath_prepend(folder.parent)
    forget()
    yield folder
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def its_network(**arguments: Any) -> nn.Module:
    """A trained `Net` of the other package, its module forgotten again."""
    made = rebuild.draw({"_target_": f"{PACKAGE}.nets.Net", "arguments": arguments}, [PACKAGE]).train()
    torch.manual_seed(0)
    for _ in range(3):
        made(3 * torch.rand(2, 1, 33, 9) + 1)
    return made.eval()


def its_separator(**arguments: Any) -> Separator:
    return Separator(its_network(**arguments), Spectrogram(n_fft=64, hop_length=16, n_freq=33)).eval()


def saved(folder: Path, separator: Separator, suffix: str, **network: Any) -> Path:
    """A checkpoint of a separator, whose description says another network, before the package is imported."""
    path = folder / f"a{suffix}"
    description = separator.description
    description["network"] |= network
    if suffix == ".ckpt":
        state = {f"separator.{name}": value for name, value in separator.state_dict().items()}
        torch.save({KEY: description, "state_dict": state}, path)
    else:
        separator.save_weights(path, {})
        path.with_suffix(".json").write_text(json.dumps(description))
    return path


def unimported(package: Path) -> None:
    """Make the package one that has never been imported."""
    forget()
    (package / "imported").unlink(missing_ok=True)


def is_imported(package: Path) -> bool:
    return PACKAGE in sys.modules or (package / "imported").exists()


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_a_network_of_another_package_is_refused_without_its_import(package: Path, tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path, its_separator(), suffix)
    assert is_imported(package)
    unimported(package)
    for trust in ((), [], ["other"], "strange", f"{PACKAGE}s", [f"{PACKAGE}.nets"]):
        with pytest.raises(CheckpointError) as caught:
            Separator.from_checkpoint(path, trust=trust)
        text = str(caught.value)
        assert text.startswith(f"{path} has the network {PACKAGE}.nets.Net of another package")
        assert f"trust=[{PACKAGE}]" in text
        assert f"--trust {PACKAGE}" in text
        assert "network=" in text
        assert "\n" not in text
        assert not is_imported(package)


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
@pytest.mark.parametrize("way", ["trust", "name", "network", "entry point"])
def test_a_trusted_network_is_loaded_with_all_that_it_has_learned(
    package: Path, tmp_path: Path, suffix: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counters and switches too; numbers within half precision where the file has that."""
    separator = its_separator(width=5)
    path = saved(tmp_path, separator, suffix)
    given: dict[str, Any] = {}
    if way == "network":
        given = {"network": rebuild.draw({"_target_": f"{PACKAGE}.nets.Net", "arguments": {"width": 5}}, [PACKAGE])}
    unimported(package)
    if way == "trust":
        given = {"trust": ["others", PACKAGE]}
    elif way == "name":
        given = {"trust": PACKAGE}
    elif way == "entry point":
        point = importlib.metadata.EntryPoint("net", f"{PACKAGE}.nets:Net", "hourglass_sep.networks")
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] if point.group == group else [])
    again = Separator.from_checkpoint(path, **given)
    assert is_imported(package) == (way != "network")
    assert not again.network.training
    assert type(again.network).__name__ == "Net"
    assert again.description == separator.description
    before, after = separator.network.state_dict(), again.network.state_dict()
    assert before.keys() == after.keys()
    assert int(before["norm.num_batches_tracked"]) == 3
    for name, value in before.items():
        assert after[name].dtype == value.dtype, name
        tolerance = 1e-3 if suffix == ".safetensors" and value.is_floating_point() else 0
        torch.testing.assert_close(after[name], value, rtol=tolerance, atol=tolerance, msg=name)
    assert torch.equal(after["loud"], before["loud"])
    song = 0.1 * torch.randn(2, 3000, generator=torch.Generator().manual_seed(0))
    stems = again.separate(song, 8000)
    torch.testing.assert_close(stems["vocals"], separator.separate(song, 8000)["vocals"], atol=1e-3, rtol=0)
    torch.testing.assert_close(stems["vocals"] + stems["accompaniment"], song, atol=1e-5, rtol=0)


TARGETS = {
    "a function": (f"{PACKAGE}.nets.function", "is no torch.nn.Module defined in strangers"),
    "an instance": (f"{PACKAGE}.nets.not_a_class", "is no torch.nn.Module defined in strangers"),
    "a class of torch": (f"{PACKAGE}.nets.Linear", "is no torch.nn.Module defined in strangers"),
    "a class that is no network": (f"{PACKAGE}.nets.Outer", "is no torch.nn.Module defined in strangers"),
    "a module that it imports": (f"{PACKAGE}.nets.os", "is no torch.nn.Module defined in strangers"),
    "a function of such a module": (f"{PACKAGE}.nets.os.system", "cannot be imported"),
    "a class in a class": (f"{PACKAGE}.nets.Outer.Net", "cannot be imported"),
    "a class that is missing": (f"{PACKAGE}.nets.Gone", "cannot be imported .*'Gone'"),
    "a module that is missing": (f"{PACKAGE}.gone.Net", "cannot be imported .*gone"),
    "a module that fails": (f"{PACKAGE}.broken.Net", r"cannot be imported \(RuntimeError: no GPU\)"),
    "a class that fails": (f"{PACKAGE}.nets.Fails", "SystemError: no luck"),
    "the package": (PACKAGE, "which this version does not have"),
}
OTHERS = {
    "a command": ("os.system", "of another package"),
    "torch": ("torch.nn.Linear", "of another package"),
    "this package's other class": ("hourglass_sep.networks.hourglass.Hourglass", "this version does not have"),
    "this package's main": ("hourglass_sep.train.main", "this version does not have"),
    "a name that is ours by another way": ("hourglass_sep.checkpoints.rebuild.StackedHourglass", "does not have"),
    "nothing": ("", "this version does not have"),
    "dots": ("a..b", "this version does not have"),
    "a dot before": (".strangers.nets.Net", "this version does not have"),
    "a dot behind": ("strangers.nets.", "this version does not have"),
    "a path": ("../../strangers.Net", "this version does not have"),
    "a local class": ("strangers.nets.f.<locals>.Net", "this version does not have"),
    "a command for terminals": ("a.\x1b[2J\nb", "this version does not have"),
    "very long": ("a." * 5000 + "b", "of another package"),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_a_trusted_packages_other_names_are_one_line(package: Path, tmp_path: Path, kind: str) -> None:
    target, words = TARGETS[kind]
    path = saved(tmp_path, its_separator(), ".ckpt", _target_=target)
    with pytest.raises(CheckpointError, match=words) as caught:
        Separator.from_checkpoint(path, trust=[PACKAGE])
    assert str(caught.value).startswith(f"{path} ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", OTHERS)
def test_names_of_no_trusted_package_are_one_line_without_an_import(package: Path, tmp_path: Path, kind: str) -> None:
    target, words = OTHERS[kind]
    path = saved(tmp_path, its_separator(), ".ckpt", _target_=target)
    unimported(package)
    with pytest.raises(CheckpointError, match=words) as caught:
        Separator.from_checkpoint(path, trust=["others", "hourglass_sep", ""])
    text = str(caught.value)
    assert text.startswith(f"{path} ")
    assert text.isprintable()
    assert len(text) < len(str(path)) + 600
    assert not is_imported(package)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"width": torch.ones(1)}, "not JSON serializable"),
        ({"width": float("inf")}, "not JSON compliant"),
        ({"depth": 3}, "TypeError: .*unexpected keyword argument 'depth'"),
        ({"width": 65}, "ValueError: width is too much"),
        ({"width": 0.5}, "ValueError: out_channels must"),
        ({"width": 4}, r"holds 'first\.weight' of shape \(3, 1, 3, 3\), expected \(4, 1, 3, 3\)"),
    ],
)
def test_arguments_that_the_class_refuses_are_one_line(
    package: Path, tmp_path: Path, arguments: dict[str, Any], words: str
) -> None:
    path = saved(tmp_path, its_separator(), ".ckpt", arguments=arguments)
    with pytest.raises(CheckpointError, match=words) as caught:
        Separator.from_checkpoint(path, trust=[PACKAGE])
    assert str(caught.value).startswith(f"{path} ")
    assert "\n" not in str(caught.value)


def test_weights_for_a_network_that_is_given_must_fit_it(package: Path, tmp_path: Path) -> None:
    path = saved(tmp_path, its_separator(width=4), ".ckpt")
    with pytest.raises(CheckpointError, match=r"first\.weight' of shape \(4, 1, 3, 3\), expected \(5, 1, 3, 3\)"):
        Separator.from_checkpoint(path, network=its_network(width=5))
    with pytest.raises(CheckpointError, match=r"lacks 'bias'"):
        Separator.from_checkpoint(path, network=nn.Conv2d(1, 2, 1))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("norm.num_batches_tracked", lambda value: value.float()),
        ("norm.num_batches_tracked", lambda value: value.int()),
        ("flags", lambda value: value.to(torch.uint8)),
        ("table", lambda value: torch.zeros(1, dtype=torch.int64).expand(value.shape)),
        ("table", lambda value: value[:1]),
        ("again_the_table", lambda value: value[:1]),
        ("norm.running_mean", lambda value: value.long()),
        ("last.weight", lambda value: value * torch.nan),
    ],
)
def test_buffers_of_another_kind_than_the_networks_are_refused(
    package: Path, tmp_path: Path, name: str, change: Any
) -> None:
    separator = its_separator()
    path = saved(tmp_path, separator, ".ckpt")
    content = torch.load(path, weights_only=True)
    key = f"separator.network.{name}"
    content["state_dict"][key] = change(content["state_dict"][key])
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"in a form|more numbers|expected|diverged"):
        Separator.from_checkpoint(path, trust=[PACKAGE])


def test_a_network_without_its_arguments_cannot_be_saved_and_says_what_it_lacks(tmp_path: Path) -> None:
    separator = Separator(nn.Conv2d(1, 2, 1), Spectrogram())
    with pytest.raises(SettingError, match=r"^the network Conv2d has no config: give it an attribute of that name"):
        separator.save_weights(tmp_path / "a.safetensors", {})
    assert not list(tmp_path.iterdir())
