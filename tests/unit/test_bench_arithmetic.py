"""The figures of ``make bench`` are what they say: medians, ratios, aims, CPU, memory, and where time is booked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.bench import load, processes, timing
from tests.bench.figures import (
    Aim,
    Bound,
    Load,
    NoResult,
    Result,
    Round,
    median_latency_of,
    paired_difference,
    paired_ratio,
    rate_of,
    ratio,
)
from tests.bench.report import step_rows
from tests.bench.scenarios import Timed
from tests.bench.timing import STEPS, Spent


def seen(
    requests: int, *, seconds: float = 2.0, p50: float = 1.0, errors: Mapping[str, int] | None = None
) -> Load:
    return Load(requests, seconds, {50: p50, 99: 9.0}, errors or {"status": 0}, generator_cpu_seconds=0.5)


def result(*rates: float, cpu: float = 1.0) -> Result:
    return Result("x", tuple(Round(seen(int(rate * 2)), {"server": cpu}) for rate in rates))


# -- a run that went wrong is no result -------------------------------------------------------------------------


def test_one_wrong_reply_makes_a_run_no_result() -> None:
    with pytest.raises(NoResult, match="sidecar: 1 x status, 2 x timeout among 100 replies"):
        seen(100, errors={"status": 1, "timeout": 2, "read": 0}).checked("sidecar")


def test_a_run_without_replies_is_no_result() -> None:
    with pytest.raises(NoResult, match="no reply"):
        seen(0).checked("sidecar")


def test_a_clean_run_is_itself() -> None:
    assert seen(100).checked("sidecar").rate == 50


def test_a_contender_without_rounds_is_no_result() -> None:
    with pytest.raises(NoResult):
        Result("x", ())


# -- medians and ratios -----------------------------------------------------------------------------------------


def test_figures_are_medians_over_the_rounds() -> None:
    rounds = tuple(
        Round(seen(requests, p50=p50), {"server": cpu})
        for requests, p50, cpu in ((100, 3.0, 1.0), (200, 1.0, 1.0), (1000, 2.0, 1.0))
    )
    measured = Result("x", rounds)
    assert measured.rate == 100
    assert measured.latency_ms(50) == 2.0
    # 10, 5 and 1 ms per request.
    assert measured.cpu_ms("server") == 5.0
    assert measured.cpu_ms("nobody") == 0.0
    assert measured.generator_cpu_ms == pytest.approx(2.5)
    assert measured.requests == 1300
    assert measured.spread == pytest.approx((500 - 50) / 100)


def test_a_ratio_compares_neighbours_so_that_a_slow_moment_cancels_out() -> None:
    ours, peer = result(400, 40, 400), result(100, 10, 100)
    assert paired_ratio(ours, peer, rate_of) == 4.0
    # Ratios of medians would say 0.1 here.
    ours, peer = result(10, 100, 10, 100, 10), result(10, 100, 100, 100, 10)
    assert paired_ratio(ours, peer, rate_of) == 1.0


def test_a_difference_is_paired_in_the_same_way() -> None:
    ours = Result("x", tuple(Round(seen(1, p50=p50), {}) for p50 in (5.0, 50.0, 7.0)))
    peer = Result("y", tuple(Round(seen(1, p50=p50), {}) for p50 in (1.0, 46.0, 2.0)))
    assert paired_difference(ours, peer, median_latency_of) == 4.0


def test_rounds_that_do_not_pair_are_no_result() -> None:
    with pytest.raises(NoResult):
        paired_ratio(result(1, 2), result(1), rate_of)
    with pytest.raises(NoResult):
        paired_difference(result(1, 2), result(1), rate_of)


def test_nothing_is_divided_by_nothing() -> None:
    with pytest.raises(NoResult):
        ratio(1.0, 0.0)


@pytest.mark.parametrize(
    ("bound", "limit", "measured", "verdict"),
    [
        (Bound.AT_LEAST, 4.0, 4.0, "met"),
        (Bound.AT_LEAST, 4.0, 3.99, "**not met**"),
        (Bound.AT_MOST, 0.6, 0.6, "met"),
        (Bound.AT_MOST, 0.6, 0.61, "**not met**"),
        (Bound.AT_MOST, 0.6, None, "not measured"),
    ],
)
def test_an_aim_says_whether_it_is_met(
    bound: Bound, limit: float, measured: float | None, verdict: str
) -> None:
    assert Aim("x", bound, limit, measured).verdict == verdict


# -- the load generator's report --------------------------------------------------------------------------------


def test_the_load_generators_line_is_read_in_ms_and_seconds() -> None:
    line = (
        '{"requests":10,"duration_us":2000000,"latency_us":{"50":1500,"90":2,"99":3,"100":4},'
        '"errors":{"connect":0,"read":0,"write":0,"timeout":0,"status":0,"unexpected":3}}'
    )
    parsed = load.parse(f"a warning\n{line}\n", generator_cpu_seconds=0.1)
    assert parsed.rate == 5
    assert parsed.latency_ms[50] == 1.5
    with pytest.raises(NoResult, match="3 x unexpected"):
        parsed.checked("x")


def test_a_load_generator_that_says_nothing_is_no_result() -> None:
    for text in ("", "Segmentation fault"):
        with pytest.raises(NoResult):
            load.parse(text, generator_cpu_seconds=0)


def test_no_token_stands_on_the_load_generators_command_line() -> None:
    call = load.Call("http://127.0.0.1:1/v1/x", token="a-token", expect=200)
    assert call.environment() == {"BENCH_METHOD": "GET", "BENCH_TOKEN": "a-token", "BENCH_EXPECT": "200"}


# -- CPU and memory of a process tree ---------------------------------------------------------------------------


def test_cpu_time_counts_from_the_last_bracket_of_the_name() -> None:
    text = "7 (a) b (c) S 3 7 7 0 -1 4194304 1 2 3 4 100 20 3 4 20 0 1 0 1 2 3"
    assert processes.parse_stat(text) == processes.Stat(parent=3, ticks=127)


def test_a_tree_is_the_root_and_all_below_it() -> None:
    assert processes.tree_of(2, {1: 0, 2: 1, 3: 2, 4: 3, 5: 1}) == {2, 3, 4}


def test_cpu_of_a_child_that_has_ended_is_not_lost() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    before = processes.cpu_seconds(os.getpid())
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert processes.cpu_seconds(os.getpid()) - before >= 0.28


def test_a_process_is_found_below_its_starter_by_the_words_of_its_command() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "bench-test-word"])
    try:
        end = time.monotonic() + 10
        while True:
            try:
                assert processes.find_below(os.getpid(), "bench-test-word") == child.pid
                break
            except LookupError:
                assert time.monotonic() < end
        with pytest.raises(LookupError):
            processes.find_below(os.getpid(), "bench-test-word", "no-such-word")
    finally:
        child.kill()
        child.wait()


def test_a_machine_is_busy_with_all_but_idling_and_waiting_for_disks() -> None:
    assert processes.parse_busy("cpu  100 20 3 9999 9999 4 5 6 100 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n") == 138


def smaps(*mappings: tuple[str, int, int, int]) -> str:
    """Mappings as (file or "", Rss, Pss, Anonymous)."""
    return "".join(
        f"00400000-00500000 r-xp 00001000 fe:00 {7 if file else 0}    {file}\n"
        f"Size: 9 kB\nRss: {rss} kB\nPss: {pss} kB\nPss_Dirty: 1 kB\nAnonymous: {anonymous} kB\nVmFlags: rd ex\n"
        for file, rss, pss, anonymous in mappings
    )


def test_memory_counts_what_the_tree_shares_once_and_what_strangers_share_in_full() -> None:
    # Two workers of one master share 1024 KiB by fork; each has 2048 KiB of its own; the library is mapped by
    # many programs outside as well, so that Pss makes it nearly free.
    worker = smaps(
        ("", 3072, 2560, 3072),
        ("/lib/libpython.so", 4096, 100, 0),
        ("/lib/empty.so", 0, 0, 0),
    )
    used = processes.memory_of([worker, worker])
    assert used.anonymous == 5.0
    assert used.resident == 9.0


def test_pages_of_a_file_that_were_written_to_are_anonymous() -> None:
    used = processes.memory_of([smaps(("/lib/libpython.so", 2048, 2048, 1024))])
    assert used == processes.Memory(resident=2.0, anonymous=1.0)


def test_memory_of_a_live_process_is_near_what_it_holds() -> None:
    hold = "import sys, time; held = bytearray(b'x' * 64 * 2**20); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "held\n"
            used = processes.memory(child.pid)
        finally:
            child.kill()
    assert 64 <= used.anonymous <= 90
    assert used.anonymous < used.resident <= 110


# -- where the time goes ----------------------------------------------------------------------------------------

REQUEST = STEPS[0][2]
RELAY = "relay: mint"


def test_what_was_spent_between_two_readings_is_their_difference() -> None:
    before = {"a": Spent(1, 1.0, 1.0)}
    after = {"a": Spent(3, 3.0, 4.0), "b": Spent(1, 1.0, 1.0)}
    assert timing.between(before, after) == {"a": Spent(2, 2.0, 3.0), "b": Spent(1, 1.0, 1.0)}


def test_steps_stand_in_the_order_of_a_request_with_their_waiting_behind_them() -> None:
    times = {name: Spent(1) for name in (f"{RELAY}, wait", RELAY, f"{RELAY}, send", REQUEST)}
    times["lease: the record"] = Spent(0)
    assert timing.in_order(times) == [REQUEST, RELAY, f"{RELAY}, send", f"{RELAY}, wait"]


def test_the_step_table_is_in_microseconds_per_request_and_adds_up_to_the_sidecars_cpu() -> None:
    one = Timed(10, 0.03, {REQUEST: Spent(10, 0.01, 0.04)})
    many = Timed(100, 0.4, {REQUEST: Spent(100, 0.2, 9.0), RELAY: Spent(50, 0.1, 9.0)})
    rows = {row[0]: row[1:] for row in step_rows(one, many)}
    assert rows[REQUEST] == ("1.00", "4000", "1000", "2000", "50%")
    assert rows[RELAY] == ("0.50", "0", "0", "1000", "25%")
    assert rows["outside of requests: gunicorn's loop, background"] == ("", "", "2000", "1000", "25%")
    assert rows["**all**"] == ("", "4000", "3000", "4000", "")


def test_a_step_that_has_moved_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "7.error").write_text("AttributeError: type object 'Front' has no attribute 'call'")
    with pytest.raises(NoResult, match=r"out of date.*has no attribute 'call'"):
        timing.read(tmp_path)


#: A process as ``aikeys serve`` is one: a forked worker that serves requests in a thread.
SERVER = """
import os, sys, threading, time

