"""Batches of pairs of like lengths: fewer cells of padding, and batches that fit a budget of tokens.

``PairBatchSampler`` is a ``batch_sampler`` for a ``DataLoader``: it says which pairs come together, by their lengths
(:func:`dpo_collate.datasets.lengths`) and by what the collator will make of them.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from ._behind import layout_of
from ._checks import check_choice, check_count, check_int64, check_type
from ._convert import own_lists
from ._core import PairPlanner
from ._grids import grids_of, kept
from ._lengths import measured
from ._samples import is_table
from ._token_rows import token_rows
from ._trainer_mixin import PairBatchSamplerMixin
from ._wildcards import has_wildcards

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

    from .collator import PreferenceCollator
    from .layout import Layout

__all__ = ["PairBatchSampler", "PairBatchSamplerMixin"]


class PairBatchSampler:
    """Puts pairs of like lengths together: a ``batch_sampler`` for a ``DataLoader``.

    A batch is a list of indices of pairs. It is as large as its limits allow, of which there must be at least one; each
    is for one batch of one rank.

    How random an epoch is: All pairs are shuffled and cut into windows, and only pairs of one window can come together.
    Within a window pairs of like lengths do, so that a batch is no random set of pairs: it has pairs of about one
    length. Which of them these are, and where one batch ends and the next begins, is drawn anew in each epoch, as is
    the order of the steps; among steps, that of the lengths is as random as a shuffle. With ``world_size`` above 1 the
    batches of one step are such as cost about the same, so that a step is of about one length as well. A loss that is
    averaged over batches of unequal numbers of pairs (``max_tokens``) weighs pairs of large batches less.

    The plan of an epoch depends on ``seed``, the epoch, the data and the options, on every machine and in every later
    version of this package.

    Attributes:
        dropped: The pairs that ``oversize="drop"`` has left out of every epoch: int64, ascending.

    Args:
        lengths: How many tokens the rows of each pair have: what :func:`dpo_collate.datasets.lengths` returns, integers
            ``[n, rows]``; or a tuple of these columns; or the data themselves, of which that function takes the
            lengths: a ``datasets.Dataset``, an ``ArrowRows``, a table, or a list of tables.
        collator: The collator that batches are for; or its layout, or the name of one. What it makes of lengths counts:
            its truncation, multiples and buckets.
        max_tokens: Most padded tokens of a batch: of every matrix of token ids its rows times its width.
        batch_size: Most pairs of a batch.
        tiles: How many tiles of images each pair has: integers ``[n]``.
        max_tiles: Most tiles of a batch.
        shuffle: False: pairs come in the order of the data, and a batch ends where the next pair does not fit.
        seed: Makes other epochs of the same data.
        drop_last: What fills no batch is left out (with ``batch_size`` alone), and what fills no step, other pairs in
            each epoch. False: so that each rank gets as many batches as the others, the costliest are split in two;
            only where too few can be (of one pair, or of one ``batch_size_multiple``) batches are left out, fewer than
            ranks: see ``left_out``.
        rank: The batches of this rank; None: those of all ranks in turn, for what deals batches out by itself
            (accelerate).
        world_size: Number of ranks.
        batch_size_multiple: The number of pairs of a batch is a multiple of it, except where fewer are left or fit.
        oversize: A pair that fits no batch alone, or that the collator would refuse, is an error; ``"drop"``: it is
            left out, and is in ``dropped``.
        window: Pairs of a window; None: a fourth of all, but at least 64 and at most 204,800. With a larger window
            there is less padding, with a smaller one batches are more random; with one window for all pairs, most
            batches of one epoch are those of another. Of no effect with ``shuffle=False``.
        epochs: So many epochs, from epoch 0 on, are equally long: as long as the longest of them, as batches of the
            others are split. (If a later one were longer, a few of its batches are left out.) For what takes that for
            granted: transformers' ``Trainer``, plans of the learning rate. None: they differ by a few batches.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: An argument is wrong; there is no limit; a pair fits no batch; there are fewer pairs than ranks.

    Example:
        >>> import numpy as np
        >>> from dpo_collate import PreferenceCollator
        >>> from dpo_collate.sampler import PairBatchSampler
        >>> lengths = np.array([[512, 500], [8, 9], [490, 512], [9, 8], [7, 9], [500, 498]])
        >>> collator = PreferenceCollator(pad_token_id=0)
        >>> sampler = PairBatchSampler(lengths, collator, max_tokens=3072)
        >>> sorted(sorted(batch) for batch in sampler)
        [[0, 2, 5], [1, 3, 4]]
        >>> sorted(sampler.costs().tolist())
        [54, 3072]
        >>> round(sampler.padding_share(), 3)
        0.02
    """

    def __init__(  # noqa: PLR0913 - all but two are keywords
        self,
        lengths: Any,
        collator: PreferenceCollator | Layout | str | Callable[..., Any],
        *,
        max_tokens: int | None = None,
        batch_size: int | None = None,
        tiles: npt.ArrayLike | None = None,
        max_tiles: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        rank: int | None = 0,
        world_size: int = 1,
        batch_size_multiple: int = 1,
        oversize: Literal["error", "drop"] = "error",
        window: int | None = None,
        epochs: int | None = None,
    ) -> None:
        limits = {"max_tokens": max_tokens, "batch_size": batch_size, "max_tiles": max_tiles}
        limits = {name: limit if limit is None else check_count(name, limit, 1) for name, limit in limits.items()}
        if all(limit is None for limit in limits.values()):
            raise ValueError("max_tokens, batch_size and max_tiles are None: expected at least one limit of a batch")
        for name, value in (("shuffle", shuffle), ("drop_last", drop_last)):
            check_type(name, value, bool)
        check_choice("oversize", oversize, ("error", "drop"))
        self._seed = check_int64("seed", seed)
        self._world_size = check_count("world_size", world_size, 1)
        self._rank = rank if rank is None else check_count("rank", rank, 0)
        if self._rank is not None and self._rank >= self._world_size:
            raise ValueError(f"rank={rank}: expected less than world_size={world_size}")
        rules: dict[str, Any] = {
            **limits,
            "multiple_of": check_count("batch_size_multiple", batch_size_multiple, 1),
            "shuffle": shuffle,
            "window": window if window is None else check_count("window", window, 1),
            "drop_last": drop_last,
            "world_size": self._world_size,
        }
        if batch_size is not None and batch_size % batch_size_multiple:
            raise ValueError(
                f"batch_size={batch_size}: expected a multiple of batch_size_multiple={batch_size_multiple}"
            )
        self._lengths, table = _measured(lengths, collator)
        self._tiles = _checked_tiles(tiles, max_tiles, len(self._lengths))
        self._grids = grids_of(table)
        if not self._grids:
            raise ValueError(
                f"layout {table.name!r} has no rows of token ids that every pair has: expected one or more"
            )
        self._rules = rules
        self._oversize = oversize
        self._made = self._planner()
        self.dropped: npt.NDArray[np.int64] = self._made.refused
        self._usable = len(self._lengths) - len(self.dropped)
        self._check_pairs()
        self._steps: int | None = None
        if epochs is not None:
            longest = max(len(self._planned_of(epoch).costs) for epoch in range(check_count("epochs", epochs, 1)))
            self._steps = longest // self._world_size
        self._epoch = 0
        self._start = 0
        self._newest: _Batches | None = None
        self._plan: _Plan | None = None
        self._digest: str | None = None

    def _planner(self) -> PairPlanner:
        return PairPlanner(self._lengths, self._tiles, self._grids, **self._rules)

    def _check_pairs(self) -> None:
        """Checks that pairs fit, and that there are enough."""
        if len(self.dropped) and self._oversize == "error":
            more = len(self.dropped) - 1
            others = f" (and {more} more {'pair' if more == 1 else 'pairs'})" if more else ""
            them = "them" if more else "it"
            raise ValueError(f"pair {self.dropped[0]}: {self._made.why}{others}; oversize='drop' leaves {them} out")
        if self._usable < self._world_size:
            raise ValueError(
                f"{self._usable} pairs: expected at least one for each rank, world_size={self._world_size}"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what can be made anew."""
        return {**vars(self), "_made": None, "_plan": None, "_newest": None, "_start": self._done()}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._made = self._planner()

    @property
    def epoch(self) -> int:
        """The epoch whose batches are given."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Goes to an epoch, 0 or more, whose order is another one; to its start, unless it is the one that was resumed.

        Raises:
            TypeError: It is no integer.
            ValueError: It is less than 0.
        """
        epoch = check_count("epoch", epoch, 0)
        if epoch != self._epoch:
            self._epoch, self._start, self._newest, self._plan = epoch, 0, None, None

    def __len__(self) -> int:
        """The number of batches of this rank in this epoch."""
        return len(self._places())

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of this rank in this epoch: from where ``load_state_dict`` says, once; else from the start."""
        self._newest = _Batches(self, self._start)
        return self._newest

    def state_dict(self, batches: int | None = None) -> dict[str, Any]:
        """What resumes the epoch after so many batches of it.

        Args:
            batches: How many batches of this rank are done. None: as many as the newest iterator has given. A
                ``DataLoader`` with workers takes batches before they are trained on: give the number of steps, or
                use torchdata's ``StatefulDataLoader``, which counts by itself.

        Returns:
            A dict of numbers and strings, the same on all ranks.

        Raises:
            TypeError: ``batches`` is no integer.
            ValueError: The epoch has fewer batches.
        """
        done = self._done() if batches is None else self._checked_place("batches", batches)
        return {**self._facts(), "epoch": self._epoch, "batches": done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to where a state is of: its epoch, and the batch after those that are done.

        A state in which the epoch is over changes nothing if the sampler is at the epoch after it already: torchdata's
        loader sets the sampler to its last state after ``set_epoch`` was called.

        Raises:
            KeyError: The state lacks something.
            TypeError: A number of it is none.
            ValueError: It is of other data, options, another seed, number of ranks or version.
        """
        for name, fact in self._facts().items():
            if state[name] != fact:
                raise ValueError(f"the state has {name}={state[name]!r}: expected {fact!r}, {_MEANING[name]}")
        before = self._epoch, self._start, self._newest, self._plan
        self.set_epoch(state["epoch"])
        try:
            start = self._checked_place("the state's batches", state["batches"])
        except (KeyError, TypeError, ValueError):
            self._epoch, self._start, self._newest, self._plan = before
            raise
        if before[0] == self._epoch + 1 and start == len(self):
            self._epoch, self._start, self._newest, self._plan = before
        else:
            self._start, self._newest = start, None

    def costs(self) -> npt.NDArray[np.int64]:
        """The padded tokens of each batch of this epoch, of all ranks: int64 ``[batches]``, step by step.

        Batch r of step s, that of rank r, is at ``s * world_size + r``.
        """
        return self._planned().costs.copy()

    def padding_share(self) -> float:
        """Which share of the padded tokens of this epoch, of all ranks, is padding: 0 to 1."""
        plan = self._planned()
        padded = int(plan.costs.sum())
        tokens = sum(int(kept(grid, self._lengths)[plan.order].sum()) for grid in self._grids)
        return 1 - tokens / padded if padded else 0.0

    @property
    def left_out(self) -> int:
        """How many pairs no rank gets in this epoch, those that are ``dropped`` not counted."""
        return self._usable - len(self._planned().order)

    def _planned(self) -> _Plan:
        if self._plan is None:
            self._plan = self._planned_of(self._epoch)
        return self._plan

    def _planned_of(self, epoch: int) -> _Plan:
        return _Plan(*self._made.plan(self._seed & _ALL_BITS, epoch, self._steps))

    def _places(self) -> range:
        """The batches of this rank among those of all ranks."""
        batches = len(self._planned().costs)
        return range(batches) if self._rank is None else range(self._rank, batches, self._world_size)

    def _begun(self, newest: _Batches) -> tuple[_Plan, range, int]:
        """What an iterator gives, and how much of it is done.

        That is settled when it is asked for its first batch, not when it is made: after ``load_state_dict`` as well a
        ``DataLoader`` with workers makes two, and asks the second.
        """
        start, self._start, self._newest = self._start, 0, newest
        return self._planned(), self._places(), start

    def _done(self) -> int:
        return self._start if self._newest is None else self._newest.done

    def _checked_place(self, name: str, batches: int) -> int:
        count = check_count(name, batches, 0)
        if count > len(self):
            raise ValueError(f"{name}={batches}: expected at most {len(self)}, as many as epoch {self._epoch} has")
        return count

    def _facts(self) -> dict[str, Any]:
        """What must be the same where an epoch is resumed."""
        if self._digest is None:
            digest = hashlib.blake2b(digest_size=16)
            options = {**self._rules, "every_rank": self._rank is None, "steps": self._steps}
            digest.update(repr((self._grids, sorted(options.items()))).encode())
            for array in (self._lengths, self._tiles):
                if array is not None:
                    digest.update(array.astype("<i8").tobytes())
            self._digest = digest.hexdigest()
        return {
            "version": _VERSION,
            "seed": self._seed,
            "world_size": self._world_size,
            "pairs": len(self._lengths),
            "plan": self._digest,
        }


