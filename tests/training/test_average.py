"""The moving average of weights and codes."""

import pytest
import torch
from safetensors.torch import load_file

from rotvq.model import VQVAE
from rotvq.quantization import FiniteScalarQuantizer
from rotvq.training.averaging import moving_average

DECAY = 0.8


@pytest.mark.parametrize("decay", [0.9, 0.999, 0.9999])
@pytest.mark.parametrize("levels", [[7, 5, 3, 2], [8, 8, 8, 5, 5, 5], [4] * 24])
def test_a_fixed_grid_stays_as_it_is(levels, decay):
    grid = FiniteScalarQuantizer(levels, channel_dim=1)
    model = VQVAE(width=8, dim=len(levels), quantizer=grid)
    average = moving_average(model, decay)
    for _ in range(5):
        average.update_parameters(model)
    averaged = average.module.quantizer.codebook
    assert averaged.counts.tolist() == levels
    assert torch.equal(averaged.stride, grid.codebook.stride)


def test_the_saved_model_is_the_average_of_weights_and_codes(tmp_path, data, tiny, begin):
    options = {"restart": 0.3, "init": "data", "decay": 0.5}
    config = tiny(quantizer=options, training={"ema_decay": DECAY, "epochs": 2})
    trainer = begin(config, data, tmp_path / "run")
    codebook = trainer.model.quantizer.codebook
    watched = {
        "decoder.0.first.weight": trainer.model.decoder[0].first.weight,
        "quantizer.codebook.embeddings": codebook.embeddings,
        "quantizer.codebook.cluster_size": codebook.cluster_size,
    }
    expected = {}
    update = codebook.step

    def step(*weight):
        update(*weight)
        for name, tensor in watched.items():
            now = tensor.detach().double()
            expected[name] = (
                now if name not in expected else DECAY * expected[name] + (1 - DECAY) * now
            )

    codebook.step = step
    trainer.run()
    saved = load_file(tmp_path / "run/model.safetensors")
    for name, tensor in watched.items():
        torch.testing.assert_close(saved[name].double(), expected[name], rtol=1e-5, atol=1e-6)
        assert (saved[name] - tensor).abs().max() > 1e-4, name


def test_the_average_is_evaluated(tmp_path, data, tiny, begin):
    trainer = begin(tiny(training={"ema_decay": DECAY, "epochs": 1}), data, tmp_path / "run")
    tested = trainer.run()["metrics"]["mse"]
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.zero_()
    from rotvq.evaluation.evaluate import evaluate

    again = evaluate(trainer.eval_model, trainer.images.test, beta=0.25)["metrics"]["mse"]
    assert again == tested
