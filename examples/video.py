"""The layer on a 3-D grid: videos of a moving square, one token per 2 frames of 4x4 pixels.

python examples/video.py
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rotvq import GroupedQuantizer, Restart, VectorQuantizer

FRAMES, SIDE = 8, 16
torch.manual_seed(0)


def videos(n: int) -> Tensor:
    """A bright square that moves over a dark background, (n, 1, FRAMES, SIDE, SIDE) in [-1, 1]."""
    start, speed = SIDE * torch.rand(n, 2, 1), 3 * torch.rand(n, 2, 1) - 1.5
    place = (start + speed * torch.arange(FRAMES)).remainder(SIDE)
    near = (torch.arange(SIDE) - place[..., None]).abs() < 2.5
    return (near[:, 0, :, :, None] & near[:, 1, :, None, :]).float()[:, None] * 2 - 1


encoder = nn.Sequential(
    nn.Conv3d(1, 32, (4, 4, 4), stride=(2, 2, 2), padding=1),
    nn.GELU(),
    nn.Conv3d(32, 16, (3, 4, 4), stride=(1, 2, 2), padding=1),
)
quantizer = GroupedQuantizer(
    [VectorQuantizer(64, 8, channel_dim=1, init="data", restart=Restart()) for _ in range(2)]
)
decoder = nn.Sequential(
    nn.ConvTranspose3d(16, 32, (3, 4, 4), stride=(1, 2, 2), padding=1),
    nn.GELU(),
    nn.ConvTranspose3d(32, 1, (4, 4, 4), stride=(2, 2, 2), padding=1),
    nn.Tanh(),
)
model = nn.ModuleList([encoder, quantizer, decoder])
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

for step in range(150):
    x = videos(16)
    out = quantizer(encoder(x))
    error = F.mse_loss(decoder(out.z_q), x)
    (error + 0.25 * out.commitment_loss).backward()
    optimizer.step()
    optimizer.zero_grad()
    if step % 25 == 24:
        print(f"step {step + 1}: MSE {error:.4f}")

bits = 12 * out.indices[0, ..., 0].numel()
print(f"{tuple(x.shape)} -> tokens {tuple(out.indices.shape)}: {bits} bits per video")
