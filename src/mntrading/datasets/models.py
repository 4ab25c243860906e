"""Fitted models as bytes: no pickle on the way in, the same bytes for the same model on the way out.

A stored model is an uncompressed zip with fixed times that holds ``meta.json`` and one of ``model.txt``
(LightGBM's own text), ``model.json`` (XGBoost's JSON), ``model.cbm`` (CatBoost's binary form) or
``model.skops`` (skops, which restores known types only).
"""

from __future__ import annotations

import importlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

import numpy as np

from mntrading.core.errors import ArtifactError
from mntrading.datasets.storage import canonical_json, compact_json, sha256

Kind = Literal["lightgbm", "sklearn", "xgboost", "catboost"]

# Types skops does not trust by itself and our models are made of. A tree's state is arrays and numbers.
TRUSTED_TYPES: Final = ("sklearn.tree._tree.Tree",)

_FORMAT: Final = 1
_META: Final = "meta.json"
_PAYLOADS: Final[Mapping[str, str]] = {
    "lightgbm": "model.txt",
    "sklearn": "model.skops",
    "xgboost": "model.json",
    "catboost": "model.cbm",
}
_SKOPS_SCHEMA: Final = "schema.json"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say


@dataclass(frozen=True)
class StoredModel:
    """A fitted model and what there is to know about it.

    Parameters
    ----------
    kind
        ``"lightgbm"`` for a ``lightgbm.Booster``, ``"xgboost"`` for an ``xgboost.Booster``, ``"catboost"`` for a
        ``catboost.CatBoost``, ``"sklearn"`` for a fitted scikit-learn estimator.
    estimator
        The fitted model.
    meta
        Anything with a JSON form: feature names, threshold, folds, content hashes.
    """

    kind: Kind
    estimator: Any
    meta: dict[str, Any] = field(default_factory=dict)


def encode_model(model: StoredModel) -> bytes:
    """Bytes of a model; a model fitted alike has the same in every process.

    Raises
    ------
    ArtifactError
        The object is no ``StoredModel``, or its estimator is not of its kind or of types that could not be
        loaded again.
    """
    if not isinstance(model, StoredModel):
        raise ArtifactError(f"a {type(model).__name__} can't be stored, expected a StoredModel")
    if model.kind not in _PAYLOADS:
        raise ArtifactError(f"model kind {model.kind!r} is unknown, expected one of {list(_PAYLOADS)}")
    payload = _WRITERS[model.kind](model.estimator)
    head = {"format": _FORMAT, "kind": model.kind, "sha256": sha256(payload), "meta": model.meta}
    return _zip({_META: canonical_json(head), _PAYLOADS[model.kind]: payload})


def decode_model(data: bytes) -> StoredModel:
    """Model of its bytes. Nothing in them is executed or unpickled.

    Raises
    ------
    ArtifactError
        The bytes are cut, altered, no stored model, or hold types that are not trusted.
    """
    kind, payload, meta = _opened(data)
    return StoredModel(kind=kind, estimator=_READERS[kind](payload), meta=meta)


def model_meta(data: bytes) -> tuple[Kind, dict[str, Any]]:
    """Kind and ``meta`` of a stored model without its estimator.

    Raises
    ------
    ArtifactError
        The bytes are cut, altered or no stored model.
    """
    kind, _, meta = _opened(data)
    return kind, meta


