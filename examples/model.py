"""A vision-language model that is small enough to learn on two CPU cores: bytes and image tiles in, logits out.

As in InternVL, the text holds a fixed number of IMG_CONTEXT tokens for each tile, and their embeddings are replaced by
what the vision encoder makes of the tiles, in order. So the tiles must arrive in the order of the rows.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from shapes import IMG_CONTEXT, TILE_SIZE, TOKENS_PER_TILE, VOCABULARY_SIZE

MAX_LENGTH = 512


class TileEncoder(nn.Module):
    """Patches, then a perceptron over the whole tile: `[tiles, 3, 16, 16]` to `[tiles * TOKENS_PER_TILE, width]`."""

    def __init__(self, width: int) -> None:
        """Make the layers."""
        super().__init__()
        patches = (TILE_SIZE // 4) ** 2
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, kernel_size=4, stride=4),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(16 * patches, 128),
            nn.GELU(),
            nn.Linear(128, TOKENS_PER_TILE * width),
            nn.Unflatten(1, (TOKENS_PER_TILE, width)),
            nn.LayerNorm(width),
        )

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return one row for each place in the text, tile after tile."""
        encoded: torch.Tensor = self.layers(pixel_values)
        return encoded.flatten(0, 1)


class Block(nn.Module):
    """A pre-norm transformer block: attention, then a two-layer perceptron."""

    def __init__(self, width: int, heads: int) -> None:
        """Make the layers."""
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, hidden: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Mix the places of each row, as far as `visible` (`[B, 1, L, L]`, True = may look) allows."""
        rows, length, width = hidden.shape
        projected = self.query_key_value(self.attention_norm(hidden))
        query, key, value = projected.view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        hidden = hidden + self.output(mixed.transpose(1, 2).reshape(rows, length, width))
        output: torch.Tensor = hidden + self.mlp(hidden)
        return output


class TinyVisionLanguageModel(nn.Module):
    """A causal language model over bytes that can look at tiles."""

    def __init__(self, width: int = 64, heads: int = 4, depth: int = 2) -> None:
        """Make the layers."""
        super().__init__()
        self.tile_encoder = TileEncoder(width)
        self.token_embedding = nn.Embedding(VOCABULARY_SIZE, width)
        self.position_embedding = nn.Embedding(MAX_LENGTH, width)
        self.neighbours = nn.Conv1d(width, width, kernel_size=9, groups=width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCABULARY_SIZE)
        # Embeddings of torch's default size drown what the tiles say: learning takes three times as long.
        for embedding in (self.token_embedding, self.position_embedding):
            nn.init.normal_(embedding.weight, std=0.1)

    def encode_tiles(self, pixel_values: torch.Tensor, image_flags: torch.Tensor) -> torch.Tensor:
        """Encode the real tiles; a tile with flag 0 is only there to fill a batch that has no image."""
        encoded: torch.Tensor = self.tile_encoder(pixel_values[image_flags == 1])
        return encoded

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, tiles: torch.Tensor) -> torch.Tensor:
        """Return logits `[B, L, VOCABULARY_SIZE]`."""
        is_tile = input_ids == IMG_CONTEXT
        if int(is_tile.sum()) != len(tiles):
            message = f"the text has {int(is_tile.sum())} places for tiles, the tiles fill {len(tiles)}"
            raise ValueError(message)
        hidden = self.token_embedding(input_ids).masked_scatter(is_tile[:, :, None], tiles)

        # Positions count real tokens only, so that padding, on whichever side, changes nothing.
        is_real = attention_mask.bool()
        hidden = hidden + self.position_embedding((is_real.cumsum(dim=1) - 1).clamp(min=0))
        hidden = hidden + self.neighbours(functional.pad(hidden.transpose(1, 2), (8, 0))).transpose(1, 2)
        length = input_ids.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=input_ids.device).tril()
        visible = causal & is_real[:, None, None, :]
        for block in self.blocks:
            hidden = block(hidden, visible)
        logits: torch.Tensor = self.head(self.norm(hidden))
        return logits
