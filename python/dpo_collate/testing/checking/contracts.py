"""What a trainer expects of its collator, as data: one contract for each drop-in and for each layout that has a name.

A contract is the table of the batch, and how samples look: which kinds of rows they have, and what the collator may
rely on. It is for any callable, so it promises no more than the trainer's own data set does: a collator that takes
tensors alone is not broken by lists where the contract has tensors.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Final, Literal

from dpo_collate._behind import behind
from dpo_collate._wildcards import expanded
from dpo_collate.collator import PreferenceCollator
from dpo_collate.layout import Column, Layout
from dpo_collate.named import NAMES, PAIR, named
from dpo_collate.trainers import (
    internvl,
    internvl_gpt_oss,
    llamafactory,
    megatron_bridge,
    open_instruct,
    openrlhf,
    swift,
    torchtune,
    trl,
    trl_kto,
    trl_legacy,
    trl_reward,
    xtuner,
)

__all__ = ["CONTRACTS", "Contract"]

ROWS: Final = {
    "list": ("list",),
    "tuple": ("tuple",),
    "scalars": ("list of numpy scalars",),
    "numpy": ("numpy plain", "numpy strided", "numpy read-only"),
    "numpy32": ("numpy narrow",),
    "torch": ("torch plain", "torch strided"),
    "torch32": ("torch narrow",),
}
"""The families of rows that a contract may have, and the kinds of objects that each is tried as."""


@dataclass(frozen=True)
class Contract:
    """What a collator takes and returns.

    Attributes:
        name: For messages.
        layout: What the batch looks like.
        pad_token_id: What the collator under test pads ids with.
        label_pad_token_id: What it pads labels with.
        rows: The families of objects that rows of samples are: of ``"list"``, ``"tuple"``, ``"scalars"`` (lists of
            NumPy's numbers), ``"numpy"`` and ``"torch"`` (int64), ``"numpy32"`` and ``"torch32"`` (int32). The first
            is what most tests have.
        media: What images and what accompanies them are: ``"torch"`` or ``"numpy"``.
        least: Least number of tokens of a row.
        empty: Whether rows may be empty.
        sparse: Whether some samples of a batch may have images while others have none.
        boxed: Whether a row is ``[1, L]`` in samples.
        present: Keys that every sample has besides, and their values.
        lengths: Keys that say how long a row is, and the keys of the rows.
        always: Keys that the layout can do without, and that every sample has nevertheless.
        absent: Keys of the layout that samples never have.
        in_order: Whether the keys of the batch have the order of the layout.

    Example:
        >>> from dpo_collate.testing import CONTRACTS
        >>> CONTRACTS["trl"].rows
        ('list',)
        >>> CONTRACTS["torchtune"].having(pad_to_multiple_of=8)
        Contract('torchtune')
    """

    name: str
    layout: Layout
    pad_token_id: int = 0
    label_pad_token_id: int = -100
    _: KW_ONLY
    rows: tuple[str, ...] = tuple(ROWS)
    media: Literal["torch", "numpy"] = "torch"
    least: int = 1
    empty: bool = True
    sparse: bool = False
    boxed: bool = False
    present: tuple[tuple[str, Any], ...] = ()
    lengths: tuple[tuple[str, str], ...] = ()
    always: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    in_order: bool = False

    def __post_init__(self) -> None:
        unknown = [family for family in self.rows if family not in ROWS]
        if unknown or not self.rows:
            raise ValueError(f"rows={self.rows!r}: expected some of {', '.join(map(repr, ROWS))}")

    def __repr__(self) -> str:
        return f"Contract({self.name!r})"

    @classmethod
    def of(cls, collator: Any) -> Contract:
        """The contract that one of our collators keeps, with all its options.

        Args:
            collator: A ``PreferenceCollator``, a drop-in, or a function that calls one of them.

        Raises:
            TypeError: It is nothing of the kind.
        """
        ours = behind(collator).collator
        table = ours._table  # noqa: SLF001 - of this package
        return cls(table.name, table, ours.pad_token_id, ours.label_pad_token_id, sparse=True)

    def having(self, **options: Any) -> Contract:
        """The contract of a collator that has options: those of ``PreferenceCollator`` for a layout.

        Args:
            **options: ``pad_token_id``, ``label_pad_token_id``, ``pad_to_multiple_of``, ``max_length``, …

        Raises:
            TypeError, ValueError: As ``PreferenceCollator`` does.
        """
        ids = {name: options.pop(name, getattr(self, name)) for name in ("pad_token_id", "label_pad_token_id")}
        table = PreferenceCollator(self.layout, **ids, **options)._table  # noqa: SLF001 - of this package
        return replace(self, layout=table, **ids)

    def without(self, *keys: str) -> Contract:
        """The contract of a collator that need not know keys which samples may have.

        Args:
            *keys: Keys of samples that the layout can do without, such as ``"margin"`` or ``"pixel_values"``.
        """
        return replace(self, absent=(*self.absent, *keys))


def _by_length(layout: Layout) -> Layout:
    """The table with masks of lengths in place of masks by value."""
    matrices = []
    for matrix in layout.matrices:
        columns: list[Column] = []
        for column in matrix.columns:
            by_value = column.differs_from == "pad_token_id"
            columns.append(replace(column, of="ones", differs_from=None) if by_value else column)
        matrices.append(replace(matrix, columns=tuple(columns)))
    return replace(layout, matrices=tuple(matrices))


def _described(layout: Layout) -> Layout:
    """The table of which each medium that says something of images says of which."""
    images = {"image": "pixel_values", "video": "pixel_values_videos"}
    media = [
        replace(medium, describes=images.get(medium.name.split("_")[0]))
        if medium.name not in images.values()
        else medium
        for medium in layout.media
    ]
    return replace(layout, media=tuple(media))


_SUFFIXED = [f"{stem}_{of}" for stem in ("prompt", *PAIR) for of in ("input_ids", "attention_mask", "labels")]
_LOGPS = [f"reference_{side}_logps" for side in PAIR]
_OF_SIDES: Final[dict[str, str]] = {f"{side}_length": f"{side}_input_ids" for side in PAIR}

_LISTS, _TENSORS = ("list",), ("torch",)


def _all() -> list[Contract]:
    layouts = [Contract(name, named(name), sparse=name != "prompt_left") for name in NAMES]
    by_value = [
        Contract("internvl_by_value", internvl.DPO, rows=_TENSORS),
        Contract("internvl_sft_by_value", internvl.SFT, rows=_TENSORS),
        Contract("internvl_gpt_oss_by_value", internvl_gpt_oss.DPO, rows=_TENSORS),
    ]
    by_length = [
        replace(contract, name=contract.name.removesuffix("_by_value"), layout=_by_length(contract.layout))
        for contract in by_value
    ]
    of_llamafactory = Contract(
        "llamafactory",
        replace(llamafactory.PAIRWISE, media=()),
        rows=_LISTS,
        present=(("images", None), ("videos", None), ("audios", None)),
        always=tuple(f"{side}_attention_mask" for side in PAIR),
    )
    of_openrlhf = Contract("openrlhf", openrlhf.PAIRS, rows=_TENSORS, boxed=True)
    of_swift = Contract(
        "swift",
        _described(swift.RIGHT),
        rows=_LISTS,
        sparse=True,
        lengths=tuple(_OF_SIDES.items()),
        # (Tensors of two dimensions there.)
        absent=tuple(f"{side}_mm_token_type_ids" for side in PAIR),
    )
    return [
        *layouts,
        *by_length,
        *by_value,
        Contract("trl", trl.DPO, rows=_LISTS),
        Contract("trl_reward", trl_reward.REWARD, rows=_LISTS),
        Contract("trl_kto", trl_kto.KTO, rows=_LISTS),
        Contract("trl_legacy", trl_legacy.DPO, rows=("list", "scalars", "numpy"), media="numpy"),
        Contract("trl_padding", expanded(trl_legacy.BY_SUFFIX, (*_SUFFIXED, *_LOGPS)), rows=_LISTS),
        of_llamafactory.having(pad_to_multiple_of=8),
        Contract("torchtune", torchtune.DPO, rows=("list", "scalars")),
        of_openrlhf,
        replace(of_openrlhf, name="openrlhf_rewards").having(padding_side="left"),
        of_swift,
        replace(of_swift, name="swift_padding_free", layout=_described(swift.FLAT)),
        Contract("megatron_bridge", megatron_bridge.PAIRS, rows=_LISTS, least=2, empty=False),
        Contract("open_instruct", open_instruct.FLAT, rows=_TENSORS),
        Contract("xtuner", xtuner.PAIRS, rows=_LISTS),
    ]


CONTRACTS: Final[dict[str, Contract]] = {contract.name: contract for contract in _all()}
"""By name: the layouts that have one, and the trainers.

With ``internvl`` attention masks are those of lengths, as its trainer means them; ``internvl_by_value`` has those that
its own collator makes, which are wrong where a real token has the pad id. LLaMA-Factory's trainers always pad to
multiples of 8, so its contract does.
"""


def contract_of(contract: Any) -> Contract:
    """The contract that is meant.

    Raises:
        TypeError: It is no name, no contract, and no collator of ours.
        ValueError: There is no contract of that name.
    """
    if isinstance(contract, Contract):
        return contract
    if isinstance(contract, str):
        if contract not in CONTRACTS:
            raise ValueError(f"contract={contract!r}: expected one of {', '.join(map(repr, CONTRACTS))}")
        return CONTRACTS[contract]
    if isinstance(contract, Layout):
        return Contract(contract.name, contract, sparse=True)
    return Contract.of(contract)
