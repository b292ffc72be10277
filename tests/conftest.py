"""One Hypothesis profile for all tests.

Which examples there are does not depend on chance, as what is covered must not; where ``HYPOTHESIS_MAX_EXAMPLES`` says
how many there are to be, they are others each time.
"""

import faulthandler
import gc
import os
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "dpo_collate",
    deadline=None,
    derandomize="HYPOTHESIS_MAX_EXAMPLES" not in os.environ,
    database=None,
    max_examples=int(os.environ.get("HYPOTHESIS_MAX_EXAMPLES", "100")),
    phases=[phase for phase in Phase if phase != Phase.explain],  # it takes longer than all the others
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("dpo_collate")
torch.set_num_threads(1)


def pytest_configure() -> None:
    """Nor does anything else end what hangs while tests are imported; the first test has a watch of its own."""
    faulthandler.dump_traceback_later(600, exit=True, file=2)


def pytest_collection_finish() -> None:
    """What is imported by now no later collection looks at: tests ask for hundreds, which take 0.2 s else."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """The interpreter's end may hang too, on what tests have left: all stacks, and the end."""
    faulthandler.dump_traceback_later(120, exit=True, file=2)
    gc.unfreeze()  # or libraries tell of objects that they have left


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The data set ``data_sets.plain``, in memory-mapped files."""
    from data_sets import datasets, plain  # noqa: PLC0415 - only where it is asked for: it takes a second

    folder = tmp_path_factory.mktemp("stored")
    plain().save_to_disk(folder, num_shards=2)
    return datasets.load_from_disk(folder)


@pytest.fixture(scope="session")
def transformers() -> Any:
    """transformers, where it gets on with this torch."""
    module = pytest.importorskip("transformers")
    if not module.utils.is_torch_available():
        pytest.skip("this transformers needs a newer torch")
    return module