def _opened(data: bytes) -> tuple[Kind, bytes, dict[str, Any]]:
    """Kind, estimator's bytes and ``meta``, checked against the head."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        head = json.loads(files.pop(_META))
        kind, known = head["kind"], {"format": _FORMAT, "sha256": sha256(files[_PAYLOADS[head["kind"]]])}
        if list(files) != [_PAYLOADS[kind]] or {name: head[name] for name in known} != known:
            raise ValueError("its parts do not belong together")
    except (
        zipfile.BadZipFile,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        NotImplementedError,  # a compression that zipfile does not know
        OSError,
    ) as error:
        raise ArtifactError(f"is not a stored model, or was cut or altered: {error}") from error
    return kind, files[_PAYLOADS[kind]], head["meta"]


def _lightgbm_text(estimator: Any) -> bytes:
    import lightgbm as lgb

    if not isinstance(estimator, lgb.Booster):
        raise ArtifactError(f"a {type(estimator).__name__} is no lightgbm.Booster")
    return cast(str, estimator.model_to_string()).encode()


def _booster(payload: bytes) -> Any:
    import lightgbm as lgb

    try:
        return lgb.Booster(model_str=payload.decode())
    except (lgb.basic.LightGBMError, ValueError) as error:
        raise ArtifactError(f"holds a LightGBM model that can't be read: {error}") from error


def _xgboost_bytes(estimator: Any) -> bytes:
    xgboost = _optional("xgboost")
    if not isinstance(estimator, xgboost.Booster):
        raise ArtifactError(f"a {type(estimator).__name__} is no xgboost.Booster")
    return bytes(estimator.save_raw("json"))


def _from_xgboost(payload: bytes) -> Any:
    xgboost = _optional("xgboost")
    try:
        # XGBoost aborts the process on nothing at all, and its binary form takes any length at its word
        if not {"learner", "version"} <= set(dict(json.loads(payload))):
            raise ValueError("it has no learner")
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"holds an XGBoost model that can't be read: {error}") from error
    booster = xgboost.Booster({"nthread": 1})
    try:
        booster.load_model(bytearray(payload))
    except (xgboost.core.XGBoostError, ValueError) as error:
        raise ArtifactError(f"holds an XGBoost model that can't be read: {error}") from error
    return booster


def _catboost_bytes(estimator: Any) -> bytes:
    catboost = _optional("catboost")
    if not isinstance(estimator, catboost.CatBoost):
        raise ArtifactError(f"a {type(estimator).__name__} is no catboost.CatBoost")
    copied = catboost.CatBoost().load_model(blob=estimator._serialize_model())
    # what CatBoost notes about the fit itself: when it was, and how it was called
    notes = copied.get_metadata()
    for name in list(notes.keys()):
        del notes[name]
    return cast(bytes, copied._serialize_model())


def _from_catboost(payload: bytes) -> Any:
    catboost = _optional("catboost")
    # CatBoost follows the length that stands in the head, wherever that leads
    if payload[:4] != b"CBM1" or int.from_bytes(payload[4:8], "little") > len(payload) - 8:
        raise ArtifactError("holds a CatBoost model that can't be read: its head does not fit its length")
    try:
        return catboost.CatBoost().load_model(blob=payload)
    except (catboost.CatBoostError, ValueError) as error:
        raise ArtifactError(f"holds a CatBoost model that can't be read: {error}") from error


def _optional(name: str) -> Any:
    """A package that is installed by an extra only."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ArtifactError(
            f"is a model of {name}, which is not installed", fix=f"uv pip install --editable '.[{name}]'"
        ) from error


def _skops(estimator: Any) -> bytes:
    import skops.io

    try:
        dumped = skops.io.dumps(estimator)
    except (TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"a {type(estimator).__name__} can't be stored: {error}") from error
    unknown = set(skops.io.get_untrusted_types(data=dumped)) - set(TRUSTED_TYPES)
    if unknown:
        raise ArtifactError(f"the model holds types that would not be loaded again: {sorted(unknown)}")
    return _canonical_skops(dumped)


def _from_skops(payload: bytes) -> Any:
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return skops.io.loads(payload, trusted=list(TRUSTED_TYPES))
    except UntrustedTypesFoundException as error:
        raise ArtifactError(f"holds types that are not trusted: {error}") from error
    except Exception as error:
        # the file decides what skops does, so the class of its failure says nothing
        raise ArtifactError(f"holds a scikit-learn model that can't be read: {error}") from error


_WRITERS: Final[Mapping[str, Callable[[Any], bytes]]] = {
    "lightgbm": _lightgbm_text,
    "sklearn": _skops,
    "xgboost": _xgboost_bytes,
    "catboost": _catboost_bytes,
}
_READERS: Final[Mapping[str, Callable[[bytes], Any]]] = {
    "lightgbm": _booster,
    "sklearn": _from_skops,
    "xgboost": _from_xgboost,
    "catboost": _from_catboost,
}


def _canonical_skops(dumped: bytes) -> bytes:
    """The same dump without what differs between processes: memory addresses, memory left over,
    the time of day.

    skops numbers objects by their address, and names arrays by it. Without the numbers every object is
    restored on its own, so what is shared by accident (small integers, equal text) does not matter; arrays
    are named by their content.
    """
    with zipfile.ZipFile(io.BytesIO(dumped)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    state = json.loads(files.pop(_SKOPS_SCHEMA))
    files = {name: _without_padding(data) if name.endswith(".npy") else data for name, data in files.items()}
    names = {name: f"{sha256(data)[:32]}.{name.rpartition('.')[2]}" for name, data in files.items()}
    arrays = {names[name]: data for name, data in files.items()}
    return _zip({_SKOPS_SCHEMA: compact_json(_without_addresses(state, names)), **dict(sorted(arrays.items()))})


def _without_addresses(node: Any, names: Mapping[str, str]) -> Any:
    if isinstance(node, list):
        return [_without_addresses(item, names) for item in node]
    if not isinstance(node, dict):
        return node
    clean = {key: _without_addresses(item, names) for key, item in node.items() if key != "__id__"}
    if "__loader__" in node and isinstance(node.get("file"), str):
        clean["file"] = names[node["file"]]
    return clean


def _without_padding(data: bytes) -> bytes:
    """The same array with zeros between the fields of a record: there numpy leaves what was in memory."""
    array = np.load(io.BytesIO(data), allow_pickle=False)
    if array.dtype.names is None:
        return data
    clean = np.zeros(array.shape, array.dtype)
    for name in array.dtype.names:
        clean[name] = array[name]
    buffer = io.BytesIO()
    np.save(buffer, clean, allow_pickle=False)
    return buffer.getvalue()


def _zip(files: Mapping[str, bytes]) -> bytes:
    """Uncompressed zip of fixed times and rights: zlib's output differs between builds of Python."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, data)
    return buffer.getvalue()
