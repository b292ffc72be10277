"""TRL trains on our batches as on its own; and what ``docs/trainers.md`` says of TRL, transformers and accelerate."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from pytest_examples import CodeExample, EvalExample, find_examples
from torch import nn

from loaders import COLLATOR, Pairs, Stream

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing:FutureWarning"),  # TRL's, of transformers 5.24
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]

DOCS = Path(__file__).parent.parent / "docs" / "trainers.md"
LN2 = pytest.approx(0.6931472, abs=1e-3)  # the loss while policy and reference are equal, or nearly
TRUNCATING = 38  # of `pairs`, longer than every prompt and shorter than one of them with its answer
TOKENS = [{"prompt_ids": [5, 6, 7], "chosen_ids": [8, 9, 1], "rejected_ids": [10, 1]}] * 4
Samples = list[dict[str, Any]]


@pytest.fixture(scope="module")
def trl() -> Any:
    return pytest.importorskip("trl")


@pytest.fixture(scope="module")
def datasets(trl: Any) -> Any:
    assert trl
    return importlib.import_module("datasets")


@pytest.fixture(scope="module")
def example(trl: Any) -> Any:
    assert trl
    return importlib.import_module("trl_dpo")


@pytest.fixture(scope="module")
def prepared(trl: Any) -> Any:
    """The trainer that docs/trainers.md shows for data sets that are tokenised already."""

    class Prepared(trl.DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_args: Any) -> Any:
            return dataset

    return Prepared


@pytest.fixture
def pairs(example: Any) -> Any:
    return example.make_pairs(4, seed=0)


@pytest.fixture
def make(trl: Any, example: Any, tmp_path: Path) -> Any:
    """Makes a small trainer: two steps of two pairs."""

    def make(data: Any, collator: Any = None, kind: Any = trl.DPOTrainer, **options: Any) -> Any:
        tokenizer = example.make_tokenizer()
        model = example.make_model(tokenizer)
        config = trl.DPOConfig(
            output_dir=str(tmp_path / "nothing"),
            save_strategy="no",
            per_device_train_batch_size=2,
            logging_steps=1,
            use_cpu=True,
            bf16=False,
            report_to=[],
            disable_tqdm=True,
            **{"max_steps": 2, "max_length": None, **options},
        )
        return kind(
            model=model,
            ref_model=copy.deepcopy(model),
            args=config,
            data_collator=collator,
            train_dataset=data,
            processing_class=tokenizer,
        )

    return make


class Spy:
    """A collator that remembers what came in and what went out."""

    def __init__(self, collate: Callable[[Samples], Any]) -> None:
        self.collate = collate
        self.samples: list[Samples] = []
        self.batches: list[Any] = []

    def __call__(self, samples: Samples) -> Any:
        self.samples.append(samples)
        self.batches.append(self.collate(samples))
        return self.batches[-1]

    def columns(self) -> set[str]:
        return set(self.samples[-1][0])

    def width(self) -> int:
        return max(len(batch["input_ids"][0]) for batch in self.batches)


def losses(trainer: Any) -> list[float]:
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.fixture(scope="module")
def ours(example: Any) -> Any:
    return example.DataCollatorForPreference


@pytest.fixture(scope="module")
def theirs(trl: Any) -> Any:
    assert trl
    return importlib.import_module("trl.trainer.dpo_trainer").DataCollatorForPreference


# --- the same training ----------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_losses_are_those_of_trls_collator_to_the_last_bit(example: Any, workers: int) -> None:
    own = example.train(20, workers, ours=False)
    assert len(own) == 21  # the last is that of the evaluation
    assert own[-2] < own[0]
    assert example.train(20, workers, ours=True) == own


def test_the_example_truncates(example: Any) -> None:
    """Else the test above would not show that max_length arrives."""
    widths = []
    for ours in (False, True):
        trainer = example.make_trainer(5, 0, ours=ours)
        trainer.data_collator = Spy(trainer.data_collator)
        trainer.train()
        widths.append(trainer.data_collator.width())
        assert any(len(pair["prompt_ids"] + pair["chosen_ids"]) > widths[0] for pair in trainer.train_dataset)
    assert widths == [example.MAX_LENGTH] * 2


def test_example_runs(example: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["trl_dpo.py", "--steps", "1", "--workers", "0"])
    assert example.main() == 0
    assert capsys.readouterr().out.endswith("all losses are equal to the last bit\n")


def test_example_notices_a_difference(example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["trl_dpo.py", "--steps", "1", "--workers", "0"])
    monkeypatch.setattr(example, "train", lambda *_, ours: [0.5, 0.5 + ours * 2**-54, 0.25])
    assert example.main() == 0  # that is 0.5 as well
    monkeypatch.setattr(example, "train", lambda *_, ours: [0.5, 0.25 + ours * 2**-54])
    assert example.main() == 1


# --- options that a collator which is handed over is not told -------------------------------------


@pytest.mark.parametrize("option", ["max_length", "pad_to_multiple_of"])
def test_the_collator_has_to_be_told(make: Any, pairs: Any, ours: Any, option: str) -> None:
    widths = []
    for collator in (None, ours(0), ours(0, **{option: TRUNCATING})):
        trainer = make(pairs, collator, **{option: TRUNCATING})
        trainer.data_collator = Spy(trainer.data_collator)
        losses(trainer)
        widths.append(trainer.data_collator.width())
    assert widths[0] == widths[2] != widths[1]
    assert widths[0] % TRUNCATING == 0


def test_truncation_that_leaves_only_prompts(make: Any, pairs: Any, ours: Any, theirs: Any) -> None:
    """TRL's trainer leaves such pairs out if its config knows max_length; else TRL's collator says nothing."""
    assert len(make(pairs, ours(0, max_length=20), max_length=20).train_dataset) == 1
    spy = Spy(theirs(0, max_length=5))
    assert losses(make(pairs, spy)) == [LN2, LN2]
    assert not any(batch["completion_mask"].any() for batch in spy.batches)
    with pytest.raises(ValueError, match=r"^sample 0: truncation from \d+ to 5 tokens leaves nothing to score in "):
        losses(make(pairs, ours(0, max_length=5)))


def test_padding_free_is_off(make: Any, pairs: Any) -> None:
    trainer = make(pairs, padding_free=True)
    trainer.data_collator = Spy(trainer.data_collator)
    losses(trainer)
    assert not trainer.padding_free
    assert [len(batch["input_ids"]) for batch in trainer.data_collator.batches] == [4, 4]


# --- keys and columns -----------------------------------------------------------------------------


def test_every_key_reaches_the_model(make: Any, pairs: Any, theirs: Any) -> None:
    def collate(samples: Samples) -> Any:
        return {**theirs(0)(samples), **extra}

    extra = {"margin": torch.zeros(2)}
    trainer = make(pairs, collate)
    seen: list[Any] = []
    trainer.model.register_forward_pre_hook(lambda _model, _args, named: seen.append(set(named)), with_kwargs=True)
    losses(trainer)
    assert {"input_ids", "attention_mask", "margin"} <= seen[0]
    assert "completion_mask" not in seen[0]
    extra = {"labels": torch.zeros(4, 4)}
    with pytest.raises(TypeError, match="got multiple values for keyword argument 'labels'"):
        losses(make(pairs, collate))


def test_other_columns_do_not_reach_the_model(make: Any, datasets: Any, prepared: Any, ours: Any) -> None:
    data = datasets.Dataset.from_list([{**row, "margin": 1.0, "labels": [1], "prompt_id": "a"} for row in TOKENS])
    spy = Spy(ours(0))
    losses(make(data, spy, prepared, remove_unused_columns=False))
    assert {"margin", "labels", "prompt_id"} <= spy.columns()
    assert list(spy.batches[0]) == ["input_ids", "attention_mask", "completion_mask"]


def test_trl_strips_columns(make: Any, datasets: Any, prepared: Any, ours: Any) -> None:
    """Those that the collator was told to hand on as well, and nobody says so."""
    rows = [{**row, "pixel_values": [[[[0.5]]]], "margin": 1.0} for row in TOKENS]
    data = datasets.Dataset.from_list(rows).with_format("torch")
    text = ["input_ids", "attention_mask", "completion_mask"]
    for keep, keys in ((False, text), (True, [*text, "pixel_values"])):
        spy = Spy(ours(0, model_keys=("pixel_values",)))
        losses(make(data, spy, prepared, remove_unused_columns=not keep))
        assert [list(batch) for batch in spy.batches] == [keys, keys]
    assert spy.batches[0]["pixel_values"].shape == (4, 1, 1, 1)  # of two pairs
    with pytest.raises(ValueError, match="The dataset appears to be vision-related"):
        make(data.rename_column("pixel_values", "images"), ours(0), prepared)


# --- data sets that are tokenised already ---------------------------------------------------------


def test_trl_tokenises_always(make: Any, datasets: Any, ours: Any) -> None:
    with pytest.raises(KeyError, match="chosen"):
        make(datasets.Dataset.from_list(TOKENS), ours(0))
    text = {"prompt": "Which number", "chosen": " 1", "rejected": " 2"}
    data = make(datasets.Dataset.from_list([{**row, **text} for row in TOKENS]), ours(0)).train_dataset
    assert data[0]["prompt_ids"] == [2, 3]  # not those that were given


@pytest.mark.parametrize("kind", [None, "numpy", "torch"])
def test_prepared(make: Any, datasets: Any, prepared: Any, ours: Any, kind: str | None) -> None:
    data = datasets.Dataset.from_list(TOKENS)
    trainer = make(data.with_format(kind), ours(0), prepared)
    expected = make(data, None, prepared)
    assert losses(trainer) == losses(expected)
    assert trainer.evaluate(data)["eval_loss"] == expected.evaluate(data)["eval_loss"]


def test_trls_collator_adds_arrays_up(theirs: Any, datasets: Any) -> None:
    """Where prompt and answer are as long, or one has one token: silently."""
    row = {"prompt_ids": [5, 6], "chosen_ids": [7, 8], "rejected_ids": [9, 10]}
    batch = theirs(0)(list(datasets.Dataset.from_list([row]).with_format("numpy")))
    assert batch["input_ids"].tolist() == [[12, 14], [14, 16]]


# --- reference log-probabilities ------------------------------------------------------------------


def test_precomputed_reference(make: Any, pairs: Any, ours: Any) -> None:
    pairs = pairs.add_column("prompt_id", ["a"] * 4)
    spy = Spy(ours(0))
    trainer = make(pairs, spy, precompute_ref_log_probs=True)
    assert {"prompt", "chosen", "prompt_id", "prompt_ids"} <= spy.columns()
    assert list(spy.batches[-1]) == ["input_ids", "attention_mask", "completion_mask"]
    assert losses(trainer) == losses(make(pairs)) == losses(make(pairs, precompute_ref_log_probs=True))
    logps = {"ref_chosen_logps", "ref_rejected_logps"}
    assert spy.columns() == {*TOKENS[0], *logps}
    assert logps < set(spy.batches[-1])


def test_precomputed_reference_is_kept_for_another_max_length(
    make: Any, pairs: Any, ours: Any, datasets: Any, tmp_path: Path
) -> None:
    pairs.save_to_disk(tmp_path)
    pairs = datasets.load_from_disk(tmp_path)

    def train(max_length: int | None, *, told: bool = False) -> list[float]:
        options = {"max_length": max_length if told else None, "precompute_ref_log_probs": True}
        return losses(make(pairs, ours(0, max_length=max_length), **options))

    assert train(None) == [LN2, LN2]
    assert train(TRUNCATING) != [LN2, LN2]
    assert train(TRUNCATING, told=True) == [LN2, LN2]
    datasets.disable_caching()
    try:
        assert train(TRUNCATING) == [LN2, LN2]
    finally:
        datasets.enable_caching()


def test_streams_have_no_precomputed_reference(make: Any, pairs: Any, ours: Any) -> None:
    with pytest.raises(ValueError, match="not supported with IterableDataset"):
        make(pairs.to_iterable_dataset(), ours(0), precompute_ref_log_probs=True)


def test_own_reference_log_probabilities(make: Any, datasets: Any, prepared: Any, ours: Any) -> None:
    data = datasets.Dataset.from_list([{**row, "ref_chosen_logps": -1.0, "ref_rejected_logps": -9.0} for row in TOKENS])
    assert losses(make(data, ours(0), prepared)) == [LN2, LN2]  # given, and not used
    with pytest.raises(ValueError, match="duplicated"):
        make(data, ours(0), prepared, precompute_ref_log_probs=True)

    class WithReference(prepared):  # type: ignore[misc]
        def _precompute_ref_logps(self, dataset: Any, *_args: Any) -> Any:
            return dataset

    assert losses(make(data, ours(0), WithReference, precompute_ref_log_probs=True))[0] > 1


# --- accelerate and transformers ------------------------------------------------------------------


def test_trl_turns_dispatch_off(make: Any, datasets: Any, prepared: Any, ours: Any) -> None:
    stream = datasets.Dataset.from_list(TOKENS).to_iterable_dataset()
    trainer = make(stream, ours(0), prepared, accelerator_config={"dispatch_batches": True})
    assert trainer.accelerator.dispatch_batches is False
    assert len(losses(trainer)) == 2


@pytest.mark.parametrize(("dispatch", "tiles"), [(None, [1, 2]), (False, [1, 5])])
def test_accelerate_cuts_media(dispatch: Any, tiles: list[int]) -> None:
    """A batch of two pairs has 0 + 1, then 2 + 3 tiles."""
    accelerate = pytest.importorskip("accelerate")
    loader: Any = torch.utils.data.DataLoader(Stream(4), batch_size=2, collate_fn=COLLATOR)
    configuration = accelerate.DataLoaderConfiguration(dispatch_batches=dispatch)
    batches = list(accelerate.Accelerator(cpu=True, dataloader_config=configuration).prepare(loader))
    assert [len(batch["chosen_input_ids"]) for batch in batches] == [2, 2]
    assert [len(batch["pixel_values"]) for batch in batches] == tiles


class AnyModel(nn.Module):
    """Says nothing of its keys."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))
        self.seen: list[dict[str, Any]] = []

    def forward(self, **batch: Any) -> Any:
        self.seen.append(batch)
        return {"loss": self.bias.square().mean()}


