"""Claude Code's list of tasks, as its tools write it: the plan of the turn.

`TaskCreate` and `TaskUpdate` change one task each, and the CLI tells by the result whether it did. Older versions write
the whole list by `TodoWrite`.
"""

from __future__ import annotations

from onsembl.agent.drivers.json_lines import Json, as_object, as_objects, as_text
from onsembl.protocol.turn_events import PlanEntry, PlanStatus

TASK_WRITERS = ("TaskCreate", "TaskUpdate", "TodoWrite")
"""The tools whose calls are shown as the plan that they make, not as calls."""
TASK_TOOLS = (*TASK_WRITERS, "TaskList")
MAX_TASKS = 1000
"""Further tasks are shown as calls."""
_STATUS: dict[str, PlanStatus] = {"in_progress": "in_progress", "completed": "completed"}


class TaskList:
    """The list, from the results of calls. A run that resumes a conversation learns older tasks from `TaskList`."""

    def __init__(self) -> None:
        self._tasks: dict[str, PlanEntry] = {}
        self._told: list[PlanEntry] = []

    def take(self, name: str, arguments: Json, result: Json) -> bool:
        """Note the structured result of a call; return False when it has written no task."""
        match name:
            case "TaskCreate":
                task = as_object(result.get("task"))
                return self._set(as_text(task.get("id")), task.get("subject"), "pending")
            case "TaskUpdate" if result.get("success") is True:
                identity, status = as_text(arguments.get("taskId")), as_text(arguments.get("status"))
                if status == "deleted":
                    return self._tasks.pop(identity, None) is not None
                return self._set(identity, arguments.get("subject"), status)
            case "TaskList":
                listed = as_objects(result.get("tasks"))[:MAX_TASKS]
                self._tasks = {as_text(task.get("id")): _entry(task, "subject") for task in listed}
            case "TodoWrite" if "newTodos" in result:
                listed = as_objects(arguments.get("todos"))[:MAX_TASKS]
                self._tasks = {str(number): _entry(task, "content") for number, task in enumerate(listed)}
                return True
            case _:
                pass
        return False

    def take_change(self) -> list[PlanEntry] | None:
        """The whole list, if it has changed since the last call."""
        entries = list(self._tasks.values())
        if entries == self._told:
            return None
        self._told = entries
        return entries

    def _set(self, identity: str, content: object, status: str) -> bool:
        """Set what is given of a task; the rest stays."""
        if not identity or (identity not in self._tasks and len(self._tasks) >= MAX_TASKS):
            return False
        before = self._tasks.get(identity, PlanEntry(content=f"Task {identity}", status="pending"))
        self._tasks[identity] = PlanEntry(
            content=as_text(content) or before.content,
            status=_STATUS.get(status, "pending") if status else before.status,
        )
        return True


def _entry(task: Json, content: str) -> PlanEntry:
    return PlanEntry(content=as_text(task.get(content)), status=_STATUS.get(as_text(task.get("status")), "pending"))
