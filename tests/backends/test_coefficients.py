"""The kernel's coefficients are the contract's: both sources are read, and numbers compared."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path

import numpy as np
import pytest

from seq2seq_fast import contract

HEADER = Path(__file__).parents[2] / "csrc" / "isa" / "coefficients.h"
HEX = r"-?0x[0-9a-f.]+p[+-]?\d+"
DEFINE = re.compile(r"^#define (\w+)(?:\(type\))?((?:.*\\\n)*.*)$", re.MULTILINE)

# What the contract defines by a formula, or writes as a decimal number.
FORMULAS = {
    "f32_MAGIC": 1.5 * 2**23 + 127,
    "f32_MAGIC_16": 1.5 * 2**23 / 16,
    "f64_MAGIC": 1.5 * 2**52 + 1023,
    "f64_MAGIC_16": 1.5 * 2**52 / 16,
    "GELU_ROOT": np.float32(math.sqrt(0.5)),
    "LOG_ROOT": np.float32(math.sqrt(0.5)),
    "GELU_TANH": np.float32(math.sqrt(2 / math.pi)),
    "I8_LEAST": 2.0**-100,
    "WHOLE_MAGIC": 1.5 * 2**23,
}


def numbers_of(text):
    return tuple(map(float.fromhex, re.findall(HEX, text)))


KERNEL = {name: numbers_of(body) for name, body in DEFINE.findall(HEADER.read_text())}
KERNEL = {name: numbers for name, numbers in KERNEL.items() if numbers}


def sequences_of_the_contract():
    """The runs of hexadecimal numbers that stand together in the contract's modules."""
    for path in Path(contract.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            texts = [
                child.value
                for child in ast.iter_child_nodes(node)
                if isinstance(child, ast.Constant) and isinstance(child.value, str)
            ]
            if texts and all(re.fullmatch(HEX, text) for text in texts):
                yield tuple(map(float.fromhex, texts))


CONTRACT = set(sequences_of_the_contract())


def test_the_header_was_read():
    assert len(KERNEL) == len(FORMULAS) + 12
    assert len(KERNEL["ERF_TABLE"]) == 6 * 16 and len(KERNEL["ROOTS_OF_TWO"]) == 16


@pytest.mark.parametrize("name", KERNEL)
def test_coefficients_are_the_contracts(name):
    numbers = KERNEL[name]
    if name in FORMULAS:
        assert numbers == (FORMULAS[name],)
    elif name == "ERF_TABLE":
        assert all(numbers[i : i + 16] in CONTRACT for i in range(0, len(numbers), 16))
    else:
        assert numbers in CONTRACT


@pytest.mark.parametrize("name", [name for name in KERNEL if re.match("f32|[A-Z]", name)])
def test_single_precision_is_written_exactly(name):
    if name != "ROOTS_OF_TWO":  # which float's loops round from double
        assert all(float(np.float32(number)) == number for number in KERNEL[name])
