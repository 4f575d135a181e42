"""Measure a trained model with the PSNR and SSIM that published tables use.

Needs `pip install scikit-image`. The test images are decoded from their indices and clipped to the
range of pixels; every number is a mean over images. `ssim_uniform_7x7` is
`skimage.metrics.structural_similarity` with its default arguments, `ssim_gaussian_11x11` the
original definition. `rotvq evaluate` uses the Gaussian window too, but mirrors the borders instead
of leaving them out, and does not clip.

    python scripts/ssim_conventions.py RUN DATA > RECORD.json
"""

import json
import sys

import numpy as np
import skimage
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from rotvq import VQVAE
from rotvq.data_processing import load

run, source = sys.argv[1:]
model = VQVAE.from_pretrained(run).eval()
x = torch.from_numpy(load(source).test.images).float() / 127.5 - 1
with torch.inference_mode():
    y = torch.cat([model.decode(model.encode(part)) for part in x.split(128)])
images, decoded = (np.clip(t.double().numpy() / 2 + 0.5, 0, 1) for t in (x, y))


def mean_over_images(metric, **options):
    pairs = zip(images, decoded, strict=True)
    return float(np.mean([metric(a, b, data_range=1, **options) for a, b in pairs]))


gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
record = {
    "images": len(images),
    "psnr": mean_over_images(peak_signal_noise_ratio),
    "ssim_uniform_7x7": mean_over_images(structural_similarity, channel_axis=0),
    "ssim_gaussian_11x11": mean_over_images(structural_similarity, channel_axis=0, **gaussian),
    "versions": {"scikit-image": skimage.__version__, "torch": torch.__version__},
}
json.dump(record, sys.stdout, indent=1)
