"""Coverage-guided attacks on the Python boundary: what `tests/attacks.py` makes at random, libFuzzer makes of bytes.

`make fuzz-python SECONDS=…` runs it; it needs atheris. The package's Python code is measured, the core is not.
"""

from __future__ import annotations

import gc
import sys
import warnings
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))
with atheris.instrument_imports(include=["dpo_collate"]):
    import attacks  # and with it the package

from figures import note

COUNTED = {"calls": 0, "errors": 0, "reentries": 0, "acts": 0}


def one(data: bytes) -> None:
    """Makes the attack that these bytes say."""
    provider = atheris.FuzzedDataProvider(data)

    def pick(below: int) -> int:
        return int(provider.ConsumeIntInRange(0, below - 1))

    result = attacks.attack(pick)
    COUNTED["calls"] += 1
    COUNTED["errors"] += result.error is not None
    COUNTED["reentries"] += result.reentries
    COUNTED["acts"] += result.acted
    if COUNTED["calls"] % 1000 == 0:
        note("hostile", **COUNTED)
        COUNTED.update(dict.fromkeys(COUNTED, 0))


def main() -> None:
    """Runs until libFuzzer ends it."""
    warnings.simplefilter("ignore")
    for name in attacks.TARGETS:
        attacks.expected(name)
    gc.collect()
    gc.freeze()
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
