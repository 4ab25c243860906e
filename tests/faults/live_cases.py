"""Every way the inputs of a short cycle can be wrong, and what is to come of it."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from unittest import mock

import cycles
import lightgbm as lgb
import numpy as np
from scene import STEP, Scene, iso, model_of, stored

from mntrading.core.estimators import FittedModel
from mntrading.core.types import slug
from mntrading.datasets import StoredModel
from mntrading.datasets.codecs import codec
from mntrading.datasets.manifest import Entry
from mntrading.datasets.storage import canonical_json, content_hash, sha256

MAP: Final = "models/production_map.json"
LOG: Final = "models/production_log.jsonl"
MODELS: Final = "models/production"
STATE: Final = "signals/_position_state.json"
ORDERS: Final = "portfolio/latest_orders.json"
ACCOUNT: Final = "portfolio/paper_account.json"
RECORD: Final = "runs/current.json"

Outcome = Literal["done", "doubts", "refused"]


class Place:
    """A copy of the scene that is spoiled."""

    def __init__(self, scene: Scene, root: Path) -> None:
        self.scene, self.root = scene, root
        self.spoiled: set[str] = set()

    def put(self, name: str, data: bytes | None) -> None:
        """Other bytes in a file's place, or none."""
        self.spoiled.add(name)
        cycles.replace(self.root / name, data)

    def restore(self) -> None:
        """Put back what was spoiled, as from a backup; bars are the market's to bring."""
        for name in self.spoiled:
            source = self.scene.root / name
            if not name.startswith(("raw/", "runs/")):
                cycles.replace(self.root / name, source.read_bytes() if source.exists() else None)

    def bytes(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def json(self, name: str) -> Any:
        return json.loads(self.bytes(name))

    def change(self, name: str, change: Callable[[Any], None]) -> None:
        """A JSON file of which something is changed, as whoever edits it would."""
        document = self.json(name)
        change(document)
        self.put(name, canonical_json(document))

    def map(self, change: Callable[[Any], None], *, logged: bool = True) -> None:
        """Another production map, with the id of its content; in the log and the history, or not."""
        document = self.json(MAP)
        change(document)
        document["id"] = content_hash({key: value for key, value in document.items() if key != "id"})
        self.put(MAP, canonical_json(document))
        if logged:
            lines = [json.loads(line) for line in self.bytes(LOG).splitlines()]
            lines[-1]["map_id"] = document["id"]
            self.put(LOG, codec("jsonl").encode(lines))

    def entry(self, document: Mapping[str, Any], role: str = "hit") -> Any:
        """A pair's entry of the map."""
        return next(e for e in document["pairs"] if e["pair_id"] == getattr(self.scene, role))

    def model(self, data: bytes | StoredModel | None, role: str = "hit") -> None:
        """Another model for a pair, properly promoted: file, manifest, map and log belong together."""
        blob = data if isinstance(data, bytes) else codec("model").encode(data)
        sha = sha256(blob)
        manifest = self.json(f"{MODELS}/_manifest.json")
        manifest["partitions"][sha] = Entry(sha256=sha, bytes=len(blob)).record()
        self.put(f"{MODELS}/{sha}.model", blob)
        self.put(f"{MODELS}/_manifest.json", canonical_json(manifest))
        self.map(lambda document: self.entry(document, role)["model"].update(
            id=sha, sha256=sha, uri=f"{MODELS}/{sha}.model"))  # fmt: skip

    def model_file(self, role: str = "hit") -> str:
        return str(self.entry(self.json(MAP), role)["model"]["uri"])

    def made_of(self, role: str = "hit") -> dict[str, Any]:
        """What a promoted model was made of."""
        found: StoredModel = codec("model").decode(self.bytes(self.model_file(role)))
        return found.meta

    def without_bars(self, symbol: str) -> None:
        """Nothing stored of a symbol at the trading timeframe."""
        for file in [*(self.root / "raw").glob(f"ohlcv_5m.parquet/*{slug(symbol)}*"),
                     *(self.root / "raw").glob(f"ohlcv_5m.meta/{slug(symbol)}*")]:  # fmt: skip
            file.unlink()

    def newest_bars(self, symbol: str) -> str:
        """The newest file of a symbol's bars."""
        files = sorted((self.root / "raw").glob(f"ohlcv_5m.parquet/*{slug(symbol)}*"))
        return str(files[-1].relative_to(self.root))


@dataclass(frozen=True)
class Case:
    """One way to be wrong.

    Parameters
    ----------
    family, name
        What is wrong.
    outcome
        ``done``: nothing is made of it. ``doubts``: everything is written, pairs in doubt are not entered, exit code 1.
        ``refused``: nothing live is written, exit code 1.
    says
        Part of what the run has to say in the end.
    spoil
        What is done to the storage root.
    faults, params
        Of the market, and other parameters, of this run.
    first
        What is done to the process of this run.
    doubted
        Roles of the pairs in doubt.
    entering
        Roles of the pairs that are held after the orders; by default those that enter and are not in doubt.
    after_signals
        Whether it is refused once the signals of the bar are written, as it is the account that can't be gone on from.
    again
        Whether the bar, run again with everything in order, gives the bytes of an undisturbed run. It does not where
        the state was lost, and where a market has said that a symbol never had a bar, which it is not asked for again.
    by_command
        Whether the case is run by ``kedro run`` as well.
    """

    family: str
    name: str
    outcome: Outcome
    says: str = ""
    spoil: Callable[[Place], None] = field(default=lambda _: None)
    faults: Callable[[Scene], dict[str, Any]] = field(default=lambda _: {})
    params: Mapping[str, Any] = field(default_factory=dict)
    first: Callable[[Scene], Callable[[], None]] | None = None
    doubted: tuple[str, ...] = ()
    entering: tuple[str, ...] | None = None
    after_signals: bool = False
    again: bool = True
    by_command: bool = False

    @property
    def title(self) -> str:
        """Family and name."""
        return f"{self.family}: {self.name}"

    @property
    def wanted(self) -> tuple[str, ...]:
        """Roles that are held after the orders."""
        entering = tuple(role for role in ("hit", "spared") if role not in self.doubted)
        return entering if self.entering is None else self.entering


ALL: Final = ("held", "hit", "spared")


def cases() -> list[Case]:
    """All of them, by family."""
    return [*_of_the_map(), *_of_a_model(), *_of_bars(), *_of_clocks(), *_of_what_is_stored(), *_of_the_market()]


def _set(*path: str, to: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for part in path[:-1]:
            document = document[part]
        document[path[-1]] = to

    return change


def _hit(*path: str, to: Any) -> Callable[[Place], None]:
    """The map with another value for the pair that is aimed at."""
    return lambda place: place.map(lambda document: _set(*path, to=to)(place.entry(document)))


def _drop(name: str) -> Callable[[Any], None]:
    return lambda document: document.pop(name)


def _of_the_map() -> list[Case]:
    def entry_level(place: Place) -> None:
        place.change(MAP, lambda document: _set("rule", "entry_z", to=0.1)(place.entry(document)))

    def reversed_log(place: Place) -> None:
        lines = [json.loads(line) for line in place.bytes(LOG).splitlines()]
        place.put(LOG, codec("jsonl").encode([lines[-1] | {"number": 7}]))

    past = "2025-02-25T00:00:00Z"
    return [
        Case("map", "content changed", "refused", "altered after promotion", entry_level, by_command=True),
        Case("map", "content changed, and its id", "doubts", "the log of production says",
             lambda place: place.map(lambda d: _set("rule", "entry_z", to=0.1)(place.entry(d)), logged=False),
             doubted=ALL),
        Case("map", "wrong schema", "refused", "has no 'fill_at'", lambda p: p.map(_drop("fill_at"))),
        Case("map", "other schema version", "refused", "expected 1", lambda p: p.map(_set("schema_version", to=0))),
        Case("map", "not JSON", "refused", "is not valid JSON", lambda p: p.put(MAP, p.bytes(MAP)[:999])),
        Case("map", "missing", "refused", "does not exist", lambda p: p.put(MAP, None)),
        Case("map", "unknown parameter", "refused", "strategy.entry_x",
             lambda p: p.map(_set("strategy", "entry_x", to=1.0))),
        Case("map", "parameter out of bounds", "refused", "features.beta_window",
             lambda p: p.map(_set("features", "beta_window", to=-1))),
        Case("map", "cost missing", "refused", "costs.fee_rate", lambda p: p.map(lambda d: d["costs"].pop("fee_rate"))),
        Case("map", "hedge at odds with its rule", "doubts", "hedge.z_window",
             _hit("hedge", "z_window", to=77), doubted=("hit",)),
        Case("map", "hedge at odds with the features", "doubts", "hedge.price",
             _hit("hedge", "price", to="level"), doubted=("hit",)),
        Case("map", "needed probability at odds with the strategy", "doubts", "probability_threshold",
             _hit("probability_threshold", to=0.01), doubted=("hit",)),
        Case("map", "threshold at odds with the model", "doubts", "threshold",
             lambda p: p.map(lambda d: (_set("model", "threshold", to=0.3)(p.entry(d)),
                                        _set("probability_threshold", to=0.3)(p.entry(d)))), doubted=("hit",)),
        Case("map", "a pair has expired", "doubts", "has expired", _hit("expires", to=past), doubted=("hit",)),
        Case("map", "other core code", "doubts", "the code is not", lambda p: p.map(_set("core_code", to="0" * 20)),
             doubted=ALL),
        Case("map", "other features", "doubts", "features are not", lambda p: p.map(_set("feature_spec", to="0" * 64)),
             doubted=ALL),
        Case("map", "log altered", "doubts", "the log of production", reversed_log, doubted=ALL),
        Case("map", "log not JSON", "refused", "production_log", lambda p: p.put(LOG, b"no JSON\n")),
        Case("map", "log moved away", "done", spoil=lambda p: p.put(LOG, None)),
    ]  # fmt: skip


class Payload:
    """What a pickle runs when it is loaded."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (Path(self.mark), "a pickle was loaded")


def _booster(value: float, n: int) -> FittedModel:
    """A model that says one number, whatever it is asked."""
    X = np.random.default_rng(0).normal(size=(64, n))
    options = {"objective": "regression", "verbose": -1, "num_threads": 1, "min_data_in_leaf": 1}
    booster = lgb.train(options, lgb.Dataset(X, np.full(64, 1.0) + X[:, 0] * 1e-9), num_boost_round=1)
    text = booster.model_to_string()
    lines = [f"leaf_value={' '.join([str(value)] * len(line.split('=')[1].split()))}"
             if line.startswith("leaf_value=") else line for line in text.split("\n")]  # fmt: skip
    sized = [line for line in lines if not line.startswith("tree_sizes=")]
    return FittedModel("lightgbm", "lightgbm", lgb.Booster(model_str="\n".join(sized)), ("z", "market_volatility")[:n])


def _of_a_model() -> list[Case]:
    def flipped(place: Place) -> None:
        data = bytearray(place.bytes(place.model_file()))
        data[len(data) // 2] ^= 1
        place.put(place.model_file(), bytes(data))

    def swapped(place: Place) -> None:
        place.put(place.model_file(), place.bytes(place.model_file("spared")))

    def swapped_with_manifest(place: Place) -> None:
        swapped(place)
        blob = place.bytes(place.model_file())
        entry, name = Entry(sha256=sha256(blob), bytes=len(blob)).record(), Path(place.model_file()).stem
        place.change(f"{MODELS}/_manifest.json", lambda d: _set("partitions", name, to=entry)(d))

    def pickled(place: Place) -> None:
        place.model(pickle.dumps(Payload(str(place.root / "loaded"))))

    def other(change: Callable[[StoredModel], StoredModel]) -> Callable[[Place], None]:
        def spoil(place: Place) -> None:
            place.model(change(codec("model").decode(place.bytes(place.model_file()))))

        return spoil

    def meta(**values: Any) -> Callable[[Place], None]:
        return other(lambda m: StoredModel(m.kind, m.estimator, m.meta | values))

    def lacking(name: str) -> Callable[[Place], None]:
        return other(lambda m: StoredModel(m.kind, m.estimator, {k: v for k, v in m.meta.items() if k != name}))

    def says(value: float) -> Callable[[Place], None]:
        return lambda place: place.model(stored(_booster(value, 1), place.made_of()))

    def of_nan(place: Place) -> None:
        model = model_of(("z",), place.made_of())
        model.estimator[-1].coef_[:] = np.nan
        place.model(model)

    def lean(place: Place) -> None:
        """Fewer inputs than names."""
        one, two = model_of(("z",), place.made_of()), model_of(("z", "market_volatility"), place.made_of())
        place.model(StoredModel(two.kind, one.estimator, two.meta))

    hit: dict[str, Any] = {"doubted": ("hit",)}
    return [
        Case("model", "altered", "doubts", "can't be used", flipped, by_command=True, **hit),
        Case("model", "cut", "doubts", "can't be used",
             lambda p: p.put(p.model_file(), p.bytes(p.model_file())[:500]), **hit),
        Case("model", "missing", "doubts", "missing", lambda p: p.put(p.model_file(), None), **hit),
        Case("model", "of the pair that is held missing", "doubts", "missing",
             lambda p: p.put(p.model_file("held"), None), doubted=("held",)),
        Case("model", "all missing", "doubts", "is missing", lambda p: p.put(f"{MODELS}/_manifest.json", None),
             doubted=ALL),
        Case("model", "swapped for another valid one", "doubts", "can't be used", swapped, **hit),
        Case("model", "swapped, and its manifest", "doubts", "not the one that was promoted",
             swapped_with_manifest, **hit),
        Case("model", "of other features", "doubts", "features are not those", meta(feature_spec="0" * 64), **hit),
        Case("model", "of features nobody makes", "doubts", "nowhere", meta(feature_names=["nowhere", "z"]), **hit),
        Case("model", "of fewer inputs than names", "doubts", "can't be used", lean, **hit),
        Case("model", "without a part", "doubts", "holds no whole model", lacking("novelty"), **hit),
        Case("model", "without its features' spec", "doubts", "holds no whole model", lacking("feature_spec"), **hit),
        Case("model", "says 7", "doubts", "expected a probability", says(7.0), **hit),
        Case("model", "says -0.5", "doubts", "expected a probability", says(-0.5), **hit),
        Case("model", "says NaN", "doubts", "says no probability", of_nan, **hit),
        Case("model", "a pickle in its place", "doubts", "is not a stored model", pickled, **hit),
        Case("model", "manifest not JSON", "refused", "no readable manifest",
             lambda p: p.put(f"{MODELS}/_manifest.json", b"no JSON")),
    ]  # fmt: skip


def _late(role: str, bars: int, legs: slice = slice(None)) -> Callable[[Scene], dict[str, Any]]:
    return lambda scene: {"late": {f"{symbol} 5m": iso(scene.bar - bars * STEP)
                                   for symbol in scene.legs[getattr(scene, role)][legs]}}  # fmt: skip


def _of_bars() -> list[Case]:
    def stale(bars: int) -> Case:
        told = f"bars are {bars} {'bar' if bars == 1 else 'bars'} old"
        return Case("bars", f"{bars} old", "doubts" if bars else "done", told if bars else "",
                    faults=_late("hit", bars), doubted=("hit",) if bars else (), by_command=bars == 12)  # fmt: skip

    def never(role: str) -> Callable[[Scene], dict[str, Any]]:
        return lambda scene: {"late": {f"{scene.legs[getattr(scene, role)][0]} 5m": "2000-01-01T00:00:00Z"}}

    def hole(scene: Scene) -> dict[str, Any]:
        first, until = iso(scene.bar - 310 * STEP), iso(scene.bar - 10 * STEP)
        return {"holes": {f"{scene.legs[scene.hit][0]} 5m": [first, until]}}

    def cut(place: Place) -> None:
        name = place.newest_bars(place.scene.legs[place.scene.hit][0])
        place.put(name, place.bytes(name)[:-100])

    def flipped(place: Place) -> None:
        name = place.newest_bars(place.scene.legs[place.scene.hit][0])
        data = bytearray(place.bytes(name))
        data[len(data) // 2] ^= 1
        place.put(name, bytes(data))

    def late_hours(scene: Scene) -> dict[str, Any]:
        return {"unreachable": [f"{scene.legs[scene.spared][0]} 1h"]}

    return [
        *(stale(bars) for bars in (0, 1, 2, 12, 144, 576)),
        Case("bars", "one leg 12 old", "doubts", "12 bars old", faults=_late("hit", 12, slice(1)), doubted=("hit",)),
        Case("bars", "of the pair that is held 12 old", "doubts", "12 bars old", faults=_late("held", 12),
             doubted=("held",)),
        Case("bars", "none of a leg", "doubts", "no bars", lambda p: p.without_bars(p.scene.legs[p.scene.hit][0]),
             never("hit"), doubted=("hit",), again=False),
        Case("bars", "none of a leg that is held", "doubts", "no bars",
             lambda p: p.without_bars(p.scene.legs[p.scene.held][0]), never("held"), doubted=("held",),
             again=False),
        Case("bars", "a hole that leaves z unknown", "doubts", "z is not known", faults=hole, doubted=("hit",)),
        Case("bars", "hourly ones late: a feature is not finite", "doubts", "market_volatility is not known",
             faults=late_hours, doubted=("hit",)),
        Case("bars", "a file cut", "done", spoil=cut),
        Case("bars", "a file altered", "done", spoil=flipped),
    ]  # fmt: skip


def _of_clocks() -> list[Case]:
    def machine(scene: Scene) -> Callable[[], None]:
        return lambda: _at(scene.bar.timestamp() + 20.0)

    return [
        Case("clock", "of the market goes back", "refused", "ahead of the newest bar",
             faults=lambda s: {"clock": iso(s.stored_until - 12 * STEP)}, by_command=True),
        Case("clock", "of the market ahead of this machine's", "done",
             faults=lambda s: {"clock": iso(s.bar + 288 * STEP)}, first=machine),
        Case("clock", "stored state later than the market", "refused", "ahead of the newest bar",
             lambda p: _restated(p, lambda d: d.update(as_of=iso(p.scene.bar + STEP)))),
    ]  # fmt: skip


def _at(seconds: float) -> None:
    """This machine's clock stands still, for the rest of the process."""
    mock.patch.object(time, "time", return_value=seconds).start()


def _restated(place: Place, change: Callable[[Any], None]) -> None:
    """Another position state, with the id of its content."""
    document = place.json(STATE)
    change(document)
    document["id"] = content_hash({key: value for key, value in document.items() if key != "id"})
    place.put(STATE, canonical_json(document))


def _of_what_is_stored() -> list[Case]:
    def side(place: Place) -> None:
        place.change(STATE, _set("pairs", place.scene.held, "side", to=0))

    def told_before(place: Place) -> str:
        return f"signals/{place.scene.stored_until:%Y%m%dT%H%M%SZ}.jsonl"

    def deleted_between(place: Place) -> None:
        ended = cycles.forked(place.root, cycles.served(iso(place.scene.bar)))
        if ended.code:
            raise RuntimeError(ended.said)
        place.put(f"signals/{place.scene.bar:%Y%m%dT%H%M%SZ}.jsonl", None)

    def running(place: Place) -> None:
        place.change(RECORD, lambda d: d.update(status="running", run_id="2025-02-23T00.00.00.000Z", finished_at=""))

    return [
        Case("state", "altered", "refused", "was altered", side, by_command=True),
        Case("state", "wrong schema", "refused", "schema position_state", lambda p: p.change(STATE, _drop("pairs"))),
        Case("state", "not JSON", "refused", "is not valid JSON", lambda p: p.put(STATE, b"{")),
        Case("state", "missing", "done", spoil=lambda p: p.put(STATE, None), again=False),
        Case("orders", "wrong schema", "refused", "schema latest_orders", lambda p: p.change(ORDERS, _drop("orders")),
             by_command=True),
        Case("orders", "altered", "refused", "was altered",
             lambda p: p.change(ORDERS, lambda d: d["book"].update(cash=d["book"]["cash"] + 1.0)), after_signals=True),
        Case("orders", "not JSON", "refused", "is not valid JSON", lambda p: p.put(ORDERS, b"[]]")),
        Case("orders", "missing", "refused", "portfolio/history", lambda p: p.put(ORDERS, None),
             after_signals=True),
        Case("orders", "account of a wrong schema", "refused", "schema paper_account",
             lambda p: p.change(ACCOUNT, _drop("book")), after_signals=True),
        Case("orders", "account missing", "done", spoil=lambda p: p.put(ACCOUNT, None)),
        Case("signals", "of the last bar deleted", "done", spoil=lambda p: p.put(told_before(p), None)),
        Case("signals", "of the bar deleted between its runs", "done", spoil=deleted_between),
        Case("signals", "manifest of the day not JSON", "refused", "no readable manifest",
             lambda p: p.put(f"signals/_days/{p.scene.bar:%Y%m%d}.json", b"no JSON")),
        Case("signals", "manifest of a day before not JSON", "done",
             spoil=lambda p: p.put(f"signals/_days/{p.scene.bar - 2016 * STEP:%Y%m%d}.json", b"no JSON")),
        Case("record", "of a killed run", "done", spoil=running),
        Case("record", "not JSON", "done", spoil=lambda p: p.put(RECORD, b"no JSON")),
    ]  # fmt: skip


def _of_the_market() -> list[Case]:
    def gone(role: str) -> Callable[[Scene], dict[str, Any]]:
        return lambda scene: {"gone": [scene.legs[getattr(scene, role)][0]]}

    def switch(to: str) -> dict[str, Any]:
        return {"portfolio": {"kill_switch": to}}

    return [
        Case("market", "a symbol is delisted", "doubts", "bars old", faults=gone("hit"), doubted=("hit",)),
        Case("market", "a symbol that is held is delisted", "doubts", "bars old", faults=gone("held"),
             doubted=("held",)),
        Case("switch", "reducing", "done", params=switch("reducing"), entering=(), by_command=True),
        Case("switch", "halted", "done", params=switch("halted"), entering=("held",)),
    ]  # fmt: skip
