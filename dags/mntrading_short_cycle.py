"""Every five minutes: newest bars of the pairs in production, signals, orders, report."""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG
from mntrading_operator import steps
from mntrading_steps import SCHEDULES

DAG_ID = "mntrading_short_cycle"

with DAG(
    DAG_ID,
    description=__doc__,
    schedule="*/5 * * * *",
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,  # a cycle goes through the bars that were missed by itself, in order
    max_active_runs=1,  # the next one waits; where several have piled up the newest is enough
    default_args={"retries": 1, "retry_delay": timedelta(seconds=30), "owner": "mntrading"},
    tags=["mntrading"],
):
    steps(SCHEDULES[DAG_ID])
