"""The moving average of the weights, and mirrored images."""

import torch
from safetensors.torch import load_file

from rotvq.training.images import mirrored

DECAY = 0.8


def test_what_is_saved_is_the_average_with_the_codebook_as_it_is(tmp_path, data, tiny, begin):
    trainer = begin(tiny(training={"ema_decay": DECAY, "epochs": 2}), data, tmp_path / "run")
    weight, average = trainer.model.decoder[-2].weight, None

    def look(*_):
        nonlocal average
        now = weight.detach().clone()
        average = now if average is None else average * DECAY + now * (1 - DECAY)

    trainer.state.optimizer.register_step_post_hook(look)
    trainer.run()
    saved = load_file(tmp_path / "run/model.safetensors")
    name = next(n for n, p in trainer.model.named_parameters() if p is weight)
    torch.testing.assert_close(saved[name], average)
    assert (saved[name] - weight).abs().max() > 1e-4
    assert torch.equal(
        saved["quantizer.codebook.embeddings"], trainer.model.quantizer.codebook.embeddings
    )
    assert torch.equal(
        saved["quantizer.codebook.cluster_size"], trainer.model.quantizer.codebook.cluster_size
    )


def test_the_average_is_what_is_tested(tmp_path, data, tiny, begin):
    trainer = begin(tiny(training={"ema_decay": DECAY, "epochs": 1}), data, tmp_path / "run")
    tested = trainer.run()["metrics"]["mse"]
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.zero_()
    from rotvq.evaluation.evaluate import evaluate

    again = evaluate(trainer.eval_model, trainer.images.test, beta=0.25)["metrics"]["mse"]
    assert again == tested


def test_about_half_of_the_images_are_mirrored_whole():
    torch.manual_seed(0)
    images = torch.randint(0, 256, (200, 3, 4, 6), dtype=torch.uint8)
    out = mirrored(images, torch.rand(200) < 0.5)
    same = (out == images).flatten(1).all(1)
    turned = (out == images.flip(3)).flatten(1).all(1)
    assert (same ^ turned).all()
    assert 60 < turned.sum() < 140
