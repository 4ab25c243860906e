"""MNTrading."""

from mntrading.kernels import keep_apart

__version__ = "0.1.0"

keep_apart()
