"""Models: exact round trips, the same bytes in another process, and files that must not be loaded."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest
import skops.io
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from mntrading.core.errors import ArtifactError
from mntrading.datasets import ArtifactDataset, StoredModel
from mntrading.datasets.models import TRUSTED_TYPES, decode_model, encode_model


def _data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    X = rng.normal(size=(400, 5))
    return X, (X[:, 0] + rng.normal(size=400) > 0).astype(int)


def _booster(**settings: object) -> lgb.Booster:
    X, y = _data()
    params = {"objective": "binary", "verbosity": -1, "num_threads": 1, "deterministic": True, "seed": 1}
    train = lgb.Dataset(X[:300], label=y[:300], feature_name=[f"f{k}" for k in range(5)])
    test = lgb.Dataset(X[300:], label=y[300:], reference=train)
    stop = [lgb.early_stopping(3, verbose=False)]
    return lgb.train(params | settings, train, num_boost_round=40, valid_sets=[test], callbacks=stop)


def fitted(name: str) -> StoredModel:
    """The models of this module by name; fitted alike in every process."""
    X, y = _data()
    meta = {"features": [f"f{k}" for k in range(X.shape[1])], "threshold": np.float64(0.55)}
    if name == "lightgbm":
        return StoredModel("lightgbm", _booster(), meta)
    if name == "xgboost":
        import xgboost

        settings = {"objective": "binary:logistic", "nthread": 1, "seed": 1}
        return StoredModel("xgboost", xgboost.train(settings, xgboost.DMatrix(X, label=y), 20), meta)
    if name == "catboost":
        import catboost

        settings = {"iterations": 20, "loss_function": "Logloss", "random_seed": 1, "thread_count": 1}
        quiet = {"allow_writing_files": False, "logging_level": "Silent"}
        return StoredModel("catboost", catboost.CatBoost(settings | quiet).fit(X, y), meta)
    estimator = {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(random_state=3)),
        "forest": RandomForestClassifier(8, max_depth=4, random_state=3),
        "isotonic": IsotonicRegression(out_of_bounds="clip"),
    }[name]
    estimator.fit(X[:, 0] if name == "isotonic" else X, y)
    return StoredModel("sklearn", estimator, meta)


# the last two where their extra is installed
EXTRAS = tuple(name for name in ("xgboost", "catboost") if importlib.util.find_spec(name) is not None)
NAMES = ("lightgbm", "logistic", "forest", "isotonic", *EXTRAS)


def _predictions(name: str, estimator: object) -> np.ndarray:
    X = np.random.default_rng(11).normal(size=(1000, 5))
    if name == "xgboost":
        return estimator.inplace_predict(X)
    if name == "catboost":
        return estimator.predict(X)
    if name in ("lightgbm", "isotonic"):
        return estimator.predict(X if name == "lightgbm" else X[:, 0])
    return estimator.predict_proba(X)


@pytest.mark.parametrize("name", NAMES)
def test_predictions_come_back_bit_for_bit(name, tmp_path):
    model = fitted(name)
    dataset = ArtifactDataset(filepath=tmp_path / "x.model", format="model")
    dataset.save(model)
    loaded = dataset.load()
    assert loaded.kind == model.kind
    assert loaded.meta == {"features": [f"f{k}" for k in range(5)], "threshold": 0.55}
    assert _predictions(name, loaded.estimator).tobytes() == _predictions(name, model.estimator).tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_loaded_model_is_stored_as_the_same_bytes(name):
    data = encode_model(fitted(name))
    assert encode_model(decode_model(data)) == data


def test_model_fitted_alike_has_the_same_bytes_in_other_processes():
    here = [hashlib.sha256(encode_model(fitted(name))).hexdigest() for name in NAMES]
    script = (
        "import hashlib, sys, random; noise = [object() for _ in range(random.randrange(10**5))]\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import test_stored_models as m\n"
        "print([hashlib.sha256(m.encode_model(m.fitted(name))).hexdigest() for name in m.NAMES])"
    )
    for seed in ("1", "2"):
        env = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str(here)


def test_nothing_but_a_tree_needs_trust_beyond_what_skops_gives():
    assert TRUSTED_TYPES == ("sklearn.tree._tree.Tree",)
    for name in ("logistic", "isotonic"):
        assert skops.io.get_untrusted_types(data=skops.io.dumps(fitted(name).estimator)) == []


class TestRefusals:
    @pytest.mark.parametrize(
        ("model", "message"),
        [
            (StoredModel("pickle", 1), "model kind 'pickle' is unknown"),
            (StoredModel("lightgbm", DummyClassifier()), "a DummyClassifier is no lightgbm.Booster"),
            (
                StoredModel("sklearn", make_pipeline(FunctionTransformer(os.getcwd))),
                "types that would not be loaded",
            ),
            (StoredModel("sklearn", IsotonicRegression(), {"a": float("nan")}), r"\$\.meta\.a is nan"),
            (LogisticRegression(), "expected a StoredModel"),
        ],
    )
    def test_model_that_could_not_be_loaded_is_not_stored(self, model, message):
        with pytest.raises(ArtifactError, match=message):
            encode_model(model)

    def test_pickle_is_not_executed(self, tmp_path):
        fuse = tmp_path / "exploded"

        class Bomb:
            def __reduce__(self) -> tuple:
                return Path.touch, (fuse,)

        bomb = pickle.dumps(Bomb())
        good = _parts(encode_model(fitted("logistic")))
        inside = io.BytesIO()
        with zipfile.ZipFile(inside, "w") as archive:
            archive.writestr("schema.json", bomb)
        for data in (
            bomb,
            _packed(good | {"model.skops": bomb}),
            _packed(good | {"model.skops": bomb}, reseal=True),
            _packed(good | {"model.skops": inside.getvalue()}, reseal=True),
        ):
            with pytest.raises(ArtifactError):
                decode_model(data)
        pickled = io.BytesIO()
        np.save(pickled, np.array([Bomb()], dtype=object), allow_pickle=True)
        forest = _parts(encode_model(fitted("forest")))
        state = _parts(forest["model.skops"])
        arrays = {name: pickled.getvalue() for name in state if name.endswith(".npy")}
        with pytest.raises(ArtifactError, match="can't be read"):
            decode_model(_packed(forest | {"model.skops": _zipped(state | arrays)}, reseal=True))
        assert not fuse.exists()

    def test_type_outside_the_trusted_ones_is_refused(self):
        parts = _parts(encode_model(fitted("logistic")))
        parts["model.skops"] = skops.io.dumps(FunctionTransformer(os.getcwd))
        with pytest.raises(ArtifactError, match="types that are not trusted"):
            decode_model(_packed(parts, reseal=True))

    @pytest.mark.parametrize("name", ["lightgbm", "forest"])
    def test_cut_or_altered_model_is_refused(self, name):
        data = encode_model(fitted(name))
        for length in (0, 10, len(data) // 2, len(data) - 1):
            with pytest.raises(ArtifactError, match="was cut or altered"):
                decode_model(data[:length])
        middle = len(data) // 2
        with pytest.raises(ArtifactError, match="was cut or altered"):
            decode_model(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])

    def test_parts_that_do_not_belong_together_are_refused(self):
        parts = _parts(encode_model(fitted("isotonic")))
        for wrong in (
            parts | {"model.skops": b"other"},
            parts | {"extra.txt": b""},
            {"meta.json": parts["meta.json"]},
            {"model.skops": parts["model.skops"]},
            parts | {"meta.json": b"[]"},
            parts | {"meta.json": b'{"kind": "pickle"}'},
        ):
            with pytest.raises(ArtifactError, match="was cut or altered"):
                decode_model(_packed(wrong))

    def test_text_that_is_no_lightgbm_model_is_refused(self):
        parts = _parts(encode_model(fitted("lightgbm")))
        with pytest.raises(ArtifactError, match="LightGBM model that can't be read"):
            decode_model(_packed(parts | {"model.txt": b"not a model"}, reseal=True))


@pytest.mark.parametrize("name", EXTRAS)
def test_bytes_that_are_no_model_of_an_extra_are_refused(name):
    parts = _parts(encode_model(fitted(name)))
    (payload,) = set(parts) - {"meta.json"}
    whole = parts[payload]
    too_long = whole[:4] + b"\xff" * 4 + whole[8:]
    for wrong in (b"", b"not a model", whole[:100], pickle.dumps({"a": 1}), too_long):
        with pytest.raises(ArtifactError, match="can't be read"):
            decode_model(_packed(parts | {payload: wrong}, reseal=True))
    with pytest.raises(ArtifactError, match="a DummyClassifier is no"):
        encode_model(StoredModel(name, DummyClassifier()))


@pytest.mark.parametrize("name", ["xgboost", "catboost"])
def test_a_model_of_an_extra_that_is_missing_names_it(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ArtifactError, match=f"is a model of {name}, which is not installed") as caught:
        encode_model(StoredModel(name, object()))
    assert caught.value.fix == f"uv pip install --editable '.[{name}]'"


def _parts(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zipped(parts: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _packed(parts: dict[str, bytes], *, reseal: bool = False) -> bytes:
    """A model file of these parts; ``reseal`` makes its checksum fit, as somebody who means harm would."""
    if reseal:
        payload = next(data for name, data in parts.items() if name != "meta.json")
        head = json.loads(parts["meta.json"]) | {"sha256": hashlib.sha256(payload).hexdigest()}
        parts = parts | {"meta.json": json.dumps(head).encode()}
    return _zipped(parts)
