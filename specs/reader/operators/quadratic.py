"""Quadratic forms of one tensor as sums of squares.

``sum_i a_i (W a)_i`` is written by exporters as a product and a sum.  Planes around each
product lose what ``a_i`` and ``(W a)_i`` have in common; where the symmetric part of ``W`` is
definite, the form is ``sum_k d_k (l_k a)^2`` with all ``d_k`` of one sign (the ``L D L^T``
factorisation, in rationals, so that nothing is lost but enclosed roundings), and a sum of
squares is convex, term by term.

Where ``W`` itself is known up to a radius ``R``, ``|a_i R_ij a_j| <= R_ij (a_i^2 + a_j^2) / 2``,
so the squares ``a_i^2`` are added with coefficients 0 within ``sum_j (R_ij + R_ji) / 2``: a
number of that size that may depend on ``a``, which is all that a radius promises.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from specs.enclosure import Enclosure, FloatArray
from specs.linear import Identity, MatMul
from specs.network import Linear, Product, Term
from specs.reader import rounding
from specs.reader.builder import Builder
from specs.reader.operands import Affine, Operand, Variable, variable

LARGEST = 24
"""Rows of a matrix that is factorised, at most: rationals grow with every row."""

Matrix = list[list[Fraction]]


def definite_form(builder: Builder, x: Operand) -> Variable | None:
    """The sum of all entries of ``x`` as a number, where that is a definite form.

    ``None`` where ``x`` is no product of a tensor with a linear image of it, or where the
    form is not definite.
    """
    if builder.format is not None:  # a form as squares is not evaluated like its products
        return None
    number = x.affine.tensor if isinstance(x, Variable) else None
    node = None if number is None else builder.nodes[number]
    if not isinstance(x, Variable) or not isinstance(node, Product) or x.size > LARGEST:
        return None
    for source, image in ((node.left, node.right), (node.right, node.left)):
        weight = _weight(builder, source, image)
        found = None if weight is None else factorised(exactly(weight.value))
        if weight is not None and found is not None:
            return _sum_of_squares(builder, x, source, *found, weight.radius)
    return None


def _weight(builder: Builder, source: int, image: int) -> Enclosure | None:
    """``W`` where the tensor ``image`` is ``W`` times the tensor ``source``."""
    node = builder.nodes[image]
    if not isinstance(node, Linear) or len(node.terms) != 1 or image in builder.opaque:
        return None
    term, plain = node.terms[0], node.offset.exact and not np.any(node.offset.value)
    if not plain or not isinstance(term.map, MatMul) or term.map.rows != 1:
        return None
    return term.map.weight if term.source == source else None


def exactly(values: FloatArray) -> Matrix:
    """A matrix in rationals."""
    return [[Fraction(entry) for entry in row] for row in values.tolist()]


def factorised(weight: Matrix) -> tuple[Matrix, list[Fraction]] | None:
    """``L`` (unit lower triangular) and ``d`` with ``a W a = sum_k d_k (L^T a)_k^2``.

    ``None`` unless all of ``d`` are positive, or all negative.
    """
    count, rest = len(weight), _symmetric(weight)
    lower = [[Fraction(int(i == j)) for j in range(count)] for i in range(count)]
    pivots: list[Fraction] = []
    for k in range(count):
        pivot = rest[k][k]
        if not pivot or (pivots and (pivot > 0) != (pivots[0] > 0)):
            return None
        pivots.append(pivot)
        for i in range(k + 1, count):
            lower[i][k] = rest[i][k] / pivot
            for j in range(k + 1, count):
                rest[i][j] -= lower[i][k] * rest[k][j]
    return lower, pivots


def _sum_of_squares(
    builder: Builder,
    like: Variable,
    source: int,
    lower: Matrix,
    pivots: list[Fraction],
    spread: FloatArray | None,
) -> Variable:
    count = len(pivots)
    flat = rounding.enclose([entry for row in lower for entry in row])
    radius = None if flat.radius is None else flat.radius.reshape(count, count)
    mixer = MatMul(Enclosure(flat.value.reshape(count, count), radius))
    image = Variable((count,), like.kind, Affine((Term(source, mixer),)))
    squares = builder.univariate(image, "power", (2.0,))
    total = _combined(builder, squares, rounding.enclose(pivots))
    if spread is None:
        return total
    plain = Variable((count,), like.kind, Affine((Term(source, Identity(count)),)))
    reach = rounding.enclose([sum(row, Fraction(0)) for row in _symmetric(exactly(spread))])
    radius = rounding.sum_up(reach.value, np.zeros(count) if reach.radius is None else reach.radius)
    unknown = Enclosure(np.zeros(count), radius)
    rest = _combined(builder, builder.univariate(plain, "power", (2.0,)), unknown)
    return variable(builder.add(total, rest))


def _symmetric(matrix: Matrix) -> Matrix:
    count = len(matrix)
    return [[(matrix[i][j] + matrix[j][i]) / 2 for j in range(count)] for i in range(count)]


def _combined(builder: Builder, squares: Variable, scales: Enclosure) -> Variable:
    column = None if scales.radius is None else scales.radius.reshape(-1, 1)
    mixer = MatMul(Enclosure(scales.value.reshape(-1, 1), column))
    return variable(builder.apply(mixer, squares, (1,)))
