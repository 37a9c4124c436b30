"""Tasks by name, by pattern, or from a file.

>>> find_task("gue/prom/prom_core_all").metric
'mcc'
>>> [task.name for task in find_tasks("prom-*")]
['prom-core', 'prom-300']
"""

from fnmatch import fnmatchcase
from pathlib import Path

from cmgems.errors import UserError
from cmgems.tasks.task import Task


def find_task(name: str) -> Task:
    """A task of the registry, or the user's own: the path of a YAML file.

    Raises
    ------
    UserError
        If there is no such task, or the file is not the description of one.
    """
    from cmgems.tasks.published import TASKS

    if Path(name).suffix in (".yaml", ".yml"):
        from cmgems.tasks.yaml_task import read_task

        return read_task(Path(name))
    if name not in TASKS:
        raise UserError(f"found the task {name!r}, wanted {_some_names(name)}")
    return TASKS[name]


def find_tasks(*patterns: str) -> tuple[Task, ...]:
    """The tasks that patterns name (`*` and `?` as in a shell), each once, in order.

    Raises
    ------
    UserError
        If nothing has such a name.
    """
    from cmgems.tasks.published import TASKS

    found: dict[str, Task] = {}
    for pattern in patterns:
        names = [name for name in TASKS if fnmatchcase(name, pattern)]
        if "*" in pattern and not names:
            raise UserError(f"found no task like {pattern!r}, wanted {_some_names(pattern)}")
        for one in map(find_task, names or [pattern]):
            found[one.name] = one
    return tuple(found.values())


def _some_names(name: str) -> str:
    import difflib

    from cmgems.tasks.published import TASKS

    close = difflib.get_close_matches(name, TASKS, n=3, cutoff=0.5)
    known = ", ".join(close) or "one of those in docs/tasks.md"
    return f"{known}, or the path of a task's YAML file"
