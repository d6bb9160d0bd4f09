"""How many threads the numerical libraries of this process may use."""

from __future__ import annotations

import torch
from threadpoolctl import threadpool_limits


def limit_threads(count: int) -> None:
    """Set the threads of torch and of the linear algebra below NumPy, once and for all.

    Work on small images gains nothing from a second thread and can lose a factor of sixty.
    """
    torch.set_num_threads(count)
    threadpool_limits(count)
