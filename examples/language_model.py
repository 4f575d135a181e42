"""A tiny language model on tokens: a tokenizer, a file of tokens, and a transformer trained on it.

With a token file or a folder of shards of your own (of one codebook, and images of one size), only
the transformer is trained.

    python examples/language_model.py [TOKENS]
"""

import math
import sys
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

import rotvq

torch.manual_seed(0)


def stripes(n: int) -> Tensor:
    """Images (n, 3, 32, 32) in [-1, 1] of stripes with random phase, direction and color."""
    wave = (torch.arange(32) * math.tau / 16 + math.tau * torch.rand(n, 1)).sin()
    images = wave[:, None, None, :] * torch.rand(n, 3, 1, 1)
    images = images.expand(n, 3, 32, 32)
    return torch.where(torch.rand(n, 1, 1, 1) < 0.5, images, images.mT)


def make_tokens(path: Path) -> None:
    """Train a tokenizer for 150 steps, and save the tokens of 512 images."""
    quantizer = rotvq.VectorQuantizer(64, 8, channel_dim=1, init="data", restart=rotvq.Restart())
    model = rotvq.VQVAE(width=16, dim=8, depth=1, quantizer=quantizer)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(150):
        x = stripes(16)
        out = model(x)
        out.loss().backward()
        optimizer.step()
        optimizer.zero_grad()
        if step in (0, 74, 149):
            print(f"tokenizer, step {step + 1}: MSE {out.reconstruction_loss:.5f}")
    pixels = ((stripes(512) + 1) * 127.5).round().byte().permute(0, 2, 3, 1)
    rotvq.save_tokens(rotvq.encode_images(model, pixels.numpy()), path)


class LanguageModel(nn.Module):
    """A causal transformer over the tokens of an image, row by row.

    Args:
        codes: size of the codebook, or of all of them together.
        length: tokens of an image.
    """

    def __init__(self, codes: int, length: int, width: int = 64) -> None:
        super().__init__()
        self.tokens = nn.Embedding(codes + 1, width)  # the last one begins an image
        self.places = nn.Parameter(0.02 * torch.randn(length, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, codes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (b, length, codes) for each token (b, length), from those before it."""
        begin = tokens.new_full((len(tokens), 1), self.tokens.num_embeddings - 1)
        x = self.tokens(torch.cat([begin, tokens[:, :-1]], 1)) + self.places
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return self.head(self.layers(x, mask, is_causal=True))


with tempfile.TemporaryDirectory() as folder:
    path = Path(sys.argv[1] if len(sys.argv) > 1 else f"{folder}/tokens.safetensors")
    if len(sys.argv) < 2:
        make_tokens(path)
    dataset = rotvq.TokenDataset(path)
    if len(dataset.codec.codebook_sizes) > 1 or dataset.codec.scales:
        sys.exit("expected tokens of a single codebook; encode the images with such a model")
    loader = DataLoader(dataset, batch_size=32, shuffle=True)
    model = LanguageModel(max(dataset.codec.codebook_sizes), dataset[0][0].numel())
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for epoch in range(8):
        total = 0.0
        for indices, _, _ in loader:
            tokens = indices.flatten(1)
            loss = F.cross_entropy(model(tokens).mT, tokens)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total += loss.item() * len(tokens)
        bits = total / len(dataset) / math.log(2)
        print(f"epoch {epoch + 1}: {bits:.2f} of {dataset.codec.bits} bits per token")

print(f"{len(dataset):,} images -> tokens {tuple(indices.shape[1:])}, {bits:.2f} bits for each")
assert bits < dataset.codec.bits
