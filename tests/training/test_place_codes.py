"""A codebook that starts from the data sees enough of it."""

import torch

from rotvq.evaluation.pixels import normalized
from rotvq.quantization import VectorQuantizer
from rotvq.training.codebooks import VECTORS_PER_CODE
from rotvq.training.trainer import Trainer


def seen_by(trainer: Trainer, monkeypatch) -> list:
    seen = []
    original = VectorQuantizer.initialize_codebook

    def look(self, z, mask=None):
        seen.append(z)
        original(self, z, mask)

    monkeypatch.setattr(VectorQuantizer, "initialize_codebook", look)
    trainer.run()
    return seen


def test_a_small_codebook_starts_from_the_first_batch(tmp_path, data, tiny, begin, monkeypatch):
    config = tiny(quantizer={"init": "data"}, training={"epochs": 1, "precision": "fp32"})
    trainer = begin(config, data, tmp_path / "run")
    encoder = trainer.model.encoder
    order = torch.from_numpy(loop_order(trainer))
    with torch.no_grad():
        expected = encoder(normalized(trainer.images.train[order[:8]]))
    (z,) = seen_by(trainer, monkeypatch)
    torch.testing.assert_close(z, expected)


def test_a_large_codebook_starts_from_more(tmp_path, data, tiny, begin, monkeypatch):
    """48 codes want 96 vectors: 24 images of 2x2 tokens, though a batch has 8."""
    config = tiny(
        quantizer={"init": "data", "codebook_size": 48},
        training={"epochs": 1, "micro_batch_size": 4},
    )
    (z,) = seen_by(begin(config, data, tmp_path / "run"), monkeypatch)
    assert z.shape == (VECTORS_PER_CODE * 48 // 4, 8, 2, 2)


def test_a_codebook_may_be_larger_than_the_number_of_vectors(
    tmp_path, data, tiny, begin, monkeypatch
):
    config = tiny(quantizer={"init": "data", "codebook_size": 500}, training={"epochs": 1})
    trainer = begin(config, data, tmp_path / "run")
    (z,) = seen_by(trainer, monkeypatch)
    assert len(z) == len(trainer.images.train)
    assert trainer.model.quantizer.codebook.embeddings.isfinite().all()


def loop_order(trainer: Trainer):
    from rotvq.data_processing import epoch_order

    return epoch_order(len(trainer.images.train), trainer.config.training.seed, 0)
