"""Checks of MIR-1K and the W&B account, which training and scoring use and separating does not need."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

from hourglass_sep.diagnostics.findings import Finding, finding
from hourglass_sep.support.errors import DataError
from hourglass_sep.support.paths import CONFIG_DIR, at_home


def data_sets() -> list[Finding]:
    """Check for MIR-1K in the folder that training would read when started from the current folder."""
    from omegaconf import OmegaConf

    from hourglass_sep.data.mir1k import find_clips, split_clips

    groups = {"data": "data/mir1k.yaml", "paths": "paths/default.yaml"}
    data = OmegaConf.create({group: OmegaConf.load(CONFIG_DIR / name) for group, name in groups.items()}).data
    root = at_home(data.root).absolute()
    facts: dict[str, Any] = {"optional": True, "path": str(root)}
    try:
        split = split_clips(find_clips(root), data.split, data.train_singers, data.validation_songs)
    except DataError:
        source = "HOURGLASS_DATA_DIR" + " is not set" * ("HOURGLASS_DATA_DIR" not in os.environ)
        text = f"no clips in {root} ({source}); only training and scoring need them"
        return [finding("missing", "MIR-1K", text, remedy="export HOURGLASS_DATA_DIR=/path/to/MIR-1K", **facts)]
    clips = {"training": len(split.train), "validation": len(split.validation), "test": len(split.test)}
    text = ", ".join(f"{count} {part}" for part, count in clips.items())
    return [finding("ok", "MIR-1K", f"{text} clips in {root}", clips=clips, **facts)]


def wandb_login() -> list[Finding]:
    """Check for the key of a W&B account, as the wandb package looks it up; nothing is sent."""
    import wandb
    from wandb.sdk.lib.wbauth import check_api_key, read_netrc_auth

    settings = wandb.Settings()
    settings.update_from_env_vars(dict(os.environ))
    host = urlsplit(settings.base_url).netloc
    key = settings.api_key or read_netrc_auth(host=settings.base_url)
    mode = os.environ.get("WANDB_MODE")
    facts: dict[str, Any] = {"optional": True, "host": host, "mode": mode, "logged_in": bool(key)}
    runs = f"WANDB_MODE={mode}" if mode else f"runs are logged {'online' if key else 'offline'}"
    if not key:
        return [finding("missing", "W&B login", f"none for {host}; {runs}", remedy="wandb login", **facts)]
    problem = check_api_key(key)
    if problem:
        facts["logged_in"] = False
        return [finding("failed", "W&B login", f"for {host}: {problem}", remedy="wandb login --relogin", **facts)]
    return [finding("ok", "W&B login", f"for {host}; {runs}", **facts)]
