"""A decoder's step, a short sequence's way through the encoder, or that of a long one's rows from
attention to attention, as one native call: recorded once, run for every token and every sequence.

The layers' Python costs more than a small model's arithmetic. So their calls are recorded (while a
Tape is active, layers put their calls on it and give the arrays that will hold the results), and
then the record is run. What is computed, and its bits, are those of the layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..aligned import contiguous
from ..backends import native, selection
from ..backends.backend import Backend, LinearWeights
from ..backends.native_backend import native_weights
from ..contract.panels import PANEL
from ..contract.plan import KEYS, PACKED, QUERIES
from ..nn.attention import History
from ..nn.ssru import SSRUState
from ..sdpa.cache import KeyValueCache

if TYPE_CHECKING:
    from ..contract.plan import Plan
    from ..models.encoder_decoder import EncoderDecoder
    from ..nn.decoder import State
    from ..nn.encoder import Encoder
    from ..nn.sources import Embedding

Array = np.ndarray[Any, Any]


class Unrecordable(TypeError):
    """A call that no op stands for."""


class Recorder(Backend):
    """What records calls instead of making them. A call that it has no op for is an error."""

    def __init__(self) -> None:
        active = selection.current()
        super().__init__(active.threads, active.threads_from)
        self.name, self.isa = active.name, active.isa

    def attention(self, *arguments: Any) -> None:
        raise Unrecordable("attention has no op here")

    def select(self, weights: LinearWeights, ids: Array) -> Any:
        raise Unrecordable("select has no op")

    def ssru_step(self, gates: Array, state: Array, residual: Array) -> tuple[Array, Array]:
        raise Unrecordable("ssru_step has no op here")

    def topk_log_softmax(self, logits: Array, k: int) -> tuple[Array, Array, Array]:
        raise Unrecordable("topk_log_softmax has no op")


class Tape(Recorder):
    """Calls in the order in which they were recorded."""

    def __init__(self, sequences: int) -> None:
        super().__init__()
        self.sequences = sequences
        self.ops: list[dict[str, Any]] = []
        self.held: list[Any] = []  # what the ops' pointers lead to
        self.past_spans: list[Array] = []  # of attention to what steps append to
        self.memory_spans: list[Array] = []  # of other attention
        self._appends: dict[int, dict[str, Any]] = {}  # by the address of the cache's keys
        self._taken: list[Array] = []
        self._spare: dict[int, list[Array]] = {}  # by size

    def _empty(self, shape: tuple[int, ...]) -> Array:
        size = math.prod(shape)
        spare = self._spare.get(size)
        self._taken.append(spare.pop() if spare else np.empty(size, np.float32))
        return self._taken[-1].reshape(shape)

    def reuse_all_but(self, kept: Array) -> None:
        """Of the results so far only one will be read again: others may take their places."""
        taken, self._taken = self._taken, []
        for array in taken:
            if np.may_share_memory(array, kept):
                self._taken.append(array)
            else:
                self._spare.setdefault(array.size, []).append(array)

    def _add(
        self,
        kind: int,
        rows: int,
        ins: tuple[Array | None, ...],
        outs: tuple[Array, ...],
        **fields: Any,
    ) -> None:
        self.held.append((ins, outs))
        op = dict(_NOTHING, kind=kind, rows=rows // self.sequences, **fields)
        for names, arrays in ((_INS, ins), (_OUTS, outs)):
            for name, array in zip(names, arrays, strict=False):
                op[name] = 0 if array is None else _address(array)
        self.ops.append(op)

    def linear(
        self,
        weights: LinearWeights,
        x: Array,
        activation: str = "none",
        residual: Array | None = None,
        gate: Array | None = None,
        out: Array | None = None,
    ) -> Array:
        if out is not None:
            raise Unrecordable("linear has no op with `out`")
        layer, other = native_weights(weights), gate if residual is None else residual
        out = self._empty((*x.shape[:-1], layer.outputs))
        assert contiguous(x) is x and (other is None or contiguous(other) is other)
        self.held.append(layer)
        self._add(
            native.lib.S2S_OP_LINEAR, x.size // layer.inputs, (x, other), (out,),
            choice=native.ACTIVATION_NUMBERS[activation], multiply=gate is not None,
            matrix=layer.address,
        )  # fmt: skip
        return out

    def norm(self, x: Array, gamma: Array, beta: Array | None, eps: float) -> Array:
        out = self._empty(x.shape)
        gamma, beta = contiguous(gamma), None if beta is None else contiguous(beta)
        n = len(gamma)
        self._add(native.lib.S2S_OP_NORM, x.size // n, (x, gamma, beta), (out,), n=n, number=eps)
        return out

    def ssru_step(self, gates: Array, state: Array, residual: Array) -> tuple[Array, Array]:
        """The new state takes the place of the old one."""
        out = self._empty(state.shape)
        self._add(
            native.lib.S2S_OP_RECUR, len(state), (gates, state, residual), (out, state),
            n=state.shape[1],
        )  # fmt: skip
        return out, state

    def attention(
        self,
        plan: Plan,
        query: Array,
        key: Array,
        value: Array,
        scale: float,
        softcap: float,
        mask: Array | None,
        bias: Array | None,
        sinks: Array | None,
        spans: Array | None,
        out: Array,
        weights: Array | None,
        statistics: Array | None,
    ) -> None:
        named = {"mask": mask, "bias": bias, "sinks": sinks}
        named |= {"return_weights": weights, "return_logsumexp": statistics}
        given = [name for name, array in named.items() if array is not None]
        if softcap or given:
            raise Unrecordable(f"attention has no op with {given[0] if given else 'softcap'}")
        if spans is None or len(plan.lead) != 1 or plan.ragged:
            raise Unrecordable("attention has no op without lengths of each sequence")
        strides = (query.strides, key.strides, value.strides, out.strides)
        shared = native.attention_problem(plan, *strides, None, None, None, None, None)
        problem = native.ffi.new("s2s_attention_problem *", shared[0])
        self.held.append(problem)
        address = int(native.ffi.cast("uintptr_t", problem))
        appended = self._appends.pop(_address(key), None)
        if appended is None:
            self.memory_spans.append(spans)
        else:
            spans[:, PACKED] = -(-spans[:, KEYS] // PANEL) * PANEL
            self.past_spans.append(spans)
            appended["problem"], appended["out3"] = address, _address(spans)
        self._add(
            native.lib.S2S_OP_ATTEND, plan.lead[0], (query, key, value, spans), (out,),
            problem=address, number=scale,
        )  # fmt: skip

    def embed(
        self, embedding: Embedding, tokens: Array, step: Array, positions: Array | None
    ) -> Array:
        """`step` holds which of the position vectors is meant."""
        weights = native_weights(embedding.weights)
        out = self._empty((len(tokens), embedding.width))
        self.held += [weights, step]
        self._add(
            native.lib.S2S_OP_EMBED, len(tokens), (tokens, positions), (out,),
            matrix=weights.address, number=embedding.scale, step=_address(step),
        )  # fmt: skip
        return out

    def append(self, cache: KeyValueCache, keys: Array, values: Array) -> bool:
        """A key and a value (rows, heads, 1, width) to each sequence of a cache, which attention to
        the cache is to follow."""
        panels, stored, _ = cache._operands(None)
        scratch = np.empty(cache.width * PANEL, np.float32)
        self._add(
            native.lib.S2S_OP_APPEND, len(keys), (keys, values), (panels, stored, scratch),
            stride=keys.strides[0] // keys.itemsize,
        )  # fmt: skip
        self._appends[_address(panels)] = self.ops[-1]
        return True


class Recording:
    """What is on a tape, as the kernel takes it."""

    def __init__(self, tape: Tape) -> None:
        self.ops: Array = np.array([tuple(op.values()) for op in tape.ops], _OP)
        self.first_op = native.ffi.from_buffer("s2s_op *", self.ops)
        self.past_spans, self.memory_spans = tape.past_spans, tape.memory_spans
        self._held = tape.held

    def run(self, active: Backend, sequences: int) -> None:
        """All calls, for the first of the sequences that they were recorded for."""
        status = native.lib.s2s_run_program(
            self.first_op, len(self.ops), native.ISA_NUMBERS[active.isa], active.threads, sequences
        )
        native.check(status, "program")


def _address(array: Array) -> int:
    return int(native.ffi.cast("uintptr_t", native.first_of(array)))


# The kernel's s2s_op.
_INS, _OUTS = ("in0", "in1", "in2", "in3"), ("out0", "out1", "out2", "out3")
_OP = np.dtype(
    [("kind", "i4"), ("choice", "i4"), ("multiply", "i4"), ("rows", "i8"), ("n", "i8"),
     ("stride", "i8"), ("number", "f8"),
     *((name, np.uintp) for name in ("matrix", "problem", "step", *_INS, *_OUTS))],
    align=True,
)  # fmt: skip
_NOTHING = dict.fromkeys(_OP.names or (), 0)


# ---- chains ----


class ChainTape(Recorder):
    """Links of a chain in the order in which they were recorded, of arrays that stand for rows."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[tuple[Any, ...]] = []
        self.held: list[Any] = []  # what the links' pointers lead to
        self.places: list[Array] = []

    def place(self, width: int) -> Array:
        """An array for one more number of places."""
        self.places.append(np.empty((1, width), np.float32))
        return self.places[-1]

    def number(self, array: Array | None) -> int:
        """Of the place that an array stands for; -1 for none."""
        addresses = [_address(place) for place in self.places]
        return -1 if array is None else addresses.index(_address(array))

    def linear(
        self,
        weights: LinearWeights,
        x: Array,
        activation: str = "none",
        residual: Array | None = None,
        gate: Array | None = None,
        out: Array | None = None,
    ) -> Array:
        if out is not None:
            raise Unrecordable("linear has no op with `out`")
        layer, other = native_weights(weights), gate if residual is None else residual
        out = self.place(layer.outputs)
        self.held.append(layer)
        self.links.append(
            (layer.address, native.ACTIVATION_NUMBERS[activation], gate is not None, 0, 0, 0.0,
             *map(self.number, (x, other, out)))
        )  # fmt: skip
        return out

    def norm(self, x: Array, gamma: Array, beta: Array | None, eps: float) -> Array:
        out = self.place(x.shape[-1])
        gamma, beta = contiguous(gamma), None if beta is None else contiguous(beta)
        self.held.append((gamma, beta))
        self.links.append(
            (0, 0, 0, _address(gamma), 0 if beta is None else _address(beta), eps,
             *map(self.number, (x, None, out)))
        )  # fmt: skip
        return out


