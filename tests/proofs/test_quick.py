"""Which kinds of edits default effort goes on with."""

from __future__ import annotations

from proofs.draft import Node
from proofs.passes import quick, sharing
from proofs.passes.quick import Quick
from proofs.proof import NodeKind
from tests.proofs.test_regrow import at_work, needs_x, root_of, wasteful


def test_the_boldest_edits_are_left_out_where_most_leaves_fail(monkeypatch):
    work = at_work(needs_x(), wasteful())
    root = root_of(work)
    leaves = [node for node in root if node.leaf]

    def void(_, tops):
        for node in leaves:
            work.edit(node)
            node.become(Node(NodeKind.HOLE, 0))

    kinds = {"void": void, "nothing": lambda *_: None, "skip": lambda *_: work.skip(root)}
    monkeypatch.setattr(quick, "EDITS", kinds)
    looked = []

    def failing(*_):
        looked.append(work.pending)
        return [leaf for leaf in leaves if leaf.kind is NodeKind.HOLE]

    monkeypatch.setattr(sharing, "share", failing)
    left = list(kinds)
    Quick(None)._change(work, [root], left)
    assert left == ["nothing", "skip"]
    assert [len(pending) for pending in looked] == [len(leaves) + 1, 1]
    assert root.skipped
    assert not work.pending
    assert all(leaf.kind is NodeKind.CLOSE for leaf in leaves)
