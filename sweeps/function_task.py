"""A plain function as a task: `Sweep(train, base=Config(), space=..., objective=...)`.

    def train(config, run): ...

Its name, and how a worker imports it, follow from where the function is defined. Its configuration
is whatever `base` is: a pydantic model, a dataclass or a mapping. The field `seed` is the seed, and
`epochs` or `steps` the budget, where they are whole numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from local_machine.code import references, snapshot
from local_machine.errors import InputError
from sweeps.task import Objective, Task, Values
from trial_records.plan import PlannedTask
from trial_records.schema import Schema

BUDGETS = ("epochs", "steps")
SEED = "seed"


class FunctionTask(Task):
    def __init__(
        self, function: Callable[..., Any], schema: Schema[Any] | None, planned: PlannedTask
    ) -> None:
        """`schema` is of the base's class; None where the base is a mapping."""
        self.function = function
        self._schema = schema
        self.name, self.reference = planned.name, planned.reference
        self.budget, self.seed = planned.budget, planned.seed
        self.config_class = planned.config
        self.objective = Objective(planned.metric or "", planned.direction, planned.reduction)
        # What a function says of itself: train.is_exact = True; train.timings = ("seconds",)
        self.is_exact = getattr(function, "is_exact", False) is True
        self.timings = _names_in(getattr(function, "timings", ()), self.name)

    @classmethod
    def of(
        cls, function: Callable[..., Any], base: Any, objective: object, what: str = "sweep"
    ) -> FunctionTask:
        """The task of a function and of a configuration of its; `what` it is for. Raises InputError
        where no worker could import the function, where `base` cannot be stored, and without an
        objective."""
        if not isinstance(objective, Objective):
            raise InputError(
                f"a {what} of a function without an objective"
                if objective is None
                else f"the objective of a function is a {type(objective).__name__}",
                'say what is compared: objective=maximize("val_accuracy")',
            )
        schema = Schema.of(base)
        values = schema.values(base)
        budget = next((key for key in BUDGETS if type(values.get(key)) is int), None)
        planned = PlannedTask(
            name=references.short(reference_of(function)),
            reference=reference_of(function),
            budget=budget,
            seed=SEED if type(values.get(SEED)) is int else None,
            config=None if isinstance(base, Mapping) else reference_of(type(base)),
            metric=objective.metric,
            direction=objective.direction,
            reduction=objective.reduction,
        )
        return cls(function, schema, planned)

    def parse(self, values: Values, where: str = "configuration") -> Any:
        return self._of(values).parse(values, where)

    def values(self, config: Any) -> dict[str, Any]:
        return self._of(config).values(config)

    def override(self, config: Any, changes: Values) -> Any:
        return self._of(config).override(config, changes)

    def train(self, config: Any, run: Any) -> Mapping[str, Any] | None:
        found: Mapping[str, Any] | None = self.function(config, run)
        return found

    def _of(self, config: Any) -> Schema[Any]:
        """The base's; a worker has none of a mapping, whose values were checked at launch."""
        return self._schema or Schema.of(config)


def _names_in(timings: object, task: str) -> tuple[str, ...]:
    """Raises InputError for what does not name metrics."""
    given = (timings,) if isinstance(timings, str) else timings
    if not isinstance(given, Sequence | Set) or not all(isinstance(one, str) for one in given):
        raise InputError(
            f"{task}: timings is a {type(timings).__name__}",
            'name the metrics that are times: train.timings = ("seconds",)',
        )
    return tuple(given)


def reference_of(defined: Callable[..., Any]) -> str:
    """How another process imports a function or class. Raises InputError where none could."""
    name = getattr(defined, "__qualname__", "")
    module = sys.modules.get(getattr(defined, "__module__", None) or "")
    if not name.isidentifier() or name == "<lambda>":
        raise InputError(
            f"{name or type(defined).__name__} is not at the top of a file, so no worker can "
            "import it",
            "define it there by def or class, under a name of its own",
        )
    file = getattr(module, "__file__", None)
    if module is None or file is None:
        raise InputError(
            f"{name} is defined in no file, so no worker can import it",
            "put it into a Python file, and import it from there",
        )
    # A module of a package finds the others by its own name alone; a file is found by its path.
    if "." in module.__name__:
        return f"{module.__name__}:{name}"
    return f"{snapshot.named(Path(file).resolve())}:{name}"
