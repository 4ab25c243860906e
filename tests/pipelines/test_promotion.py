"""Promotion: a frozen map by its content, models by their hash, a log that only grows, and a look ahead."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_production import AB, AS_OF, CD, EF, Desk, canonical, champion, model_of, registry_of, stored

from mntrading.core.errors import ArtifactError, ParameterError
from mntrading.core.features import spec_hash
from mntrading.datasets import ArtifactDataset
from mntrading.datasets.storage import content_hash
from mntrading.kernels import code_stamp
from mntrading.pipelines.deployment import production_log
from mntrading.pipelines.deployment.promotion import MODELS, freeze, promote_preview

CATALOG = Path(__file__).resolve().parents[2] / "conf/base/catalog_production.yml"


@pytest.fixture
def desk(tmp_path: Path, params: Any) -> Desk:
    return Desk(tmp_path, params)


def frozen(desk: Desk, registry: dict[str, Any], **changes: Any) -> dict[str, Any]:
    features, backtest = desk.params.feature_engineering.features, desk.params.backtest
    given = {"features": features, "backtest": backtest, "production": desk.params.production} | changes
    code = given.pop("core_code", code_stamp())
    ids = [entry["pair_id"] for entry in registry["champions"]]
    document, _ = freeze(registry, ids, desk.pair_models, **given, core_code=code)
    return document


def test_a_pair_is_frozen_with_all_it_is_traded_by(desk: Desk, params: Any) -> None:
    reference = desk.trained(threshold=0.61)
    asked, bare = champion(AB, reference, entry_z=1.7), champion(CD, None, beta_window=800)
    registry = registry_of(params, [asked, bare])
    document = desk.promote(registry)
    first, second = document["pairs"]
    sha = first["model"]["sha256"]
    assert first["model"] == {
        "id": sha, "sha256": sha, "uri": f"models/production/{sha}.model", "name": "logistic_regression",
        "threshold": 0.61,
    }  # fmt: skip
    assert hashlib.sha256((desk.root / first["model"]["uri"]).read_bytes()).hexdigest() == sha
    assert (first["probability_threshold"], second["probability_threshold"]) == (0.61, None)
    assert second["model"] is None
    assert (first["rule"], first["cluster"]) == (asked["rule"], 2)
    spread = params.feature_engineering.features
    assert second["hedge"] == {
        "estimator": "ols", "kalman_delta": None, "price": spread.price, "beta_window": 800, "z_window": 200,
        "lag_bars": spread.hedge_lag_bars, "min_window_fill": spread.min_window_fill,
    }  # fmt: skip
    window = {"formation_start": "2025-01-25T00:00:00Z", "formation_end": AS_OF, "expires": "2025-03-26T00:00:00Z"}
    assert window.items() <= first.items()
    assert document["expires"] == "2025-03-26T00:00:00Z"
    assert document["inputs"] == {"champion_registry": content_hash(registry), "roster": "1" * 64}
    assert document["parameters"] == registry["parameters"]
    assert (document["fill_at"], document["core_code"]) == (params.backtest.fill_at, code_stamp())
    assert document["market_symbols"] == ["A/USDT"]


def test_a_model_without_a_threshold_is_held_to_the_strategys(desk: Desk, params: Any) -> None:
    (entry,) = desk.promote(registry_of(params, [champion(AB, desk.trained())]))["pairs"]
    assert entry["model"]["threshold"] is None
    assert entry["probability_threshold"] == params.backtest.strategy.probability_threshold


def test_a_kalman_hedge_keeps_its_speed(desk: Desk, params: Any) -> None:
    features = params.feature_engineering.features.model_copy(update={"hedge": "kalman"})
    registry = registry_of(params, [champion(AB)], feature_spec=spec_hash(features))
    registry["parameters"] |= {"features": content_hash(features.model_dump(mode="json"))}
    (entry,) = frozen(desk, registry, features=features)["pairs"]
    assert (entry["hedge"]["estimator"], entry["hedge"]["kalman_delta"]) == ("kalman", features.kalman.delta)


def test_models_lie_where_the_map_says() -> None:
    entry = yaml.safe_load(CATALOG.read_text())["production_models"]
    assert entry["path"] == f"${{globals:storage.root}}/{MODELS}"
    assert "suffix" not in entry


def test_the_same_gives_the_same_bytes_and_anything_else_another_id(desk: Desk, params: Any) -> None:
    registry = registry_of(params, [champion(AB, desk.trained())])
    document = frozen(desk, registry)
    assert canonical(frozen(desk, registry)) == canonical(document)
    assert document["id"] == content_hash({key: value for key, value in document.items() if key != "id"})
    others = [
        frozen(desk, registry, production=params.production.model_copy(update={"valid_days": 7})),
        frozen(desk, registry | {"core_code": "b" * 20}, core_code="b" * 20),
        frozen(desk, registry | {"rejected": [champion(CD)]}),
        frozen(desk, registry | {"champions": [champion(AB, registry["champions"][0]["model"], exit_z=0.4)]}),
    ]
    assert len({document["id"], *(other["id"] for other in others)}) == 5
    # where a rollback would go is no part of what is promoted
    elsewhere = params.production.model_copy(update={"rollback_to": "ab"})
    assert frozen(desk, registry, production=elsewhere) == document


def test_parameters_the_record_was_not_made_with_are_refused(desk: Desk, params: Any) -> None:
    registry = registry_of(params, [])
    costs = params.backtest.costs.model_copy(update={"fee_rate": 0.5})
    with pytest.raises(ParameterError, match="backtest parameters are not those"):
        frozen(desk, registry, backtest=params.backtest.model_copy(update={"costs": costs}))
    features = params.feature_engineering.features.model_copy(update={"z_window": 77})
    with pytest.raises(ParameterError, match="features parameters are not those"):
        frozen(desk, registry, features=features)


def test_a_record_made_by_other_code_is_refused(desk: Desk, params: Any) -> None:
    registry = registry_of(params, [champion(AB)], core_code="0" * 20)
    with pytest.raises(ArtifactError, match=r"by other code \(000000000000\)[\s\S]*kedro run"):
        desk.promote(registry)
    assert desk.files() == {}


def test_other_features_are_refused_in_the_record_and_in_a_model(desk: Desk, params: Any, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="record was made with other features"):
        frozen(desk, registry_of(params, [], feature_spec="0" * 64))
    desk.pair_models = stored(tmp_path / "other", {"live/pooled": model_of("0" * 64)})
    reference = {"id": "live/pooled", "sha256": desk.pair_models.digests["live/pooled"]}
    with pytest.raises(ArtifactError, match="was trained on other features"):
        frozen(desk, registry_of(params, [champion(AB, reference)]))


def test_a_model_trained_anew_after_the_choice_is_refused(desk: Desk, params: Any) -> None:
    registry = registry_of(params, [champion(AB, desk.trained())])
    desk.trained(seed=1)
    with pytest.raises(ArtifactError, match="was trained anew since the champions were chosen"):
        desk.promote(registry)
    assert desk.files() == {}


def test_the_same_champions_promoted_again_change_no_byte(desk: Desk, params: Any) -> None:
    registry = registry_of(params, [champion(AB, desk.trained()), champion(CD)])
    desk.promote(registry)
    before = desk.files()
    desk.promote(registry)
    assert desk.files() == before
    assert len(desk.log.load()) == 1


def test_an_altered_map_is_made_whole_by_promotion(desk: Desk, params: Any) -> None:
    registry = registry_of(params, [champion(AB)])
    desk.promote(registry)
    before = desk.files()
    (desk.root / "models/production_map.json").write_text("{}")
    desk.promote(registry)
    assert desk.files() == before


def test_the_log_has_a_line_for_each_change_and_keeps_those_before(desk: Desk, params: Any) -> None:
    first = registry_of(params, [champion(AB), champion(CD)])
    second = registry_of(params, [champion(CD, exit_z=0.4), champion(EF)])
    shorter = params.production.model_copy(update={"valid_days": 7})
    maps = [desk.promote(first), desk.promote(second), desk.promote(second, shorter)]
    head = (desk.root / "models/production_log.jsonl").read_bytes().splitlines()[0]
    one, two, three = desk.log.load()
    assert [line["map_id"] for line in (one, two, three)] == [map_["id"] for map_ in maps]
    assert [line["previous_map_id"] for line in (one, two, three)] == [None, maps[0]["id"], maps[1]["id"]]
    assert [line["number"] for line in (one, two, three)] == [1, 2, 3]
    assert (one["pairs_added"], one["pairs_removed"], one["pairs_changed"]) == ([AB, CD], [], [])
    assert (two["pairs_added"], two["pairs_removed"], two["pairs_changed"]) == ([EF], [AB], [CD])
    assert (three["pairs_changed"], three["settings_changed"]) == ([CD, EF], ["expires"])
    assert (two["registry"], two["as_of"], two["action"]) == (content_hash(second), AS_OF, "promote")
    assert (two["run_id"], two["revision"]) == ("run-2", "0123abc")
    assert two["previous_line"] == content_hash(one)
    desk.promote(first)
    assert (desk.root / "models/production_log.jsonl").read_bytes().splitlines()[0] == head
    assert sorted(desk.history.load()) == sorted({map_["id"][:16] for map_ in maps})
    assert len(desk.log.load()) == 4


def test_maps_before_stay_in_the_history_with_their_models(desk: Desk, params: Any) -> None:
    earlier = desk.promote(registry_of(params, [champion(AB, desk.trained())]))
    kept = desk.map_bytes()
    later = desk.promote(registry_of(params, [champion(AB, desk.trained(seed=1))]))
    assert (desk.root / f"models/production_history/{earlier['id'][:16]}.json").read_bytes() == kept
    for map_ in (earlier, later):
        (entry,) = map_["pairs"]
        assert desk.models.load()[entry["model"]["id"]].meta["threshold"] is None
    assert len(desk.models.load()) == 2


def test_zero_champions_are_promoted_as_an_empty_map(desk: Desk, params: Any) -> None:
    desk.promote(registry_of(params, [champion(AB)]))
    assert desk.promote(registry_of(params, []))["pairs"] == []
    assert desk.log.load()[-1]["pairs_removed"] == [AB]


@pytest.mark.parametrize("spoil", ["a field", "a line taken out", "two lines swapped", "a line twice"])
def test_an_altered_log_is_refused(desk: Desk, params: Any, spoil: str) -> None:
    for exit_z in (0.1, 0.2, 0.3):
        desk.promote(registry_of(params, [champion(AB, exit_z=exit_z)]))
    one, two, three = desk.log.load()
    spoiled = {
        "a field": [{**one, "run_id": "another"}, two, three],
        "a line taken out": [one, three],
        "two lines swapped": [two, one, three],
        "a line twice": [one, two, two, three],
    }[spoil]
    assert production_log.checked([one, two, three]) == [one, two, three]
    desk.log.save(spoiled)
    before = desk.files()
    with pytest.raises(ArtifactError, match="the log was altered"):
        desk.promote(registry_of(params, [champion(CD)]))
    with pytest.raises(ArtifactError, match="the log was altered"):
        desk.rollback()
    assert desk.files() == before


def test_a_history_begun_anew_does_not_stop_promotion(desk: Desk, params: Any) -> None:
    desk.promote(registry_of(params, [champion(AB)]))
    for path in (desk.root / "models/production_history").iterdir():
        path.unlink()
    desk.promote(registry_of(params, [champion(AB), champion(CD)]))
    assert desk.log.load()[-1]["pairs_added"] == [AB, CD]


def test_a_preview_says_what_promotion_then_does(desk: Desk, params: Any, tmp_path: Path) -> None:
    def preview(registry: dict[str, Any]) -> dict[str, Any]:
        made = promote_preview(
            registry, desk.pair_models, params.feature_engineering.features, params.backtest, params.production,
            params.champions, desk.map.load(), desk.log.load(),
        )  # fmt: skip
        dataset = ArtifactDataset(filepath=str(tmp_path / "p.json"), format="json", schema="promotion_preview")
        dataset.save(made)
        (tmp_path / "p.json").unlink()
        return made

    first, second = registry_of(params, [champion(AB)]), registry_of(params, [champion(AB, exit_z=0.4), champion(CD)])
    nothing = preview(first)
    assert (nothing["before"], nothing["entered"], desk.files()) == (None, [AB], {})
    desk.promote(first)
    before = desk.files()
    told = preview(second)
    assert desk.files() == before
    assert told["changed"] == {AB: {"rule.exit_z": {"from": 0.5, "to": 0.4}}}
    after = desk.promote(second)
    line = desk.log.load()[-1]
    assert (told["before"], told["after"]) == (line["previous_map_id"], after["id"])
    assert (told["entered"], told["left"], list(told["changed"])) == (
        line["pairs_added"], line["pairs_removed"], line["pairs_changed"],
    )  # fmt: skip
    assert preview(second)["before"] == after["id"]
    assert len(preview(second)["lines"]) == 1


TOP = (
    "id", "as_of", "inputs", "parameters", "core_code", "formation_start", "formation_end", "expires", "features",
    "feature_spec", "market_symbols", "strategy", "costs", "fill_at", "pairs", "schema_version",
)  # fmt: skip


def spoiled(desk: Desk, change: Any) -> ArtifactDataset:
    """The map's dataset, over a file that was changed by hand."""
    document = desk.map.load()
    change(document)
    (desk.root / "models/production_map.json").write_bytes(canonical(document))
    return desk.map


