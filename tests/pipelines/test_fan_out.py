"""Work spread over pairs."""

from __future__ import annotations

import pytest

from mntrading.params import ComputeParams
from mntrading.pipelines.common import fan_out, progress, teller


@pytest.mark.parametrize(("backend", "scheduler"), [("threading", None), ("loky", None), ("dask", "tcp://127.0.0.1:1")])
def test_results_come_in_the_order_of_the_items_whoever_does_the_work(backend, scheduler):
    """A cluster serves the screen alone, so none has to be there."""
    compute = ComputeParams(backend=backend, n_workers=2, scheduler=scheduler)
    assert list(fan_out(lambda item: item * item, list(range(7)), compute, "squares")) == [k * k for k in range(7)]


@pytest.mark.parametrize(("every_seconds", "n_told"), [(0.0, 6), (60.0, 0)])
def test_progress_is_told_now_and_then_and_not_by_a_callback_at_the_end(every_seconds, n_told, caplog):
    caplog.set_level("INFO")
    tell = teller("squares", every_seconds)
    for done in range(1, 8):
        tell(done, 7)
    assert len(caplog.records) == n_told
    caplog.clear()
    assert list(progress(range(7), 7, "squares", every_seconds)) == list(range(7))
    assert len(caplog.records) == n_told + 1
