"""The layer on sequences of different lengths: padded sounds and a residual quantizer.

Padding is masked: its tokens get index -1 and affect neither codes nor losses.

    python examples/sequence.py
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rotvq import ResidualQuantizer, Restart, VectorQuantizer

STRIDE, LENGTH = 8, 512
torch.manual_seed(0)


def sounds(n: int) -> tuple[Tensor, Tensor]:
    """Chords of three decaying tones (n, 1, LENGTH), and their lengths in samples."""
    time = torch.arange(LENGTH) / LENGTH
    tones, phase = 4 + 28 * torch.rand(n, 3, 1), 6.28 * torch.rand(n, 3, 1)
    wave = (torch.sin(6.28 * tones * time + phase) * torch.exp(-3 * time)).mean(1, keepdim=True)
    lengths = STRIDE * torch.randint(LENGTH // STRIDE // 2, LENGTH // STRIDE + 1, (n,))
    return wave * (torch.arange(LENGTH) < lengths[:, None, None]), lengths


encoder = nn.Sequential(
    nn.Conv1d(1, 32, 8, stride=4, padding=2), nn.GELU(), nn.Conv1d(32, 16, 4, stride=2, padding=1)
)
quantizer = ResidualQuantizer(
    [VectorQuantizer(64, 16, channel_dim=1, init="data", restart=Restart()) for _ in range(4)]
)
decoder = nn.Sequential(
    nn.ConvTranspose1d(16, 32, 4, stride=2, padding=1),
    nn.GELU(),
    nn.ConvTranspose1d(32, 1, 8, stride=4, padding=2),
)
model = nn.ModuleList([encoder, quantizer, decoder])
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

for step in range(300):
    x, lengths = sounds(32)
    mask = torch.arange(LENGTH // STRIDE) < (lengths // STRIDE)[:, None]
    out = quantizer(encoder(x), mask)
    heard = mask.repeat_interleave(STRIDE, 1)[:, None]
    error = F.mse_loss(decoder(out.z_q)[heard], x[heard])
    (error + 0.25 * out.commitment_loss).backward()
    optimizer.step()
    optimizer.zero_grad()
    if step % 50 == 49:
        print(f"step {step + 1}: MSE {error:.5f} (signal variance {x[heard].var():.5f})")

print(
    f"{tuple(x.shape)} -> tokens {tuple(out.indices.shape)}, {int((~mask).sum())} positions masked"
)
assert (out.indices[~mask] == -1).all()
