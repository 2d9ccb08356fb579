"""One optimizer step: augment, forward, loss, backward, update, and the sums of an epoch.

Three ways to run the same arithmetic. `eager` is plain PyTorch. `compiled` has the network and the
loss as fused kernels (torch.compile, which sums in another order); an epoch's last batch, where it
is shorter, stays eager: one step is not worth a compiler's minute. `graph`, on one CUDA GPU, also
records the whole step as a CUDA graph for each batch size that an epoch has, each side that its
images have, and with the proxy that chooses hard examples learning or not, so that a step is one
launch and the device never waits for Python. Which one ran is in run.parquet as `step_used`.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
from collections.abc import Callable, Collection, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainer import process_cache
from trainer.augment.batch import Augmenter, Draws
from trainer.config import TrainConfig
from trainer.distributed import Group
from trainer.ema import Ema
from trainer.hard_examples import HardExamples
from trainer.models.registry import is_own
from trainer.optim.schedule import FULL_SIDE
from trainer.own import loss as own
from trainer.perf.precision import Precision, autocast

log = logging.getLogger("trainer")

StepKind = Literal["eager", "compiled", "graph"]


def choose(config: TrainConfig, group: Group) -> StepKind:
    """What `config.compile` means on this device. On a CPU a compiler takes a minute for what it
    saves, so that `auto` leaves it; and several ranks wait for each other, which no graph holds."""
    cuda = group.device.type == "cuda"
    if config.compile == "off" or (config.compile == "auto" and not cuda):
        return "eager"
    # A graph would keep the numbers that a person's own optimizer counts in Python as they were.
    can_record = cuda and group.world == 1 and not is_own(config.optimizer.name)
    return "graph" if can_record else "compiled"


class CudaGraph:
    """Work on tensors that stay where they are, recorded once and then launched as one."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            work()

    def __call__(self) -> None:
        self._graph.replay()


class Shape(NamedTuple):
    """What makes two steps different work for the device."""

    images: int
    side: int
    learns: bool
    """Whether the proxy does, where there is one."""


