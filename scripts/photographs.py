"""Write a folder of real 64x64 photos: crops of the photos in installed packages.

Requires `pip install scikit-image`. Test images come from the middle band of each photo, training
images from both sides of it, at full and at half resolution.

    python scripts/photographs.py FOLDER
    rotvq train --preset best --data FOLDER --training.epochs 4 --out runs/photographs
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.cbook import get_sample_data
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_image

from rotvq.data_processing.photos import patches
from rotvq.data_processing.resizing import Target

folder = Path(sys.argv[1])
photographs = {
    "astronaut": data.astronaut(),
    "cat": data.chelsea(),
    "coffee": data.coffee(),
    "flower": load_sample_image("flower.jpg"),
    "motorcycle": data.stereo_motorcycle()[0],
    "officer": np.asarray(Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False))),
    "pagoda": load_sample_image("china.jpg"),
    "rocket": data.rocket(),
    "sky": data.hubble_deep_field(),
}
names, crops = [*photographs], patches([*photographs.values()], Target((64, 64)))
for split, images in (("train", crops.train), ("test", crops.test)):
    for number, (image, label) in enumerate(zip(images.images, images.labels, strict=True)):
        path = folder / split / names[label] / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
    print(f"{folder / split}: {number + 1} images")
