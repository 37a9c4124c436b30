"""Runs as Slurm jobs, through submitit; one job a run, submitted again when its time is over."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from cmgems.errors import UserError
from cmgems.sweeps.config import Slurm
from cmgems.sweeps.jobs import Ended, command
from cmgems.sweeps.plan import Planned
from cmgems.sweeps.state import OUTPUT
from cmgems.utils.files import atomic_write

JOB = "job.json"  # in the run's folder: the id of its job, while there is one
ASK_EVERY = 20.0  # seconds between two questions to the queue
SAVE_WITHIN = 60.0  # seconds that a run has to save itself when its time is over


class PretrainJob:
    """What a job computes: the run's own process. Called on the node, by submitit."""

    def __init__(self, words: list[str], output: str):
        self.words, self.output = words, output

    def __call__(self) -> int:
        # Lightning would take the job's one task for the ranks of a run that starts its own.
        environment = {name: v for name, v in os.environ.items() if name != "SLURM_NTASKS"}
        environment |= {"TQDM_DISABLE": "1"}
        if cpus := os.environ.get("SLURM_CPUS_PER_TASK"):
            environment["OMP_NUM_THREADS"] = cpus
        with open(self.output, "ab") as output:
            self._process = subprocess.Popen(
                self.words,
                stdout=output,
                stderr=output,
                env=environment,
                # Slurm tells all processes of a job that its time is nearly over, and submitit,
                # which answers, lets the run know by `checkpoint`.
                preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
            )
        try:
            # Not wait(): checkpoint() is called out of a signal handler, and could not wait itself.
            while (code := self._process.poll()) is None:
                time.sleep(0.5)
        except KeyboardInterrupt:  # how submitit's local executor cancels
            self._process.terminate()
            code = self._process.wait()
        return code

    def checkpoint(self) -> Any:
        """The time is over: the run saves itself, and the job is submitted again."""
        from submitit.helpers import DelayedSubmission

        self._process.terminate()
        until = time.monotonic() + SAVE_WITHIN
        while self._process.poll() is None and time.monotonic() < until:
            time.sleep(0.5)
        return DelayedSubmission(PretrainJob(self.words, self.output))


class ClusterJobs:
    """Runs that are in the hands of submitit.

    Parameters
    ----------
    folder : for submitit's own files
    cluster : "slurm", or "local" for processes of this machine
    slurm : what a job asks for
    jobs : runs at once, of the local cluster; the queue of Slurm takes them all
    """

    def __init__(self, folder: Path, cluster: str, slurm: Slurm, jobs: int):
        submitit = import_submitit()
        if cluster == "slurm" and not _answers(["sinfo", "--version"]):
            raise UserError("executor: found no Slurm on this machine (sinfo), wanted one")
        self.cluster, self.jobs = cluster, jobs
        self.executor = submitit.AutoExecutor(
            folder=folder, cluster=cluster, slurm_max_num_timeout=1000
        )
        self.executor.update_parameters(
            timeout_min=slurm.minutes,
            cpus_per_task=slurm.cpus,
            gpus_per_node=slurm.gpus or None,  # 0 keeps Slurm from sharing a node
            mem_gb=slurm.memory,
            slurm_partition=slurm.partition or None,
        )
        self.running: dict[str, Planned] = {}
        self._jobs: dict[str, Any] = {}  # submitit's, by name; None: of an earlier sitting
        self._asked = 0.0

    def room(self) -> int:
        return 1 if self.cluster == "slurm" else self.jobs - len(self.running)

    def start(self, run: Planned) -> None:
        self.running[run.name] = run
        if self.cluster == "slurm" and (known := job_id(run.folder)) and in_queue([known]):
            self._jobs[run.name] = None
            return
        self.executor.update_parameters(name=run.name)
        output = (run.folder / OUTPUT).absolute()
        job = self.executor.submit(PretrainJob(command(run), str(output)))
        self._jobs[run.name] = job
        with atomic_write(run.folder / JOB) as handle:
            json.dump({"id": job.job_id}, handle)

    def ended(self) -> list[Ended]:
        over = []
        gone = self._gone()
        for name, job in list(self._jobs.items()):
            done = job is not None and self._done(job)
            if done or name in gone:
                run = self.running.pop(name)
                del self._jobs[name]
                (run.folder / JOB).unlink(missing_ok=True)
                over.append(Ended(run, *_result(job, done)))
        return over

    def _done(self, job: Any) -> bool:
        # submitit's own question to Slurm is `sacct`, which not every cluster answers
        return job.paths.result_pickle.exists() if self.cluster == "slurm" else job.done()

    def _gone(self) -> set[str]:
        """Runs whose job has left the queue, which is looked at every ASK_EVERY seconds."""
        now = time.monotonic()
        if self.cluster != "slurm" or now - self._asked < ASK_EVERY:
            return set()
        self._asked = now
        ids = {name: job_id(run.folder) for name, run in self.running.items()}
        there = in_queue([number for number in ids.values() if number])
        return {name for name, number in ids.items() if number not in there}

    def stop(self) -> None:
        for name, job in self._jobs.items():
            if job is not None:
                job.cancel()
            elif number := job_id(self.running[name].folder):
                subprocess.run(["scancel", number], check=False)

    kill = stop


def import_submitit():
    try:
        import submitit
    except ImportError:
        raise UserError(
            "executor: submitit is not installed; pip install 'cmgems[slurm]'"
        ) from None
    return submitit


def job_id(folder: Path) -> str | None:
    """Of the job that has the run in this folder."""
    try:
        return json.loads((folder / JOB).read_text())["id"]
    except FileNotFoundError:
        return None


def in_queue(ids: list[str]) -> set[str]:
    """Those of the jobs that wait or run. (Not `sacct`: a cluster need not keep accounts.)

    A queue that does not answer counts as one that has them all.
    """
    words = ["squeue", "--noheader", "--format=%i", "--states=PD,R,CG,CF,S,RQ"]
    asked = subprocess.run(words, capture_output=True, text=True, check=False)
    return set(ids) & set(asked.stdout.split()) if asked.returncode == 0 else set(ids)


def _result(job: Any, done: bool) -> tuple[int | None, str]:
    """(exit code of the run, word of the cluster)"""
    if not done:
        return None, "the job has left the queue without a result"
    try:
        return job.result(), ""
    except Exception as error:  # whatever submitit says of a job that was killed
        return None, str(error).strip().splitlines()[0] if str(error).strip() else repr(error)


def _answers(words: list[str]) -> bool:
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
