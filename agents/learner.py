"""Acting and learning in parallel: one thread acts, another does the gradient steps."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from types import TracebackType

import torch
from torch import Tensor, nn


class LearnerError(RuntimeError):
    """The learning thread stopped on an error, which is the cause of this one."""


class Learner:
    """A thread that does gradient steps up to a number it is allowed; use it in a ``with`` block.

    The acting thread raises the number as it acts and is held up while the learner is more than
    `max_lag` steps behind, so the ratio of learning to acting is kept whichever is faster. Leaving
    the block finishes what is allowed, or, on an exception, stops after the present step; the
    thread has ended either way.

    Args:
        step: Does one gradient step and returns its loss; called in the thread.
        max_lag: Most gradient steps that may be outstanding when `allow` returns.
        done: Gradient steps done before.
    """

    def __init__(self, step: Callable[[], float], max_lag: int, done: int = 0) -> None:
        self._step = step
        self._max_lag = max_lag
        self._allowed = self._done = done
        self._losses: list[float] = []
        self._failure: BaseException | None = None
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="learner", daemon=True)

    def __enter__(self) -> Learner:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # An exception of the acting thread must not wait for a backlog of gradient steps.
        try:
            if kind is None:
                self.finish()
        finally:
            with self._changed:
                self._stopping = True
                self._changed.notify_all()
            self._thread.join()

    @property
    def backlog(self) -> int:
        """Gradient steps that are allowed and not done."""
        return self._allowed - self._done

    def allow(self, total: int) -> None:
        """Let the learner go on until ``total`` gradient steps are done; wait if it lags.

        Raises:
            LearnerError: A gradient step raised an exception.
        """
        with self._changed:
            # Never less: what was allowed once may be under way already.
            self._allowed = max(self._allowed, total)
            self._changed.notify_all()
            self._wait_for_backlog(self._max_lag)

    def finish(self) -> None:
        """Wait until every allowed gradient step is done; then nothing moves until `allow`.

        Raises:
            LearnerError: A gradient step raised an exception.
        """
        with self._changed:
            self._wait_for_backlog(0)

    def take_losses(self) -> list[float]:
        """Losses of the gradient steps since the last call."""
        with self._changed:
            losses, self._losses = self._losses, []
        return losses

    def _wait_for_backlog(self, most: int) -> None:
        self._changed.wait_for(lambda: self._failure is not None or self.backlog <= most)
        if self._failure is not None:
            raise LearnerError(f"learning failed: {self._failure}") from self._failure

    def _run(self) -> None:
        try:
            while self._may_step():
                # Outside the lock: the acting thread goes on meanwhile.
                loss = self._step()
                with self._changed:
                    self._losses.append(loss)
                    self._done += 1
                    self._changed.notify_all()
        except BaseException as failure:  # any at all: the acting thread waits for this one
            with self._changed:
                self._failure = failure
                self._changed.notify_all()

    def _may_step(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self.backlog > 0)
            return not self._stopping


class Snapshot:
    """Copy of a network that acts in one thread while another thread trains the original."""

    def __init__(self, network: nn.Module) -> None:
        self._network = copy.deepcopy(network).eval().requires_grad_(False)
        self._lock = threading.Lock()

    def renew(self, network: nn.Module) -> None:
        """Take over the weights and running statistics of the original."""
        with self._lock:
            self._network.load_state_dict(network.state_dict())

    def weights(self, most: int) -> dict[str, Tensor]:
        """Thin out the weights of the copy, see `thinned_weights`."""
        with self._lock:
            return thinned_weights(self._network, most)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Evaluate the copy."""
        # Locked: weights that change between two layers would be those of no network.
        with self._lock, torch.no_grad():
            outputs: Tensor = self._network(inputs)
            return outputs


def thinned_weights(network: nn.Module, most: int) -> dict[str, Tensor]:
    """Copy evenly spaced values of every weight tensor, for a histogram.

    Args:
        network: Any network.
        most: Values of a tensor, roughly; there may be up to twice as many.
    """
    return {
        name: values.detach().flatten()[:: max(1, values.numel() // most)].clone().cpu()
        for name, values in network.named_parameters()
    }