class Chain:
    """Linear layers and norms that each row goes through by itself.

    `function` takes arrays of the given widths, and gives a tuple of arrays.
    """

    FEW = 96
    """So many rows a thread are faster with the threads side by side at each layer."""

    def __init__(self, function: Callable[..., tuple[Array, ...]], *widths: int) -> None:
        tape = ChainTape()
        given = [tape.place(width) for width in widths]
        with selection.using(tape):
            results = function(*given)
        self._links = np.array(tape.links, _LINK)
        self._places = np.array([(0, place.shape[-1], 0) for place in tape.places], _PLACE)
        self._numbers = [tape.number(array) for array in (*given, *results)]
        self.widths = [array.shape[-1] for array in (*given, *results)]
        self._held = tape.held

    def __call__(self, *arrays: Array) -> None:
        """Arrays (..., width), what is taken and then what is given: contiguous, of as many rows. A
        result may take the place of an argument that it is the last to be made of. One that
        nothing else is made of may be in parts: (parts, ..., width / parts)."""
        active, places = selection.current(), self._places.copy()
        for number, array in zip(self._numbers, arrays, strict=True):
            assert contiguous(array) is array and array.dtype == np.float32
            places["rows"][number], places["part"][number] = _address(array), array.shape[-1]
        status = native.lib.s2s_chain(
            native.ffi.from_buffer("s2s_link *", self._links),
            len(self._links),
            native.ffi.from_buffer("s2s_place *", places),
            len(places),
            native.ISA_NUMBERS[active.isa],
            active.threads,
            math.prod(arrays[0].shape[:-1]),
        )
        native.check(status, "chain")


