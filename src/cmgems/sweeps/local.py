"""Runs as processes of this machine, which share its cores and GPUs."""

import os
import signal
import subprocess

from cmgems.sweeps.jobs import FinishedJob, pretrain_command
from cmgems.sweeps.plan import PlannedRun
from cmgems.sweeps.state import OUTPUT
from cmgems.utils.cores import available_cores


class LocalExecutor:
    """Up to `num_slots` runs at once.

    Parameters
    ----------
    num_slots : runs at once
    gpus : their names, as in CUDA_VISIBLE_DEVICES; empty on a machine without
    """

    def __init__(self, num_slots: int, gpus: list[str]):
        self.num_slots, self.gpus = num_slots, gpus
        self.running: dict[str, PlannedRun] = {}
        self._processes: dict[int, tuple[PlannedRun, subprocess.Popen[bytes]]] = {}  # by slot

    def free_slots(self) -> int:
        return self.num_slots - len(self.running)

    def start(self, run: PlannedRun) -> None:
        slot = next(slot for slot in range(self.num_slots) if slot not in self._processes)
        devices = run.experiment.train.devices
        environment = slot_environment(slot, self.num_slots, devices, available_cores(), self.gpus)
        with open(run.folder / OUTPUT, "ab") as output:
            process = subprocess.Popen(
                pretrain_command(run),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **environment},
                # Ctrl-C on the terminal goes to the sweep alone, which passes it on to its runs.
                start_new_session=True,
            )
        self.running[run.name] = run
        self._processes[slot] = (run, process)

    def collect(self) -> list[FinishedJob]:
        finished = []
        for slot, (run, process) in list(self._processes.items()):
            if (exit_code := process.poll()) is not None:
                del self._processes[slot], self.running[run.name]
                finished.append(FinishedJob(run, exit_code))
        return finished

    def stop(self) -> None:
        """The first rank of a run passes the signal on to the others."""
        for _, process in self._processes.values():
            process.terminate()

    def kill(self) -> None:
        for _, process in self._processes.values():
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it ended meanwhile
            process.wait()


def slot_environment(
    slot: int, num_slots: int, devices: int, num_cores: int, gpus: list[str]
) -> dict[str, str]:
    """The environment variables of the run in a slot: its threads and GPUs.

    With more runs than GPUs, several runs share a GPU. A number of threads that the user has set
    stays.

    Parameters
    ----------
    slot : 0 .. num_slots - 1
    num_slots : runs at once
    devices : processes per run
    num_cores : that the runs may use together
    gpus : their names, as in CUDA_VISIBLE_DEVICES
    """
    threads = str(max(1, num_cores // (num_slots * devices)))
    environment = {"TQDM_DISABLE": "1"}  # the sweep has one bar for all
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        environment[name] = os.environ.get(name, threads)
    if gpus:
        slot_gpus = [gpus[(slot * devices + device) % len(gpus)] for device in range(devices)]
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(dict.fromkeys(slot_gpus))
    return environment


def visible_gpus() -> list[str]:
    """As in CUDA_VISIBLE_DEVICES, where that is set."""
    if (listed := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in listed.split(",") if name.strip()]
    import torch  # seconds: only where the variable does not answer

    return [str(device) for device in range(torch.cuda.device_count())]
