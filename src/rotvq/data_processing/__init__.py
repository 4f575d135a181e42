"""Loads datasets (files, the Hugging Face Hub, bundled photos) as uint8 images in memory."""

from rotvq.data_processing.sources import load
from rotvq.data_processing.splits import ImageData, ImageSplit, epoch_coins, epoch_order

__all__ = ["ImageData", "ImageSplit", "epoch_coins", "epoch_order", "load"]
