"""Runs as tasks of Ray: here, or on a cluster whose machines share the folder of the sweep."""

from types import ModuleType
from typing import Any

from cmgems.errors import UserError
from cmgems.sweeps.cluster import PretrainJob
from cmgems.sweeps.config import Ray
from cmgems.sweeps.jobs import FinishedJob, pretrain_command
from cmgems.sweeps.plan import PlannedRun
from cmgems.sweeps.state import OUTPUT


class RayExecutor:
    """One task per run. Ray's queue takes them all, and gives each the cores and GPUs it asks for.

    A task whose machine is lost is begun again elsewhere, and resumes its run.

    Parameters
    ----------
    wanted : the cluster, and what a run asks for

    Raises
    ------
    UserError
        If Ray is not installed, or there is no such cluster.
    """

    def __init__(self, wanted: Ray):
        self._ray = ray = import_ray()
        options: dict[str, Any] = {"log_to_driver": False, "ignore_reinit_error": True}
        if not wanted.address:
            options["include_dashboard"] = False
        try:
            ray.init(wanted.address or "local", **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"ray.address: found {wanted.address!r}, {reason[:200]}") from error
        resources = {"num_cpus": wanted.cpus, "num_gpus": wanted.gpus, "max_retries": -1}
        self._task = ray.remote(**resources)(compute)
        self.running: dict[str, PlannedRun] = {}
        self._tasks: dict[str, Any] = {}  # Ray's, by name

    def free_slots(self) -> int:
        return 1

    def start(self, run: PlannedRun) -> None:
        self.running[run.name] = run
        output = (run.folder / OUTPUT).absolute()
        self._tasks[run.name] = self._task.remote(pretrain_command(run), str(output))

    def collect(self) -> list[FinishedJob]:
        names = {task: name for name, task in self._tasks.items()}
        if not names:
            return []
        done, _ = self._ray.wait(list(names), num_returns=len(names), timeout=0)
        return [self._finished(names[task]) for task in done]

    def _finished(self, name: str) -> FinishedJob:
        run, task = self.running.pop(name), self._tasks.pop(name)
        try:
            return FinishedJob(run, self._ray.get(task))
        except self._ray.exceptions.RayError as error:
            return FinishedJob(run, None, (str(error).splitlines() or [repr(error)])[0])

    def stop(self) -> None:
        """A task that is canceled is interrupted, and lets its run save itself."""
        for task in self._tasks.values():
            self._ray.cancel(task, force=False)

    def kill(self) -> None:
        for task in self._tasks.values():
            self._ray.cancel(task, force=True)


def compute(command: list[str], output: str) -> int:
    """What a task computes: the run's own process. Its exit code."""
    return PretrainJob(command, output)()


def import_ray() -> ModuleType:
    try:
        import ray  # optional dependency
    except ImportError:
        raise UserError("executor: ray is not installed; pip install 'cmgems[ray]'") from None
    return ray
