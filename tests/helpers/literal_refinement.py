"""Mask refinement as the course report did it, a cell at a time: slow, and too plain to be wrong.

What the fast one is tested against, and timed against in experiments/bench_refinement.py.
"""

from __future__ import annotations

import numpy as np

NEIGHBOURS = ((-1, 0), (1, 0), (0, -1), (0, 1))


def label_map(w: np.ndarray, h: np.ndarray) -> np.ndarray:
    """The component that adds most to every cell, the lowest of equals: (F, R), (R, T) to (F, T)."""
    labels = np.empty((w.shape[0], h.shape[1]), dtype=np.int64)
    for c in range(w.shape[0]):
        for m in range(h.shape[1]):
            labels[c, m] = np.argmax(w[c] * h[:, m])
    return labels


def regions(labels: np.ndarray) -> list[list[tuple[int, int]]]:
    """Cells of equal label that hang together by their edges, by flood fill."""
    seen = np.zeros(labels.shape, dtype=bool)
    found = []
    for c in range(labels.shape[0]):
        for m in range(labels.shape[1]):
            if seen[c, m]:
                continue
            seen[c, m] = True
            region = [(c, m)]
            for cell in region:  # grows while it is walked through
                for step in NEIGHBOURS:
                    i, j = cell[0] + step[0], cell[1] + step[1]
                    inside = 0 <= i < labels.shape[0] and 0 <= j < labels.shape[1]
                    if inside and not seen[i, j] and labels[i, j] == labels[c, m]:
                        seen[i, j] = True
                        region.append((i, j))
            found.append(region)
    return found


def region_means(mask: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Every cell's region's mean of the mask."""
    means = np.empty(mask.shape, dtype=np.float64)
    for region in regions(labels):
        mean = sum(float(mask[cell]) for cell in region) / len(region)
        for cell in region:
            means[cell] = mean
    return means


def refine_mask(mask: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The larger of mask and region mean, for every cell."""
    means = region_means(mask, labels)
    refined = np.empty(mask.shape, dtype=np.float64)
    for c in range(mask.shape[0]):
        for m in range(mask.shape[1]):
            refined[c, m] = max(mask[c, m], means[c, m])
    return refined
