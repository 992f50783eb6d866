"""How an ONNX graph becomes a network in normal form.  See ``specs.onnx_reader``.

``tensors`` reads stored constants, ``rounding`` and ``elementary`` compute with them
rigorously, ``builder`` collects the nodes, ``calls`` is what an operator's rule sees,
``operators`` holds the rules, ``graph`` walks the file, and ``stand_ins`` lets it go on
behind an operator that has no rule.
"""
