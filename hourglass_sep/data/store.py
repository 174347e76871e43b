"""Stub."""
from __future__ import annotations
from collections.abc import Sequence
from typing import Protocol
import torch
from torch import Tensor
class Store(Protocol):
    def __len__(self) -> int: ...
    def n_samples(self, clip: int) -> int: ...
    def has(self, clip: int, source: int) -> bool: ...
    def read(self, clip: int, source: int, start: int, stop: int) -> Tensor: ...
class MemoryStore:
    def __init__(self, clips: Sequence[Tensor]) -> None:
        self._clips = [clip if clip.dim() == 3 else clip[:, None] for clip in clips]
    def __len__(self) -> int: return len(self._clips)
    def n_samples(self, clip: int) -> int: return self._clips[clip].shape[-1]
    def has(self, clip: int, source: int) -> bool: return True
    def read(self, clip: int, source: int, start: int, stop: int) -> Tensor: return self._clips[clip][source, :, start:stop]
