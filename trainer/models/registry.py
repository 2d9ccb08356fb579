"""The architectures by name: one table. A person's own network needs no line here: own.py.

MODELS maps a name to `module:function`, so that configurations are checked without importing
torch. A new architecture is a new file in trainer/models and a line here.
"""

from __future__ import annotations

import importlib.util
import re

from local_machine.errors import InputError

MODELS: dict[str, str] = {
    "resnet18": "trainer.models.resnet:resnet18",
    "resnet34": "trainer.models.resnet:resnet34",
    "resnet50": "trainer.models.resnet:resnet50",
    "wrn_28_10": "trainer.models.wrn:wrn",
    "dla34": "trainer.models.dla:dla34",
    "vit": "trainer.models.vit:vit",
}

# Any Wide ResNet may be asked for by name: wrn_40_2 is depth 40, widening factor 2.
WRN_NAME = re.compile(r"wrn_([1-9][0-9]*)_([1-9][0-9]*)")

TIMM = "timm:"
"""How a network of timm begins."""


def is_own(name: str) -> bool:
    """Whether it names a person's own code, FILE.py:NAME or MODULE:NAME, or a network of timm."""
    return ":" in name


def check_timm(name: str) -> None:
    """Raises InputError where timm, of which a network is, is not installed. Does not import it."""
    if importlib.util.find_spec("timm") is None:
        raise InputError(
            f"model.name={name} needs the module timm, which is not installed here",
            "install it: pip install timm",
        )
