"""Invented results of our ablations."""

import pytest

from rotvq.studies.ablations import SUITE


@pytest.fixture
def made(make_results):
    """Results of some studies, with the MSE given by run."""

    def make(studies=None, mse=lambda run: 0.02, seeds=2, name="out", **others):
        def values(run):
            metrics = {key: v(run) if callable(v) else v for key, v in others.items()}
            return {"reconstruction_loss": mse(run), "mse": mse(run), **metrics}

        return make_results(name, suite=SUITE, studies=studies, seeds=seeds, values=values)

    return make
