"""The moving average of weights and codes."""

import torch
from safetensors.torch import load_file

DECAY = 0.8


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

    def step():
        update()
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
