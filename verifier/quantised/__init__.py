"""Bit-precise questions about quantised networks, decided by Z3 over the integers.

The path of a question: :mod:`reader` turns the stored graph and a box of inputs into a
:class:`program.Program` of integer sums, staircases and maxima, in which every float32
rounding has become a threshold; :mod:`encode` hands program and unsafe set to Z3;
:mod:`run` turns what it says into a verdict.  ``docs/integers.md`` says what is modelled.
"""
