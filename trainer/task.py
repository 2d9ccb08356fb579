"""The trainer as a task: what sweeps know of it. Loads no torch when it is imported."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_machine.code.references import short
from local_machine.errors import InputError, nearest, need
from sweeps.run.ends import StoppedError
from sweeps.run.handle import Run
from sweeps.task import Objective, Task, Values
from trainer.config import LOGGED, DataConfig, TrainConfig
from trainer.models.registry import MODELS, TIMM, check_timm, is_own
from trainer.perf.cost_model import TrainerCosts, side
from trainer.scales import scaled
from trial_records.config import as_before
from trial_records.plan import FIRST_TASK

if TYPE_CHECKING:
    from trial_records.trial_files import Cause

# What may differ between two trials of one process without its data, images or code changing.
_FREE = frozenset({"seed", "epochs", "optimizer", "schedule", "early_stopping", "metrics"})
# Of augmentation; of the second kind it matters only whether they are 0.
_FREE_AUGMENT, _SWITCHES = frozenset({"flip"}), frozenset({"mixup", "cutmix"})
# Nothing ends a rehearsal before its time: no early stop, no loss beyond bounds. Images are whole.
_ENDLESS = {
    "epochs": 100_000, "early_stopping.patience": 0, "optimizer.lr": 1e-4,
    "augment.first_size": 32,
}  # fmt: skip


class Trainer(Task):
    """Our own training program, configured by a TrainConfig."""

    name = FIRST_TASK.name
    reference = FIRST_TASK.reference
    budget = FIRST_TASK.budget
    seed = FIRST_TASK.seed
    objective = Objective("val_accuracy")
    cost = TrainerCosts()
    is_exact = True
    timings = (
        "seconds", "images_per_second", "peak_memory_bytes", "flops_per_image", "flops_per_second",
        "peak_flops_per_second", "device_share", "precision_used", "step_used", "evaluated_on",
        "evaluated_precision",
    )  # fmt: skip

    def parse(self, values: Values, where: str = "configuration") -> TrainConfig:
        return TrainConfig.from_json(json.dumps(as_before(values)), where=where)

    def read(self, path: Path) -> TrainConfig:
        return TrainConfig.from_file(path)

    def judged_by(self, objective: Objective, config: TrainConfig) -> Task:
        """By a column of its epochs, one's own metrics among them."""
        names = [*(one.rpartition(":")[2] for one in config.metrics), *LOGGED]
        if objective.metric not in names:
            raise InputError(
                f"objective: no epoch has the metric {objective.metric!r}",
                f"{nearest(objective.metric, names)}; one of your own is named in metrics",
            )
        if objective.reduction == "final":
            raise InputError(
                f"objective: {objective.metric} of the test images would choose by them",
                "choose by the validation images: reduction best or last",
            )
        return super().judged_by(objective, config)

    def train(self, config: TrainConfig, run: Run) -> dict[str, Any]:
        from trainer.train import train

        return train(config, run)

    def row_line(self, config: TrainConfig, row: Values) -> str:
        from trainer.train import epoch_line

        return epoch_line(row, config.epochs)

    def end_line(self, row: Values) -> str:
        val, test = 100 * row["val_accuracy"], 100 * row["test_accuracy"]
        return f"validation {val:.2f} %, test {test:.2f} %"

    def outcome(self, config: TrainConfig, run: Run, returned: Values | None) -> dict[str, Any]:
        """Training has all columns of its own."""
        return dict(returned or {})

    # Configurations

    def values(self, config: TrainConfig) -> dict[str, Any]:
        return config.model_dump(mode="json")

    def override(self, config: TrainConfig, changes: Values) -> TrainConfig:
        return config.override(changes)

    def to_json(self, config: TrainConfig) -> str:
        return config.to_json()

    def seeded(self, config: TrainConfig, offset: int, count: int) -> list[TrainConfig]:
        """Looks at the last one's seed alone: to check each of thousands takes seconds."""
        first = config.seed + offset
        last = config.override({"seed": first + count - 1}) if offset or count > 1 else config
        seeds = range(first, last.seed)
        return [*(config.model_copy(update={"seed": seed}) for seed in seeds), last]

    def scaled(self, configs: Sequence[TrainConfig], scale: str) -> list[dict[str, Any]]:
        return scaled(configs, scale)

    def words(self, config: TrainConfig) -> list[str]:
        name = config.model.name
        return [re.sub(r"[^A-Za-z0-9._]+", "_", short(name)) if is_own(name) else name]

    # Before anything is leased or written

    def check(self, configs: Iterable[TrainConfig], ranks: int) -> None:
        from trainer.data.preflight import check

        need("trainer", "training by trainer/")
        configs = list(configs)
        for name in {one.model.name for one in configs if one.model.name.startswith(TIMM)}:
            check_timm(name)
        check(configs, ranks)

    def prepare(self, configs: Iterable[TrainConfig]) -> None:
        """Bring the data sets into the cache."""
        from trainer.data.datasets import prepare

        for data in dict.fromkeys(config.data for config in configs):
            prepare(data)

    def registered(self, configs: Iterable[TrainConfig]) -> dict[str, Any]:
        """The architectures."""
        return {name: MODELS.get(name) for name in sorted({one.model.name for one in configs})}

    def check_registered(self, elsewhere: Values) -> None:
        for name, function in elsewhere.items():
            if function != MODELS.get(name):
                raise InputError(
                    f"model.name {name!r} is {function} here, and {MODELS.get(name)} there",
                    "workers do not import the definition: what it registers belongs into the "
                    "project's code (trainer/models/registry.py), under a name of its own",
                )

    def own_code(self, values: Values) -> list[str]:
        """Of the network, the loss, the optimizer and the metrics; stored by any version."""
        # In plain words: it is asked of each of 100,000 trials.
        sections = (values.get("model"), values.get("optimizer"))
        named = [one.get("name") for one in sections if isinstance(one, Mapping)]
        named += [values.get("loss"), *(values.get("metrics") or ())]
        own = (one for one in named if isinstance(one, str) and is_own(one))
        return [one for one in own if not one.startswith(TIMM)]

    def try_out(self, configs: Iterable[TrainConfig]) -> None:
        if own := [config for config in configs if config.own]:
            from trainer.own.rehearsal import rehearse

            rehearse(own)

    def describe_data(self, folder: Path) -> str:
        from trainer.data.datasets import check

        need("trainer", "looking at images")
        found = check(DataConfig(root=str(folder)))
        return (
            f"{found.train:,} images to train on, {found.val:,} to validate, {found.test:,} to test"
        )

    # While trials run

    def read_ahead(self, config: TrainConfig) -> None:
        from trainer import process_cache

        process_cache.read_ahead(config.data)

    def affinity(self, values: Values) -> Hashable:
        kept = {key: one for key, one in as_before(values).items() if key not in _FREE}
        if isinstance(augment := kept.get("augment"), Mapping):
            kept["augment"] = {
                key: bool(one) if key in _SWITCHES else one
                for key, one in augment.items()
                if key not in _FREE_AUGMENT
            }
        return json.dumps(kept, sort_keys=True)

    def cause(self, error: Exception) -> Cause | None:
        from trainer.train import NonFiniteLossError

        if isinstance(error, NonFiniteLossError):
            return "NONFINITE"
        frame = error.__traceback__
        while frame is not None:
            if frame.tb_frame.f_code.co_filename.endswith("trainer/data/datasets.py"):
                return "DATA"
            frame = frame.tb_next
        return None

    def content(self, config: TrainConfig) -> str | None:
        from trainer.data.datasets import content_of

        return content_of(config.data)

    # Sharing a GPU

    def shape(self, config: TrainConfig) -> list[Any]:
        model = config.model.model_dump(mode="json")
        images = [config.data.root, config.data.size] if config.data.root else []
        return [[model, config.batch_size, config.precision, *images], config.compile]

    def memory(self, config: TrainConfig) -> float:
        """The bytes that a step moves, which are near to what it holds."""
        from trainer.perf.roofline import count

        # Behind an ImageNet stem one image has no variance to normalise by.
        batch = max(2, config.batch_size)
        try:
            cost = count(config.model, "fp32", batch, image_size=side(config.data))
        except InputError:
            if config.model.is_own:
                return 0.0  # of a network that cannot be counted nothing is known
            raise
        return cost.bytes_per_image * batch

    def rehearse(self, config: TrainConfig, should_stop: Callable[[], bool]) -> int:
        from trainer.alone import train_alone

        endless = config.override(_ENDLESS)
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(StoppedError):
            train_alone(endless, Path(folder), should_stop=should_stop)
        return config.batch_size


task = Trainer()
