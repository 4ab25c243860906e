"""Once a day: bars, pairs, models, backtest, champions, production, orders, report."""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG
from mntrading_operator import steps
from mntrading_steps import SCHEDULES

DAG_ID = "mntrading_full_cycle"

with DAG(
    DAG_ID,
    description=__doc__,
    schedule="15 0 * * *",  # a quarter past midnight, UTC: the day's last bars are there
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,  # a cycle looks at all bars there are: days that were missed need no run of their own
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=2), "owner": "mntrading"},
    tags=["mntrading"],
):
    steps(SCHEDULES[DAG_ID])
