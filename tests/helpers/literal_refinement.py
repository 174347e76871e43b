"""Reference implementation of mask refinement: the course report's, one cell at a time, slow and simple.

The package's fast implementation is tested against it, and timed against it in experiments/bench_refinement.py.
"""

from __future__ import annotations

import numpy as np

NEIGHBOURS = ((-1, 0), (1, 0), (0, -1), (0, 1))


def label_map(w: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Strongest component of each cell; the lowest index among equals.

    Args:
        w: templates W, (F, R).
        h: activations H, (R, T).

    Returns:
        Labels (F, T), int64.
    """
    labels = np.empty((w.shape[0], h.shape[1]), dtype=np.int64)
    for c in range(w.shape[0]):
        for m in range(h.shape[1]):
            labels[c, m] = np.argmax(w[c] * h[:, m])
    return labels


def regions(labels: np.ndarray) -> list[list[tuple[int, int]]]:
    """4-connected regions of equal label in a label map (F, T), by flood fill: lists of cells (bin, frame)."""
    seen = np.zeros(labels.shape, dtype=bool)
    found = []
    for c in range(labels.shape[0]):
        for m in range(labels.shape[1]):
            if seen[c, m]:
                continue
            seen[c, m] = True
            region = [(c, m)]
            for cell in region:  # the list grows during the loop
                for step in NEIGHBOURS:
                    i, j = cell[0] + step[0], cell[1] + step[1]
                    inside = 0 <= i < labels.shape[0] and 0 <= j < labels.shape[1]
                    if inside and not seen[i, j] and labels[i, j] == labels[c, m]:
                        seen[i, j] = True
                        region.append((i, j))
            found.append(region)
    return found


def region_means(mask: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean of the mask (F, T) over the region of each cell: (F, T), float64."""
    means = np.empty(mask.shape, dtype=np.float64)
    for region in regions(labels):
        mean = sum(float(mask[cell]) for cell in region) / len(region)
        for cell in region:
            means[cell] = mean
    return means


def refine_mask(mask: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Maximum of mask and region mean in each cell: (F, T), float64."""
    means = region_means(mask, labels)
    refined = np.empty(mask.shape, dtype=np.float64)
    for c in range(mask.shape[0]):
        for m in range(mask.shape[1]):
            refined[c, m] = max(mask[c, m], means[c, m])
    return refined
