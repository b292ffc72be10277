"""One Hypothesis profile for all tests; the number of examples comes from ``HYPOTHESIS_MAX_EXAMPLES``."""

import os

import torch
from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "dpo_collate",
    deadline=None,
    max_examples=int(os.environ.get("HYPOTHESIS_MAX_EXAMPLES", "100")),
    phases=[phase for phase in Phase if phase != Phase.explain],  # it takes longer than all the others
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("dpo_collate")
torch.set_num_threads(1)
