"""How an ONNX graph becomes a network in normal form.  See ``specs.onnx_reader``.

``tensors`` reads stored constants, ``rounding`` computes with them rigorously,
``builder`` collects the nodes, ``calls`` is what an operator's rule sees, ``operators``
holds the rules, and ``graph`` walks the file.
"""
