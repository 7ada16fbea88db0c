"""assemble(): from a plan and a file's tensors to an EncoderDecoder. The only place that makes
layers, whatever the family."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..nn.attention import CrossAttention, Heads, SelfAttention
from ..nn.decoder import Decoder, DecoderLayer
from ..nn.encoder import Encoder, EncoderLayer
from ..nn.feed_forward import FeedForward
from ..nn.linear import Convolution, Linear
from ..nn.norms import Norm, SublayerNorm
from ..nn.positions import LearnedPositions, RelativeBias
from ..nn.sources import Embedding, SpectrumEmbedding
from ..nn.ssru import SSRU
from .encoder_decoder import EncoderDecoder
from .plan import Bias, Layer, Learned, Plan, Spectrum, Stack, Tokens
from .tensors import Tensors

# Of the convolutions of a spectrum, which are Whisper's: rows that each takes, and how far it goes.
KERNEL, STRIDES = 3, (1, 2)


def assemble(plan: Plan, tensors: Tensors) -> EncoderDecoder:
    """The model that a plan describes.

    Raises
    ------
    ValueError
        A tensor is missing, of another shape or type than expected, or neither read nor ignored;
        the message names the file and the tensor. Parts do not fit each other.
    """
    model = _Assembler(plan, tensors).model()
    tensors.finish(plan.ignored, plan.copies)
    return model


class _Assembler:
    def __init__(self, plan: Plan, tensors: Tensors) -> None:
        self.plan, self.names, self.tensors = plan, plan.names, tensors
        self._biases: dict[Bias, RelativeBias] = {}

    def model(self) -> EncoderDecoder:
        plan = self.plan
        encoder, decoder = plan.encoder, plan.decoder
        source: Embedding | SpectrumEmbedding
        if isinstance(plan.source, Spectrum):
            source = self.spectrum(plan.source)
        else:
            source = self.embedding(plan.source)
        target = self.embedding(plan.target)
        return EncoderDecoder(
            Encoder(
                source,
                tuple(self.encoder_layer(encoder, layer, source.width) for layer in encoder.layers),
                self.norm(encoder.norm, source.width) if encoder.norm else None,
            ),
            Decoder(
                target,
                tuple(
                    self.decoder_layer(decoder, layer, target.width, source.width)
                    for layer in decoder.layers
                ),
                self.output(target),
                self.last_norm(decoder, target.width),
            ),
            bos=plan.bos,
            eos=plan.eos,
            unk=plan.unk,
            defaults=self.defaults(target),
        )

    def defaults(self, target: Embedding) -> dict[str, Any]:
        """Those of the plan, with no result longer than there are positions for."""
        found = dict(self.plan.defaults)
        if target.positions is not None and "max_new_tokens" in found:
            found["max_new_tokens"] = min(found["max_new_tokens"], target.positions.most)
        return found

    # ---- layers: `width` is that of what goes from layer to layer ----

    def encoder_layer(self, stack: Stack, layer: Layer, width: int) -> EncoderLayer:
        names = self.names
        return EncoderLayer(
            self.self_attention(layer, width),
            self.sublayer_norm(names.self_norm, stack, layer, width),
            self.feed_forward(stack, layer, width),
            self.sublayer_norm(names.feed_forward_norm, stack, layer, width),
        )

    def decoder_layer(self, stack: Stack, layer: Layer, width: int, memory: int) -> DecoderLayer:
        names = self.names
        return DecoderLayer(
            self.ssru(layer, width) if stack.recurrent else self.self_attention(layer, width),
            self.sublayer_norm(
                names.ssru_norm if stack.recurrent else names.self_norm, stack, layer, width
            ),
            self.cross_attention(layer, width, memory),
            self.sublayer_norm(names.cross_norm, stack, layer, width),
            self.feed_forward(stack, layer, width),
            self.sublayer_norm(names.feed_forward_norm, stack, layer, width),
        )

    def self_attention(self, layer: Layer, width: int) -> SelfAttention:
        heads = layer.heads
        widths = (heads.query_width, heads.key_width, heads.key_width)
        return SelfAttention(
            self.side_by_side(self.names.self_projection, layer, widths, width),
            self.linear(self.names.self_output, layer, width, heads.query_width),
            heads,
            None if layer.bias is None else self.relative_bias(layer.bias, heads),
        )

    def relative_bias(self, bias: Bias, heads: Heads) -> RelativeBias:
        if bias not in self._biases:
            table = self.tensors.table(bias.table, heads.count)
            self._biases[bias] = RelativeBias(table, bias.bidirectional, bias.max_distance)
        return self._biases[bias]

    def cross_attention(self, layer: Layer, width: int, memory: int) -> CrossAttention:
        heads = layer.cross_heads or layer.heads
        widths = (heads.key_width, heads.key_width)
        return CrossAttention(
            self.linear(self.names.cross_query, layer, heads.query_width, width),
            self.side_by_side(self.names.cross_key_value, layer, widths, memory),
            self.linear(self.names.cross_output, layer, width, heads.query_width),
            heads,
        )

    def ssru(self, layer: Layer, width: int) -> SSRU:
        return SSRU(self.side_by_side(self.names.ssru, layer, (width, width), width))

    def feed_forward(self, stack: Stack, layer: Layer, width: int) -> FeedForward:
        names = self.names
        up = self.linear(names.up, layer, None, width)
        inner = up.matrix.outputs
        gate = None
        if names.gate and self.named(names.gate, layer, names.weight) in self.tensors:
            gate = self.linear(names.gate, layer, inner, width)
        down = self.linear(names.down, layer, width, inner, keep_float=names.float_down)
        return FeedForward(up, down, stack.activation, gate)

    # ---- linear layers and norms ----

    @staticmethod
    def named(template: str, layer: Layer | None, word: str) -> str:
        """The name of a tensor."""
        if layer is not None:
            template = template.replace("{layer}", layer.name).replace("{last}", layer.last)
        return template.replace("*", word)

    def linear(
        self,
        template: str,
        layer: Layer | None,
        outputs: int | None,
        inputs: int,
        *,
        keep_float: bool = False,
    ) -> Linear:
        matrix = self.tensors.matrix(
            self.named(template, layer, self.names.weight), outputs, inputs,
            transposed=self.names.transposed, keep_float=keep_float,
        )  # fmt: skip
        bias = self.named(template, layer, self.names.bias)
        if "*" not in template or not (self.names.always_bias or bias in self.tensors):
            return Linear(matrix)
        return Linear(matrix, self.tensors.vector(bias, matrix.outputs))

    def side_by_side(
        self, templates: tuple[str, ...], layer: Layer, widths: tuple[int, ...], inputs: int
    ) -> Linear:
        """One layer of the given widths of outputs: as many in the file, or one."""
        if len(templates) == 1:
            return self.linear(templates[0], layer, sum(widths), inputs)
        parts = [
            self.linear(template, layer, outputs, inputs)
            for template, outputs in zip(templates, widths, strict=True)
        ]
        names = [self.named(one, layer, self.names.weight) for one in templates]
        return Linear.side_by_side(*parts, matrix=self.tensors.joined(names, parts))

    def norm(self, template: str, width: int, layer: Layer | None = None) -> Norm:
        gamma = self.tensors.vector(self.named(template, layer, self.names.gamma), width)
        beta = self.named(template, layer, self.names.beta)
        bare, full = self.plan.bare_norm, self.plan.norm
        if bare is not None and beta not in self.tensors:
            return Norm(gamma, None, bare.eps, bare.kind)
        return Norm(gamma, self.tensors.vector(beta, width), full.eps, full.kind)

    def sublayer_norm(
        self, templates: tuple[str, ...], stack: Stack, layer: Layer, width: int
    ) -> SublayerNorm:
        first, last = templates[0], templates[-1]
        if stack.placement == "both":
            norms = (self.norm(one, width, layer) for one in (first, last))
            return SublayerNorm(next(norms), "both", next(norms))
        one = first if stack.placement == "pre" else last
        return SublayerNorm(self.norm(one, width, layer), stack.placement)

    def last_norm(self, stack: Stack, width: int) -> Norm | None:
        """That of what the last layer gives, which scales it for the output, too."""
        scale = self.plan.output_scale
        if stack.norm is None:
            if scale != 1:
                raise self.tensors.fail(f"scales its output by {scale:g} without a norm before it")
            return None
        norm = self.norm(stack.norm, width)
        if scale == 1:
            return norm
        beta = None if norm.beta is None else norm.beta * np.float32(scale)
        return dataclasses.replace(norm, gamma=norm.gamma * np.float32(scale), beta=beta)

    # ---- what the model reads, and what it gives ----

    def embedding(self, part: Tokens) -> Embedding:
        matrix = self.tensors.matrix(part.table, None, None)
        width = matrix.inputs
        positions = part.positions
        return Embedding(
            matrix,
            part.scale,
            self.learned(positions, width) if isinstance(positions, Learned) else positions,
            self.norm(part.norm, width) if part.norm else None,
            part.norm_first,
        )

    def spectrum(self, part: Spectrum) -> SpectrumEmbedding:
        first, second = (
            self.convolution(template, stride)
            for template, stride in zip(part.convolutions, STRIDES, strict=True)
        )
        width = second.linear.matrix.outputs
        return SpectrumEmbedding(first, second, self.learned(part.positions, width))

    def convolution(self, template: str, stride: int) -> Convolution:
        matrix = self.tensors.convolution(self.named(template, None, self.names.weight), KERNEL)
        bias = self.named(template, None, self.names.bias)
        vector = self.tensors.vector(bias, matrix.outputs) if bias in self.tensors else None
        return Convolution(Linear(matrix, vector), KERNEL, stride)

    def learned(self, positions: Learned, width: int) -> LearnedPositions:
        table = self.tensors.table(positions.table, width)
        if len(table) <= positions.offset:
            raise self.tensors.fail(
                f"tensor {positions.table} has {len(table)} rows, expected more than"
                f" {positions.offset}"
            )
        return LearnedPositions(np.ascontiguousarray(table[positions.offset :]))

    def output(self, embedding: Embedding) -> Linear:
        """Of as many tokens as the decoder reads."""
        plan, size = self.plan, embedding.size
        output = Linear(embedding.matrix)
        if plan.output is not None:
            output = self.linear(plan.output, None, size, embedding.width)
        if plan.output_bias is None or output.bias is not None:
            return output
        return Linear(output.matrix, self.tensors.vector(plan.output_bias, size))
