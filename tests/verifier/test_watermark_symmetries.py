"""Symmetries and folding as attacks: the function stays, the mark goes, and comes back."""

import hashlib

import numpy as np
import pytest
from marked_models import blobs, convolutional, dense

from specs.errors import InputError, ModelError
from specs.query import ModelFile
from specs.watermarks.chain import read_chain
from specs.watermarks.key import Key
from specs.watermarks.mark import Commitment
from specs.watermarks.schemes.uchida import Uchida
from verifier.watermarks.attacks.cost import cost
from verifier.watermarks.attacks.forging import read_matches
from verifier.watermarks.attacks.symmetries import Moving, folded, moved
from verifier.watermarks.embed import Embedding, embed_bits
from verifier.watermarks.fold_trap import folding
from verifier.watermarks.graph import Trainable
from verifier.watermarks.matching import match
from verifier.watermarks.parameters import parameters
from verifier.watermarks.training import Training
from verifier.watermarks.undo import undone

POINTS, LABELS = blobs()
MODELS = {"dense": dense(), "convolutional": convolutional()}
WAYS = {
    "permuted": Moving(scales="none", flip=False),
    "scaled-by-powers": Moving(permute=False, flip=False),
    "scaled": Moving(permute=False, scales="any", flip=False),
    "flipped": Moving(permute=False, scales="none"),
    "all": Moving(seed=3),
}


@pytest.mark.parametrize("content", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("moving", WAYS.values(), ids=WAYS)
def test_the_function_stays_and_parameters_move(content, moving):
    made = moved(content, moving)
    wanted, found = (Trainable(c).scores(POINTS) for c in (content, made))
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
    alone = moving == WAYS["flipped"] and content == MODELS["dense"]  # nothing is normalised
    assert (cost(content, made).every.changed == 0) == alone
    assert moved(content, moving) == made


def test_powers_of_two_and_signs_round_nothing():
    for content in MODELS.values():
        made = moved(content, Moving(permute=False, seed=5))
        for name, values in parameters(content).items():
            other = parameters(made)[name]
            ratio = np.divide(other, values, out=np.ones_like(values), where=values != 0)
            assert np.all(np.frexp(np.abs(ratio))[0] == 0.5)


def as_chain(content):
    return read_chain(ModelFile(None, content, hashlib.sha256(content).hexdigest()))


def test_a_mark_is_erased_and_read_again_once_the_symmetry_is_undone():
    mark = Uchida(Key(b"owner, sixteen b"), "conv2.weight", 12, 0, Commitment(""))
    strong = Embedding(Training(epochs=25, rate=1e-2, batch=30), weight=3.0)
    content = embed_bits(convolutional(), POINTS, LABELS, mark, strong)

    def matches(model):
        return read_matches(parameters(model)["conv2.weight"].astype(float), mark)

    assert matches(content) == 12
    erased = [moved(content, Moving(seed=seed)) for seed in range(6)]
    assert np.mean([matches(each) for each in erased]) < 9
    owner, suspect = as_chain(content), as_chain(erased[0])
    assert matches(undone(owner, suspect, match(owner, suspect))) == 12


def test_folding_keeps_the_function_and_is_noticed():
    content = convolutional(seed=4)
    made = folded(content)
    wanted, found = (Trainable(c).scores(POINTS) for c in (content, made))
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
    kinds = {layer.norm for layer in as_chain(made).layers}
    assert kinds == {None}
    seen = folding(content, made, "conv2.weight")
    assert seen.folded
    assert seen.explained
    assert folded(made) == made
    with pytest.raises(InputError, match="other initialisers"):
        cost(content, made)


def test_what_is_not_moved_is_said():
    with pytest.raises(InputError, match="scales"):
        Moving(scales="roots")
    with pytest.raises(ModelError):
        moved(b"", Moving())
