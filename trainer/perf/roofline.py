"""The roofline: what a training step costs in arithmetic and in memory traffic, and the best time
that a device could do it in (Williams, Waterman and Patterson 2009, "Roofline: An Insightful
Visual Performance Model for Multicore Architectures").

A step is counted by running the real model on the meta device, which computes shapes only. A
device's peaks are measured, once, and kept in the cache.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

from local_machine import clock
from local_machine.code.own_code import guarded
from local_machine.private_folder import use_private_caches
from trainer import models
from trainer.config import ModelConfig, OptimizerConfig
from trainer.data import datasets
from trainer.models.head import Head
from trainer.perf import step_cost
from trainer.perf.device import device_name
from trainer.perf.device_peaks import DevicePeaks, cached, store
from trainer.perf.precision import Precision
from trainer.perf.step_cost import Cost, Op, Step

log = logging.getLogger("trainer")

# Allocate, or look at the same bytes otherwise, without their schema saying so.
_UNTOUCHED = {"aten::empty", "aten::empty_like", "aten::new_empty", "aten::_unsafe_view"}
# Float32 numbers that a fused optimizer reads and writes for each parameter.
# Of Muon's matrices without their products, which cost arithmetic too.
_OPTIMIZER_NUMBERS = {"sgd": 5, "adamw": 7, "muon": 9}
# Of a person's own as much as of AdamW: nobody knows.
_OWN_NUMBERS = 7
_EMA_NUMBERS = 3
# A measurement's sizes grow until one call takes so long, in seconds: bf16 may be emulated.
_LONG_ENOUGH = {"cpu": 0.02, "cuda": 0.003}
_BUFFER_BYTES = {"cpu": 2**26, "cuda": 2**29}
_DTYPES: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp32": torch.float32}


@functools.cache
def count(
    model: ModelConfig,
    precision: Precision,
    batch: int,
    optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008 - frozen
    classes: int = len(datasets.CIFAR10),
    image_size: int = datasets.SIDE,
) -> Cost:
    """One training step of the model, counted: some seconds, whatever the batch, where this code
    did not count it before.

    Raises InputError as building the model does, and where a person's own network computes what no
    shapes tell.
    """
    step = Step(model, precision, batch, optimizer, classes, image_size)
    cost = step_cost.cached(step)
    if cost is None:
        # To count imports torch's compiler.
        use_private_caches()
        cost = _count(step) if not model.is_own else _count_own(step)
        step_cost.store(step, cost)
    return cost


def _count_own(step: Step) -> Cost:
    return guarded(lambda: _count(step), lambda _: f"{step.model.name} cannot be counted", "")


def _count(step: Step) -> Cost:
    dtype = _DTYPES[step.precision]
    with torch.device("meta"):
        network = models.build(step.model, step.classes, step.image_size).to(dtype)
        for name, module in list(network.named_modules()):
            # Its region without autocast is nothing that the meta device knows.
            if isinstance(module, Head):
                linear = nn.Linear(module.in_features, module.out_features, dtype=dtype)
                network.set_submodule(name, linear)
        images = torch.empty((step.batch, 3, step.image_size, step.image_size), dtype=dtype)
        labels = torch.empty(step.batch, dtype=torch.int64)
    network.train()
    counter = _Counter()
    with counter, _FusedAttention():
        loss = F.cross_entropy(network(images).float(), labels)
        forward = tuple(counter.ops)
        torch.autograd.backward(loss)
    backward = tuple(counter.ops[len(forward) :])
    if step.precision == "bf16":
        # Autocast makes a copy of each weight of a product, and of its gradient.
        casts = tuple(
            Op("cast", 0, 6 * weight.numel(), "bf16")
            for weight in network.parameters()
            if weight.ndim > 1
        )
        forward, backward = casts + forward, backward + casts
    parameters = sum(parameter.numel() for parameter in network.parameters())
    numbers = _OPTIMIZER_NUMBERS.get(step.optimizer.name, _OWN_NUMBERS) + _EMA_NUMBERS * (
        step.optimizer.ema_decay > 0
    )
    return Cost(step.batch, forward, backward, parameters, 4 * numbers * parameters)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ops: list[Op] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func.is_view or func._schema.name in _UNTOUCHED:
            return out
        inputs = _tensors((args, kwargs))
        outputs = _tensors(out)
        flops = flop_registry.get(func.overloadpacket)
        bf16 = any(tensor.dtype is torch.bfloat16 for tensor in inputs + outputs)
        self.ops.append(
            Op(
                func._schema.name,
                int(flops(*args, **kwargs, out_val=out)) if flops else 0,
                sum(map(_bytes, inputs)) + sum(map(_bytes, outputs)),
                "bf16" if bf16 else "fp32",
            )
        )
        return out


class _FusedAttention(TorchFunctionMode):
    """Attention as the one operation that it is on a CPU and on a GPU; the meta device would take
    it apart, through memory."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return _fused(*args, **kwargs)
        return func(*args, **kwargs)


