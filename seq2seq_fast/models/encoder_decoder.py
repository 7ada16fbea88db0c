"""EncoderDecoder: encode, then decode step by step, by a search or by hand."""

from __future__ import annotations

import functools
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..checks import sequence
from ..contract.float_state import under_contract
from ..decoding.options import MAX_LENGTH, Options
from ..decoding.search import Token, search, stream
from ..decoding.steps import mean_over_heads
from ..nn.checks import checked_ids, must_equal
from ..nn.decoder import Decoder, State, Step
from ..nn.eager import EAGER
from ..nn.encoder import Encoder, Memory
from ..nn.sources import Embedding
from ..pickling import FromFiles, Part

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class EncoderDecoder(FromFiles, Part):
    """A model, as load() makes it. Its weights are read-only; any number of threads may use it.

    One that was loaded pickles as the path that it was loaded from, and the type of its weights:
    where it is unpickled, it is loaded from there. One that was put together by hand pickles its
    arrays.

    Parameters
    ----------
    encoder : Encoder
    decoder : Decoder
    bos : int or None
        The first token that the decoder reads; None for the zero vector.
    eos : int
        The token that ends a sequence, of the source and of the result.
    unk : int or None
        A token that is never generated.
    defaults : mapping
        Options of generate() that its files ask for: what it is given wins over these, and these
        win over the options' own defaults.

    Raises
    ------
    ValueError
        Parts whose widths do not fit each other, an option that makes no sense.

    References
    ----------
    Sutskever et al., "Sequence to Sequence Learning with Neural Networks", 2014. Bahdanau et al.,
    "Neural Machine Translation by Jointly Learning to Align and Translate", 2015. Vaswani et al.,
    "Attention Is All You Need", 2017.

    Examples
    --------
    >>> from seq2seq_fast import load
    >>> from seq2seq_fast.demo import find_translation_model
    >>> model = load(find_translation_model("pt"))
    >>> source = [[12, 847, model.eos]]
    >>> tokens = model.generate(source)[0].tokens
    >>> state = model.start(model.encode(source))  # the same by hand
    >>> logits, state, attention = model.step(None, state)
    >>> logits.shape == (1, model.vocabulary_size), int(logits[0].argmax()) == tokens[0]
    (True, True)
    """

    encoder: Encoder
    decoder: Decoder
    bos: int | None
    eos: int
    unk: int | None
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        memory = self.encoder.embedding.width
        for layer in self.decoder.layers:
            must_equal("widths of memory", memory, layer.attention.key_value.matrix.inputs)
        for name in ("bos", "eos", "unk"):
            token = getattr(self, name)
            if token is not None and not 0 <= token < self.vocabulary_size:
                raise ValueError(f"{name} is {token}, of {self.vocabulary_size} tokens")
        Options.check_defaults(self.defaults)

    @functools.cached_property
    def idle_steps(self) -> dict[Hashable, list[Any]]:
        """Of searches that are over the steps, to be used again: see decoding.steps."""
        return {}

    @property
    def vocabulary_size(self) -> int:
        """Tokens that the decoder knows."""
        return self.decoder.output.matrix.outputs

    @property
    def positions(self) -> int:
        """Tokens that the decoder can read, one after the other."""
        positions = self.decoder.embedding.positions
        return MAX_LENGTH if positions is None else positions.most

    @property
    def nbytes(self) -> int:
        """Bytes of all weights, each counted once."""
        return sum(array.nbytes for array in distinct_arrays(self))

    @under_contract
    def encode(self, sources: Sequence[Any]) -> Memory:
        """Encode a batch.

        Parameters
        ----------
        sources : sequence of sequences of int, or of ndarrays of float32
            Token ids, each sequence ending with `eos`; or, for a model of speech, log-mel spectra
            of shape (frames, bands).

        Returns
        -------
        Memory
            .values, of shape (batch, time, features) float32, and .lengths.

        Raises
        ------
        TypeError, ValueError
            No source, an empty one or one that the model has no positions for, an id that is not in
            the vocabulary, a spectrum of another shape.
        """
        return self.encoder(sequence("sources", sources, "sequences of token ids, or of spectra"))

    @under_contract
    def start(self, memory: Memory, *, beams: int = 1, vocabulary: Array | None = None) -> State:
        """The state before the first step.

        Parameters
        ----------
        memory : Memory
        beams : int
            Rows for each sequence.
        vocabulary : ndarray of int, optional
            The tokens that logits are wanted of, all if None. The decoder's input tokens are those
            of the whole vocabulary still.

        Returns
        -------
        State
            With `beams` rows for each sequence, one after the other.
        """
        rows = len(memory.lengths) * beams
        state = State(
            position=0,
            past=tuple(layer.past.start(rows) for layer in self.decoder.layers),
            memory=tuple(
                layer.attention.remember(memory.values, memory.lengths)
                for layer in self.decoder.layers
            ),
            lengths=memory.lengths,
            rows=rows,
            output=self.decoder.output,
        )
        return state if vocabulary is None else state.choosing(vocabulary)

    @under_contract
    def step(
        self, ids: Sequence[int] | Array | None, state: State, *, attention: int | None = -1
    ) -> Step:
        """One token further, or several.

        Parameters
        ----------
        ids : array_like of int, shape (rows,) or (rows, time)
            The tokens before; None at the first step, for the model's own beginning.
        state : State
            From start() or the step before.
        attention : int or None
            The layer whose attention to the source is wanted, -1 for the last one.

        Returns
        -------
        Step
            .logits, (rows, vocabulary) float32, are those of the token after the last one;
            .attention is (rows, heads, source time) float32, with an axis of time, the last but
            one, if `ids` has it.

        Raises
        ------
        TypeError, ValueError
            Not one token per row, a token that is not in the vocabulary, or no such layer.
        """
        layers = range(len(self.decoder.layers))
        if attention is not None and not -len(layers) <= attention < len(layers):
            raise ValueError(
                f"attention must be a layer from 0 to {len(layers) - 1}; got {attention}"
            )
        wanted = () if attention is None else (layers[attention],)
        x, state, weights = self.decode(self._input(ids, state), state, wanted)
        cross_attention = weights.get(wanted[0]) if wanted else None
        if cross_attention is not None and np.ndim(ids) < 2:  # type: ignore[arg-type]
            cross_attention = cross_attention[:, :, 0]
        return Step(state.output(x[:, -1]), state, cross_attention)

    def decode(
        self, x: Array, state: State, wanted: Collection[int] = ()
    ) -> tuple[Array, State, dict[int, Array]]:
        """The decoder's layers alone, without embedding and output.

        Parameters
        ----------
        x : ndarray of float32, shape (rows, time, features)
            Embedded tokens.
        state : State
            From start() or the step before.
        wanted : collection of int
            Layers whose cross-attention is returned.

        Returns
        -------
        x : ndarray of float32, shape (rows, time, features)
            What the output layer takes.
        state : State
            After these tokens.
        attention : dict
            Of each of the layers in `wanted`, of shape (rows, heads, time, source time).
        """
        past, weights = [], {}
        for i, (layer, before, memory) in enumerate(
            zip(self.decoder.layers, state.past, state.memory, strict=True)
        ):
            x, after, found = layer.step(EAGER, x, before, memory, i in wanted)
            past.append(after)
            if found is not None:
                weights[i] = found
        position = state.position + x.shape[1]
        x = x if self.decoder.norm is None else self.decoder.norm(x)
        return x, replace(state, position=position, past=tuple(past)), weights

    def _input(self, ids: Sequence[int] | Array | None, state: State) -> Array:
        """The decoder's input (rows, time, features)."""
        embedding = self.decoder.embedding
        if ids is None and self.bos is None:
            nothing = np.zeros((state.rows, 1, embedding.width), np.float32)
            return embedding.placed(nothing, state.position)
        if ids is None:
            tokens: Array = np.full(state.rows, self.bos)
        else:
            tokens = checked_ids(np.asarray(ids), embedding.size, "ids")
        if tokens.shape == (state.rows,):
            tokens = tokens[:, None]
        if tokens.ndim != 2 or len(tokens) != state.rows or not tokens.shape[1]:
            raise ValueError(
                f"ids must have one token per row, ({state.rows},), or several,"
                f" ({state.rows}, any); got shape {tokens.shape}"
            )
        return embedding(tokens, state.position)

    @under_contract
    def generate(self, sources: Sequence[Any] | State, **options: Any) -> Any:
        """Decode a batch.

        Parameters
        ----------
        sources : sequence of sequences of int, or of ndarrays of float32, or a State
            As for encode(); or a state with one row to a sequence, to go on from.
        **options
            The fields of `seq2seq_fast.decoding.options.Options`: num_beams,
            num_return_sequences, max_new_tokens, length_penalty, temperature and so on. What is
            left out is as `defaults` say.

        Returns
        -------
        list of Hypothesis, or of lists of them, the best first, if `num_return_sequences` is given
            .tokens, .score and .token_scores; none depends on the other sequences of the batch.

        Raises
        ------
        TypeError, ValueError
            An option that does not exist or makes no sense, and sources as for encode().

        Examples
        --------
        >>> from seq2seq_fast import load
        >>> from seq2seq_fast.demo import find_translation_model
        >>> model = load(find_translation_model("pt"))
        >>> found = model.generate([[12, 847, model.eos]], num_beams=4, num_return_sequences=2)[0]
        >>> found[0].score >= found[1].score
        True
        """
        chosen = Options.of(options, "generate", self.defaults)
        if isinstance(sources, State):
            chosen.fit(self, sources.rows, sources.position)
        else:
            chosen.fit(self, len(sequence("sources", sources, "sequences of token ids")))
        ids = self._ids_of(sources, chosen)
        found = search(self, self._begun(sources), chosen, ids)
        return [one[0] for one in found] if chosen.num_return_sequences is None else found

    def stream(self, source: Sequence[int] | Array | State, **options: Any) -> Iterator[Token]:
        """Decode one source, yielding each token as soon as it is found.

        Parameters
        ----------
        source : sequence of int, ndarray of float32 or State
            One of what generate() takes.
        **options
            As for generate(), without beams.

        Yields
        ------
        Token
            .id and .score, its log-probability

        Raises
        ------
        TypeError, ValueError
            As generate() does, before the first token; also for a beam search,
            num_return_sequences or callback.

        Examples
        --------
        >>> from seq2seq_fast import load
        >>> from seq2seq_fast.demo import find_translation_model
        >>> model = load(find_translation_model("pt"))
        >>> source = [12, 847, model.eos]
        >>> [token.id for token in model.stream(source)] == model.generate([source])[0].tokens
        True
        """
        chosen = Options.of(options, "stream", {**self.defaults, "num_beams": 1})
        if chosen.num_beams > 1:
            raise ValueError(f"num_beams must be 1 for a stream; got {chosen.num_beams}")
        for name in ("num_return_sequences", "callback"):
            if getattr(chosen, name) is not None:
                raise ValueError(f"{name} must be left out of a stream, which gives each token")
        chosen.fit(self, 1, source.position if isinstance(source, State) else 0)
        sources = source if isinstance(source, State) else [source]
        return stream(self, self._begun(sources), chosen, self._ids_of(sources, chosen))

    def _ids_of(self, sources: Sequence[Any] | State, chosen: Options) -> Sequence[Any] | None:
        """The sources' token ids, where an option goes by them."""
        if not chosen.encoder_no_repeat_ngram_size:
            return None
        if isinstance(sources, State) or not isinstance(self.encoder.embedding, Embedding):
            raise ValueError("encoder_no_repeat_ngram_size needs sources that are token ids")
        return sources

    def _begun(self, sources: Sequence[Any] | State) -> State:
        if not isinstance(sources, State):
            return self.start(self.encode(sources))
        if sources.rows != len(sources.lengths):
            raise ValueError(
                f"a state must have one row to a sequence; got {sources.rows} rows"
                f" of {len(sources.lengths)}"
            )
        if sources.rows == 1:
            return sources
        every = np.arange(sources.rows)  # a search moves the memories of those that are left
        return sources.select(every, every)

    @under_contract
    def align(
        self,
        ids: Sequence[int],
        tokens: Sequence[int],
        *,
        layer: int = -1,
        head: int | None = None,
    ) -> Array:
        """The cross-attention of one layer: how much each of the target tokens looked at each
        source token.

        Parameters
        ----------
        ids, tokens : sequence of int
            One source sequence and what was generated from it.
        layer : int
            Of the decoder, -1 for the last one.
        head : int, optional
            The mean over the heads if left out.

        Returns
        -------
        ndarray of float32, shape (tokens, source tokens)

        Raises
        ------
        TypeError, ValueError
            Tokens that are not in the vocabulary, no such layer or head.

        References
        ----------
        Bahdanau et al., "Neural Machine Translation by Jointly Learning to Align and Translate",
        2015, section 5.2.

        Examples
        --------
        >>> from seq2seq_fast import load
        >>> from seq2seq_fast.demo import find_translation_model
        >>> model = load(find_translation_model("pt"))
        >>> source = [12, 847, model.eos]
        >>> tokens = model.generate([source])[0].tokens
        >>> model.align(source, tokens).shape == (len(tokens), len(source))
        True
        """
        state = self.start(self.encode([ids]))
        if not tokens:
            return np.zeros((0, len(ids)), np.float32)
        _, state, first = self.step(None, state, attention=layer)
        assert first is not None
        weights = first[:, :, None]
        if len(tokens) > 1:
            _, _, others = self.step(np.array([tokens[:-1]]), state, attention=layer)
            weights = np.concatenate([weights, others], axis=2)
        if head is not None and not -weights.shape[1] <= head < weights.shape[1]:
            raise ValueError(f"head must be from 0 to {weights.shape[1] - 1}; got {head}")
        return mean_over_heads(weights)[0] if head is None else weights[0, head]


def distinct_arrays(part: Any) -> list[Array]:
    """Every array that a model is made of, once."""
    found: dict[int, Array] = {}

    def walk(part: Any) -> None:
        if isinstance(part, np.ndarray):
            found[part.__array_interface__["data"][0]] = part
        elif isinstance(part, tuple):
            for one in part:
                walk(one)
        elif hasattr(part, "__dataclass_fields__"):
            for name in part.__dataclass_fields__:
                walk(getattr(part, name))

    walk(part)
    return list(found.values())