class _Plan:
    """The batches of an epoch, of all ranks."""

    def __init__(
        self, order: npt.NDArray[np.uint32], bounds: npt.NDArray[np.int64], costs: npt.NDArray[np.int64]
    ) -> None:
        self.order = order
        self.bounds = bounds
        self.costs = costs


class _Batches:
    """An iterator of batches, which knows how many it has given."""

    def __init__(self, sampler: PairBatchSampler, done: int) -> None:
        self._sampler = sampler
        self._plan: _Plan | None = None
        self._places = range(0)
        self.done = done

    def __iter__(self) -> _Batches:
        return self

    def __next__(self) -> list[int]:
        if self._plan is None:
            self._plan, self._places, self.done = self._sampler._begun(self)  # noqa: SLF001 - of this module
        if self.done >= len(self._places):
            raise StopIteration
        place = self._places[self.done]
        self.done += 1
        begin, end = self._plan.bounds[place : place + 2]
        batch: list[int] = self._plan.order[begin:end].tolist()
        return batch


def _measured(lengths: Any, collator: Any) -> tuple[npt.NDArray[np.int64], Layout]:
    """The lengths of all pairs, and the table of what they become."""
    table = layout_of(collator)
    if isinstance(lengths, tuple) and lengths and not any(is_table(column) for column in lengths):
        columns = [np.asarray(own_lists(column)) for column in lengths]
        if any(column.ndim != 1 or len(column) != len(columns[0]) for column in columns):
            shapes = ", ".join(str(list(column.shape)) for column in columns)
            raise ValueError(f"lengths has columns of shapes {shapes}: expected one dimension, equally long")
        # Signed and unsigned ones together would become floats.
        lengths = np.stack([column.astype(np.int64) if column.dtype.kind == "u" else column for column in columns], 1)
    if not isinstance(lengths, np.ndarray):
        found, table = measured(lengths, table)
        return found, table
    if has_wildcards(table):
        raise ValueError(f"layout {table.name!r} depends on the keys of samples: expected data in place of lengths")
    rows = len(token_rows(table))
    if lengths.dtype.kind not in "iu":
        raise TypeError(f"lengths is an array of {lengths.dtype}: expected integers")
    if lengths.ndim != 2 or lengths.shape[1] != rows:
        raise ValueError(
            f"lengths has shape {list(lengths.shape)}: expected [n, {rows}], as layout {table.name!r} has {rows} rows "
            f"of token ids"
        )
    return lengths.astype(np.int64), table


def _checked_tiles(tiles: Any, max_tiles: int | None, pairs: int) -> npt.NDArray[np.int64] | None:
    if (tiles is None) != (max_tiles is None):
        raise ValueError("tiles and max_tiles say together how many tiles a batch has: expected both or none")
    if tiles is None:
        return None
    found = np.asarray(own_lists(tiles))
    if found.dtype.kind not in "iu":
        raise TypeError(f"tiles is an array of {found.dtype}: expected integers")
    if found.shape != (pairs,):
        raise ValueError(f"tiles has shape {list(found.shape)}: expected [{pairs}], a number for each pair")
    return found.astype(np.int64)


_VERSION: Final = 1
"""Of plans: what is resumed must be what was begun."""

_ALL_BITS: Final = (1 << 64) - 1

_MEANING: Final = {
    "version": "the version of plans that this package makes",
    "seed": "the seed of this sampler",
    "world_size": "the number of ranks of this sampler",
    "pairs": "the number of pairs of this sampler",
    "plan": "the digest of the lengths and options of this sampler",
}
