"""Preference pairs about drawn shapes: an image-and-text data set that needs no download.

Every pair shows one shape, drawn anew in each of one to three tiles, asks about it, and has a right answer (chosen) and
a wrong one (rejected). Both are worded alike and wrong answers are right ones elsewhere, so nothing in the text tells
which of them is right: a model that does not look at the tiles of its pair stays at an accuracy of 0.5.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch.utils.data import Dataset

# Text is UTF-8 bytes, so ids 0 to 255 are taken; the special tokens come after them.
PAD: Final = 256
IMG_CONTEXT: Final = 257  # a place that the model fills with one embedding of a tile
EOS: Final = 258
VOCABULARY_SIZE: Final = 259

IGNORE_INDEX: Final = -100  # a label that no loss looks at
TILE_SIZE: Final = 16
TOKENS_PER_TILE: Final = 4
MAX_TILES: Final = 3

COLOURS: Final = {
    "red": (0.9, 0.1, 0.1),
    "green": (0.1, 0.8, 0.1),
    "blue": (0.1, 0.2, 0.9),
    "white": (0.9, 0.9, 0.9),
}
SHAPES: Final = ("ring", "square", "cross")
NUMBERS: Final = ("zero", "one", "two", "three")

QUESTIONS: Final = {
    "colour": ("What colour is it?", "Which colour is the {shape}?", "Name the colour of the {shape} in the tiles."),
    "shape": ("What is it?", "Which shape is it?", "Name the shape that is drawn in all of the tiles."),
    "describe": ("Describe it.", "What do you see?", "Say what is drawn in the tiles."),
}
ANSWERS: Final = {
    "colour": ("It is {colour}.", "The {shape} is {colour}.", "{colour}"),
    "shape": ("It is a {shape}.", "A {shape} is drawn there.", "{shape}"),
    "describe": ("It is a {colour} {shape}.", "I see a {shape} that is {colour}.", "{colour} {shape}"),
}
# What is said after the answer has nothing to do with it; it is there to make the lengths vary as real answers do.
REMARKS: Final = (
    "This is easy to see.",
    "I looked twice.",
    "The background is grey.",
    "The edges are a little rough.",
)


@dataclass(frozen=True)
class Tile:
    """What is drawn in one tile."""

    shape: str
    colour: str


@dataclass(frozen=True)
class Pair:
    """One preference pair, before it is drawn and turned into tokens."""

    tiles: tuple[Tile, ...]
    question: str
    chosen: str
    rejected: str


def make_pair(rng: random.Random) -> Pair:
    """Draw one shape in one to three tiles and a question, and answer it rightly and wrongly in the same words."""
    shape, colour = rng.choice(SHAPES), rng.choice(tuple(COLOURS))
    tiles = (Tile(shape, colour),) * rng.randint(1, MAX_TILES)
    kind = rng.choice(tuple(QUESTIONS))
    if kind == "shape" or (kind == "describe" and rng.random() < 0.5):
        wrong = Tile(rng.choice([other for other in SHAPES if other != shape]), colour)
    else:
        wrong = Tile(shape, rng.choice([other for other in COLOURS if other != colour]))
    question = rng.choice(QUESTIONS[kind]).format(shape=shape)
    wording = rng.choice(ANSWERS[kind])
    chosen, rejected = (
        " ".join([wording.format(shape=tile.shape, colour=tile.colour), *_remarks(rng)]) for tile in (tiles[0], wrong)
    )
    return Pair(tiles, question, chosen, rejected)


def _remarks(rng: random.Random) -> list[str]:
    return rng.sample(REMARKS, rng.choice((0, 0, 0, 1, 1, 2, 4)))


def draw_tile(tile: Tile, rng: random.Random) -> np.ndarray:
    """Draw the shape at a random place in a random size on a random grey: float32 `[3, TILE_SIZE, TILE_SIZE]`."""
    radius = rng.uniform(5.0, 7.0)
    y, x = np.ogrid[:TILE_SIZE, :TILE_SIZE]
    dy = y - rng.uniform(radius, TILE_SIZE - 1 - radius)
    dx = x - rng.uniform(radius, TILE_SIZE - 1 - radius)
    distance = np.maximum(abs(dx), abs(dy))
    if tile.shape == "square":
        inside = distance <= 0.9 * radius
    elif tile.shape == "ring":
        inside = abs(np.hypot(dx, dy) - 0.75 * radius) <= 0.25 * radius
    else:
        inside = (distance <= radius) & (np.minimum(abs(dx), abs(dy)) <= 0.25 * radius)
    pixels = np.full((3, TILE_SIZE, TILE_SIZE), rng.uniform(0.0, 0.2), dtype=np.float32)
    pixels[:, inside] = np.array(COLOURS[tile.colour], dtype=np.float32)[:, None]
    return (pixels - 0.25) / np.float32(0.3)


def encode_prompt(pair: Pair) -> list[int]:
    """Turn the tiles and the question into token ids, with `TOKENS_PER_TILE` places for each tile."""
    ids: list[int] = []
    for number, _ in enumerate(pair.tiles, start=1):
        ids += [*f"{number}:".encode(), *[IMG_CONTEXT] * TOKENS_PER_TILE]
    return [*ids, *f"\n{pair.question}\n".encode()]


def encode_pair(pair: Pair, rng: random.Random) -> dict[str, torch.Tensor]:
    """Make the sample that the collator gets, in InternVL's format."""
    prompt = encode_prompt(pair)
    pixels = np.stack([draw_tile(tile, rng) for tile in pair.tiles])
    sample = {"pixel_values": torch.from_numpy(pixels), "image_flags": torch.ones(len(pixels), dtype=torch.int64)}
    for side, text in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        answer = [*text.encode(), EOS]
        sample[f"{side}_input_ids"] = torch.tensor(prompt + answer)
        sample[f"{side}_labels"] = torch.tensor([IGNORE_INDEX] * len(prompt) + answer)
    return sample


class ShapePairs(Dataset[dict[str, torch.Tensor]]):
    """`size` preference pairs. A pair depends on split, seed and index alone, so every worker makes the same ones."""

    def __init__(self, split: str, size: int, seed: int) -> None:
        """Remember which pairs these are; they are made when they are asked for."""
        self.split = split
        self.size = size
        self.seed = seed

    def __len__(self) -> int:
        """Return the number of pairs."""
        return self.size

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Make the pair at `index`."""
        if not 0 <= index < self.size:
            raise IndexError(index)
        rng = random.Random(f"{self.split} {self.seed} {index}")
        return encode_pair(make_pair(rng), rng)
