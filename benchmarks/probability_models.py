"""Three classifiers of digits for benchmarks about probability, trained here with a fixed seed.

64-64-48-10, fully connected, images scaled to [0, 1] (``benchmarks.digits``):

* ``plain``: cross-entropy on the images as they are;
* ``pgd``: on adversarial images, ``STEPS`` steps of projected gradients in a box of radius ``EPS``
  (A. Madry et al., ICLR 2018);
* ``noise``: on images plus normal noise of standard deviation ``SIGMA``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.digits import data, dense_layers, export
from proofs.format import replacing

SEED = 20
EPOCHS = 60
EPS, STEPS = 0.1, 7
SIGMA = 0.25
KINDS = ("plain", "pgd", "noise")


def trained(kind: str, seed: int = SEED) -> nn.Sequential:
    """A classifier after ``EPOCHS`` epochs of Adam."""
    x, y, _, _ = data()
    images, labels = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    torch.manual_seed(seed)
    model = dense_layers((64, 48))
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-4)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(labels)).split(64):
            seen = images[batch]
            if kind == "noise":
                seen = seen + SIGMA * torch.randn_like(seen)
            elif kind == "pgd":
                seen = attacked(model, seen, labels[batch])
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(seen), labels[batch]).backward()
            optimiser.step()
    return model.eval()


def attacked(
    model: nn.Sequential, images: torch.Tensor, labels: torch.Tensor, steps: int = STEPS
) -> torch.Tensor:
    """Images moved uphill in the loss, within ``EPS`` and in [0, 1]."""
    low, high = (images - EPS).clamp(min=0.0), (images + EPS).clamp(max=1.0)
    found = low + torch.rand_like(images) * (high - low)
    for _ in range(steps):
        found.requires_grad_(True)
        loss = nn.functional.cross_entropy(model(found), labels)
        (slope,) = torch.autograd.grad(loss, found)
        found = torch.minimum(torch.maximum(found.detach() + EPS / 3 * slope.sign(), low), high)
    return found


def models(folder: Path) -> dict[str, Path]:
    """The classifiers by kind, trained unless the folder holds them already."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    found = {}
    for kind in KINDS:
        found[kind] = folder / f"{kind}.onnx"
        if not found[kind].exists():
            export(trained(kind), (1, 64), found[kind])
    return found


def test_data(folder: Path) -> Path:
    """The test images and their labels as a file, ``x`` in float32."""
    path = folder / "digits.npz"
    _, _, x, y = data()
    with replacing(path) as stream:
        np.savez(stream, x=x.astype(np.float32), y=y)
    return path
