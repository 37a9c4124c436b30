"""Tasks by name, by pattern, or from a file.

>>> find_task("gue/prom/prom_core_all").metric
'mcc'
>>> [task.name for task in find_tasks("prom-*")]
['prom-core', 'prom-300']
"""

import difflib
from fnmatch import fnmatchcase
from pathlib import Path

from cmgems.errors import UserError
from cmgems.tasks.published import TASKS
from cmgems.tasks.task import Task
from cmgems.tasks.yaml_task import read_task


def find_task(name: str) -> Task:
    """A task of the registry, or a custom one: the path of a YAML file.

    Raises
    ------
    UserError
        If there is no such task, or the file is not the description of one.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        return read_task(Path(name))
    if name not in TASKS:
        raise UserError(f"found the task {name!r}, wanted {_suggest(name)}")
    return TASKS[name]


def find_tasks(*patterns: str) -> tuple[Task, ...]:
    """The tasks that patterns name (`*` and `?` as in a shell), each once, in order.

    Raises
    ------
    UserError
        If nothing has such a name.
    """
    tasks: dict[str, Task] = {}
    for pattern in patterns:
        names = [name for name in TASKS if fnmatchcase(name, pattern)]
        if "*" in pattern and not names:
            raise UserError(f"found no task like {pattern!r}, wanted {_suggest(pattern)}")
        for task in map(find_task, names or [pattern]):
            tasks[task.name] = task
    return tuple(tasks.values())


def _suggest(name: str) -> str:
    """What could have been meant, for a message."""
    close = difflib.get_close_matches(name, TASKS, n=3, cutoff=0.5)
    known = ", ".join(close) or "one of those in docs/tasks.md"
    return f"{known}, or the path of a task's YAML file"
