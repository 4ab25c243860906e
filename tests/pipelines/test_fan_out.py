"""Work spread over pairs."""

from __future__ import annotations

import pytest

from mntrading.params import ComputeParams
from mntrading.pipelines.common import fan_out


@pytest.mark.parametrize(("backend", "scheduler"), [("threading", None), ("loky", None), ("dask", "tcp://127.0.0.1:1")])
def test_results_come_in_the_order_of_the_items_whoever_does_the_work(backend, scheduler):
    """A cluster serves the screen alone, so none has to be there."""
    compute = ComputeParams(backend=backend, n_workers=2, scheduler=scheduler)
    assert list(fan_out(lambda item: item * item, list(range(7)), compute, "squares")) == [k * k for k in range(7)]
