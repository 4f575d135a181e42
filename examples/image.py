"""The layer in your own image autoencoder: embedded photographs, 8x8 tokens of 8 bits each.

python examples/image.py
"""

import torch
import torch.nn.functional as F
from torch import nn

from rotvq import EMA, Restart, VectorQuantizer
from rotvq.data_processing import load

torch.manual_seed(0)
pixels = torch.from_numpy(load("embedded:photos").train.images)

encoder = nn.Sequential(
    nn.Conv2d(3, 32, 4, stride=2, padding=1), nn.GELU(), nn.Conv2d(32, 16, 4, stride=2, padding=1)
)
quantizer = VectorQuantizer(
    256, 16, channel_dim=1, update=EMA(0.9), init="data", restart=Restart(), estimator="rotation"
)
decoder = nn.Sequential(
    nn.ConvTranspose2d(16, 32, 4, stride=2, padding=1),
    nn.GELU(),
    nn.ConvTranspose2d(32, 3, 4, stride=2, padding=1),
    nn.Tanh(),
)
model = nn.ModuleList([encoder, quantizer, decoder])
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

for step in range(300):
    x = pixels[torch.randint(len(pixels), (32,))].float() / 127.5 - 1
    out = quantizer(encoder(x))
    error = F.mse_loss(decoder(out.z_q), x)
    (error + 0.25 * out.commitment_loss).backward()
    optimizer.step()
    optimizer.zero_grad()
    if step % 50 == 49:
        used = len(out.indices.unique())
        print(f"step {step + 1}: MSE {error:.4f}, {used} of 256 codes in this batch")

model.eval()
with torch.no_grad():
    tokens = quantizer.encode(encoder(x))
    print(f"{tuple(x.shape)} -> tokens {tuple(tokens.shape)}, {tokens[0].numel()} bytes per image")
    assert torch.equal(decoder(quantizer.lookup(tokens)), decoder(quantizer(encoder(x)).z_q))
