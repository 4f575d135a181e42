"""From a source (files, the hub, the embedded photographs) to uint8 images in memory."""

from rotvq.data_processing.sources import load
from rotvq.data_processing.splits import ImageData, ImageSplit, epoch_order

__all__ = ["ImageData", "ImageSplit", "epoch_order", "load"]
