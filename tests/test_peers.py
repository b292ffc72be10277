"""Each drop-in against its original: by what that has made once, and side by side where it is there."""

from __future__ import annotations

import copy
import functools
import inspect
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import peers
from dpo_collate.testing.comparing import fingerprint
from drop_ins import DRESSES, DROP_INS, described, dressed
from drop_ins_vectors import FILE, decoded, source
from fewer import fewer

if TYPE_CHECKING:
    from drop_ins import DropIn

VECTORS = json.loads(FILE.read_text())


@pytest.fixture(scope="module", params=DROP_INS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def there(name: str) -> DropIn:
    """A drop-in whose original is there."""
    drop_in = DROP_INS[name]
    drop_in.original(**VECTORS[name]["vectors"][0]["options"])
    return drop_in


def test_vectors(name: str) -> None:
    drop_in = DROP_INS[name]
    recorded = VECTORS[name]
    if "commit" in recorded["source"]:
        assert recorded["source"] == source(drop_in)
    assert len(recorded["vectors"]) >= 12
    for vector in recorded["vectors"]:
        samples = decoded(vector["samples"])
        before = fingerprint(samples)
        found = drop_in.ours(**vector["options"])(samples)
        expected = described(decoded(vector["batch"]), in_order=drop_in.in_order)
        assert described(found, in_order=drop_in.in_order) == expected
        assert fingerprint(samples) == before


@pytest.mark.no_cover
@given(data=st.data())
@fewer(2)
def test_equals_the_original(there: DropIn, data: st.DataObject) -> None:
    options, samples = data.draw(there.batches)
    kind = data.draw(st.sampled_from(DRESSES))
    given = [data.draw(dressed(there, sample, kind)) for sample in samples]
    ours = there.ours(**options)
    if there.refused(options, samples):
        with pytest.raises(ValueError, match=r"^sample \d: truncation from \d+ to \d+ tokens leaves nothing to score"):
            ours(given)
        return
    before = fingerprint(given)
    batch = there.original(**options)([there.theirs(sample) for sample in copy.deepcopy(samples)])
    expected = described(there.cut(batch, options, samples), in_order=there.in_order)
    assert described(ours(given), in_order=there.in_order) == expected
    assert fingerprint(given) == before


def arguments(made: Any) -> list[tuple[str, Any]]:
    """What a function, or the class of an object, is called with."""
    if isinstance(made, functools.partial):
        made = made.func
    signature = inspect.signature(made if inspect.isfunction(made) else type(made))
    return [(one.name, one.default) for one in signature.parameters.values() if one.kind is one.POSITIONAL_OR_KEYWORD]


def test_same_arguments(name: str, there: DropIn) -> None:
    if name not in {"openrlhf", "swift"}:  # methods there
        options = VECTORS[name]["vectors"][0]["options"]
        original = peers.llamafactory(0) if name == "llamafactory" else there.original(**options)
        assert arguments(there.ours(**options)) == arguments(original)