def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **more: Any,
) -> Tensor:
    """With a mask, which no fused kernel takes, in parts."""
    given = query, key, value
    if attn_mask is not None or more.pop("enable_gqa", False):
        return F.scaled_dot_product_attention(*given, attn_mask, dropout_p, is_causal, **more)
    fused = torch.ops.aten._scaled_dot_product_flash_attention
    found: Tensor = fused(*given, dropout_p, is_causal, **more)[0]
    return found


def _tensors(tree: Any) -> list[Tensor]:
    """Every tensor in it, the same one only once."""
    found = {id(leaf): leaf for leaf in tree_iter(tree) if isinstance(leaf, Tensor)}
    return list(found.values())


def _bytes(tensor: Tensor) -> int:
    """What is really there: an expanded dimension repeats the same bytes."""
    shape = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.element_size() * math.prod(size for size, stride in shape if stride)


def measure(device: torch.device) -> DevicePeaks:
    """Measure the device's peaks, which takes a second or two. What else runs on it lowers them."""
    kind = device.type
    flops = {
        precision: max(
            _best(_product(device, dtype), kind), _best(_convolution(device, dtype), kind)
        )
        for precision, dtype in _DTYPES.items()
    }
    small = torch.zeros(8, device=device)

    def start_many() -> None:
        for _ in range(1000):
            small.add_(1.0)

    return DevicePeaks(
        device=device_name(device),
        bf16_flops_per_second=flops["bf16"],
        fp32_flops_per_second=flops["fp32"],
        bytes_per_second=_traffic(device),
        seconds_per_op=_seconds(start_many, kind) / 1000,
    )


Work = Callable[[int], tuple[Callable[[], object], float]]


def _product(device: torch.device, dtype: torch.dtype) -> Work:
    def work(doublings: int) -> tuple[Callable[[], object], float]:
        n = 256 << doublings
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        return lambda: a @ b, 2.0 * n**3

    return work


def _convolution(device: torch.device, dtype: torch.dtype) -> Work:
    """3x3, 128 channels to 128, at 16x16 pixels: the heart of these networks."""
    weight = torch.randn(128, 128, 3, 3, device=device).to(dtype)
    weight = weight.to(memory_format=torch.channels_last)

    def work(doublings: int) -> tuple[Callable[[], object], float]:
        batch = 4 << doublings
        images = torch.randn(batch, 128, 16, 16, device=device).to(dtype)
        images = images.to(memory_format=torch.channels_last)

        def run() -> None:
            with torch.no_grad():
                F.conv2d(images, weight, padding=1)

        return run, 2.0 * batch * 16 * 16 * 128 * 128 * 9

    return work


def _traffic(device: torch.device) -> float:
    source = torch.zeros(_BUFFER_BYTES[device.type] // 4, device=device)
    other, target = torch.zeros_like(source), torch.zeros_like(source)
    copy = _seconds(lambda: target.copy_(source), device.type)
    add = _seconds(lambda: torch.add(source, other, out=target), device.type)
    return source.nbytes * max(2 / copy, 3 / add)


def _best(work: Work, kind: str) -> float:
    """Amount a second, at the size where it is highest. Sizes grow while a call is short."""
    best = 0.0
    for doublings in range(7):
        run, amount = work(doublings)
        seconds = _seconds(run, kind)
        best = max(best, amount / seconds)
        if seconds > _LONG_ENOUGH[kind]:
            break
    return best


def _seconds(run: Callable[[], object], kind: str) -> float:
    """Of one call, the best of some, the first not counted."""
    found = []
    for _ in range(4):
        start = clock.perf_counter()
        run()
        if kind == "cuda":
            torch.cuda.synchronize()
        found.append(clock.perf_counter() - start)
    return min(found[1:])


def peaks(device: torch.device, *, again: bool = False) -> DevicePeaks:
    """The device's peaks: those in the cache, or measured now, which fills it.

    Measured `again`, each is the better one of the two: what slowed a measurement was other work.
    A damaged file is replaced, and a cache that cannot be written is done without.
    """
    known = cached(device_name(device))
    if known is not None and not again:
        return known
    found = measure(device)
    best = found if known is None else found.or_better(known)
    with contextlib.suppress(OSError):
        store(best)
    return best


def utilisation(
    model: ModelConfig,
    classes: int,
    image_size: int,
    precision: Precision,
    device: torch.device,
    images_per_second: float,
    world: int = 1,
) -> dict[str, float | None]:
    """The columns of run.parquet that say how well a run used its `world` devices.

    Never raises: what cannot be told is None. Measures the device where nobody did before.
    """
    flops: float | None = None
    peak: float | None = None
    try:
        # Two images: behind an ImageNet stem one has no variance to normalise by.
        flops = count(model, precision, 2, classes=classes, image_size=image_size).flops_per_image
        peak = world * peaks(device).flops_per_second(precision)
        if flops * images_per_second > peak:
            # No run is faster than its device: other work slowed the measurement.
            peak = world * peaks(device, again=True).flops_per_second(precision)
    # A finished run must not be lost over a figure about it.
    except Exception as error:
        log.warning("no utilisation is recorded: %s: %s", type(error).__name__, error)
    return {
        "flops_per_image": flops,
        "flops_per_second": None if flops is None else flops * images_per_second,
        "peak_flops_per_second": peak,
    }
