"""Figures in storage, and what kedro-viz makes of them."""

from __future__ import annotations

import warnings
from pathlib import Path

import plotly.graph_objects as go
import pytest
import yaml
from kedro.io import DataCatalog

from mntrading.core.errors import ArtifactError
from mntrading.datasets.artifact import FigureDataset

CONF = Path(__file__).parents[2] / "conf" / "base"
FIGURE = {"data": [{"type": "scatter", "x": [1, 2], "y": [3, 4]}], "layout": {"height": 100}}


@pytest.fixture
def dataset(tmp_path):
    return FigureDataset(filepath=str(tmp_path / "x.json"), format="json", schema="figure", made_by="kedro run")


def metadata(dataset):
    """What kedro-viz answers when a node is clicked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, on import
        from kedro_viz.models.flowchart.node_metadata import DataNodeMetadata
        from kedro_viz.models.flowchart.nodes import GraphNode
    node = GraphNode.create_data_node(
        dataset_id="1",
        dataset_name="pair_network",
        layer="reporting",
        tags=set(),
        dataset=dataset,
        modular_pipelines=set(),
    )
    return DataNodeMetadata(data_node=node)


def test_kedro_viz_shows_a_stored_figure_as_a_plot(dataset):
    dataset.save(FIGURE)
    shown = metadata(dataset)
    assert shown.preview_type == "PlotlyPreview"
    assert shown.preview == FIGURE
    assert go.Figure(shown.preview).layout.height == 100


def test_kedro_viz_shows_no_preview_of_a_figure_that_is_not_made_yet(dataset):
    assert metadata(dataset).preview is None


@pytest.mark.parametrize("name", ["screening_heat_map", "pair_network"])
def test_the_catalog_s_figures_are_shown(name, tmp_path):
    text = (CONF / "catalog_reporting.yml").read_text().replace("${globals:storage.root}", str(tmp_path))
    entry = yaml.safe_load(text)[name] | {"credentials": None}
    catalog = DataCatalog.from_config({name: entry})
    catalog.save(name, FIGURE)
    assert metadata(catalog[name]).preview == FIGURE


def test_what_is_no_figure_is_refused(dataset):
    with pytest.raises(ArtifactError, match="layout"):
        dataset.save({"data": []})
