"""RNN, GRU and LSTM over sequences of a fixed length, step after step.

Every gate of every step is a node of its own, so that what is multiplied needs no slices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from specs.errors import ModelError, UnsupportedOperatorError
from specs.reader.builder import Builder
from specs.reader.calls import Call, operator, same_kind
from specs.reader.operands import Operand, Rearrangement, rearranged, require_real
from specs.reader.operators.dense import product
from specs.reader.operators.products import times
from specs.reader.operators.rewrites import bent, clipped, hard_sigmoid_of, shareable
from specs.reader.operators.univariate import apply
from specs.reader.tensors import Constant

Activation = Callable[[Builder, Operand], Operand]
STEP_COST = 2**13
"""What a step costs of the budget beside its tensors: some dozen nodes take a millisecond."""

NEEDS: dict[str, tuple[tuple[str, float | None], ...]] = {
    "Relu": (),
    "Tanh": (),
    "Sigmoid": (),
    "Softsign": (),
    "Softplus": (),
    "Affine": (("alpha", None), ("beta", None)),
    "ScaledTanh": (("alpha", None), ("beta", None)),
    "LeakyRelu": (("alpha", float(np.float32(0.01))),),
    "HardSigmoid": (("alpha", float(np.float32(0.2))), ("beta", 0.5)),
    "Elu": (("alpha", 1.0),),
}
"""By activation its numbers and their defaults; ``None``: there is none."""


@dataclass(frozen=True, eq=False)
class Gate:
    """One gate's part of the parameters, ``(inputs, hidden)`` and the like."""

    weight: Constant
    recurrence: Constant
    bias: Constant
    recurrent_bias: Constant


@dataclass(frozen=True, eq=False)
class Layer:
    """One direction of a recurrent layer.

    Attributes:
        gates: in the order of the file.
        activations: in the order of the equations.
        clip: of the activations' arguments.
        peepholes: those of an LSTM's gates, ``None`` for all others.
    """

    builder: Builder
    gates: tuple[Gate, ...]
    activations: tuple[Activation, ...]
    clip: Constant | None
    peepholes: tuple[Constant, ...] | None

    def activated(self, number: int, argument: Operand) -> Operand:
        """An activation function of a clipped argument."""
        if self.clip is not None:
            low = Constant(-self.clip.value, self.clip.kind)
            argument = clipped(self.builder, argument, low, self.clip)
        return shareable(self.builder, self.activations[number](self.builder, argument))

    def recurrent(self, gate: Gate, state: Operand) -> Operand:
        """The previous state's part of a gate, biased."""
        return self.builder.add(product(self.builder, state, gate.recurrence), gate.recurrent_bias)


State = tuple[Operand, ...]
Step = Callable[[Layer, Call, list[Operand], State], State]
"""From what the input adds to each gate, and the state before, to the state after."""


@operator("RNN")
def rnn(call: Call) -> list[Operand]:
    return _unrolled(call, 1, ("Tanh",), 1, _rnn_step)


@operator("GRU")
def gru(call: Call) -> list[Operand]:
    call.int("linear_before_reset", 0)
    return _unrolled(call, 3, ("Sigmoid", "Tanh"), 1, _gru_step)


@operator("LSTM")
def lstm(call: Call) -> list[Operand]:
    call.int("input_forget", 0)
    if "clip" in call.attributes:
        # The standard clips what the last activation is applied to as well, runtimes do not.
        raise UnsupportedOperatorError("clip of an LSTM is read in several ways")
    return _unrolled(call, 4, ("Sigmoid", "Tanh", "Tanh"), 2, _lstm_step)


def _rnn_step(layer: Layer, call: Call, given: list[Operand], state: State) -> State:
    previous = layer.recurrent(layer.gates[0], state[0])
    return (layer.activated(0, layer.builder.add(given[0], previous)),)


def _gru_step(layer: Layer, call: Call, given: list[Operand], state: State) -> State:
    builder, before = layer.builder, state[0]
    update, reset = (
        layer.activated(0, builder.add(given[n], layer.recurrent(layer.gates[n], before)))
        for n in (0, 1)
    )
    hidden = layer.gates[2]
    if call.int("linear_before_reset", 0):
        previous = times(builder, reset, shareable(builder, layer.recurrent(hidden, before)))
    else:
        previous = layer.recurrent(hidden, times(builder, reset, before))
    fresh = layer.activated(1, builder.add(given[2], previous))
    one = Constant(np.ones(()), fresh.kind)
    kept = times(builder, update, before)
    return (builder.add(times(builder, builder.subtract(one, update), fresh), kept),)


