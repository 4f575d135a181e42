"""The kernels compile for a GPU, which takes none. Triton's interpreter cannot tell.

Run in a new process: where the interpreter runs the kernels, nothing is compiled.
"""

import os
import subprocess
import sys

import pytest
import torch

SIGNATURES = {
    "nearest._search": "z *fp32, e *fp32, offset *fp32, nearest *i64, n i32, k i32, d i32, "
    "share i32",
    "nearest._centered": "e *fp32, center *fp32, reach *fp32, out *fp32, offset *fp32, k i32, "
    "d i32, tiny fp32",
    "gradient._rotate": "z *bf16, q *fp32, g *bf16, out *bf16, n i32, d i32, finite fp32, "
    "antiparallel fp32, lambda_max fp32",
    "statistics._usable": "z *fp16, valid *i1, out *fp32, kept *i1, n i32, d i32, largest fp32",
    "statistics._add_up": "z *fp32, order *i64, first *i64, total *fp64, d i32",
    "averages._average": "e *fp32, N *fp32, m *fp32, n *fp32, s *fp32, rate *fp32, most *fp32, "
    "reach *fp32, mean *fp32, new_e *fp32, new_N *fp32, new_m *fp32, k i32, d i32, never fp32, "
    "start fp32",
}
"""The type of each argument that is no constant."""
TILES = {"ROWS": 64, "WIDTH": 64}


@pytest.mark.parametrize("capability", [80, 90])
def test_every_kernel_compiles(capability):
    pytest.importorskip("triton", reason="Triton is not installed")
    if torch.version.hip:
        pytest.skip("for NVIDIA's GPUs")
    variables = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, __file__, str(capability)], capture_output=True, text=True, env=variables
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [*SIGNATURES]


def compile_all(capability: int) -> None:
    """Compile each kernel with the constants that it is launched with, and print its name."""
    from importlib import import_module

    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    modules = {
        name: import_module(f"rotvq.quantization.kernels.{name}")
        for name in {name.partition(".")[0] for name in SIGNATURES}
    }
    nearest = modules["nearest"]
    search = {"ROWS": nearest.ROWS, "CODES": nearest.CODES, "DEPTH": nearest.DEPTH}
    variants = {"nearest._search": [search], "gradient._rotate": [{"RESCALE": b} for b in (0, 1)]}
    for name, signature in SIGNATURES.items():
        module, _, function = name.partition(".")
        kernel = getattr(modules[module], function)
        types = dict(each.split() for each in signature.split(", "))
        for variant in variants.get(name, [{}]):
            constants = TILES | variant
            source = ASTSource(
                kernel,
                {a: "constexpr" if a in constants else types[a] for a in kernel.arg_names},
                {(i,): constants[a] for i, a in enumerate(kernel.arg_names) if a in constants},
            )
            warps = {"num_warps": nearest.WARPS} if name == "nearest._search" else {}
            target = GPUTarget("cuda", capability, 32)
            assert triton.compile(source, target=target, options=warps).asm["cubin"]
        print(name)


if __name__ == "__main__":
    compile_all(int(sys.argv[1]))
