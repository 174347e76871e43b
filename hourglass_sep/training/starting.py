"""Starting a new training from existing weights: the layers that fit are taken, the rest is named."""

from __future__ import annotations

from collections.abc import Collection

from hourglass_sep.checkpoints.store import read, shipped_path
from hourglass_sep.inference.separator import Separator
from hourglass_sep.support.errors import CheckpointError

_MOST_NAMED = 6


def start_from(separator: Separator, name_or_path: str, trust: Collection[str] = ()) -> str:
    """Copy weights into a separator's network wherever name and shape are equal, also for other numbers of sources.

    The licence of their data is added to the separator's facts.

    Args:
        separator: the separator to be trained; its network and facts are changed.
        name_or_path: a name that ships, or the file of a checkpoint.
        trust: packages whose networks may be imported, see `Separator.from_checkpoint`.

    Returns:
        What was taken and what was not, one line.

    Raises:
        CheckpointError: the checkpoint cannot be read, or nothing of it fits.
    """
    is_path = "/" in name_or_path or "." in name_or_path
    path = name_or_path if is_path else shipped_path(name_or_path)
    description, weights = read(path, trust)
    own = separator.network.state_dict()
    taken = {name: weights[name] for name in own if name in weights and weights[name].shape == own[name].shape}
    if not any(value.dim() > 1 for value in taken.values()):
        raise CheckpointError(
            f"init_from={name_or_path}: no layer has the size of this network's: repeat the model options of its run"
        )
    separator.network.load_state_dict({name: value.to(own[name]) for name, value in taken.items()}, strict=False)
    before = description.get("facts", {}).get("data_licence") or "not known"
    own_licence = separator.facts.get("data_licence") or "not known"
    separator.facts["data_licence"] = f"{own_licence}; started from {name_or_path}: {before}"
    missing = [name for name in own if name not in taken]
    text = f"init_from={name_or_path}: {len(taken)} of {len(own)} tensors taken"
    if missing:
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        text += f", newly drawn: {', '.join(missing[:_MOST_NAMED])}{more}"
    audio, now = description["audio"], separator.spectrogram.config
    other = [f"audio.{key}={audio.get(key)}" for key in now if audio.get(key) != now[key]]
    return text + (f"; they were trained with {' '.join(other)}" if other else "")
