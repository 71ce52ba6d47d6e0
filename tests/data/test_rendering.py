"""Jobs in parallel: in order, in other processes, stopping at an error."""

import math
import os
import subprocess
import sys

import pytest

from flaxgan.data import rendering
from flaxgan.data.rendering import render_parallel
from tests.robustness.process_group import wait_for_the_end


def process_id(job: int) -> int:
    return os.getpid()


@pytest.mark.parametrize("workers", [1, 2, None])
def test_results_come_in_the_order_of_the_jobs(workers):
    jobs = list(range(2 * rendering.CHUNK + 3, 0, -1))
    results = render_parallel(math.sqrt, jobs, description="roots", workers=workers)
    assert list(results) == [math.sqrt(job) for job in jobs]


def test_few_jobs_stay_in_this_process_and_two_workers_do_not():
    jobs = list(range(rendering.CHUNK + 1))
    assert set(render_parallel(process_id, jobs, description="here")) == {os.getpid()}
    elsewhere = set(render_parallel(process_id, jobs, description="there", workers=2))
    assert os.getpid() not in elsewhere


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_job_reaches_the_caller(workers):
    with pytest.raises(ValueError, match=r"math domain|nonnegative"):
        list(render_parallel(math.sqrt, [4, -1], description="roots", workers=workers))


def test_a_script_that_cannot_be_spawned_again_renders_by_itself():
    """As from standard input: the children find no file to start from."""
    script = (
        "from flaxgan.data import rendering\n"
        "print(sum(rendering.render_parallel(abs, range(-600, 0), description='x', workers=2)))"
    )
    done = subprocess.run(
        [sys.executable, "-"], input=script, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == str(sum(range(601)))


def test_workers_end_when_the_process_that_started_them_is_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, time\n"
        "from flaxgan.data import rendering\n"
        "def job(number):\n"
        "    return os.getpid()\n"
        "if __name__ == '__main__':\n"
        "    jobs = rendering.render_parallel(job, range(1000), description='x', workers=2)\n"
        "    print(next(jobs), flush=True)\n"
        "    time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    with child:
        lines = (line for line in child.stdout if line.strip().isdecimal())
        worker = int(next(lines))
        os.kill(worker, 0)
        child.kill()
    wait_for_the_end([worker])
