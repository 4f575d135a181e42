"""Evaluation over a split: numbers from one pass over all images at once, and nothing changed."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from rotvq import run_folder
from rotvq.evaluation.evaluate import (
    PROTOCOL,
    SEVERAL_CODEBOOKS,
    batches,
    evaluate,
    searched,
    totals_over,
)
from rotvq.evaluation.pixels import normalized
from rotvq.evaluation.ssim import gaussian_ssim, structural_error, uniform_ssim
from rotvq.model import VQVAE
from rotvq.model.error_functions import squared_error
from rotvq.model.level_search import LevelSearch
from rotvq.quantization import (
    ESTIMATORS,
    FiniteScalarQuantizer,
    GroupedQuantizer,
    VectorQuantizer,
)

DISCRETE = sorted(set(ESTIMATORS) - {"reflection"})


def test_pixels_are_normalized_to_one():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    x = normalized(levels)
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)
    expected = np.arange(256) / 127.5 - 1
    np.testing.assert_allclose(x.flatten().numpy(), expected, atol=1e-6)
    assert levels.flatten()[200] == 200, "the images themselves stay"


def test_batches_are_all_images_in_order(make_images):
    images = make_images(7)
    parts = list(batches(images, 3, torch.nn.Linear(2, 2)))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert torch.equal(torch.cat(parts), normalized(images))


@pytest.mark.parametrize("batch_size", [1, 5, 12, 100])
def test_totals_do_not_depend_on_batches(make_model, make_images, batch_size):
    model, images = make_model(), make_images()
    with torch.no_grad():
        whole = model(normalized(images))
    totals = totals_over(model, images, batch_size)
    means = totals.means(0.25)
    assert means.reconstruction_loss == pytest.approx(whole.reconstruction_loss.item(), rel=1e-5)
    assert means.codebook_loss == pytest.approx(whole.codebook_loss.item(), rel=1e-5)
    assert means.commitment_loss == pytest.approx(whole.commitment_loss.item(), rel=1e-5)
    assert means.loss == pytest.approx(whole.loss(0.25).item(), rel=1e-5)
    counts = torch.bincount(whole.indices.flatten(), minlength=16)
    assert torch.equal(totals.counts, counts)
    assert totals.images == 12


def test_every_metric_equals_its_definition(make_model, make_images):
    model, images = make_model(), make_images()
    batch_sizes = []
    record = evaluate(
        model, images, beta=0.5, split="test", batch_size=5, progress=batch_sizes.append
    )
    assert batch_sizes == [5, 5, 2]
    x = normalized(images)
    with torch.no_grad():
        whole = model(x)
        decoded = model.decode(model.encode(x)).double().numpy()
    x = x.double().numpy()
    metrics = record["metrics"]
    each = ((decoded - x) ** 2).mean((1, 2, 3))
    assert metrics["mse"] == pytest.approx(each.mean(), rel=1e-5)
    assert metrics["psnr"] == pytest.approx(10 * np.log10(4 / each.mean()), rel=1e-5)
    assert metrics["psnr_per_image"] == pytest.approx((10 * np.log10(4 / each)).mean(), rel=1e-5)
    assert metrics["psnr_per_image"] != pytest.approx(metrics["psnr"], rel=1e-4)
    pair = torch.from_numpy(decoded), torch.from_numpy(x)
    assert metrics["ssim"] == pytest.approx(gaussian_ssim(*pair).mean().item(), abs=1e-4)
    uniform = uniform_ssim(*pair).mean().item()
    assert metrics["ssim_uniform_7x7"] == pytest.approx(uniform, abs=1e-4)
    assert abs(metrics["ssim"] - uniform) > 1e-3
    counts = np.bincount(whole.indices.flatten(), minlength=16)
    assert record["counts"] == counts.tolist()
    p = counts[counts > 0] / counts.sum()
    assert metrics["perplexity"] == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-5)
    assert metrics["codes_used"] == (counts > 0).sum() > 1
    assert metrics["usage"] == pytest.approx((counts > 0).mean())
    assert metrics["loss"] == pytest.approx(whole.loss(0.5).item(), rel=1e-5)
    assert metrics["codebook_loss"] == pytest.approx(whole.codebook_loss.item(), rel=1e-5)
    assert metrics["commitment_loss"] == pytest.approx(whole.commitment_loss.item(), rel=1e-5)
    assert metrics["bits_per_image"] == 4 * 4 * 4
    assert metrics["bits_per_pixel"] == 4 * 4 * 4 / 256
    assert (record["format"], record["split"], record["images"]) == (2, "test", 12)


def test_several_codebooks_are_listed_and_their_bits_added(make_images):
    torch.manual_seed(0)
    grids = [
        FiniteScalarQuantizer(levels, channel_dim=1) for levels in ([4, 4], [3, 5], [8, 2, 2, 2])
    ]
    model = VQVAE(width=8, dim=8, depth=1, quantizer=GroupedQuantizer(grids)).eval()
    record = evaluate(model, make_images(), beta=0.25, batch_size=5)
    with torch.no_grad():
        indices = model.encode(normalized(make_images())).flatten(0, 2)
    counts = [np.bincount(indices[:, i], minlength=k) for i, k in enumerate((16, 15, 64))]
    assert record["counts"] == np.concatenate(counts).tolist()
    assert [each["size"] for each in record["codebooks"]] == [16, 15, 64]
    assert [each["codes_used"] for each in record["codebooks"]] == [(c > 0).sum() for c in counts]
    metrics = record["metrics"]
    for name in ("perplexity", "usage"):
        mean = np.mean([each[name] for each in record["codebooks"]])
        assert metrics[name] == pytest.approx(mean)
    assert metrics["codes_used"] == sum((c > 0).sum() for c in counts)
    assert metrics["bits_per_image"] == pytest.approx(16 * np.log2(16 * 15 * 64))
    assert record["protocol"] == PROTOCOL | SEVERAL_CODEBOOKS
    assert json.loads(json.dumps(record)) == record


@pytest.mark.parametrize("estimator", DISCRETE)
def test_indices_alone_give_the_images_of_the_forward_pass(make_model, make_images, estimator):
    model, images = make_model(estimator), make_images()
    x = normalized(images)
    with torch.no_grad():
        forward = model(x)
        assert torch.equal(model.decode(forward.indices), forward.reconstruction)
    metrics = evaluate(model, images, beta=0.25)["metrics"]
    assert metrics["mse"] == pytest.approx(metrics["forward_mse"], rel=1e-6)


def test_the_released_reflection_decodes_to_other_images(make_model, make_images):
    model, images = make_model("reflection"), make_images()
    metrics = evaluate(model, images, beta=0.25)["metrics"]
    assert abs(metrics["mse"] - metrics["forward_mse"]) > 1e-3 * metrics["mse"]
    with torch.no_grad():
        forward = model(normalized(images)).reconstruction_loss.item()
    assert metrics["forward_mse"] == pytest.approx(forward, rel=1e-5)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("measure", ["evaluate", "totals"])
def test_nothing_in_the_model_changes(make_model, make_images, training, measure):
    model, images = make_model().train(training), make_images()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    pixels, state = images.clone(), torch.get_rng_state()
    if measure == "evaluate":
        evaluate(model, images, beta=0.25)
    else:
        totals_over(model, images, 5)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert all(module.training is training for module in model.modules())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(images, pixels)
    assert torch.equal(torch.get_rng_state(), state)
    codebook = model.quantizer.codebook
    assert not codebook._n.any(), "statistics of a split must not reach the next training step"


def test_the_record_is_json_and_states_its_protocol(make_model, make_images):
    record = evaluate(make_model(), make_images(), beta=0.25, split="train")
    assert json.loads(json.dumps(record)) == record
    assert record["split"] == "train"
    assert set(record["metrics"]) == {
        "mse", "forward_mse", "psnr", "psnr_per_image", "ssim", "ssim_uniform_7x7", "sharpness",
        "loss", "codebook_loss", "commitment_loss", "relative_error", "perplexity", "usage",
        "codes_used", "bits_per_image", "bits_per_pixel",
    }  # fmt: skip
    assert record["protocol"] == PROTOCOL
    assert {"images", "range", "precision", "mse", "psnr", "perplexity"} <= set(PROTOCOL)
    assert {"ssim", "ssim_uniform_7x7"} <= set(PROTOCOL)
    assert all(isinstance(text, str) and len(text) > 20 for text in PROTOCOL.values())


@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 16), (16, 8)])
def test_ssim_of_tiny_images_is_nan(make_model, make_images, height, width):
    metrics = evaluate(make_model(), make_images(3, 3, height, width), beta=0.25)["metrics"]
    assert math.isnan(metrics["ssim"])
    assert all(math.isfinite(value) for name, value in metrics.items() if name != "ssim")


def test_gray_and_rectangular_images(make_model, make_images):
    record = evaluate(make_model(channels=1), make_images(3, 1, 16, 24), beta=0.25)
    assert record["metrics"]["bits_per_image"] == 4 * 6 * 4
    assert record["metrics"]["bits_per_pixel"] == 4 * 6 * 4 / (16 * 24)
    assert -1 < record["metrics"]["ssim"] < 1
    assert sum(record["counts"]) == 3 * 24


def test_the_record_of_a_search(make_model, make_images):
    model, images = make_model(), make_images()
    plain = evaluate(model, images, beta=0.25)
    record = evaluate(model, images, beta=0.25, search=LevelSearch(model, 3))
    x = normalized(images)
    found = model.encode(x, effort=3)
    error = (model.decode(found) - x).square().mean((1, 2, 3)).double()
    metrics = record["metrics"]
    assert metrics["mse"] == pytest.approx(error.mean().item(), rel=1e-5)
    assert metrics["mse"] < plain["metrics"]["mse"]
    assert metrics["psnr_per_image"] == pytest.approx((10 * (4 / error).log10()).mean().item())
    assert record["counts"] == found.flatten().bincount(minlength=16).tolist()
    assert record["counts"] != plain["counts"]
    same = ("forward_mse", "loss", "codebook_loss", "commitment_loss", "relative_error")
    assert all(metrics[name] == plain["metrics"][name] for name in same)
    assert metrics.keys() == plain["metrics"].keys()
    assert record["effort"] == 3 and 0 < record["seconds_per_image"] < record["seconds"]
    assert record["protocol"] == PROTOCOL | searched(squared_error)
    assert record.keys() - plain.keys() == {"effort", "seconds_per_image"}
    assert evaluate(model, images, beta=0.25, search=LevelSearch(model, 3))["metrics"] == metrics


def test_a_search_for_structure_raises_the_ssim(make_model, make_images):
    model, images = make_model(), make_images()
    records = [
        evaluate(model, images, beta=0.25, search=LevelSearch(model, 3), error=error)
        for error in (squared_error, structural_error)
    ]
    plain, tuned = (record["metrics"] for record in records)
    assert tuned["ssim"] > plain["ssim"]
    told = [record["protocol"]["error"] for record in records]
    assert told[0] == "the squared error" and "0.03 (1 - SSIM)" in told[1]


def test_a_frozen_part_of_a_model_in_training_stays_frozen(make_model, make_images):
    model, images = make_model().train(), make_images()
    model.quantizer.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    evaluate(model, images, beta=0.25)
    assert {name: module.training for name, module in model.named_modules()} == modes
    before = model.quantizer.codebook.embeddings.clone()
    model(normalized(images))
    assert torch.equal(model.quantizer.codebook.embeddings, before)


def test_batches_move_to_the_device_of_the_model(make_images):
    model = torch.nn.Linear(2, 2, device="meta")
    assert all(x.is_meta for x in batches(make_images(3), 2, model))


def test_above_a_number_of_codes_their_use_is_not_listed(monkeypatch):
    monkeypatch.setattr(run_folder, "MOST_CODES", 15)
    model = VQVAE(width=8, dim=4, depth=1, quantizer=VectorQuantizer(16, 4, channel_dim=1))
    record = evaluate(model, torch.zeros(2, 3, 8, 8, dtype=torch.uint8), beta=1.0)
    assert record["counts"] == [] and record["metrics"]["codes_used"] == 1
