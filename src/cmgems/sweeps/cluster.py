"""Runs as Slurm jobs, through submitit; one job per run, submitted again when its time is over."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from cmgems.errors import UserError
from cmgems.sweeps.config import Slurm
from cmgems.sweeps.jobs import FinishedJob, pretrain_command
from cmgems.sweeps.plan import PlannedRun
from cmgems.sweeps.state import OUTPUT
from cmgems.utils.files import atomic_write, read_json

JOB = "job.json"  # in the run's folder: the id of its job, while there is one
QUEUE_POLL_SECONDS = 20.0
SAVE_SECONDS = 60.0  # that a run has to save itself when its time is over


class PretrainJob:
    """What a job computes: the run's own process. Called on the node, by submitit."""

    def __init__(self, command: list[str], output: str):
        self.command, self.output = command, output

    def __call__(self) -> int:
        # Lightning would take the job's one task for the ranks of a run that starts its own.
        environment = {name: v for name, v in os.environ.items() if name != "SLURM_NTASKS"}
        environment |= {"TQDM_DISABLE": "1"}
        if cpus := os.environ.get("SLURM_CPUS_PER_TASK"):
            environment["OMP_NUM_THREADS"] = cpus
        with open(self.output, "ab") as output:
            self._process = subprocess.Popen(
                self.command,
                stdout=output,
                stderr=output,
                env=environment,
                # Slurm signals all processes of a job that its time is nearly over, and submitit,
                # which answers, informs the run by `checkpoint`.
                preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
            )
        try:
            # Not wait(): checkpoint() is called out of a signal handler, and could not wait itself.
            while (exit_code := self._process.poll()) is None:
                time.sleep(0.5)
        except KeyboardInterrupt:  # how submitit's local executor cancels
            self._process.terminate()
            exit_code = self._process.wait()
        return exit_code

    def checkpoint(self) -> Any:
        """The time is over: the run saves itself, and the job is submitted again."""
        from submitit.helpers import DelayedSubmission  # optional dependency

        self._process.terminate()
        deadline = time.monotonic() + SAVE_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.5)
        return DelayedSubmission(PretrainJob(self.command, self.output))


class SubmititExecutor:
    """Runs as jobs of submitit.

    Parameters
    ----------
    folder : for submitit's own files
    cluster : "slurm", or "local" for processes of this machine
    slurm : what a job asks for
    num_slots : runs at once, of the local cluster; the queue of Slurm takes them all
    """

    def __init__(self, folder: Path, cluster: str, slurm: Slurm, num_slots: int):
        submitit = import_submitit()
        if cluster == "slurm" and not _succeeds(["sinfo", "--version"]):
            raise UserError("executor: found no Slurm on this machine (sinfo), wanted one")
        self.cluster, self.num_slots = cluster, num_slots
        self._submitit = submitit.AutoExecutor(
            folder=folder, cluster=cluster, slurm_max_num_timeout=1000
        )
        self._submitit.update_parameters(
            timeout_min=slurm.minutes,
            cpus_per_task=slurm.cpus,
            gpus_per_node=slurm.gpus or None,  # 0 keeps Slurm from sharing a node
            mem_gb=slurm.memory,
            slurm_partition=slurm.partition or None,
        )
        self.running: dict[str, PlannedRun] = {}
        self._jobs: dict[str, Any] = {}  # submitit's, by name; None: of an earlier session
        self._last_poll = 0.0  # of Slurm's queue

    def free_slots(self) -> int:
        return 1 if self.cluster == "slurm" else self.num_slots - len(self.running)

    def start(self, run: PlannedRun) -> None:
        self.running[run.name] = run
        if self.cluster == "slurm" and (known := read_job_id(run.folder)) and queued_jobs([known]):
            self._jobs[run.name] = None
            return
        self._submitit.update_parameters(name=run.name)
        output = (run.folder / OUTPUT).absolute()
        job = self._submitit.submit(PretrainJob(pretrain_command(run), str(output)))
        self._jobs[run.name] = job
        with atomic_write(run.folder / JOB) as handle:
            json.dump({"id": job.job_id}, handle)

    def collect(self) -> list[FinishedJob]:
        finished = []
        left_queue = self._left_queue()
        for name, job in list(self._jobs.items()):
            done = job is not None and self._is_done(job)
            if done or name in left_queue:
                run = self.running.pop(name)
                del self._jobs[name]
                (run.folder / JOB).unlink(missing_ok=True)
                finished.append(_finished_job(run, job, done))
        return finished

    def _is_done(self, job: Any) -> bool:
        # submitit itself asks Slurm by `sacct`, which not every cluster answers
        return job.paths.result_pickle.exists() if self.cluster == "slurm" else job.done()

    def _left_queue(self) -> set[str]:
        """Runs whose job has left the queue, which is asked every QUEUE_POLL_SECONDS."""
        now = time.monotonic()
        if self.cluster != "slurm" or now - self._last_poll < QUEUE_POLL_SECONDS:
            return set()
        self._last_poll = now
        ids = {name: read_job_id(run.folder) for name, run in self.running.items()}
        queued = queued_jobs([job_id for job_id in ids.values() if job_id])
        return {name for name, job_id in ids.items() if job_id not in queued}

    def stop(self) -> None:
        for name, job in self._jobs.items():
            if job is not None:
                job.cancel()
            elif job_id := read_job_id(self.running[name].folder):
                subprocess.run(["scancel", job_id], check=False)

    def kill(self) -> None:
        """Cancel the jobs again: a cluster kills what does not stop within its own time."""
        self.stop()


def import_submitit() -> ModuleType:
    try:
        import submitit  # optional dependency
    except ImportError:
        raise UserError(
            "executor: submitit is not installed; pip install 'cmgems[slurm]'"
        ) from None
    return submitit


def read_job_id(folder: Path) -> str | None:
    """The id of the job that computes the run in this folder."""
    path = folder / JOB
    return read_json(path, "the id of a job").get("id") if path.exists() else None


def queued_jobs(job_ids: list[str]) -> set[str]:
    """Those of the jobs that wait or run. (Not by `sacct`: a cluster need not keep accounts.)

    A queue that does not answer counts as one that has them all.
    """
    command = ["squeue", "--noheader", "--format=%i", "--states=PD,R,CG,CF,S,RQ"]
    reply = subprocess.run(command, capture_output=True, text=True, check=False)
    if reply.returncode != 0:
        return set(job_ids)
    return set(job_ids) & set(reply.stdout.split())


def _finished_job(run: PlannedRun, job: Any, done: bool) -> FinishedJob:
    if not done:
        return FinishedJob(run, None, "the job has left the queue without a result")
    try:
        return FinishedJob(run, job.result())
    except Exception as error:  # whatever submitit raises for a job that was killed
        lines = str(error).strip().splitlines()
        return FinishedJob(run, None, lines[0] if lines else repr(error))


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
