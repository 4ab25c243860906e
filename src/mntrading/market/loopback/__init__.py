"""An exchange on this machine: Binance's public REST answers over any `MarketSource`, with faults on demand.

What a real exchange does wrong, it does on order here: see `Fault`. From a shell,
``python -m mntrading.market.loopback --market demo``.
"""

from mntrading.market.loopback.faults import ANSWERS, DATA, Fault
from mntrading.market.loopback.server import Loopback, ManualClock, Request

__all__ = ["ANSWERS", "DATA", "Fault", "Loopback", "ManualClock", "Request"]
