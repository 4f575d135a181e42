"""The tables of results in the documentation say what the records say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

import pytest

from rotvq.names import EFFORTS

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "results"
ABLATIONS, PAPER = "ablations/cpu", "cpu"


def runs(folder: str) -> list[dict[str, float]]:
    """The metrics of a record, or of every seed of a variant."""
    files = [RECORDS / folder / "evaluation.json"]
    files = files if files[0].exists() else sorted(RECORDS.glob(f"{folder}/seed_*/evaluation.json"))
    assert files, folder
    return [json.loads(file.read_text())["metrics"] for file in files]


def number(name: str, digits: int, times: float = 1, spread: bool = False, unit: str = ""):
    """A cell: the mean of a metric over the seeds, with ± their standard deviation if asked for."""

    def cell(seeds: list[dict[str, float]]) -> str:
        values = [seed[name] * times for seed in seeds]
        deviation = f" ± {stdev(values):.{digits}f}" if spread and len(values) > 1 else ""
        return f"{mean(values):,.{digits}f}{unit}{deviation}"

    return cell


def used(digits: int) -> Callable[[list[dict[str, float]]], str]:
    return number("usage", digits, times=100, unit=" %")


def of_all(seeds: list[dict[str, float]]) -> str:
    (seed,) = seeds
    return f"{seed['codes_used']:,.0f} of {seed['codes_used'] / seed['usage']:,.0f}"


def row(label: str, folder: str, *cells: Callable[[list[dict[str, float]]], str] | str) -> str:
    """A line of a table, without the emphasis of its best numbers."""
    seeds = runs(folder)
    shown = [cell if isinstance(cell, str) else cell(seeds) for cell in cells]
    return f"| {' | '.join([label, *shown])} |"


PSNR, PSNR_SPREAD = number("psnr", 2), number("psnr", 2, spread=True)
PER_IMAGE = number("psnr_per_image", 2, spread=True)
MSE, THOUSANDTHS = number("mse", 4), number("mse", 2, times=1000, spread=True)
MSE_SPREAD = number("mse", 4, spread=True)
SSIM, PERPLEXITY = number("ssim", 3), number("perplexity", 0)
RELATIVE = number("relative_error", 3)

BEST, PLAIN = f"{ABLATIONS}/best/best", f"{ABLATIONS}/plain/plain"
BATCHES = f"{ABLATIONS}/steps/batch_64"
STEPS = {
    "the paper's recipe: rotation, EMA": "paper",
    "+ k-means initialization, dead codes restart": "restarts",
    "+ straight-through gradient": "straight_through",
    "+ network on patches": "patches",
    "+ one cycle of the learning rate, clipped gradients": "one_cycle",
    "+ batches of 64": "batch_64",
    "+ γ from 0.9 to 0.99": "decay",
    "+ width 96 instead of 64": "wide",
}
GRADIENTS = {
    "straight-through": BATCHES,
    "rotation": f"{ABLATIONS}/options/rotation",
    "rotation without rescaling": f"{ABLATIONS}/options/rotation_without_rescaling",
    "lifted rotation": f"{ABLATIONS}/options/lifted_rotation",
    "rotation, normalized latents": f"{ABLATIONS}/options/rotation_normalized_latents",
    "straight-through, normalized latents *": f"{ABLATIONS}/options/normalized_latents",
}
OPTIONS = {
    "none": "steps/batch_64",
    "Muon": "options/muon",
    "attention": "options/attention",
    "codebook learned by gradient": "options/gradient",
    "restarts more often, drawn by error (removed)": "removed/restarts_by_error",
    "normalized latents, β = 0.1": "options/normalized_latents_beta",
    "rotation, normalized latents, β = 0.1": "options/rotation_normalized_latents_beta",
    "codes of length 16": "options/dim_16",
    "β from 0.25 to 1 (removed)": "removed/final_beta",
    "entropy loss, weight 0.002": "options/entropy_0.002",
    "random flips": "removed/flip",
    "one linear map of a frozen codebook (SimVQ)": "options/linear",
    "entropy loss, weight 0.005": "options/entropy_0.005",
    "cosine codes, as in ViT-VQGAN": "options/cosine",
    "finite scalar quantization, 4x4x4x4x4": "options/fsq",
    "binary spherical quantization, 10 bits": "options/spherical",
    "lookup-free quantization, 10 bits, entropy loss 0.01": "options/lookup_free_entropy",
    "lookup-free quantization, 10 bits": "options/lookup_free",
    "rotation, β = 4": "options/rotation_beta",
    "averaged weights, decay 0.999": "options/averaged_weights",
    "averaged weights, decay 0.999, codes not averaged (removed)": "removed/averaged_network_only",
}
HALF_HOUR = {
    "straight-through, plain EMA": "straight_through",
    "rotation, plain EMA": "rotation",
    "rotation, k-means initialization, dead codes restart": "rotation_restart",
}
ESTIMATORS = {
    "straight-through": "straight_through",
    "rotation": "rotation",
    "rotation without rescaling": "rotation_without_rescaling",
    "rescaling alone": "rescaling",
    "straight-through, dead codes restart": "straight_through_restart",
}
ROWS = {
    "README.md": [
        row("RotVQ, plain straight-through", PLAIN, PER_IMAGE, "–", SSIM, used(0), PERPLEXITY),
    ],
    "docs/results.md": [
        row("plain straight-through with EMA (30 epochs, three seeds)", PLAIN, "0.4 M", PER_IMAGE,
            PSNR_SPREAD, "–", SSIM, used(0), PERPLEXITY),
        row("plain straight-through", PLAIN, MSE_SPREAD, PSNR, SSIM, used(0), PERPLEXITY),
        row("all steps", BEST, number("mse", 5, spread=True), PSNR, SSIM, used(0), PERPLEXITY),
        row("all steps of the ablation, three seeds", BEST, "640", "fixed", number("mse", 2, 1000),
            PER_IMAGE, SSIM, "–"),
        row('step "batches of 64", K = 4,096, one seed',
            f"{ABLATIONS}/codebooks/k_4096", "768", "fixed", number("mse", 2, 1000), PER_IMAGE,
            SSIM, "–"),
        *(row(label, f"half_hour/{name}", MSE, PSNR, SSIM, of_all, PERPLEXITY,
              number("commitment_loss", 4)) for label, name in HALF_HOUR.items()),
        *(row(label, f"{ABLATIONS}/steps/{name}", THOUSANDTHS, SSIM, PERPLEXITY)
          for label, name in STEPS.items()),
        *(row(label, folder, THOUSANDTHS, SSIM, PERPLEXITY, RELATIVE)
          for label, folder in GRADIENTS.items()),
        *(row(label, f"{ABLATIONS}/{name}", THOUSANDTHS, SSIM,
              PERPLEXITY, lambda seeds: str(len(seeds))) for label, name in OPTIONS.items()),
    ],
    "docs/paper.md": [
        row(label, f"{PAPER}/estimators/{name}", MSE_SPREAD, SSIM, PERPLEXITY, used(0))
        .removesuffix(" |") for label, name in ESTIMATORS.items()
    ],
}  # fmt: skip


def page(name: str) -> str:
    """A page without emphasis."""
    return (ROOT / name).read_text(encoding="utf-8").replace("**", "")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        pytest.param(name, line, id=f"{name} {line.split('|')[1].strip()}")
        for name in ROWS
        for line in ROWS[name]
    ],
)
def test_the_row_says_what_the_records_say(name, line):
    assert line in page(name)


@pytest.mark.parametrize("name", ["README.md", "docs/results.md"])
def test_the_published_row_says_what_was_published(name):
    published = json.loads((RECORDS / "published.json").read_text())["straight_through_restarts"]
    (line,) = (line for line in page(name).splitlines() if line.startswith("| best published"))
    cells = [cell.strip() for cell in line.split("|")]
    assert f"{published['psnr']:.2f}" in cells
    assert f"{published['ssim_uniform_7x7']:.3f}" in cells
    assert f"{published['perplexity']:.0f}" in cells


def effort(n: int | str, run: str = "best") -> dict:
    """The evaluation of a run on the test split; "6-ssim" is effort 6, tuned for SSIM."""
    name = f"evaluation-effort-{n}.json" if n else "evaluation.json"
    return json.loads((RECORDS / run / name).read_text())


def cells(record: dict, *formats: str) -> str:
    """Cells of a row: names of metrics with their formats."""
    pairs = (each.split(":") for each in formats)
    return " | ".join(f"{record['metrics'][name]:{text}}" for name, text in pairs)


@pytest.mark.parametrize(("n", "label"), [(0, "preset `best`"), (9, "preset `best`, effort 9")])
def test_the_rows_of_best_say_what_the_records_say(n, label):
    best = effort(n)
    use = cells(best, "usage:.0%", "perplexity:.0f").replace("%", " %")
    ssim = ("ssim_uniform_7x7:.3f", "ssim:.3f")
    quality = cells(best, "psnr_per_image:.2f", *ssim)
    assert f"| RotVQ, {label}, 0.9 M parameters | {quality} | {use} |" in page("README.md")
    quality = cells(best, "psnr_per_image:.2f", "psnr:.2f", *ssim)
    (line,) = (
        r
        for r in page("docs/results.md").splitlines()
        if r.startswith(f"| {label}") and "0.9 M" in r and ("effort" in r) == (n > 0)
    )
    assert line.endswith(f"| 0.9 M | {quality} | {use} |")


@pytest.mark.parametrize("n", [0, 4, 9])
def test_the_rate_of_best_says_what_the_records_say(n):
    mse = f"{1000 * effort(n)['metrics']['mse']:.2f}"
    quality = cells(effort(n), "psnr_per_image:.2f", "ssim:.3f", "ssim_uniform_7x7:.3f")
    assert f"| preset `best`, effort {n} | 640 | fixed | {mse} | {quality} |" in page(
        "docs/results.md"
    )


LONG = [("best_long", "`best_long`", 640, n) for n in (0, 2, 4, 6, 9, "6-ssim", "9-ssim")]
LARGE = [("best_long_4096", "`best_long`, K = 4,096", 768, n) for n in (0, 2, 4, 9)]


@pytest.mark.parametrize(("folder", "label", "bits", "n"), [*LONG, *LARGE])
def test_the_rate_of_best_long_says_what_the_records_say(folder, label, bits, n):
    long = effort(n, folder)
    quality = cells(long, "psnr_per_image:.2f", "ssim:.3f", "ssim_uniform_7x7:.3f")
    mse = 1000 * long["metrics"]["mse"]
    label = f"{label}, effort {n}".replace("-ssim", ", tuned for SSIM")
    row = f"| preset {label}, one seed | {bits} | fixed | {mse:.2f} | {quality} |"
    assert row in page("docs/results.md").replace("**", "")


@pytest.mark.parametrize(
    ("n", "label"),
    [
        (0, "`best_long`"),
        (9, "`best_long`, effort 9"),
        ("9-ssim", "`best_long`, effort 9, tuned for SSIM"),
    ],
)
def test_the_rows_of_best_long_say_what_the_record_says(n, label):
    long = effort(n, "best_long")
    use = cells(long, "usage:.0%", "perplexity:.0f").replace("%", " %")
    ssim = ("ssim_uniform_7x7:.3f", "ssim:.3f")
    quality = cells(long, "psnr_per_image:.2f", *ssim)
    row = f"| RotVQ, preset {label}, 2.1 M parameters | {quality} | {use} |"
    assert row in page("README.md").replace("**", "")
    quality = cells(long, "psnr_per_image:.2f", "psnr:.2f", *ssim)
    row = f"| preset {label} (40 epochs, one seed) | 2.1 M | {quality} | {use} |"
    assert row in page("docs/results.md").replace("**", "")


def test_the_effect_of_effort_on_best_long_is_that_of_its_records():
    before, after = (effort(n, "best_long")["metrics"] for n in (0, 9))
    said = f"from {1000 * before['mse']:.2f} to {1000 * after['mse']:.2f}, and reaches "
    assert said + f"{after['psnr_per_image']:.2f} dB per image" in page("docs/results.md")
    before, after = (effort(n, "best_long_4096")["metrics"]["mse"] for n in (0, 9))
    (av1,) = (
        codec["bits"]["768"]["mse"]
        for codec in codecs("cifar10")["codecs"]
        if (codec["codec"], codec["layout"]) == ("AV1", "mosaic")
    )
    said = f"from {1000 * before:.2f} to {1000 * after:.2f}, below the {1000 * av1:.2f} of AV1"
    assert said in page("docs/results.md")


def test_the_effect_of_tuning_is_that_of_its_records():
    text = " ".join(page("docs/results.md").split())
    plain, tuned = (effort(n, "best_long")["metrics"] for n in (9, "9-ssim"))
    assert f"raises the SSIM to {tuned['ssim']:.3f} and even finds tokens" in text
    assert f"lower squared error, {1000 * tuned['mse']:.2f}" in text
    assert tuned["mse"] < plain["mse"] and tuned["ssim"] > plain["ssim"]


def test_the_table_of_efforts_says_what_the_records_say():
    first = effort(0)["metrics"]["mse"]
    timed = json.loads((RECORDS / "benchmarks/effort_cpu.json").read_text())["efforts"]
    for n in (0, 1, 2, 4, 6, 9):
        record, iterations = effort(n), EFFORTS[n]
        mse = record["metrics"]["mse"]
        quality = cells(
            record, "psnr_per_image:.2f", "ssim:.3f", "ssim_uniform_7x7:.3f", "perplexity:.0f"
        )
        time = f"{1000 * timed[n]['seconds_one_thread']:.0f}" if n else "–"
        row = f"| {n} | {iterations} | {1000 * mse:.2f} | {mse / first:.3f} | {quality} | {time} |"
        assert row in page("docs/results.md")


def test_the_first_page_says_what_the_records_say():
    published = json.loads((RECORDS / "published.json").read_text())["straight_through_restarts"]
    text = " ".join(page("docs/index.md").split())
    without, with_effort = (effort(n)["metrics"]["psnr_per_image"] for n in (0, 9))
    assert f"a PSNR of {without:.2f} dB" in text
    assert f"and {with_effort:.2f} dB with the search" in text
    assert f"figure at this rate that we know of is {published['psnr']:.2f} dB" in text
    summary = page("docs/results.md")
    assert f"| {without:.2f} dB on CIFAR-10 at 640 bits per image; the best" in summary
    assert f"figure that we know of is {published['psnr']:.2f} dB |" in summary
    assert f"| {with_effort:.2f} dB with searched tokens |" in summary


@pytest.mark.parametrize("model", ["rotvq-f4", "rotvq-f8"])
def test_the_bundled_models_are_as_good_as_the_records_say(model):
    record = json.loads((RECORDS / f"photographs/{model}.json").read_text())
    everyday = record["mean_of_everyday"]
    for coder, mean_of_all in record["mean_of_all"].items():
        name = coder.replace("WEBP", "WebP")
        label = f"`{model}`, {name}" if "effort" in coder else f"{name} at the rate of `{model}`"
        photographs = list(record["pictures"].values())[:5]
        each = " | ".join(f"{found[coder]['psnr_per_image']:.1f}" for found in photographs)
        means = f"{everyday[coder]['psnr_per_image']:.2f} | {everyday[coder]['ssim']:.3f}"
        row = f"| {label} | {each} | {means} | {mean_of_all['psnr_per_image']:.2f} |"
        assert row in page("docs/results.md")
    short = [f"{everyday[c]['psnr_per_image']:.2f}" for c in ("effort 4", "JPEG", "WEBP")]
    (line,) = (r for r in page("docs/models.md").splitlines() if r.startswith(f"| `{model}` | one"))
    assert line.endswith(f"| {' | '.join(short)} |")


def test_the_definitions_of_ssim_say_what_the_record_says():
    record = json.loads((RECORDS / "ssim" / "four_epochs.json").read_text())
    text = " ".join(page("docs/results.md").split())
    mirrored, cropped, uniform = (
        f"{record[name]:.3f}"
        for name in (
            "ssim_gaussian_11x11_mirrored_borders",
            "ssim_gaussian_11x11",
            "ssim_uniform_7x7",
        )
    )
    assert f"has {mirrored} with the Gaussian window" in text
    assert f"has {cropped} without the borders, and {uniform} with the uniform window" in text


def test_best_exceeds_the_best_published_psnr_in_every_seed():
    published = json.loads((RECORDS / "published.json").read_text())["straight_through_restarts"]
    assert min(seed["psnr_per_image"] for seed in runs(BEST)) > published["psnr"]


def test_best_exceeds_the_best_published_ssim_in_the_same_definition():
    published = json.loads((RECORDS / "published.json").read_text())["straight_through_restarts"]
    early = json.loads((RECORDS / "ssim" / "best_3_epochs.json").read_text())
    assert early["ssim_uniform_7x7"] > published["ssim_uniform_7x7"]


def epochs(folder: str) -> list[dict[str, dict[str, float]]]:
    """The metrics of every epoch of the one run of a variant."""
    (file,) = RECORDS.glob(f"{folder}/seed_*/epochs.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize(
    ("label", "name"), {**ESTIMATORS, "rotation, dead codes restart": "rotation_restart"}.items()
)
def test_the_accuracy_of_an_estimator_is_that_of_its_records(label, name):
    files = RECORDS.glob(f"{PAPER}/estimators/{name}/seed_*/classifier_metrics.json")
    found = [json.loads(f.read_text())["metrics"]["accuracy_reconstruction"] for f in files]
    (line,) = (
        line
        for line in page("docs/paper.md").splitlines()
        if line.startswith(f"| {label} |") and "±" in line
    )
    assert len(found) == 3
    assert line.endswith(f"| {100 * mean(found):.1f} % |")


def test_the_claims_of_the_paper_are_weighed_by_the_records():
    (final,) = runs(f"{PAPER}/final/base")
    rotation, plain = (
        runs(f"{PAPER}/estimators/{name}") for name in ("rotation", "straight_through")
    )
    low, high = (epochs(f"{PAPER}/table3/beta_{beta}")[-1] for beta in ("0.1", "2.0"))
    sizes = [
        epochs(f"{PAPER}/{folder}")[-1]["train"]["batch_perplexity"]
        for folder in ("table2/k_256", "table2/k_512", "training/base", "table2/k_2048")
    ]
    leak = runs(f"{PAPER}/estimators/reflection")
    expected = (
        f"{final['codes_used']:,} of 1,024 codes in use, perplexity {PERPLEXITY([final])} |",
        f"{used(0)(rotation)} and {PERPLEXITY(rotation)} against {used(0)(plain)} and "
        f"{PERPLEXITY(plain)}, three seeds each",
        f"| {low['train']['codebook_loss']:.4f} to {high['train']['codebook_loss']:.4f} |",
        f"test MSE {MSE(runs(f'{PAPER}/table3/beta_0.1'))} at β = 0.1, "
        f"{MSE(runs(f'{PAPER}/table3/beta_2.0'))} at 2",
        f"| {low['test']['perplexity']:.0f} at 0.1, {high['test']['perplexity']:.0f} at 2:",
        "| {:.0f}, {:.0f}, {:.0f} and {:.0f} at 256 to 2048;".format(*sizes),
        f"| {MSE([final])} in the final experiment",
        f"has an MSE of {number('forward_mse', 4)(leak)}, and the images decoded from its indices "
        f"one of {MSE(leak)}.",
    )
    text = " ".join(page("docs/paper.md").split())
    assert [sentence for sentence in expected if sentence not in text] == []


@pytest.mark.parametrize("k", [1024, 4096, 8192, 16384, 65536])
def test_the_row_of_a_codebook_size_says_what_its_record_says(k):
    folder = f"{ABLATIONS}/codebooks/k_{k}"
    (seed,) = runs(folder)
    bound = json.loads((RECORDS / folder / "seed_0" / "bound.json").read_text())
    least = bound["metrics"]["gaussian_distortion"]
    share = used(0 if seed["usage"] > 0.9995 else 1)
    cells = [f"{k:,}", f"{seed['bits_per_image']:,.0f}", THOUSANDTHS([seed]), f"{least * 1000:.2f}",
             SSIM([seed]), share([seed]), PERPLEXITY([seed])]  # fmt: skip
    assert f"| {' | '.join(cells)} |" in page("docs/results.md")


CODEC_NAMES = {"WEBP": "WebP"}
QUALITY = {"psnr_per_image": 2, "ssim": 3, "ssim_uniform_7x7": 3}


def codecs(name: str = "cifar10") -> dict:
    return json.loads((RECORDS / f"codecs/{name}.json").read_text())


def test_the_rows_of_the_codecs_say_what_their_records_say():
    text, found = page("docs/results.md"), []
    for codec in codecs()["codecs"]:
        label = f"{CODEC_NAMES.get(codec['codec'], codec['codec'])}, {codec['layout']}"
        for bits, at in codec["bits"].items():
            if codec["layout"] == "files" or "mse" not in at:
                continue
            quality = (f"{at[name]:.{digits}f}" for name, digits in QUALITY.items())
            cells = [label, bits, "mean", f"{at['mse'] * 1000:.2f}", *quality]
            found.append(f"| {' | '.join(cells)} |")
    assert len(found) >= 8
    assert [row for row in found if row not in text] == []


def test_the_rate_of_a_codec_lies_between_two_measured_settings():
    for codec in codecs()["codecs"]:
        for bits, at in codec["bits"].items():
            if "mse" in at:
                low, high = at["settings"]
                assert low["bits_per_image"] < float(bits) <= high["bits_per_image"]
                assert low["mse"] > at["mse"] >= high["mse"]
            else:
                assert at["settings"][0]["bits_per_image"] >= float(bits)


@pytest.mark.parametrize("bits", [640, 768])
@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Gaussian bound, training images", "training"),
        ("Gaussian bound, held-out images", "held_out"),
    ],
)
def test_the_row_of_a_bound_says_what_its_record_says(label, name, bits):
    bound = codecs()["gaussian_bound"][str(bits)][name]
    row = f"| {label} | {bits} | – | {bound * 1000:.2f} | – | – | – |"
    assert row in page("docs/results.md")


def test_the_smallest_files_say_what_their_records_say():
    smallest = {
        c["codec"]: c["bits"]["640"]["settings"][0]
        for c in codecs()["codecs"]
        if c["layout"] == "files"
    }
    text = " ".join(page("docs/results.md").split())
    said = [f"{smallest[name]['bits_per_image']:,.0f}" for name in ("WEBP", "JPEG", "AVIF")]
    assert "at least {} bits as WebP, {} as JPEG and {} as AVIF".format(*said) in text


def test_the_published_rows_beside_the_codecs_say_what_was_published():
    published = json.loads((RECORDS / "published.json").read_text())
    restarts, released = (
        published[name] for name in ("straight_through_restarts", "released_reflection")
    )
    text = page("docs/results.md")
    psnr, ssim = f"{restarts['psnr']:.2f}", f"{restarts['ssim_uniform_7x7']:.3f}"
    assert f"with restarts | 640 | fixed | – | {psnr} | – | {ssim} |" in text
    assert (
        f"plus 64 real numbers | 640 | fixed | {released['mse'] * 1000:.2f} | – | – | – |" in text
    )


def test_the_trials_say_what_the_record_says():
    lines = page("docs/results.md").splitlines()
    for trial in json.loads((RECORDS / "recipe" / "trials.json").read_text())["trials"]:
        mse, perplexity = 1000 * trial["validation_mse"], trial["perplexity"]
        cells = f"{trial['epochs']} | {mse:.2f} | {perplexity:.0f} | {trial['step_time']} |"
        row = f"| {trial['change']} | {cells}"
        assert row in (line.replace(" (`best`)", "") for line in lines), row


def test_the_trials_of_wide_models_say_what_the_record_says():
    lines = page("docs/results.md").replace("**", "").splitlines()
    trials = json.loads((RECORDS / "recipe" / "trials.json").read_text())
    wide = [("best_long", row) for row in trials["wide_trials"]["rows"]]
    small = [("best", row | {"weight_decay": 0.1}) for row in trials["best_trials"]["rows"]]
    for preset, row in [*wide, *small]:
        if row.get("epochs", 4) > 4 or row["seed"]:
            continue
        rate = f"{1000 * row['learning_rate']:g}e-3"
        errors = " | ".join(f"{1000 * mse:.2f}" for mse in row["validation_mse_by_epoch"])
        assert f"| `{preset}` | {rate} | {row['weight_decay']:g} | {errors} |" in lines
    text = " ".join(page("docs/results.md").split())
    before = (RECORDS / "recipe" / "best_long_at_3e-3.jsonl").read_text().splitlines()
    errors = [json.loads(line)["train"]["reconstruction_loss"] for line in before]
    assert f"rose from {1000 * errors[3]:.1f} to {1000 * errors[6]:.1f} between epochs" in text
    slow, fast = effort(0, "best_long")["metrics"]["mse"], json.loads(before[-1])["test"]
    fast = fast["reconstruction_loss"]
    assert f"40 epochs of `best_long` at 1e-3 with weight decay reach {1000 * slow:.2f}" in text
    assert f"{len(before)} epochs at 3e-3 without reach {1000 * fast:.2f};" in text
    old, new = trials["memorized"], effort(0)["metrics"]["mse"]
    assert f"flips reach {1000 * new:.2f}, and at 3e-3 without either" in text
    for split, images in (("train", "as they are"), ("train", "flipped"), ("test", "as they are")):
        assert f"{1000 * old[split][images]:.2f}" in text
    flips = {
        row["random_flip"]: row for row in trials["best_trials"]["rows"] if row["epochs"] == 24
    }
    without, with_flips = (flips[f]["validation_mse_by_epoch"][-1] for f in (False, True))
    assert f"from {1000 * without:.2f} to {1000 * with_flips:.2f} (seed 0" in text


def test_the_trials_of_one_step_say_what_the_record_says():
    text = page("docs/results.md").replace("**", "")
    rows = json.loads((RECORDS / "recipe" / "trials.json").read_text())["step_trials"]["rows"]
    for change in {row["change"] for row in rows}:
        errors = [1000 * row["validation_mse"] for row in rows if row["change"] == change]
        spread = f" ± {stdev(errors):.2f}" if len(errors) > 1 else ""
        assert f"| {mean(errors):.2f}{spread} |" in text, change


def test_the_table_of_bits_under_a_prior_says_what_its_record_says():
    small, large = runs("prior") + runs("prior_4096")
    text = page("docs/generation.md")
    for label, name in (
        ("frequencies of the codes", "entropy_per_token"),
        ("prior", "bits_per_token_without_class"),
        ("prior that knows the class", "bits_per_token"),
    ):
        cells = [f"{bits[name]:.2f} | {64 * bits[name]:.1f}" for bits in (small, large)]
        assert f"| {label} | {' | '.join(cells)} |" in text
    found = codecs("mean_bits")
    tokenizer = json.loads((RECORDS / "prior" / "tokenizer.json").read_text())
    for rate, bits, model, label in (
        ("500", small, tokenizer["metrics"], "`best` at 3e-3"),
        ("610", large, runs("best_4096")[0], "`best` at 3e-3, K = 4,096"),
    ):
        rows = {f"{c['codec']}, {c['layout']}": c["bits"][rate]["mse"] for c in found["codecs"]}
        for name, bound in found["gaussian_bound"][rate].items():
            rows[f"Gaussian bound, {name.replace('_', '-')} images"] = bound
        for other, mse in rows.items():
            assert f"| {other} | {rate} | {1e3 * mse:.2f} |" in text
        coded = bits["bits_per_image_without_class"]
        assert f"| {label} | {coded:.1f} | {1e3 * model['mse']:.2f} |" in text
        assert model["mse"] < min(rows.values()) and abs(coded - int(rate)) < 1
    coded = small["bits_per_image_without_class"]
    assert f"{coded:.0f} of these 640 bits under a prior" in page("docs/results.md")


def test_the_table_of_guidance_and_its_choice_say_what_their_records_say():
    folder = RECORDS / "prior/guidance"
    scan = json.loads((folder / "scan.json").read_text())["rows"]
    found = {row["guidance"]: row for row in scan if row["temperature"] == 1 and not row["top_k"]}
    best = min(found, key=lambda scale: found[scale]["classifier_frechet_distance"])
    measured = json.loads((folder / "samples.json").read_text())
    assert measured["sampling"]["guidance"] == best
    text_of_page = page("docs/generation.md").replace("\n", " ")
    for name, text in (
        ("classifier_frechet_distance", lambda value: f"{value:.2f}"),
        ("class_accuracy", lambda value: f"{100 * value:.0f} %"),
    ):
        assert " | ".join(text(found[scale][name]) for scale in sorted(found)) in text_of_page
    distance, accuracy = (
        measured["metrics"][name] for name in ("classifier_frechet_distance", "class_accuracy")
    )
    text = f"a Fréchet distance of {distance:.2f} to the test split, and {100 * accuracy:.1f} %"
    assert text in text_of_page
    assert f"{100 * accuracy:.0f} % of its samples" in page("README.md")
    metrics = json.loads((RECORDS / "prior_4096/samples.json").read_text())["metrics"]
    distance = metrics["classifier_frechet_distance"]
    text = f"a distance of {distance:.2f}, and {100 * metrics['class_accuracy']:.1f} % are put"
    assert text in text_of_page


@pytest.mark.parametrize(
    ("label", "folder"),
    [
        ("straight-through", "steps/batch_64"),
        ("rotation", "options/rotation"),
        ("normalized latents", "options/normalized_latents"),
        ("rotation and normalized latents", "options/rotation_normalized_latents"),
        ("finite scalar quantization", "options/fsq"),
        ("K = 4,096", "codebooks/k_4096"),
    ],
)
def test_the_priors_of_tokenizers_say_what_their_records_say(label, folder):
    run = RECORDS / "ablations/priors" / folder / "seed_0"
    mse = json.loads((run / "evaluation.json").read_text())["metrics"]["mse"]
    found = json.loads((run / "generation.json").read_text())["metrics"]
    values = (
        f"{1e3 * mse:.2f}",
        f"{found['bits_per_token']:.2f}",
        f"{found['bits_per_image']:.0f}",
        f"{1e3 * found['gaussian_distortion']:.2f}",
        f"{found['frechet_distance']:.1f}",
        f"{100 * found['class_accuracy']:.0f} %",
    )
    assert f"| {label} | {' | '.join(values)} |" in page("docs/generation.md")


@pytest.mark.parametrize("record", ["rate_search_cpu", "rate_search_4096_cpu"])
def test_the_tables_of_error_and_bits_say_what_their_records_say(record):
    text = page("docs/generation.md").replace(" (default)", "")
    rows = json.loads((RECORDS / f"benchmarks/{record}.json").read_text())["rows"]
    for row in rows:
        label = f"effort {row['effort']}" + (f", λ = {row['weight']:g}" if row["weight"] else "")
        values = (1e3 * row["mse"], row["bits_per_image"], 1e3 * row["gaussian_distortion"])
        assert "| {} | {:.2f} | {:.0f} | {:.2f} | ".format(label, *values) in text


def test_the_table_of_sharp_pictures_says_what_the_records_say():
    text = page("docs/sharp.md")
    for name in ("best", "sharp"):
        (found,) = runs(name)
        values = (
            f"{found['frechet_distance']:.2f}",
            *(f"{100 * found[key]:.1f} %" for key in ("accuracy_reconstruction", "agreement")),
            f"{found['sharpness']:.2f}",
            f"{1e3 * found['mse']:.2f}",
            f"{found['ssim']:.3f}",
            f"{found['perplexity']:.0f}",
        )
        assert f"| `{name}` | {' | '.join(values)} |" in text
        assert f"it classifies {100 * found['accuracy_original']:.1f} % of the" in text
    record = json.loads((RECORDS / "sharp/evaluation.json").read_text())
    assert record["classifier"]["weights"] != record["perceptual"]["weights"]


def test_efforts_of_the_gradients_are_those_of_their_record():
    text = page("docs/results.md").replace("\n", " ")
    rows = json.loads((RECORDS / "recipe/effort_gradients.json").read_text())["rows"]
    found = {
        row["gradient"]: tuple(f"{1e3 * row[f'effort_{n}']['mse']:.2f}" for n in (0, 4))
        for row in rows
    }
    for gradient in ("straight-through", "rotation", "rotation, normalized latents"):
        assert "from {} to {} with".format(*found[gradient]) in text


def test_the_decay_of_fine_tuning_says_what_its_record_says():
    text = page("docs/own-data.md").replace("\n", " ")
    rows = json.loads((RECORDS / "recipe/finetuning_decay.json").read_text())["rows"]
    for decay in (0.9, 0.99):
        errors = [row["mse"] for row in rows if row["decay"] == decay]
        assert f"{mean(errors):.4f} ± {stdev(errors):.4f}" in text


@pytest.mark.parametrize(("codebook", "codes"), [("restarts", "restarts"), ("plain EMA", "ema")])
@pytest.mark.parametrize(
    ("loss", "losses"),
    [("MSE", "mse"), ("+ perceptual", "perceptual"), ("+ adversarial", "adversarial")],
)
@pytest.mark.parametrize(
    ("gradient", "estimator"),
    [
        ("straight-through", "straight_through"),
        ("rotation", "rotation"),
        ("rotation, normalized latents", "normalized"),
    ],
)
def test_the_study_of_sharp_pictures_says_what_its_records_say(
    codebook, codes, loss, losses, gradient, estimator
):
    folder = RECORDS / "ablations/sharp/sharp" / f"{codes}_{losses}_{estimator}"
    seeds = [
        json.loads((seed / "evaluation.json").read_text())["metrics"]
        | json.loads((seed / "classifier_metrics.json").read_text())["metrics"]
        for seed in sorted(folder.glob("seed_*"))
    ]
    assert len(seeds) == 3
    cells = [
        number("frechet_distance", 2, spread=True)(seeds),
        number("accuracy_reconstruction", 1, times=100, unit=" %")(seeds),
        number("sharpness", 2)(seeds),
        number("mse", 2, times=1000, spread=True)(seeds),
        used(0)(seeds),
    ]
    row = f"| {codebook} | {loss} | {gradient} | {' | '.join(cells)} |"
    assert row in page("docs/sharp.md").replace("**", "")


def test_the_photographs_say_what_their_records_say():
    text = " ".join(page("docs/own-data.md").split())
    (best,), (sharp,) = runs("photographs"), runs("photographs/sharp")
    told = f"an MSE of {best['mse']:.4f} ({best['psnr']:.1f} dB) and an SSIM of {best['ssim']:.3f}"
    assert told in text
    for name in ("frechet_distance", "sharpness"):
        assert f"from {best[name]:.2f} to {sharp[name]:.2f}" in text
    assert f"at an MSE of {sharp['mse']:.4f}" in text


def test_the_numbers_of_a_gpu_say_what_their_records_say():
    text = page("docs/speed.md").replace("\n", " ")
    gpu = RECORDS / "benchmarks/gpu"
    rows = json.loads((gpu / "search_cuda.json").read_text())["rows"]
    ratios = [row["seconds"]["rotvq"] / row["seconds"]["product"] for row in rows]
    assert f"between {min(ratios):.2f} and {max(ratios):.2f} of the time" in text
    steps = json.loads((gpu / "best_gpu_steps.json").read_text())
    fast, slow = (steps[way]["images_per_second"][-1] for way in ("graph", "launched"))
    assert f"{fast:,.0f} images per second, {fast / slow:.1f} times the {slow:,.0f} of" in text
    (at,) = {f"{steps[way]['psnr_per_image']:.2f} dB per image" for way in ("graph", "launched")}
    assert at in page("docs/results.md")
    for row in json.loads((gpu / "quantizer_cuda.json").read_text())["rows"]:
        own = 1e3 * row["seconds"]["rotvq"]["median"]
        ratio = row["times_ours"]["vector-quantize-pytorch"]["median"]
        memory = [f"{n / 2**20:,.0f} MiB" for n in row["extra_bytes"].values()]
        cells = f"| {row['k']:,} | {row['d']} | {own:.1f} ms | {ratio:.1f} | {' | '.join(memory)} |"
        assert cells in text
    paper = json.loads((gpu / "training_paper_cuda.json").read_text())
    assert f"{1 / paper['times_the_peers']['median']:.2f} times as long" in text
    assert f"{100 * paper['share_of_the_quantizer']['median']:.0f} % of it is the quantizer" in text