@pytest.mark.parametrize("key", TOP)
def test_a_map_that_lacks_a_part_is_refused_on_load(desk: Desk, params: Any, key: str) -> None:
    assert set(desk.promote(registry_of(params, [champion(AB, desk.trained())]))) == set(TOP)
    with pytest.raises(ArtifactError, match=f"has no '{key}'"):
        spoiled(desk, lambda document: document.pop(key)).load()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda pair: pair.pop("expires"), "has no 'expires'"),
        (lambda pair: pair.update(expires="2025-03-26T00:00:00"), "expires is"),
        (lambda pair: pair.update(weight=1.0), "keys outside its schema"),
        (lambda pair: pair["model"].update(uri="/etc/passwd"), "model"),
        (lambda pair: pair["model"].pop("threshold"), "model"),
        (lambda pair: pair["rule"].pop("stop_z"), "has no 'stop_z'"),
        (lambda pair: pair["hedge"].update(estimator="guess"), "estimator is 'guess'"),
        (lambda pair: pair.update(probability_threshold=1.5), "probability_threshold"),
    ],
)
def test_a_map_with_a_pair_out_of_its_schema_is_refused_on_load(
    desk: Desk, params: Any, change: Any, said: str
) -> None:
    desk.promote(registry_of(params, [champion(AB, desk.trained())]))
    with pytest.raises(ArtifactError, match=said):
        spoiled(desk, lambda document: change(document["pairs"][0])).load()
