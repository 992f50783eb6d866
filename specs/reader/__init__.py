"""How an ONNX graph becomes a network in normal form.  See ``specs.onnx_reader``.

``tensors`` reads stored constants, ``rounding`` and ``elementary`` compute with them
rigorously, ``builder`` collects the nodes, ``calls`` is what an operator's rule sees,
``operators`` holds the rules, ``walk`` applies them node by node, ``stand_ins`` lets it go
on behind an operator that has no rule, and ``graph`` is the file as a whole.
"""
