"""Runs through the API: queued, watched, cancelled, one at a time, and told as they are after any death."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from api_harness import BEARER, FAKE_RUN, ApiProcess, TestClient, alive, client_of, plan, ran, settings, until

from mntrading.apps.api.jobs import Jobs, tail
from mntrading.apps.api.main import create_app
from mntrading.apps.api.store import KeyReusedError, QueueFullError, Store
from mntrading.apps.api.worker import main
from mntrading.core.errors import LockedError


def ended(client: TestClient, id_: str) -> dict[str, object]:
    """A run once it is over."""

    def over() -> dict[str, object] | None:
        told = client.get(f"/runs/{id_}").json()
        return None if told["state"] in ("queued", "running") else told

    found: dict[str, object] = until(over)
    return found


def begun(client: TestClient, id_: str) -> dict[str, object]:
    """A run once its first node has begun."""

    def on() -> dict[str, object] | None:
        told = client.get(f"/runs/{id_}").json()
        return told if told["step"] else None

    found: dict[str, object] = until(on)
    return found


def test_a_run_is_queued_runs_and_is_told_with_step_progress_and_log(client: TestClient, state: Path) -> None:
    plan(state, seconds=0.3)
    answer = client.post("/run/short_cycle", json={"parameters": {"portfolio": {"kill_switch": "halted"}}})
    assert answer.status_code == 202
    told = answer.json()
    assert told["parameters"] == {"portfolio": {"kill_switch": "halted"}}
    assert answer.headers["location"] == f"/runs/{told['id']}"
    on = begun(client, told["id"])
    assert (on["state"], on["step"], on["progress"]) == ("running", "first_node", {"done": 0, "total": 2})
    done = ended(client, told["id"])
    assert (done["state"], done["progress"], done["error"]) == ("finished", {"done": 2, "total": 2}, None)
    assert done["kedro_run_id"] == "2026-01-01T00.00.00.000Z"
    assert done["log"] == ["a line of the log"]
    assert client.get(f"/runs/{told['id']}?log_lines=0").json()["log"] == []


@pytest.mark.parametrize(("ending", "state_of", "error"), [
    ("refused", "refused", None),
    ("raises", "failed", "ValueError: of no use"),
])  # fmt: skip
def test_a_run_that_ends_badly_says_how(
    client: TestClient, state: Path, ending: str, state_of: str, error: str | None
) -> None:
    plan(state, ending=ending)
    done = ended(client, client.post("/run/research").json()["id"])
    assert (done["state"], done["error"]) == (state_of, error)


def test_the_token_is_not_handed_to_the_run(client: TestClient, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNTRADING_API_TOKEN", "x" * 40)
    plan(state, seconds=5.0)
    id_ = client.post("/run/short_cycle").json()["id"]
    begun(client, id_)
    (_, _, pid), *_ = ran(state)
    assert b"MNTRADING_API_TOKEN" not in Path(f"/proc/{pid}/environ").read_bytes()
    client.post(f"/runs/{id_}/cancel")
    assert ended(client, id_)["state"] == "cancelled"


def test_the_same_key_gives_the_same_run_and_another_request_under_it_is_refused(client: TestClient) -> None:
    headers = {"Idempotency-Key": "2026-01-01:short"}
    body = {"parameters": {"portfolio": {"top_k": 3}}}
    first = client.post("/run/short_cycle", json=body, headers=headers)
    again = client.post("/run/short_cycle", json=body, headers=headers)
    assert first.json()["id"] == again.json()["id"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    for path, other in (("/run/short_cycle", {}), ("/run/full_cycle", body)):
        answer = client.post(path, json=other, headers=headers)
        assert answer.status_code == 422
        assert answer.json()["type"] == "urn:mntrading:problem:idempotency-key-reused"
    for key in ("", "a b", "ü", "x" * 129):
        assert client.post("/run/short_cycle", headers={"Idempotency-Key": key.encode()}).status_code == 422
    assert len(client.get("/runs").json()["runs"]) == 1


def test_a_key_sent_by_many_at_once_makes_one_run(client: TestClient, state: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: client.post("/run/short_cycle", headers={"Idempotency-Key": "k"}), range(40)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_two_hundred_requests_at_once_make_two_hundred_runs_one_at_a_time(client: TestClient, state: Path) -> None:
    plan(state, seconds=0.05)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: client.post("/run/reporting"), range(200)))
    ids = [answer.json()["id"] for answer in answers]
    assert {answer.status_code for answer in answers} == {202}
    assert len(set(ids)) == 200
    until(lambda: len(ran(state)) >= 12)
    assert len(client.get("/runs?state=running").json()["runs"]) <= 1
    places = [run["position"] for run in client.get("/runs?limit=1000&state=queued").json()["runs"]]
    assert places == sorted(places, reverse=True)
    with ThreadPoolExecutor(20) as pool:  # the rest would only take time
        list(pool.map(lambda id_: client.post(f"/runs/{id_}/cancel"), reversed(ids)))
    until(lambda: not Store(state).running())
    states = {run["id"]: run["state"] for run in client.get("/runs?limit=1000").json()["runs"]}
    assert len(states) == 200
    assert set(states.values()) == {"finished", "cancelled"}
    on: list[str] = []
    for what, id_, *_ in ran(state):
        if what == "begin":
            assert all(states[one] == "cancelled" for one in on)  # ended without a word of its own
            on = [id_]
        else:
            assert on == [id_]
            on = []


def test_a_full_queue_says_so(state: Path) -> None:
    plan(state, seconds=60.0)
    with client_of(settings(state, max_queued=2), headers=BEARER) as one:
        first = one.post("/run/short_cycle").json()["id"]
        begun(one, first)
        assert [one.post("/run/short_cycle").status_code for _ in range(3)] == [202, 202, 429]
        for run in one.get("/runs").json()["runs"]:
            one.post(f"/runs/{run['id']}/cancel")
        assert ended(one, first)["state"] == "cancelled"


def test_a_queued_run_is_cancelled_at_once_and_never_begins(client: TestClient, state: Path) -> None:
    plan(state, seconds=0.5)
    first, second = (client.post("/run/short_cycle").json()["id"] for _ in range(2))
    answer = client.post(f"/runs/{second}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    assert ended(client, first)["state"] == "finished"
    assert [line[1] for line in ran(state)] == [first, first]
    assert client.post(f"/runs/{second}/cancel").status_code == 202
    answer = client.post(f"/runs/{first}/cancel")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:mntrading:problem:ended")
    assert client.post("/runs/none/cancel").status_code == 404


@pytest.mark.parametrize("deaf", [False, True], ids=["that listens", "that does not listen"])
def test_a_run_is_cancelled_with_everything_it_has_started(client: TestClient, state: Path, deaf: bool) -> None:
    plan(state, seconds=600.0, child=True, deaf=deaf)
    id_ = client.post("/run/short_cycle").json()["id"]
    begun(client, id_)
    (_, _, pid), (_, child) = ran(state)
    began = time.monotonic()
    answer = client.post(f"/runs/{id_}/cancel")
    assert (answer.status_code, answer.json()["cancel_requested"]) == (202, True)
    done = ended(client, id_)
    assert (done["state"], done["error"]) == ("cancelled", None)
    assert time.monotonic() - began < 10.0
    until(lambda: not alive(int(pid)) and not alive(int(child)))


def test_a_run_whose_process_is_killed_is_told_as_killed_and_the_next_one_runs(client: TestClient, state: Path) -> None:
    plan(state, seconds=600.0)
    id_ = client.post("/run/short_cycle").json()["id"]
    begun(client, id_)
    plan(state)
    os.kill(int(ran(state)[0][2]), signal.SIGKILL)
    done = ended(client, id_)
    assert done["state"] == "killed"
    assert "SIGKILL" in str(done["error"])
    assert ended(client, client.post("/run/short_cycle").json()["id"])["state"] == "finished"


def test_a_process_that_can_not_be_started_ends_its_run(state: Path) -> None:
    with client_of(settings(state), ["/no/such/program"], headers=BEARER) as one:
        done = ended(one, one.post("/run/short_cycle").json()["id"])
        assert done["state"] == "failed"
        assert "can't be started" in str(done["error"])


# --- the queue alone ------------------------------------------------------------------------------------------


def test_the_queue_keeps_its_order_lets_one_run_and_refuses_a_second_claim(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, second = (store.add("research", {}, None, 10)[0] for _ in range(2))
    started = store.start_next()
    assert started is not None
    assert started.id == first.id
    assert store.start_next() is None
    claimed = store.claim(first.id, started.attempt, 123)
    assert claimed is not None
    assert claimed.pid == 123
    assert store.claim(first.id, started.attempt, 456) is None
    assert not store.put_back(started)
    assert store.close(first.id, "finished")
    assert not store.close(first.id, "failed")
    following = store.start_next()
    assert following is not None
    assert following.id == second.id


def test_a_late_process_finds_its_run_given_to_another(tmp_path: Path) -> None:
    store = Store(tmp_path)
    job, _ = store.add("research", {}, None, 10)
    late = store.start_next()
    assert late is not None
    assert store.put_back(late)
    assert store.claim(job.id, late.attempt, 1) is None
    started = store.start_next()
    assert started is not None
    assert store.claim(job.id, late.attempt, 1) is None
    assert store.claim(job.id, started.attempt, 2) is not None


def test_keys_and_limits_of_the_queue(tmp_path: Path) -> None:
    store = Store(tmp_path)
    job, known = store.add("research", {"a": 1}, "k", 1)
    assert not known
    assert store.add("research", {"a": 1}, "k", 1) == (job, True)
    with pytest.raises(KeyReusedError):
        store.add("research", {"a": 2}, "k", 1)
    with pytest.raises(QueueFullError):
        store.add("research", {}, None, 1)


def test_old_runs_are_forgotten_with_their_logs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    ids = []
    for _ in range(4):
        job, _ = store.add("research", {}, None, 10)
        store.log(job.id).write_text("said")
        store.cancel(job.id)
        ids.append(job.id)
    waiting, _ = store.add("research", {}, None, 10)
    store.prune(2)
    assert [job.id for job in store.recent(10)] == [waiting.id, ids[3], ids[2]]
    assert not store.log(ids[0]).exists()
    assert store.log(ids[3]).exists()


def test_the_queue_is_for_its_owner_alone(tmp_path: Path) -> None:
    Store(tmp_path / "queue")
    assert (tmp_path / "queue").stat().st_mode & 0o077 == 0


def test_a_second_api_on_one_queue_is_refused(tmp_path: Path) -> None:
    # a lock of one's own process is no hindrance, so the second one is another process
    first = Jobs(Store(tmp_path), tmp_path, None, 1.0)
    first.open()
    pid = os.fork()
    if pid == 0:
        try:
            Jobs(Store(tmp_path), tmp_path, None, 1.0).open()
        except LockedError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    first.close()


def test_a_process_for_a_run_that_is_not_its_own_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, _ = Store(tmp_path).add("research", {}, None, 10)
    monkeypatch.chdir(Path.cwd())  # it changes into the project's folder, and is in the process of the tests
    assert main([str(tmp_path), job.id, "1", str(tmp_path)]) == 0
    found = Store(tmp_path).get(job.id)
    assert found is not None
    assert found.state == "queued"


def test_the_end_of_a_log_is_told_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2hunter2")
    log = tmp_path / "a.log"
    log.write_bytes(b"x" * 100_000 + b"\none hunter2hunter2\n\xff two s3://me:pass@host/bucket\n")
    assert tail(log, 2) == ["one ***", "� two s3://***@host/bucket"]
    assert tail(log, 0) == []
    assert tail(tmp_path / "none", 5) == []


# --- an API that is killed ------------------------------------------------------------------------------------


@pytest.fixture
def process(state: Path) -> Iterator[ApiProcess]:
    one = ApiProcess(state)
    yield one
    one.stop()


def test_an_api_that_is_stopped_leaves_its_run_alone_and_the_next_one_follows_it(state: Path) -> None:
    plan(state, seconds=600.0)
    app = create_app(settings(state), FAKE_RUN)
    with TestClient(app, headers=BEARER) as client:
        first, second = (client.post("/run/short_cycle").json()["id"] for _ in range(2))
        on = begun(client, first)
    with client_of(settings(state), headers=BEARER) as client:
        told = {run["id"]: run for run in client.get("/runs").json()["runs"]}
        assert [told[id_]["state"] for id_ in (first, second)] == ["running", "queued"]
        assert told[first]["started_at"] == on["started_at"]
        plan(state)
        client.post(f"/runs/{first}/cancel")
        assert ended(client, first)["state"] == "cancelled"
        assert ended(client, second)["state"] == "finished"
    assert app.state.parts.jobs._child.wait() != 0


def test_a_killed_api_comes_back_with_its_queue_and_tells_at_once_that_the_run_is_dead(
    process: ApiProcess, state: Path
) -> None:
    plan(state, seconds=600.0)
    process.start()
    with process.client() as client:
        first, second, third = (client.post("/run/short_cycle").json()["id"] for _ in range(3))
        begun(client, first)
    process.kill()
    (_, _, pid), *_ = ran(state)
    assert alive(int(pid))  # the run does not die with it
    os.kill(int(pid), signal.SIGKILL)
    until(lambda: not alive(int(pid)))
    plan(state)
    process.start()
    with process.client() as client:
        told = client.get(f"/runs/{first}").json()
        assert told["state"] == "killed"
        assert "without a word" in told["error"]
        assert [ended(client, id_)["state"] for id_ in (second, third)] == ["finished", "finished"]
    assert [line[1] for line in ran(state) if line[0] == "begin"] == [first, second, third]