class TextModel(AnyModel):
    """Names the keys of text; remembers the others."""

    def forward(
        self,
        chosen_input_ids: Any = None,
        chosen_labels: Any = None,
        rejected_input_ids: Any = None,
        rejected_labels: Any = None,
        **others: Any,
    ) -> Any:
        assert {len(chosen_input_ids), len(chosen_labels), len(rejected_input_ids), len(rejected_labels)} == {2}
        return super().forward(**others)


class LabelModel(AnyModel):
    def forward(self, labels: Any = None, **batch: Any) -> Any:
        assert labels is None
        return super().forward(**batch)


def transformers_trainer(model: nn.Module, folder: Path, data: Any, **options: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    if not transformers.utils.is_torch_available():
        pytest.skip("this transformers needs a newer torch")
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=2,
        per_device_eval_batch_size=2,
        max_steps=2,
        train_sampling_strategy="sequential",
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
        **options,
    )
    return transformers.Trainer(
        model=model, args=arguments, train_dataset=data, eval_dataset=Pairs(4), data_collator=COLLATOR
    )


def test_transformers_removes_columns(tmp_path: Path) -> None:
    text = TextModel()
    transformers_trainer(text, tmp_path, Pairs(4)).train()
    assert text.seen == [{}, {}]  # no image, and nobody said so
    with pytest.raises(KeyError, match="pass remove_unused_columns=False"):
        transformers_trainer(AnyModel(), tmp_path, Pairs(4)).train()
    everything = TextModel()
    transformers_trainer(everything, tmp_path, Pairs(4), remove_unused_columns=False).train()
    assert set(everything.seen[0]) == {"pixel_values", "image_flags", "margin"}


