"""Star sets: reachable sets of networks, exactly or over-approximately.

A star is the image of a polytope of *predicates* under an affine map (Duggirala and
Viswanathan 2016; Tran et al. 2019).  Everything here is floating point and nobody's proof:
what is found says where to look, and evidence is made and checked elsewhere.
"""
