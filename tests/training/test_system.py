import functools

import pytest
import torch

from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference.separator import Separator
from hourglass_sep.networks.hourglass import StackedHourglass
from hourglass_sep.scoring.protocols import load_protocol
from hourglass_sep.training.losses import Batch, masked_l1
from hourglass_sep.training.system import SeparationSystem


def squares(masks: torch.Tensor, batch: Batch) -> torch.Tensor:
    return (masks * batch["mixture"][:, None] - batch["targets"]).square().mean(dim=(1, 3, 4, 5))


@pytest.mark.parametrize("loss", [masked_l1, squares])
def test_the_training_loss_is_the_sum_over_all_stacks_and_sources(loss, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = StackedHourglass(stacks=3, channels=4, depth=1)
    system = SeparationSystem(
        Separator(network, Spectrogram()),
        loss,
        torch.optim.Adam,
        functools.partial(torch.optim.lr_scheduler.StepLR, step_size=1),
        load_protocol("mir1k"),
    )
    logged: dict[str, torch.Tensor] = {}
    monkeypatch.setattr(system, "log", lambda name, value, **_: logged.update({name: value}))
    monkeypatch.setattr(system, "log_dict", logged.update)
    batch = {"mixture": torch.rand(2, 1, 32, 16), "targets": torch.rand(2, 2, 1, 32, 16)}
    value = system.training_step(batch, 0)
    masks = network(batch["mixture"])
    each = torch.stack(
        [
            loss(masks[k : k + 1, :, s : s + 1], batch | {"targets": batch["targets"][:, s : s + 1]})[0, 0]
            for k in range(3)
            for s in range(2)
        ]
    ).reshape(3, 2)
    torch.testing.assert_close(value, each.sum())
    torch.testing.assert_close(logged["train/loss"], each.sum())
    for k in range(3):
        torch.testing.assert_close(logged[f"train/loss_stack{k}"], each[k].sum())