# The kernel's s2s_link and s2s_place.
_LINK = np.dtype(
    [("matrix", np.uintp), ("activation", "i4"), ("multiply", "i4"), ("gamma", np.uintp),
     ("beta", np.uintp), ("eps", "f8"), ("x", "i8"), ("other", "i8"), ("out", "i8")],
    align=True,
)  # fmt: skip
_PLACE = np.dtype([("rows", np.uintp), ("width", "i8"), ("part", "i8")], align=True)


class Idle:
    """Programs that nobody runs at the moment, by what they were recorded for. Each is run by one
    thread at a time, which takes it and gives it back."""

    MOST = 4  # of a kind: as many threads as are likely to be here at a time

    def __init__(self) -> None:
        self._programs: dict[Hashable, list[Any]] = {}

    def take(self, kind: Hashable) -> Any:
        """A program, or None."""
        try:
            return self._programs[kind].pop()
        except (KeyError, IndexError):
            return None

    def give_back(self, kind: Hashable, program: Any) -> None:
        some = self._programs.setdefault(kind, [])
        if len(some) < self.MOST:
            some.append(program)


class EncoderProgram:
    """The way of one short sequence through an encoder's layers."""

    MOST_TIME = 128
    """A longer one has arithmetic enough, and its layers keep it in the cache better."""

    def __init__(self, encoder: Encoder) -> None:
        self.x = np.zeros((1, self.MOST_TIME, encoder.embedding.width), np.float32)
        tape = Tape(1)
        with selection.using(tape):
            self.out = encoder.through_layers(
                self.x, np.array([self.MOST_TIME]), after_each=tape.reuse_all_but
            )
        self._layers = Recording(tape)
        self._of_tokens = self._layers.ops["kind"] != native.lib.S2S_OP_ATTEND

    @staticmethod
    def run(encoder: Encoder, x: Array) -> Array:
        """x (1, time, features) -> the memory (1, time, features)."""
        program = encoder.idle.take("encoder") or EncoderProgram(encoder)
        memory: Array = program(x)
        encoder.idle.give_back("encoder", program)
        return memory

    def __call__(self, x: Array) -> Array:
        time = x.shape[1]
        self.x[:, :time] = x
        self._layers.ops["rows"][self._of_tokens] = time
        for spans in self._layers.memory_spans:
            spans[:, QUERIES] = spans[:, KEYS] = time
        self._layers.run(selection.current(), 1)
        return self.out[:, :time].copy()