def _lstm_step(layer: Layer, call: Call, given: list[Operand], state: State) -> State:
    builder, (before, cell) = layer.builder, state

    def gate(number: int, activation: int, seen: Operand | None) -> Operand:
        argument = builder.add(given[number], layer.recurrent(layer.gates[number], before))
        if layer.peepholes is not None and seen is not None:
            argument = builder.add(argument, times(builder, seen, layer.peepholes[number]))
        return layer.activated(activation, argument)

    into = gate(0, 0, cell)
    if call.int("input_forget", 0):
        forget = shareable(builder, builder.subtract(Constant(np.ones(()), into.kind), into))
    else:
        forget = gate(2, 0, cell)
    fresh = gate(3, 1, None)
    cell = builder.add(times(builder, forget, cell), times(builder, into, fresh))
    cell = shareable(builder, cell)
    out = gate(1, 0, cell)
    return times(builder, out, layer.activated(2, cell)), cell


def _unrolled(
    call: Call, gates: int, defaults: tuple[str, ...], states: int, step: Step
) -> list[Operand]:
    """All outputs of a recurrent layer: every hidden state, and the last states."""
    builder, x = call.builder, call.operand(0)
    weight, recurrence = call.constant(1), call.constant(2)
    given = [call.optional_constant(3), *(call.constant(n) for n in (1, 2))]
    require_real(x)
    same_kind(x, *(constant for constant in given if constant is not None))
    layout = call.int("layout", 0)
    if layout not in (0, 1) or len(x.shape) != 3 or len(weight.shape) != 3:
        raise ModelError(f"operands of shapes {x.shape} and {weight.shape} in layout {layout}")
    if layout:
        x = builder.view(x, lambda array, _: array.transpose(1, 0, 2))
    length, batch, inputs = x.shape
    hidden = weight.shape[1] // gates
    if call.int("hidden_size", hidden) != hidden or 0 in (length, batch, inputs, hidden):
        raise ModelError(f"weights of shape {weight.shape} do not fit its hidden_size")
    directions = _directions(call)
    _check_shape("weights", weight, (len(directions), gates * hidden, inputs))
    _check_shape("recurrence weights", recurrence, (len(directions), gates * hidden, hidden))
    _refuse_lengths(call, length, batch)
    activations = _activations(call, defaults, len(directions))
    builder.claim((len(directions), length, STEP_COST))
    every: list[Operand] = []
    last: list[list[Operand]] = [[] for _ in range(states)]
    for number, backward in enumerate(directions):
        layer = Layer(
            builder,
            _gates(call, number, gates, hidden),
            activations[number],
            _clip(call, x.kind),
            _peepholes(call, number, hidden) if states == 2 else None,
        )
        state = tuple(_initial(call, number, s, (batch, hidden), layout) for s in range(states))
        parts = [_biased_product(builder, x, gate) for gate in layer.gates]
        made: list[Operand] = []
        for at in reversed(range(length)) if backward else range(length):
            state = step(layer, call, [_at(builder, part, at) for part in parts], state)
            state = tuple(shareable(builder, operand) for operand in state)
            made.append(builder.reshape(state[0], (1, 1, batch, hidden)))
        every.append(builder.concat(made[::-1] if backward else made, 0))
        for found, operand in zip(last, state, strict=True):
            found.append(builder.reshape(operand, (1, batch, hidden)))
    whole = builder.concat(every, 1)
    finals = [builder.concat(parts, 0) for parts in last]
    if layout:
        whole = builder.view(whole, lambda array, _: array.transpose(2, 0, 1, 3))
        finals = [builder.view(f, lambda array, _: array.transpose(1, 0, 2)) for f in finals]
    return [whole, *finals]


def _directions(call: Call) -> tuple[bool, ...]:
    """By direction, whether it goes backward."""
    name = call.text("direction", "forward")
    known = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    if name not in known:
        raise ModelError(f"direction '{name}'")
    return known[name]


def _refuse_lengths(call: Call, length: int, batch: int) -> None:
    lengths = call.optional_constant(4)
    if lengths is None:
        return
    if lengths.shape != (batch,):
        raise ModelError(f"sequence_lens of shape {lengths.shape} for a batch of {batch}")
    if np.any(lengths.value != length):
        raise UnsupportedOperatorError(f"sequences shorter than {length} have no rule")


def _clip(call: Call, kind: int) -> Constant | None:
    if "clip" not in call.attributes:
        return None
    threshold = call.float("clip", 0.0)
    if not (math.isfinite(threshold) and threshold > 0):
        raise ModelError(f"clip {threshold}")
    return Constant(np.array(threshold), kind)


def _gates(call: Call, direction: int, count: int, hidden: int) -> tuple[Gate, ...]:
    weight, recurrence, bias = call.constant(1), call.constant(2), call.optional_constant(3)
    if bias is not None:
        _check_shape("biases", bias, (weight.shape[0], 2 * count * hidden))
    found = []
    for number in range(count):
        rows = slice(number * hidden, (number + 1) * hidden)
        after = slice((count + number) * hidden, (count + number + 1) * hidden)
        zero = Constant(np.zeros(hidden), weight.kind)
        found.append(
            Gate(
                rearranged(weight, _turned_rows(direction, rows)),
                rearranged(recurrence, _turned_rows(direction, rows)),
                zero if bias is None else rearranged(bias, _entries(direction, rows)),
                zero if bias is None else rearranged(bias, _entries(direction, after)),
            )
        )
    return tuple(found)


