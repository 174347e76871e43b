import sys

import pytest
from pytorch_lightning.utilities import rank_zero_only

from hourglass_sep.training.ranks import is_further_rank


@pytest.mark.parametrize(("rank", "further"), [(0, False), (1, True), (3, True)])
def test_the_first_process_is_rank_0(rank: int, further: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", rank)
    assert is_further_rank() == further


def test_a_process_that_has_not_imported_lightning_is_the_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pytorch_lightning.utilities")
    assert not is_further_rank()
