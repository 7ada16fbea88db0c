"""Every node test that the `onnx` package has of its Attention operator (opsets 23 to 25).

The operator is made of attention() by the adapter below. Its four kinds of raw scores, which
attention() never forms, come from the steps of the reference.
"""

from __future__ import annotations

import importlib

import numpy as np
import onnx
import pytest
from ml_dtypes import bfloat16

from seq2seq_fast import attention, contract
from seq2seq_fast.contract.dtypes import narrow, wide


def collect():
    """(attributes, inputs by name, outputs by name) of each test case."""
    np.random.seed(23)  # noqa: NPY002 (to import the module is to draw its cases, from here)
    importlib.import_module("onnx.backend.test.case.node.attention")
    every = importlib.import_module("onnx.backend.test.case.node")._NodeTestCases
    cases = []
    for case in every:
        graph = case.model.graph
        if [node.op_type for node in graph.node] != ["Attention"]:
            continue  # the same once more, as a graph of other operators
        (node,) = graph.node
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        ((inputs, outputs),) = case.data_sets
        formal = ["Q", "K", "V", "attn_mask", "past_key", "past_value", "nonpad_kv_seqlen"]
        given = iter(inputs)
        by_name = {f: next(given) for f, n in zip(formal, node.input, strict=False) if n}
        formal = ["Y", "present_key", "present_value", "qk_matmul_output"]
        wanted = iter(outputs)
        results = {f: next(wanted) for f, n in zip(formal, node.output, strict=False) if n}
        cases.append(pytest.param(attributes, by_name, results, id=case.name))
    return cases


CASES = collect()


def operator(attributes, Q, K, V, attn_mask=None, past_key=None, past_value=None,
             nonpad_kv_seqlen=None):  # fmt: skip
    """The ONNX operator: https://onnx.ai/onnx/operators/onnx__Attention.html"""
    flat = Q.ndim == 3
    if flat:  # (B, T, H * D)
        heads = attributes["q_num_heads"], *[attributes["kv_num_heads"]] * 2
        Q, K, V = (
            a.reshape(*a.shape[:2], h, -1).swapaxes(1, 2)
            for a, h in zip((Q, K, V), heads, strict=True)
        )
    offset = 0
    if past_key is not None:
        offset = past_key.shape[2]
        K, V = np.concatenate([past_key, K], axis=2), np.concatenate([past_value, V], axis=2)
    elif nonpad_kv_seqlen is not None:
        offset = nonpad_kv_seqlen - Q.shape[2]
    bounds = (attributes.get(f"{side}_window_size", -1) for side in ("left", "right"))
    options = {
        "causal": bool(attributes.get("is_causal", 0)),
        "window": tuple(None if bound < 0 else bound for bound in bounds),
        "query_offset": offset,
        "key_lengths": nonpad_kv_seqlen,
        "softcap": attributes.get("softcap") or None,
        "scale": attributes.get("scale"),
    }
    if attn_mask is not None:
        missing = K.shape[2] - attn_mask.shape[-1]
        pads = [(0, 0)] * (attn_mask.ndim - 1) + [(0, missing)]
        masks = attn_mask.dtype == bool
        padded = np.pad(attn_mask, pads, constant_values=False if masks else -np.inf)
        options["mask" if masks else "bias"] = padded if masks else padded.astype(Q.dtype)
    Y, weights = attention(Q, K, V, return_weights=True, **options)
    scores = raw_scores(attributes.get("qk_matmul_output_mode", 0), Q, K, weights, options)
    if flat:
        Y = Y.swapaxes(1, 2).reshape(len(Y), Y.shape[2], -1)
    return {"Y": Y, "present_key": K, "present_value": V, "qk_matmul_output": scores}


def raw_scores(mode, Q, K, weights, options):
    """Scaled products (0), softcapped (1), with bias and -inf for hidden pairs (2), weights (3)."""
    if mode == 3:
        return weights
    real = np.float64 if Q.dtype == np.float64 else np.float32
    scale = options["scale"] or Q.shape[-1] ** -0.5
    keys = np.repeat(wide(K), Q.shape[1] // K.shape[1], axis=1).swapaxes(-1, -2)
    scores = contract.ordered_matmul(wide(Q), keys) * real(scale)
    if mode >= 1 and options["softcap"]:
        cap = real(options["softcap"])
        scores = cap * contract.tanh(scores / cap)
    if mode == 2:
        scores = scores + wide(options.get("bias", np.zeros((), Q.dtype)))
        visible = np.broadcast_to(options.get("mask", True), scores.shape).copy()
        i, j = np.ogrid[: scores.shape[2], : scores.shape[3]]
        position = i + np.reshape(options["query_offset"], (-1, 1, 1, 1))
        left, right = options["window"]
        if options["causal"]:
            right = 0
        if left is not None:
            visible &= j >= position - left
        if right is not None:
            visible &= j <= position + right
        if options["key_lengths"] is not None:
            visible &= j < np.reshape(options["key_lengths"], (-1, 1, 1, 1))
        scores = np.where(visible, scores, -np.inf).astype(real)
    return narrow(scores, Q.dtype)


def test_all_of_them_are_here():
    assert len(CASES) == 93


@pytest.mark.parametrize(("attributes", "inputs", "outputs"), CASES)
def test_node(backend, attributes, inputs, outputs):
    got = operator(attributes, **inputs)
    for name, want in outputs.items():
        assert got[name].dtype == want.dtype
        assert got[name].shape == want.shape
        # The operator's own reference rounds the half types at every step.
        bound = {np.dtype(np.float16): 2e-3, np.dtype(bfloat16): 2e-2}.get(want.dtype, 1e-6)
        np.testing.assert_allclose(
            got[name].astype(np.float64), want.astype(np.float64), rtol=bound, atol=bound
        )