@pytest.mark.parametrize(("dispatch", "tiles"), [(None, 2), (False, 5)])
def test_transformers_cuts_media(tmp_path: Path, dispatch: Any, tiles: int) -> None:
    model = TextModel()
    accelerator = {"dispatch_batches": dispatch}
    transformers_trainer(
        model, tmp_path, Stream(4), remove_unused_columns=False, accelerator_config=accelerator
    ).train()
    assert len(model.seen[1]["pixel_values"]) == tiles


@pytest.mark.parametrize(
    ("model", "names", "has_loss"),
    [
        (TextModel, None, True),
        (AnyModel, None, False),
        (LabelModel, None, False),
        (LabelModel, ["chosen_labels", "rejected_labels"], True),
    ],
)
def test_evaluation(tmp_path: Path, model: type[nn.Module], names: list[str] | None, has_loss: Any) -> None:
    trainer = transformers_trainer(model(), tmp_path, Pairs(4), remove_unused_columns=False, label_names=names)
    assert ("eval_loss" in trainer.evaluate()) == has_loss


# --- the document ---------------------------------------------------------------------------------


@pytest.mark.parametrize("example", list(find_examples(str(DOCS))), ids=str)
def test_docs(example: CodeExample, eval_example: EvalExample, trl: Any) -> None:
    assert trl
    eval_example.set_config(line_length=120)
    eval_example.run_print_check(example)
