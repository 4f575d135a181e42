"""A model as two programs that do not need rotvq: images to indices, and indices to images.

They take any batch size and any height and width of at least two tokens. `to_onnx` writes ONNX
files and `to_torch` torch.export programs; `differences` checks them against the model.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from rotvq import telemetry
from rotvq.errors import UserError, installation
from rotvq.evaluation.evaluate import evaluating
from rotvq.evaluation.pixels import normalized
from rotvq.files import write_atomically, write_bytes
from rotvq.model import VQVAE
from rotvq.paths import expanded
from rotvq.tokens.header import as_text
from rotvq.tokens.model_codec import codec

Program = Callable[[Tensor], Tensor]
"""An exported program as a function of tensors."""

LARGEST_ONNX = 1536 * 2**20
"""Bytes of weights, at most: torch writes those of larger models to a second file."""

TIES = 1e-3
"""Largest share of indices that may differ, where two codes are equally near in float32."""

CLOSE = 1e-3
"""Largest difference of a pixel in [-1, 1]."""


class _Encoder(nn.Module):
    """Images to indices."""

    def __init__(self, model: VQVAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.encode(images)


class _Decoder(nn.Module):
    """Indices to images."""

    def __init__(self, model: VQVAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, indices: Tensor) -> Tensor:
        return self.model.decode(indices)


def to_torch(model: VQVAE, folder: str | Path) -> tuple[Path, Path]:
    """Write encoder.pt2 and decoder.pt2, which torch.export.load reads; returns their paths.

    Args:
        model: on the CPU; in evaluation mode during the call.
        folder: created if it does not exist.
    """
    folder = expanded(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "encoder.pt2", folder / "decoder.pt2"
    for path, program in zip(paths, _programs(model), strict=True):
        content = BytesIO()
        torch.export.save(program, content)
        write_bytes(path, content.getvalue())
    return paths


def to_onnx(model: VQVAE, folder: str | Path) -> tuple[Path, Path]:
    """Write encoder.onnx and decoder.onnx; returns their paths.

    The axes are named batch, height, width, rows and columns; indices of residual and grouped
    quantizers have more axes of fixed size. The metadata holds the range of the pixels and the
    header of a token file: fingerprint, codebook sizes, index shape, bits, stride and channels. The
    encoder refuses images whose height or width is not a multiple of the stride.

    Args:
        model: on the CPU; in evaluation mode during the call.
        folder: created if it does not exist.

    Raises:
        UserError: onnx or onnxscript is not installed, or the weights take more than 1.5 GiB.
    """
    telemetry.switch_off()
    try:
        from onnxscript import ir
    except ImportError:
        raise UserError(
            "onnx: expected onnx and onnxscript; they are not installed. " + installation("onnx")
        ) from None
    size = _bytes(model) - min(_bytes(model.encoder), _bytes(model.decoder))
    if size > LARGEST_ONNX:
        raise UserError(
            f"onnx: expected at most {LARGEST_ONNX:,} bytes of weights in one file; got {size:,}. "
            "Export the model with --to torch."
        )
    folder = expanded(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "encoder.onnx", folder / "decoder.onnx"
    names = ("images", "indices"), ("indices", "images")
    meaning = {f"rotvq.{key}": text for key, text in as_text(codec(model).header()).items()}
    meaning["rotvq.range"] = "[-1, 1]"
    axes: dict[str | None, list[str | int]] = {
        "images": ["batch", model.channels, "height", "width"],
        "indices": ["batch", "rows", "columns", *model.quantizer.index_shape],
    }
    for path, program, (given, made) in zip(paths, _programs(model), names, strict=True):
        with _quiet():
            exported = torch.onnx.export(
                program, dynamo=True, input_names=[given], output_names=[made], verbose=False
            )
        assert exported is not None
        exported.model.metadata_props.update(meaning)
        for value in (*exported.model.graph.inputs, *exported.model.graph.outputs):
            value.shape = ir.Shape(axes[value.name])
        if given == "images":
            _refuse_remainders(exported.model.graph, model.stride)
        write_atomically(path, exported.save)
    return paths


def _bytes(module: nn.Module) -> int:
    return sum(t.numel() * t.element_size() for t in module.state_dict().values())


def load_torch(path: Path | str) -> Program:
    """The program in a .pt2 file."""
    with Path(path).open("rb") as file:  # torch cannot open a path that is not UTF-8.
        program: Program = torch.export.load(file).module()
    return program


def load_onnx(path: Path | str) -> Program:
    """The program in an .onnx file, run by onnxruntime.

    Raises:
        UserError: onnxruntime is not installed.
    """
    telemetry.switch_off()
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            "onnx: expected onnxruntime, which checks the exported files; it is not installed. "
            + installation("onnx")
        ) from None
    # From bytes, as onnxruntime cannot open a path that is not UTF-8.
    content = Path(path).read_bytes()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()

    def run(x: Tensor) -> Tensor:
        (found,) = session.run(None, {given.name: x.numpy()})
        return torch.from_numpy(found)

    return run


def differences(
    model: VQVAE, encode: Program, decode: Program, images: UInt8[Tensor, "n c h w"]
) -> tuple[float, float]:
    """Share of indices that differ from the model's, and the largest difference of a pixel.

    Args:
        model: on the CPU.
        encode: the exported encoder.
        decode: the exported decoder.
        images: real images.

    Raises:
        UserError: they differ by more than rounding explains.
    """
    x: Float[Tensor, "n c h w"] = normalized(images)
    indices = model.encode(x)
    share = float((encode(x.contiguous()) != indices).float().mean())
    largest = float((decode(indices) - model.decode(indices)).abs().max())
    if share > TIES or largest > CLOSE:
        raise UserError(
            f"export: expected the outputs of the model; {share:.2%} of the indices differ, and "
            f"pixels differ by up to {largest:.2g}. Please report this with the output of rotvq "
            "doctor."
        )
    return share, largest


def _refuse_remainders(graph: Any, stride: int) -> None:
    """Make the program fail for images whose sides are not multiples of the stride.

    Strided convolutions would silently drop the remainder, and ONNX has no assertions. Converting
    to blocks of pixels and back changes nothing else, and the error quotes the name of the node.
    """
    from onnxscript import ir

    (images,) = graph.inputs
    users = list(images.uses())
    name = f"height_and_width_must_be_multiples_of_{stride}"
    size = {"blocksize": stride}
    there = ir.node("SpaceToDepth", inputs=[images], attributes=size, name=name)
    back = ir.node("DepthToSpace", inputs=there.outputs, attributes=size)
    for user, place in users:
        user.replace_input_with(place, back.outputs[0])
    graph.insert_before(graph[0], [there, back])


def _programs(model: VQVAE) -> Iterator[ExportedProgram]:
    """Encoder and decoder for any batch size, height and width."""
    batch, rows, columns = Dim("batch"), Dim("rows", min=2), Dim("columns", min=2)
    sides = {2: model.stride * rows, 3: model.stride * columns}
    x = torch.zeros(2, model.channels, 4 * model.stride, 5 * model.stride)
    wanted: list[tuple[nn.Module, Tensor, dict[int, Any]]] = [
        (_Encoder(model), x, {0: batch, **sides}),
        (_Decoder(model), model.encode(x), {0: batch, 1: rows, 2: columns}),
    ]
    for module, example, shape in wanted:
        with _quiet(), evaluating(module):
            yield torch.export.export(module, (example,), dynamic_shapes=(shape,))


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide messages that the exporter writes for its own developers."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
