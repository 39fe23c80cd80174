"""Limits along the rounds of a method, against exact matrices over what each network has left."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from sparselimit.curvature.products import Objective
from sparselimit.curvature.quadrature import Bracket, Spectrum
from sparselimit.limits.bounds import Limit, magnitude_offset, pruning_limit
from sparselimit.limits.probing import Probing
from sparselimit.limits.rounds import Left, limits
from sparselimit.networks.network import prunable
from sparselimit.networks.plain import fc

HOW = Probing(probes=300, steps=60, offsets=12, seed=0, memory=1 << 20)


def pruned(share: float) -> tuple[Objective, Left]:
    """A network whose smallest weights are 0, on a small sample."""
    torch.manual_seed(0)
    module = fc((6,), 3, 5).double().eval()
    flat = torch.nn.utils.parameters_to_vector(module.parameters()).detach()
    weights = prunable(module)
    gone = magnitude_offset(flat, weights, round(share * int(weights.sum())))
    torch.nn.utils.vector_to_parameters(flat - torch.tensor(gone), module.parameters())
    x, y = torch.randn(40, 6, dtype=torch.float64), torch.randint(3, (40,))
    return Objective(module, cross_entropy, x, y), Left(torch.tensor(gone == 0), weights)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_limits_are_those_of_the_parameters_that_are_left(share: float, tmp_path: Path) -> None:
    objective, left = pruned(share)
    losses = [0.99, 1.01]  # whose spread is 0.01
    found = {row["formula"]: row for row in limits(objective, losses, left, HOW, tmp_path / "c")}
    kept = left.kept.numpy()
    matrix = objective.exact_ggn().numpy()[np.ix_(kept, kept)]
    eigenvalues, vectors = np.linalg.eigh(matrix)
    whole = Bracket.exact(Spectrum.of_eigenvalues(eigenvalues.clip(0)), "psd")
    flat, could_go = objective.parameters.numpy()[kept], left.prunable.numpy()[kept]

    def along(removed: int) -> Bracket:
        squares = (vectors.T @ magnitude_offset(flat, could_go, removed)) ** 2
        return Bracket.exact(Spectrum(eigenvalues.clip(0), squares / squares.sum()), "psd")

    assert {row["parameters"] for row in found.values()} == {kept.sum()}
    assert {row["prunable"] for row in found.values()} == {could_go.sum()}
    for formula in ("published", "B"):
        exact = pruning_limit(whole, flat[could_go], len(flat), 0.01, formula, along)
        assert isinstance(exact, Limit)
        assert 0 < exact.removed < could_go.sum()
        assert found[formula]["pruning_ratio"] == pytest.approx(exact.pruning_ratio, abs=0.04)
        assert found[formula]["epsilon"] == pytest.approx(0.01)