SOME_STEPS = 32  # that there is room for at first
SOME_MEMORY = 32  # keys that a program's own memory has room for, or twice that and so on


class Program:
    """The steps of a search over a state that nobody else has."""

    MOST_MEMORY = 256
    """Keys of one sequence that are copied, so that a program that is there can be used again."""

    def __init__(self, model: EncoderDecoder, state: State, kind: Hashable = None) -> None:
        self.model, self.kind = model, kind
        self.active = selection.current()
        self.sequences = len(state.lengths)
        self.beams = state.rows // self.sequences
        self.state = state
        self.place = np.arange(state.rows)
        """Where a search's rows are among the program's: a sequence's own, in any order."""
        self._forget_origins()
        self.step_number = np.array([state.position], np.int64)
        self.positions: Array | None = None
        self._place(state.position + SOME_STEPS)
        self._record()

    @staticmethod
    def of(model: EncoderDecoder, state: State, beams: int) -> Program:
        """For a search from a state with one row to a sequence, which stays as it is."""
        longest = int(state.lengths.max())
        if len(state.lengths) > 1 or state.position or longest > Program.MOST_MEMORY:
            return Program(model, state.select(np.repeat(np.arange(state.rows), beams)))
        room = SOME_MEMORY
        while room < longest:
            room *= 2
        program: Program | None = model.idle.take((beams, room))
        if program is None:
            own = state.select(np.zeros(beams, np.intp))
            memory = tuple(cache.with_room(room) for cache in state.memory)
            return Program(model, replace(own, memory=memory), (beams, room))
        program._begin(state)
        return program

    def _begin(self, state: State) -> None:
        """Once more, from another state of one sequence."""
        self.active = selection.current()
        self.sequences = 1
        self.place = np.arange(self.beams)
        self._forget_origins()
        self.step_number[0] = 0
        for layer, start in zip(self.state.past, state.past, strict=True):
            if isinstance(layer, SSRUState) and isinstance(start, SSRUState):
                layer.values[:] = start.values
        for spans in self._step.past_spans:
            spans[:, KEYS] = spans[:, PACKED] = 0
        for own, cache in zip(self.state.memory, state.memory, strict=True):
            own.assign(cache)
        for spans in self._step.memory_spans:
            spans[:, KEYS] = state.lengths
        if state.output is not self.state.output:
            self.state = replace(self.state, output=state.output)
            self._choose()

    def _forget_origins(self) -> None:
        """Of each place and step up to the last selection, where it was computed: places of the
        same origin are alike there."""
        self.origins = np.empty((len(self.place), 0), np.int64)

    def give_back(self) -> None:
        """To be used again by another search: this one is over."""
        if self.kind is not None:
            self.model.idle.give_back(self.kind, self)

    @property
    def rows(self) -> int:
        return self.sequences * self.beams

    def _place(self, steps: int) -> None:
        """Vectors of the positions of so many steps, or of as many as the model knows."""
        positions = self.model.decoder.embedding.positions
        if positions is not None:
            self.positions = contiguous(positions(0, min(steps, positions.most)))

    def _record(self) -> None:
        tape = Tape(self.sequences)
        self.tokens = np.zeros(self.rows, np.int64)
        embedding = self.model.decoder.embedding
        with selection.using(tape):
            x = tape.embed(embedding, self.tokens, self.step_number, self.positions)
            x = x if embedding.norm is None else embedding.norm(x)
            x, self.state, _ = self.model.decode(x[:, None], self.state)
            self.logits = self.state.output(x)[:, 0]
        self._step = Recording(tape)
        # Steps that there is room for.
        self._room = 1 << 62 if self.positions is None else len(self.positions)
        for past in self.state.past:
            if isinstance(past, History):
                self._room = min(self._room, past.cache.capacity)

    def _choose(self) -> None:
        """The last call is the output layer, which may be another one than was recorded."""
        weights = native_weights(self.state.output.weights)
        self.logits = np.empty((self.rows, weights.outputs), np.float32)
        self._step.ops[-1]["matrix"] = weights.address
        self._step.ops[-1]["out0"] = _address(self.logits)

    def step(self, tokens: Array | None) -> Array:
        """One token further: tokens (rows,), None at first -> logits (rows, vocabulary), each where
        `place` says, which the next step writes over."""
        self._prepare(tokens)
        self._step.run(self.active, self.sequences)
        self.step_number[0] += 1
        return self.logits[: self.rows]

    def greedy(
        self,
        tokens: Array | None,
        most: int,
        never: Array,
        ids: Array | None,
        own: tuple[Array, Array, Array] | None,
        end: int,
    ) -> tuple[Array, Array]:
        """Some tokens further in greedy search, with one row to a sequence: as many as there are
        before a row comes to its end, at most `most` -> the tokens and their log-probabilities,
        (steps, rows) each. `ids` are the tokens of the columns of logits, themselves if None.
        `own` are, where sources choose among columns of their own, these, (sources, longest), how
        many each has, and the rows' sources. Columns in `never` are not chosen; where no other is,
        it is the end."""
        most = min(most, self._prepare(tokens))
        found = np.empty((most, self.rows), np.int64)
        scores = np.empty((most, self.rows), np.float32)
        statistics = np.empty((self.rows, 2), np.float32)
        taken = native.ffi.new("int64_t *")
        nothing = native.ffi.NULL
        places, lengths, sources = map(native.integers, own) if own else (nothing,) * 3
        longest = own[0].shape[1] if own else 0
        gathered = np.empty((self.rows, longest), np.float32)
        choice = native.ffi.new(
            "s2s_greedy *",
            {
                "logits": native.floats(self.logits),
                "columns": self.logits.shape[1],
                "ids": nothing if ids is None else native.integers(ids),
                "places": places,
                "lengths": lengths,
                "sources": sources,
                "longest": longest,
                "own": native.floats(gathered),
                "never": native.integers(never),
                "never_count": len(never),
                "end": end,
                "tokens": native.integers(self.tokens),
                "step": native.integers(self.step_number),
            },
        )
        active = self.active
        native.check(
            native.lib.s2s_run_greedy(
                self._step.first_op,
                len(self._step.ops),
                native.ISA_NUMBERS[active.isa],
                active.threads,
                self.rows,
                choice,
                most,
                native.integers(found),
                native.floats(scores),
                native.floats(statistics),
                taken,
            ),
            "step",
        )
        return found[: taken[0]], scores[: taken[0]]

    def _prepare(self, tokens: Array | None) -> int:
        """For a step from the given tokens. Returns how many there is room for."""
        if tokens is None:
            self.tokens[: self.rows] = -1 if self.model.bos is None else self.model.bos
        else:
            self.tokens[self.place] = tokens
        number = int(self.step_number[0])
        if number >= self._room:
            self._grow(number)
        return self._room - number

    def _grow(self, length: int) -> None:
        """Room for more steps: what is in use moves, and the step is recorded anew."""
        positions = self.model.decoder.embedding.positions
        if positions is not None:
            positions(length, 1)  # raises if the model knows no more
            self._place(2 * length + 1)
        tokens = self.tokens[: self.rows].copy()
        rows, sequences = np.arange(self.rows), np.arange(self.sequences)
        past: list[Any] = []
        for layer in self.state.past:
            if isinstance(layer, History):
                cache = layer.cache
                cache.set_lengths(length)
                cache._move(rows, 2 * cache.capacity)
                past.append(History(cache, length))
            else:
                past.append(layer.select(rows))
        memory = tuple(
            cache if len(cache.lengths) == self.sequences else cache.select(sequences)
            for cache in self.state.memory
        )
        self.state = replace(self.state, past=tuple(past), memory=memory, rows=self.rows)
        before = self._step.past_spans
        self._record()
        for spans, old in zip(self._step.past_spans, before, strict=True):
            spans[:, PACKED] = old[: self.rows, PACKED]
        self.tokens[:] = tokens

    def select(self, rows: Array, sequences: Array | None) -> None:
        """Go on with the given rows; `sequences` says whose they are, if that changes."""
        length = int(self.step_number[0])
        # The first that follows a row takes its place, so that only others are copied, into the
        # places of rows that nothing follows.
        before, every = self.place[rows], np.arange(len(rows))
        first = np.empty(self.rows, np.intp)
        first[before[::-1]] = every[::-1]  # of equal ones the last assignment counts
        stays = (first[before] == every) & (before // self.beams == every // self.beams)
        is_free = np.ones(len(rows), bool)
        is_free[before[stays]] = False
        targets, sources = np.flatnonzero(is_free), before[~stays]
        self.place = before
        self.place[~stays] = targets
        starts = self._differ_from(targets, sources, length)
        for layer in self.state.past:
            if isinstance(layer, SSRUState):
                layer.values[targets] = layer.values[sources]
        native.lib.s2s_follow(
            self._step.first_op,
            len(self._step.ops),
            len(targets),
            *map(native.integers, (targets, sources, starts)),
            length,
        )
        if sequences is not None:
            targets = np.flatnonzero(sequences != np.arange(len(sequences)))
            sources = sequences[targets]
            for cache in self.state.memory:
                cache.overwrite(targets, sources)
            for spans in self._step.memory_spans:
                spans[targets] = spans[sources]
            self.sequences = len(sequences)

    def _differ_from(self, targets: Array, sources: Array, length: int) -> Array:
        """The first of `length` steps in which places differ from others, which they become."""
        places, steps = self.origins.shape
        since = np.arange(places)[:, None].repeat(length - steps, axis=1)
        self.origins = np.concatenate([self.origins, since], axis=1)
        theirs = self.origins[sources]
        differ = self.origins[targets] != theirs
        self.origins[targets] = theirs
        return np.where(differ.any(axis=1), differ.argmax(axis=1), length)
