"""The model registry's aliases: whoever has one now, and nobody else."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():  # the frameworks warn about themselves when they are imported
    warnings.simplefilter("ignore")
    import mlflow

from mntrading import tracking


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Any]:
    with warnings.catch_warnings():  # mlflow's models of its tables are ahead of what sqlalchemy likes
        warnings.simplefilter("ignore")
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
        yield mlflow.MlflowClient()
        mlflow.set_tracking_uri(before)


def test_an_alias_follows_the_hash_and_leaves_models_that_lost_it(client: Any) -> None:
    for group, hashes in (("pooled", "ab"), ("A__B", "cd")):
        client.create_registered_model(f"mntrading-{group}")
        for sha in hashes:
            client.create_model_version(f"mntrading-{group}", "nowhere", tags={"sha256": sha})
    client.create_registered_model("another")

    def aliases() -> dict[str, dict[str, str]]:
        return {model.name: model.aliases for model in client.search_registered_models()}

    assert tracking.move_alias("champion", {"a", "d"}) == {"mntrading-pooled": "1", "mntrading-A__B": "2"}
    assert tracking.move_alias("production", {"b"}) == {"mntrading-pooled": "2"}
    assert tracking.move_alias("champion", {"b", "unknown"}) == {"mntrading-pooled": "2"}
    told = {name: {alias: str(version) for alias, version in given.items()} for name, given in aliases().items()}
    assert told == {"mntrading-pooled": {"champion": "2", "production": "2"}, "mntrading-A__B": {}, "another": {}}


def test_challengers_get_their_alias_unless_their_model_serves_a_champion(client: Any) -> None:
    for group, sha in (("A__B", "a"), ("C__D", "c"), ("E__F", "e"), ("pooled", "p")):
        client.create_registered_model(f"mntrading-{group}")
        client.create_model_version(f"mntrading-{group}", "nowhere", tags={"sha256": sha})
        client.set_registered_model_alias(f"mntrading-{group}", "candidate", 1)

    def entry(sha: str | None, *, challenger: bool = False) -> dict[str, Any]:
        return {"model": sha and {"id": "live/any", "sha256": sha}, "challenger": challenger}

    def move(registry: dict[str, Any]) -> dict[str, set[str]]:
        for alias, hashes in tracking.contenders(registry).items():
            tracking.move_alias(alias, hashes)
        return {
            model.name.removeprefix("mntrading-"): set(model.aliases) - {"candidate"}
            for model in client.search_registered_models()
        }

    rejected = [entry("c", challenger=True), entry("e"), entry("p", challenger=True), entry(None, challenger=True)]
    first = {"champions": [entry("a"), entry("p"), entry(None)], "rejected": rejected}
    assert move(first) == {"A__B": {"champion"}, "C__D": {"challenger"}, "E__F": set(), "pooled": {"champion"}}
    # the challenger wins, and the champion it beat for the place challenges it
    second = {"champions": [entry("c")], "rejected": [entry("a", challenger=True)]}
    assert move(second) == {"A__B": {"challenger"}, "C__D": {"champion"}, "E__F": set(), "pooled": set()}
