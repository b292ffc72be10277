"""What the originals have made of some batches, in a file: so drop-ins are compared where no original is.

`python tests/drop_ins_vectors.py` writes the file anew; the originals have to be there (tests/peers.py).
"""

from __future__ import annotations

import copy
import importlib.metadata
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, settings

from drop_ins import DROP_INS, described

if TYPE_CHECKING:
    from drop_ins import DropIn

FILE = Path(__file__).parent / "data" / "peers.json"
RANDOM = settings(suppress_health_check=list(HealthCheck), deadline=None)
EACH = 12
SHORT = (",", ":")
LARGEST = 1800
"""Most characters of a vector."""


def encoded(value: Any) -> Any:
    """A value in JSON; rows of samples stay plain lists."""
    if isinstance(value, dict):
        return {"dict": {key: encoded(item) for key, item in value.items()}}
    if isinstance(value, tuple):
        return {"tuple": [encoded(item) for item in value]}
    if isinstance(value, list):
        return [encoded(item) for item in value]
    if isinstance(value, np.ndarray | torch.Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return {type(value).__name__: value.tolist(), "dtype": dtype, "shape": list(value.shape)}
    return value


def decoded(entry: Any) -> Any:
    if isinstance(entry, list):
        return [decoded(item) for item in entry]
    if not isinstance(entry, dict):
        return entry
    if "dict" in entry:
        return {key: decoded(item) for key, item in entry["dict"].items()}
    if "tuple" in entry:
        return tuple(decoded(item) for item in entry["tuple"])
    if "ndarray" in entry:
        return np.array(entry["ndarray"], entry["dtype"]).reshape(entry["shape"])
    return torch.tensor(entry["Tensor"], dtype=getattr(torch, entry["dtype"])).reshape(entry["shape"])


def found(drop_in: DropIn) -> list[str]:
    """Small batches that have as much as possible of all there is between them."""
    batches: list[Any] = []

    @settings(RANDOM, max_examples=1000, derandomize=True, database=None, phases=[Phase.generate])
    @given(drop_in.batches)
    def collect(batch: Any) -> None:
        batches.append(batch)

    collect()
    candidates: list[tuple[str, set[Any]]] = []
    for options, samples in batches:
        if drop_in.refused(options, samples):
            continue
        batch = made(drop_in, options, samples)
        vector = json.dumps(
            {"options": options, "samples": encoded(samples), "batch": encoded(batch)}, separators=SHORT
        )
        if len(vector) <= LARGEST and "NaN" not in vector and "Infinity" not in vector:
            text = described(batch)
            matter = {key for key in options if without(drop_in, options, samples, key) != text}
            candidates.append((vector, properties(options, samples, matter)))
    vectors: list[str] = []
    seen: set[Any] = set()
    for _ in range(EACH):
        best = max(candidates, key=lambda it: (it[0] not in vectors, len(it[1] - seen), -len(it[0])))
        vectors.append(best[0])
        seen |= best[1]
    return vectors


def made(drop_in: DropIn, options: dict[str, Any], samples: list[Any]) -> Any:
    """The original's batch."""
    theirs = [drop_in.theirs(sample) for sample in copy.deepcopy(samples)]
    return drop_in.cut(drop_in.original(**options)(theirs), options, samples)


def without(drop_in: DropIn, options: dict[str, Any], samples: list[Any], key: str) -> Any:
    """The original's batch without an option, or padded with another id; None if it cannot do without."""
    others = {"pad_token_id": 2} if key == "pad_token_id" else {}
    try:
        return described(made(drop_in, {name: options[name] for name in options if name != key} | others, samples))
    except (KeyError, TypeError, ValueError):
        return None


def properties(options: dict[str, Any], samples: list[Any], matter: set[str]) -> set[Any]:
    """What there is in a batch: options that matter, keys, which of them have rows to pad, and what of it together."""
    rows = [dict(enumerate(sample)) if isinstance(sample, tuple) else sample for sample in samples]
    shapes = {key: {np.shape(row[key]) for row in rows if row.get(key) is not None} for key in rows[0]}
    padded = {(key, len(some) > 1) for key, some in shapes.items()}
    few = {(key, value if type(value) is not int else None, key in matter) for key, value in options.items()}
    return {*few, *padded, *itertools.product(few, padded), len(samples)}


def source(drop_in: DropIn) -> dict[str, str]:
    """Whose vectors these are."""
    if isinstance(drop_in.source, str):
        return {"package": drop_in.source, "version": importlib.metadata.version(drop_in.source)}
    return {"repository": drop_in.source.repository, "commit": drop_in.source.commit}


def main() -> None:
    lines = []
    for name, drop_in in DROP_INS.items():
        vectors = ",\n".join(found(drop_in))
        lines.append(f'"{name}": {{"source": {json.dumps(source(drop_in))}, "vectors": [\n{vectors}]}}')
    FILE.write_text("{" + ",\n".join(lines) + "}\n")


if __name__ == "__main__":
    main()
