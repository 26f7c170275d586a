"""Self-ensemble: the mean of what a network makes of a picture and of the same picture turned and mirrored.

Timofte et al., "Seven ways to improve example-based single image super resolution", CVPR 2016. A network that was trained on photographs in all these
positions makes nearly the same of each; where it does not, the mean is nearer to the truth.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

VIEWS = ((0, False), (2, False), (1, True), (3, True), (1, False), (3, False), (0, True), (2, True))
"""(quarter turns, whether it is mirrored after them), in the order in which fewer than all are taken."""


def check_views(count: int) -> None:
    """Raise ValueError where there are not so many views."""
    if not isinstance(count, (int, np.integer)) or isinstance(count, bool) or not 1 <= count <= len(VIEWS):
        raise ValueError(f"views={count!r}: a picture has 1 to {len(VIEWS)} views")


def mean_of_views(enlarge: Callable[[np.ndarray], np.ndarray], picture: np.ndarray, count: int) -> np.ndarray:
    """The mean, float32, of what `enlarge` makes of the first `count` views of a picture, turned back. picture and results: (H, W) or (H, W, C).

    Raises ValueError when there are not so many.
    """
    check_views(count)
    total: np.ndarray | None = None
    for turns, mirrored in VIEWS[:count]:
        view = np.rot90(picture, turns)
        made = enlarge(np.ascontiguousarray(view[:, ::-1] if mirrored else view))
        back = np.rot90(made[:, ::-1] if mirrored else made, -turns)
        if total is None:
            total = back.astype(np.float32)
        else:
            total += back
    assert total is not None
    total /= np.float32(count)
    return total
