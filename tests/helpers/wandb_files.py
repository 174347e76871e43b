"""Reader of offline W&B runs: a 7-byte header, then LevelDB log records of `wandb.proto` Record messages."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as proto

_BLOCK, _HEADER = 32768, 7


def records(path: Path) -> Iterator[Any]:
    data, position, message = path.read_bytes(), 7, b""
    while position + _HEADER <= len(data):
        left_in_block = _BLOCK - position % _BLOCK
        if left_in_block < _HEADER:
            position += left_in_block
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        if position + _HEADER + length > len(data):  # the record is still being written
            return
        message += data[position + _HEADER : position + _HEADER + length]
        position += _HEADER + length
        if kind in (1, 4):  # a full record, or the last part of one
            record = proto.Record()  # type: ignore[attr-defined]
            record.ParseFromString(message)
            yield record
            message = b""


class OfflineRun:
    """The single offline run in a run folder's ``wandb`` directory.

    W&B's own process may still be writing after `finish` has returned, so the file is read again until it contains the
    exit record.

    Args:
        run_dir: run folder.
        patience_seconds: longest time to wait for the exit record.

    Attributes:
        folder: W&B's folder of the run.
        history: logged values, one dictionary per record.
        config: logged configuration.
        name: display name of the run.
        group: group of the run, or "".
        run_id: W&B's id of the run.
        exit_code: exit code of the run; None if there is no exit record.
    """

    def __init__(self, run_dir: Path, patience_seconds: float = 20.0) -> None:
        (path,) = run_dir.glob("wandb/offline-run-*/run-*.wandb")
        self.folder = path.parent
        end = time.monotonic() + patience_seconds
        self._read(path)
        while self.exit_code is None and time.monotonic() < end:
            time.sleep(0.2)
            self._read(path)

    def _read(self, path: Path) -> None:
        self.history: list[dict[str, Any]] = []
        self.config: dict[str, Any] = {}
        self.name = self.group = self.run_id = ""
        self.exit_code: int | None = None
        for record in records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.name, self.group = record.run.display_name, record.run.run_group
                self.run_id = record.run.run_id
                self._update(record.run.config.update)
            elif kind == "config":
                self._update(record.config.update)
            elif kind == "history":
                items = record.history.item
                self.history.append(
                    {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
                )
            elif kind == "exit":
                self.exit_code = record.exit.exit_code

    def _update(self, items: Any) -> None:
        for item in items:
            self.config[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)

    def values(self, key: str) -> list[Any]:
        return [row[key] for row in self.history if key in row]