def _peepholes(call: Call, direction: int, hidden: int) -> tuple[Constant, ...] | None:
    """Those of the gates i, o and f."""
    found = call.optional_constant(7)
    if found is None:
        return None
    same_kind(call.operand(0), found)
    _check_shape("peepholes", found, (call.constant(1).shape[0], 3 * hidden))
    parts = (slice(n * hidden, (n + 1) * hidden) for n in range(3))
    return tuple(rearranged(found, _entries(direction, part)) for part in parts)


def _turned_rows(direction: int, rows: slice) -> Rearrangement:
    return lambda array, _: array[direction, rows].T


def _entries(direction: int, entries: slice) -> Rearrangement:
    return lambda array, _: array[direction, entries]


def _initial(
    call: Call, direction: int, number: int, shape: tuple[int, ...], layout: int
) -> Operand:
    """The state before the first step, ``(batch, hidden)``."""
    found = call.optional(5 + number)
    if found is None:
        return Constant(np.zeros(shape), call.operand(0).kind)
    same_kind(call.operand(0), found)
    count = call.constant(1).shape[0]
    axis = 1 if layout else 0
    wanted = (shape[0], count, shape[1]) if layout else (count, *shape)
    if found.shape != wanted:
        raise ModelError(f"an initial state of shape {found.shape} instead of {wanted}")
    return call.builder.view(found, lambda array, _: np.take(array, direction, axis=axis))


def _biased_product(builder: Builder, x: Operand, gate: Gate) -> Operand:
    """What the inputs of all steps add to a gate."""
    made = builder.add(product(builder, x, gate.weight), gate.bias)
    return shareable(builder, made)


def _at(builder: Builder, part: Operand, step: int) -> Operand:
    return builder.view(part, lambda array, _: array[step])


def _activations(
    call: Call, defaults: tuple[str, ...], directions: int
) -> list[tuple[Activation, ...]]:
    """By direction, the activation functions in order."""
    names = call.texts("activations") or defaults * directions
    if len(names) != len(defaults) * directions:
        raise ModelError(f"{len(names)} activations instead of {len(defaults) * directions}")
    for name in names:
        if name not in NEEDS:
            raise UnsupportedOperatorError(f"activation '{name}' has no rule")
    given = {"alpha": call.floats("activation_alpha"), "beta": call.floats("activation_beta")}
    numbers = [dict.fromkeys(("alpha", "beta"), 0.0) for _ in names]
    for letter, values in given.items():
        takers = [n for n, name in enumerate(names) if letter in dict(NEEDS[name])]
        # Runtimes hand the values to those functions that take one; others count them all.
        if values and (len(values) != len(takers) or takers != list(range(len(takers)))):
            raise UnsupportedOperatorError(
                f"activation_{letter} for activations {names} is read in several ways"
            )
        for order, taker in enumerate(takers):
            number = values[order] if values else dict(NEEDS[names[taker]])[letter]
            if number is None or not math.isfinite(number):
                raise ModelError(f"activation '{names[taker]}' without a finite {letter}")
            numbers[taker][letter] = number
    functions = [_activation(name, **n) for name, n in zip(names, numbers, strict=True)]
    count = len(defaults)
    return [tuple(functions[d * count : (d + 1) * count]) for d in range(directions)]


def _activation(name: str, alpha: float, beta: float) -> Activation:
    def number(x: Operand, value: float) -> Constant:
        return Constant(np.array(value), x.kind)

    def affine(builder: Builder, x: Operand) -> Operand:
        return builder.add(builder.scale(x, number(x, alpha)), number(x, beta))

    def scaled_tanh(builder: Builder, x: Operand) -> Operand:
        inner = apply(builder, builder.scale(x, number(x, beta)), "tanh")
        return builder.scale(inner, number(x, alpha))

    known: dict[str, Activation] = {
        "Relu": lambda builder, x: builder.relu(x),
        "Affine": affine,
        "ScaledTanh": scaled_tanh,
        "LeakyRelu": lambda builder, x: bent(builder, x, number(x, alpha)),
        "HardSigmoid": lambda builder, x: hard_sigmoid_of(builder, x, alpha, beta),
        "Elu": lambda builder, x: apply(builder, x, "elu", (alpha,)),
    }
    return known.get(name) or (lambda builder, x: apply(builder, x, name.lower()))


def _check_shape(what: str, constant: Constant, shape: tuple[int, ...]) -> None:
    if constant.shape != shape:
        raise ModelError(f"{what} of shape {constant.shape} instead of {shape}")
