"""Preference pairs (DPO/MPO) into training batches, for PyTorch.

``PreferenceCollator`` is the ``collate_fn`` of a ``DataLoader``; ``dpo_collate`` is the plain function with six
fields; ``dpo_collate.layout`` is the language in which batches are described, ``dpo_collate.named`` the layouts
that have a name; ``dpo_collate.trainers`` has drop-ins for the collators of trainers;
``dpo_collate.padding_free`` has what a loss needs of rows that lie end to end.

``dpo_collate.check`` looks for bad rows in a data set, ``dpo_collate.inspection`` says what batches it makes, and
``dpo_collate.sampler`` which pairs come together; ``dpo_collate.stats`` counts padding in training;
``dpo_collate.delivery`` tells what memory the batches of DataLoader workers take. ``dpo_collate.datasets`` and
``dpo_collate.ray`` are for data of Hugging Face and Ray.
"""

import warnings

from . import _core, checking, delivery, layout, named, padding_free
from ._core import __version__ as __version__
from .checking import check as check
from .collator import PreferenceCollator as PreferenceCollator
from .collator import dpo_collate as dpo_collate
from .image_tokens import ImageTokens as ImageTokens
from .layout import Layout as Layout

if _core.DEBUG_BUILD:  # pragma: no cover - tests run against a release build
    warnings.warn(
        "dpo_collate's core was built without optimisation and is slow: build with `maturin develop --release`",
        RuntimeWarning,
        stacklevel=2,
    )

__all__ = [
    "ImageTokens",
    "Layout",
    "PreferenceCollator",
    "__version__",
    "check",
    "checking",
    "delivery",
    "dpo_collate",
    "layout",
    "named",
    "padding_free",
]