class Step:
    """Steps on one network, with the sums of the epoch on the device: nothing here waits for it.

    `loss` is float64 and `correct` int64, of this rank's images; under MixUp an image counts as
    correct when its heavier label is predicted; where `hard` chooses, they are of the chosen.
    `sizes` are the numbers of images that a step of this rank can have, and `sides` the sides of
    the images, in pixels.

    `prepare` comes first. Where the step cannot be recorded, or compiled, that is logged once and
    it runs compiled, or eagerly.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        augmenter: Augmenter,
        config: TrainConfig,
        precision: Precision,
        group: Group,
        average: Ema | None,
        sizes: set[int],
        sides: Collection[int] = (FULL_SIDE,),
        hard: HardExamples | None = None,
    ) -> None:
        self._network = network
        self._optimizer = optimizer
        self._augmenter = augmenter
        self._config = config
        self._precision = precision
        self._group = group
        self._average = average
        self._hard = hard
        self._sizes = sorted(sizes, reverse=True)
        self._sides = sorted(sides, reverse=True)
        self._draws: Draws | None = None
        self._side = self._sides[0]
        self._losses: Callable[..., tuple[Tensor, Tensor]] = self._eager_losses
        self._difficulty: Callable[..., Tensor] = self._eager_difficulty
        self._graphs: dict[Shape, tuple[Tensor, CudaGraph]] = {}
        self._own_loss = own.own_loss(config)
        self._is_rehearsing = False
        self._lr = torch.zeros((), device=group.device)  # the graphs' own
        self.loss = torch.zeros((), dtype=torch.float64, device=group.device)
        self.correct = torch.zeros((), dtype=torch.int64, device=group.device)
        self.kind = choose(config, group)

    def start_epoch(self, draws: Draws, loss: float, correct: int, side: int | None = None) -> None:
        """The epoch's parameters, what its sums are so far, and the side of its images; the largest
        if not given."""
        self._side = self._sides[0] if side is None else side
        if self._graphs and self._draws is not None:
            # They read the tensors that they were recorded with.
            for mine, value in zip(self._draws, draws, strict=True):
                if mine is not None and value is not None:
                    mine.copy_(value)
        else:
            self._draws = draws
        self.loss.fill_(loss)
        self.correct.fill_(correct)

    def __call__(
        self, index: Tensor, weight: int, scale: float, lr: float, *, learns: bool = True
    ) -> None:
        """A step on the samples `index` (B,) at the learning rate `lr`.

        The loss is their sum times `scale`, and times `weight`, which is 0 where this rank has no
        image and takes part in the sum of gradients all the same. `learns` says whether the proxy
        learns, too, where there is one.
        """
        shape = Shape(len(index), self._side, learns or self._hard is None)
        if self._graphs:
            mine, graph = self._graphs[shape]
            mine.copy_(index)
            self._lr.fill_(lr)
            graph()
            return
        self._set_lr(lr)
        assert self._draws is not None, "start_epoch comes first"
        self._step(self._draws, index, weight, scale, shape)

    def _set_lr(self, lr: float | Tensor) -> None:
        for optimizer in self._optimizers():
            for parameters in optimizer.param_groups:
                parameters["lr"] = lr

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        return [self._optimizer, *([self._hard.optimizer] if self._hard is not None else ())]

    def _networks(self) -> list[nn.Module]:
        return [self._network, *([self._hard.network] if self._hard is not None else ())]

    def _step(self, draws: Draws, index: Tensor, weight: int, scale: float, shape: Shape) -> None:
        labels, partner, lam = self._augmenter.labels, draws.partner, draws.lam
        images = self._augmenter.batch(draws, index, shape.side)
        targets = (
            labels[index],
            None if partner is None else labels[partner[index]],
            None if lam is None else lam[index],
        )
        is_compiled = len(index) == self._sizes[0]
        if self._hard is not None:
            difficulty = self._difficulty if is_compiled else self._eager_difficulty
            with torch.set_grad_enabled(shape.learns):
                each = difficulty(images, *targets)
            chosen = each.detach().topk(self._hard.count(len(index))).indices
            if shape.learns:
                torch.autograd.backward(each[chosen].sum() * (weight * scale))
                self._hard.optimizer.step()
                self._hard.optimizer.zero_grad(set_to_none=True)
            images = images[chosen].contiguous(memory_format=torch.channels_last)
            label, other, part = (None if one is None else one[chosen] for one in targets)
            assert label is not None
            targets = label, other, part
        losses = self._losses if is_compiled else self._eager_losses
        loss, correct = losses(images, *targets)
        torch.autograd.backward(loss * (weight * scale))
        # What a person's own optimizer keeps cannot be set back.
        if not (self._is_rehearsing and is_own(self._config.optimizer.name)):
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update()
        self.loss += loss.detach() * weight
        self.correct += correct * weight

    def _eager_losses(
        self, images: Tensor, label: Tensor, other: Tensor | None, lam: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The images' summed loss, and how many are right."""
        if self._own_loss is None:
            losses, right = self._each(self._network, images, label, other, lam)
            return losses.sum(), right.sum()
        logits = self._logits(self._network, images)
        targets = own.targets(label, other, lam, logits.shape[1], self._config)
        mean = own.checked(self._own_loss(logits, targets), self._config.loss)
        return mean * len(images), (logits.argmax(1) == own.heavier(label, other, lam)).sum()

    def _logits(self, network: nn.Module, images: Tensor) -> Tensor:
        with autocast(self._precision, self._group.device):
            logits: Tensor = network(images).float()
        return logits

    def _eager_difficulty(
        self, images: Tensor, label: Tensor, other: Tensor | None, lam: Tensor | None
    ) -> Tensor:
        """Each image's loss under the proxy."""
        assert self._hard is not None
        return self._each(self._hard.network, images, label, other, lam)[0]

    def _each(
        self,
        network: nn.Module,
        images: Tensor,
        label: Tensor,
        other: Tensor | None,
        lam: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Each image's loss, and whether it is right."""
        smoothing = self._config.label_smoothing
        logits = self._logits(network, images)
        losses = F.cross_entropy(logits, label, reduction="none", label_smoothing=smoothing)
        if other is not None and lam is not None:
            mixed = F.cross_entropy(logits, other, reduction="none", label_smoothing=smoothing)
            losses = lam * losses + (1 - lam) * mixed
        return losses, logits.argmax(1) == own.heavier(label, other, lam)

    # --- compiling and recording -----------------------------------------------------------

    def prepare(self, draws: Draws) -> None:
        """Compile and record as `kind` says, leaving all weights and states as they were; where
        that fails, `kind` becomes the next simpler one."""
        if self.kind == "eager":
            return
        self._draws = draws
        for network in self._networks():
            network.train()
        if problem := self._attempt(self._compile, draws):
            log.warning(
                "the training step cannot be compiled here (%s); it runs eagerly, which is slower",
                problem,
            )
            self._losses, self._difficulty = self._eager_losses, self._eager_difficulty
            self.kind = "eager"
        elif self.kind == "graph" and (problem := self._attempt(self._record, draws)):
            log.warning(
                "the training step cannot be recorded as a CUDA graph here (%s); it runs compiled",
                problem,
            )
            self._graphs, self.kind = {}, "compiled"
            self._set_capturable(False)

    def _attempt(self, work: Callable[[Draws], None], draws: Draws) -> str | None:
        """What went wrong, on any rank: one alone must not go another way."""
        problem = None
        try:
            with self._unchanged():
                work(draws)
        # Compilers fail with whatever they run into: no C++ compiler, no Triton, a new GPU.
        except Exception as error:
            problem = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        if self._group.any(problem is not None):
            return problem or "on another rank"
        return None

    def _compile(self, draws: Draws) -> None:
        config = self._config
        # All that decides what the losses' code is, so that equal shapes need no compiler.
        shape = (
            config.model, config.data, config.label_smoothing, config.deterministic,
            self._precision, self._group.device, self._group.world, self._sizes[0],
            config.hard_fraction, config.loss, tuple(self._sides), draws.partner is None,
            draws.lam is None,
        )  # fmt: skip
        with process_cache.code(shape) as known:
            self._losses = _compiled(self._eager_losses, self._group.device)
            self._difficulty = _compiled(self._eager_difficulty, self._group.device)
            for one in () if known else self._shapes():
                if one.images == self._sizes[0]:
                    self._rehearse(draws, one)

    def _shapes(self) -> list[Shape]:
        """All that a step can have."""
        learning = (True,) if self._hard is None else (True, False)
        return [
            Shape(images, side, learns)
            for side in self._sides
            for images in self._sizes
            for learns in learning
        ]

    def _rehearse(self, draws: Draws, shape: Shape) -> None:
        with contextlib.ExitStack() as alone:
            for network in self._networks():
                if isinstance(network, DistributedDataParallel):
                    alone.enter_context(network.no_sync())
            self._step(draws, draws.order[: shape.images], 1, self._scale(shape), shape)

    def _scale(self, shape: Shape) -> float:
        """Of the only rank, whose loss is the mean of the images that are trained on."""
        return 1.0 / (shape.images if self._hard is None else self._hard.count(shape.images))

    def _record(self, draws: Draws) -> None:
        self._set_lr(self._lr)
        # PyTorch asks for a few steps aside before a recording (its notes on CUDA graphs).
        with _aside(self._group.device):
            for shape in self._shapes():
                for _ in range(3):
                    self._rehearse(draws, shape)
        self._set_capturable(True)
        for shape in self._shapes():
            index = draws.order[: shape.images].clone()
            work = functools.partial(self._step, draws, index, 1, self._scale(shape), shape)
            self._graphs[shape] = index, CudaGraph(work)

    def _set_capturable(self, value: bool) -> None:
        """AdamW asks for it, and Muon, which has it for the other parameters."""
        for optimizer in self._optimizers():
            for parameters in optimizer.param_groups:
                if "capturable" in parameters:
                    parameters["capturable"] = value

    @contextlib.contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Whatever steps are made inside, the weights, statistics and states are as before."""
        tensors = [self.loss, self.correct]
        for network in self._networks():
            tensors += [*network.parameters(), *network.buffers()]
        if self._average is not None:
            tensors += self._average.tensors()
        for optimizer in self._optimizers():
            tensors += _states(optimizer)
        kept = [tensor.detach().clone() for tensor in tensors]
        known = {id(tensor) for tensor in tensors}
        self._is_rehearsing = True
        try:
            yield
        finally:
            self._is_rehearsing = False
            with torch.no_grad():
                for tensor, value in zip(tensors, kept, strict=True):
                    tensor.copy_(value)
                # A momentum of zero is that of an optimizer before its first step.
                for tensor in itertools.chain.from_iterable(map(_states, self._optimizers())):
                    if id(tensor) not in known:
                        tensor.zero_()
            for optimizer in self._optimizers():
                optimizer.zero_grad(set_to_none=True)


def _states(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [
        value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    ]


def _compiled(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    # On a GPU, independent small kernels as one: 2 % of a ResNet's step, which has twenty weights
    # to bring to bf16.
    combined = device.type == "cuda"
    # C++ headers would be kept in a folder of /tmp that anybody may have made, whatever the
    # environment says of the other caches.
    options: dict[str, Any] = {"combo_kernels": combined, "cpp_cache_precompile_headers": False}
    return torch.compile(function, dynamic=False, options=options)


@contextlib.contextmanager
def _aside(device: torch.device) -> Iterator[None]:
    """On a stream of its own, in order with what comes before and after."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream(device).wait_stream(stream)


def seed_dropout(seed: int, epoch: int, step: int, rank: int) -> None:
    """Dropout has its own stream for each step and rank, so that no generator state is saved."""
    words = np.random.SeedSequence([seed, epoch, step, rank]).generate_state(1, np.uint64)
    torch.manual_seed(int(words[0]))