class Relay:
    def mint(self):
        time.sleep(0.02)

def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass

def request():
    burn(0.02)
    Relay().mint()
    burn(0.01)

def beside():
    Relay().mint()

def serve():
    beside()
    for _ in range(10):
        request()

if __name__ == "__main__":
    import server
    if os.fork() == 0:
        thread = threading.Thread(target=server.serve)
        thread.start()
        thread.join()
        time.sleep(0.6)
        os._exit(0)
    os.wait()
"""


def test_stop_watches_book_each_step_without_the_steps_below_it(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    steps = [
        ["server", "request", "request"],
        ["server", "Relay.mint", "relay"],
        ["server", "burn", ", burning"],
    ]
    environment = {**os.environ, **timing.environment(tmp_path), "BENCH_STEPS": json.dumps(steps)}
    environment["PYTHONPATH"] += f":{tmp_path}"
    subprocess.run([sys.executable, tmp_path / "server.py", "serve"], env=environment, check=True, timeout=60)
    times = timing.read(tmp_path)
    assert {name: spent.calls for name, spent in times.items()} == {
        "request": 10,
        "request, burning": 20,
        # Not the one beside requests.
        "relay": 10,
    }
    assert 0.3 <= times["request, burning"].cpu <= 0.36
    assert times["relay"].cpu < 0.05
    assert times["relay"].wall >= 0.2
    assert times["request"].cpu < 0.05
