"""Runs as processes of this machine, which share its cores and GPUs."""

import os
import signal
import subprocess

from cmgems.sweeps.jobs import Ended, command
from cmgems.sweeps.plan import Planned
from cmgems.sweeps.state import OUTPUT
from cmgems.utils.cores import available_cores


class LocalJobs:
    """Up to `jobs` runs at once.

    Parameters
    ----------
    jobs : places for runs
    gpus : their names, as in CUDA_VISIBLE_DEVICES; empty on a machine without
    """

    def __init__(self, jobs: int, gpus: list[str]):
        self.jobs, self.gpus = jobs, gpus
        self.running: dict[str, Planned] = {}
        self._processes: dict[int, tuple[Planned, subprocess.Popen]] = {}  # by place

    def room(self) -> int:
        return self.jobs - len(self.running)

    def start(self, run: Planned) -> None:
        place = min(set(range(self.jobs)) - set(self._processes))
        train = run.experiment.train
        shares = share_of(place, self.jobs, train.devices, available_cores(), self.gpus)
        with open(run.folder / OUTPUT, "ab") as output:
            process = subprocess.Popen(
                command(run),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **shares},
                # Ctrl-C on the terminal is for the sweep, which tells its runs.
                start_new_session=True,
            )
        self.running[run.name] = run
        self._processes[place] = (run, process)

    def ended(self) -> list[Ended]:
        over = []
        for place, (run, process) in list(self._processes.items()):
            if (code := process.poll()) is not None:
                del self._processes[place], self.running[run.name]
                over.append(Ended(run, code))
        return over

    def stop(self) -> None:
        """The first rank of a run tells the others."""
        for _, process in self._processes.values():
            process.terminate()

    def kill(self) -> None:
        for _, process in self._processes.values():
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it ended meanwhile
            process.wait()


def share_of(
    place: int, jobs: int, devices: int, all_cores: int, gpus: list[str]
) -> dict[str, str]:
    """The environment of the run in a place: its threads and GPUs.

    With more runs than GPUs, several runs share one. What the user set for threads stays.
    """
    threads = str(max(1, all_cores // (jobs * devices)))
    shares = {"TQDM_DISABLE": "1"}  # the sweep has one bar for all
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        shares[name] = os.environ.get(name, threads)
    if gpus:
        own = [gpus[(place * devices + number) % len(gpus)] for number in range(devices)]
        shares["CUDA_VISIBLE_DEVICES"] = ",".join(dict.fromkeys(own))
    return shares


def visible_gpus() -> list[str]:
    """As in CUDA_VISIBLE_DEVICES, where that is set."""
    if (listed := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in listed.split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
