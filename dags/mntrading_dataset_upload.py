"""Build the labelled dataset and upload it to the object store."""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG
from mntrading_operator import steps
from mntrading_steps import SCHEDULES

DAG_ID = "mntrading_dataset_upload"

with DAG(
    DAG_ID,
    description=__doc__,
    schedule=None,  # the full cycle builds the same dataset: started by hand, or give it a schedule of its own
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=2), "owner": "mntrading"},
    tags=["mntrading"],
):
    steps(SCHEDULES[DAG_ID])
