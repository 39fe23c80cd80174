"""Tables about trained networks, their curvature and their limits; `sparselimit.tables` has all."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from sparselimit.curvature.quadrature import Floats
from sparselimit.errors import InputError
from sparselimit.limits.prediction import lanczos_runs
from sparselimit.store import Stored

# Bins of magnitudes: quarters of a decade; the outermost take what is beyond.
MAGNITUDES = 10 ** np.arange(-8, 1.01, 0.25)
_DECADES = 10 ** np.arange(-8, 3.01, 0.5)
_EIGENVALUES = np.concatenate([[-np.inf], -_DECADES[::-1], _DECADES, [np.inf]])
# Dimensions by which a formula may miss a measured transition: of 200, shares of 0.015 and 0.04.
ALLOWED = {"A": 3, "B": 8}
_SMALL = 1e-3  # of the largest row norm


def rows(files: Sequence[Stored]) -> pd.DataFrame:
    """From `network` and `spectrum`: prunable weights by magnitude, and how the loss feels them.

    A row of the table is a bin of magnitudes of one network, and an operator. Its row norms are the
    Euclidean norms of the rows of that matrix that belong to the weights in the bin.
    """
    networks = by_name(files, "network")
    parts = []
    for name, operator, spectrum in _spectra(files):
        prunable = networks[name].array("prunable")
        of_weights = pd.DataFrame(
            {
                "bin": _binned(np.abs(networks[name].array("parameters")[prunable])),
                "norm": spectrum.array("row_norm")[prunable],
                "diagonal": spectrum.array("diagonal")[prunable],
            }
        )
        bins = of_weights.groupby("bin")
        sizes = bins.size()
        quantiles = {"p10": 0.1, "median": 0.5, "p90": 0.9}
        table = {
            "network": name,
            "operator": operator,
            "magnitude_low": MAGNITUDES[sizes.index],
            "magnitude_high": MAGNITUDES[sizes.index + 1],
            "weights": sizes,
            "share": sizes / len(of_weights),
            **{f"row_norm_{part}": bins.norm.quantile(q) for part, q in quantiles.items()},
            "diagonal_median": bins.diagonal.median(),
        }
        parts.append(pd.DataFrame(table))
    return pd.concat(parts, ignore_index=True)


def _binned(magnitudes: Floats) -> np.ndarray:
    """The bin of each magnitude."""
    return np.clip(np.digitize(magnitudes, MAGNITUDES) - 1, 0, len(MAGNITUDES) - 2)


def curvature(files: Sequence[Stored]) -> pd.DataFrame:
    """From `network` and `spectrum` and `bounds`: curvature in numbers, and how they were found.

    `widest_bracket` is the largest distance between the limits by Gauss and by Gauss-Radau
    quadrature, as a share of the prunable weights; `unresolved` counts the predictions for which
    the quadrature is too coarse.
    """
    networks, bounds = by_name(files, "network"), by_name(files, "bounds")
    found = []
    for name, operator, spectrum in _spectra(files):
        prunable = networks[name].array("prunable")
        norms, steps = spectrum.array("row_norm")[prunable], spectrum.array("steps")
        magnitudes = np.abs(networks[name].array("parameters")[prunable])
        ritz_values = np.concatenate([run.gauss().nodes for run in lanczos_runs(spectrum)])
        limits = bounds[name].table("bounds")
        limits = limits[limits.operator == operator]
        brackets = (limits.removed_upper - limits.removed_lower) / limits.prunable
        found.append(
            {
                "network": name,
                "operator": operator,
                "parameters": len(prunable),
                "split": spectrum.config["split"],
                "probes": len(steps),
                "steps": int(steps.max()),
                "row_probes": spectrum.config["row_probes"],
                "precision": spectrum.config["precision"],
                "seconds": float(str(spectrum.attributes["seconds"])),
                "resolution": limits.resolution.max(),
                "widest_bracket": brackets[limits.reason == ""].max(),
                "unresolved": int((limits.reason != "").sum()),
                "loss": float(spectrum.array("loss")),
                "gradient_norm": float(spectrum.array("gradient_norm")),
                "smallest_eigenvalue": ritz_values.min(),
                "largest_eigenvalue": ritz_values.max(),
                "trace": float(spectrum.array("trace")),
                "trace_error": float(spectrum.array("trace_error")),
                "small_rows": float((norms < _SMALL * norms.max()).mean()),
                "rank_correlation": float(spearmanr(magnitudes, norms).statistic),
            }
        )
    return pd.DataFrame(found)


def variation(files: Sequence[Stored]) -> pd.DataFrame:
    """From `network` and `spectrum`: total-variation distances between the outcomes of two runs.

    Half the sum of absolute differences between the shares that two distributions give to the same
    bins: 0 if they are alike, 1 if they have no bin in common. `of` says what is distributed:
    prunable weights over quarters of a decade of magnitude, or eigenvalues over half decades of
    either sign. `differ` says what sets the runs apart: the random probe of a spectrum, the seed of
    a training, or its recipe. `chance` is the expected distance of two samples of as many weights
    from one distribution.
    """
    networks = by_name(files, "network")
    shares = {
        name: np.bincount(
            _binned(np.abs(file.array("parameters")[file.array("prunable")])),
            minlength=len(MAGNITUDES) - 1,
        ).astype(np.float64)
        for name, file in networks.items()
    }
    found = []
    for a, b in combinations(networks, 2):
        distance, chance = (how(shares[a], shares[b]) for how in (_distance, _chance))
        found.append(("weights", _differ(networks, a, b), a, b, distance, chance))
    spectra: dict[str, dict[str, list[Floats]]] = {}
    for name, operator, file in _spectra(files):
        measures = [run.gauss() for run in lanczos_runs(file)]
        spectra.setdefault(operator, {})[name] = [
            np.histogram(measure.nodes, _EIGENVALUES, weights=measure.weights)[0]
            for measure in measures
        ]
    for operator, of_networks in spectra.items():
        for name, probes in of_networks.items():
            for i, j in combinations(range(len(probes)), 2):
                pair = f"{name}, probe {i + 1}", f"{name}, probe {j + 1}"
                found.append((operator, "probe", *pair, _distance(probes[i], probes[j]), np.nan))
        for a, b in combinations(of_networks, 2):
            distance = _distance(*(np.mean(of_networks[one], axis=0) for one in (a, b)))
            found.append((operator, _differ(networks, a, b), a, b, distance, np.nan))
    return pd.DataFrame(found, columns=["of", "differ", "first", "second", "distance", "chance"])


def _distance(one: Floats, other: Floats) -> float:
    return float(np.abs(one / one.sum() - other / other.sum()).sum() / 2)


def _chance(one: Floats, other: Floats) -> float:
    """The mean of `_distance` for counts of two samples of one distribution, which is their sum's.

    The difference of two shares is normal, to good approximation.
    """
    share = (one + other) / (one.sum() + other.sum())
    variance = share * (1 - share) * (1 / one.sum() + 1 / other.sum())
    return float(np.sqrt(2 / np.pi * variance).sum() / 2)


def _differ(networks: dict[str, Stored], one: str, other: str) -> str:
    recipes = [{**networks[name].config, "seed": None} for name in (one, other)]
    return "seed" if recipes[0] == recipes[1] else "recipe"


def gaps(files: Sequence[Stored]) -> pd.DataFrame:
    """From `bounds`: how far each prediction lies above what was measured, in pruning ratios.

    `bracket` is the width of the prediction's own bounds. It stands above the threshold with the
    kept weights re-optimised in the quadratic model, of which the geometry speaks, and above those
    of one-shot pruning, by loss and by validation accuracy.
    """
    parts = []
    for name, file in by_name(files, "bounds").items():
        bounds = file.table("bounds")
        columns = ["operator", "negative", "formula", "direction", "rule", "epsilon"]
        table = bounds[[*columns, "pruning_ratio"]].assign(
            bracket=((bounds.removed_upper - bounds.removed_lower) / bounds.prunable).where(
                bounds.reason == ""
            ),
            above_reoptimised=bounds.pruning_ratio - bounds.reoptimised_ratio,
            above_one_shot=bounds.pruning_ratio - bounds.one_shot_ratio,
            above_one_shot_by_accuracy=bounds.pruning_ratio - bounds.one_shot_ratio_by_accuracy,
        )
        table.insert(0, "network", name)
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def penalties(files: Sequence[Stored]) -> pd.DataFrame:
    """From `network` and `bounds`: limits and thresholds beside the penalties of the training.

    One row per network that was trained here and tolerance. `published` and `corrected` (formula B)
    are read off the Gauss-Newton matrix where there is its spectrum.
    """
    bounds, asked = by_name(files, "bounds"), ("l1", "weight_decay", "epochs", "seed")
    found = []
    for name, file in by_name(files, "network").items():
        recipe, parameters = file.config, file.array("parameters")[file.array("prunable")]
        if recipe["state_dict"] is not None:
            continue
        limits = bounds[name].table("bounds")
        matrix = limits[limits.operator == ("ggn" if "ggn" in set(limits.operator) else "hessian")]
        for (rule, epsilon), of_rule in matrix.groupby(["rule", "epsilon"], sort=False):
            ratio = of_rule.drop_duplicates("formula").set_index("formula").pruning_ratio
            measured = of_rule.iloc[0]
            found.append(
                (
                    name,
                    " ".join(map(str, [recipe["architecture"], *recipe["widths"]])),
                    *(recipe[key] for key in asked),
                    file.table("history").validation_accuracy.iloc[-1],
                    float((np.abs(parameters) < 1e-3).mean()),
                    *(rule, epsilon, ratio.get("published"), ratio.get("B")),
                    *(measured.reoptimised_ratio, measured.one_shot_ratio),
                    measured.one_shot_ratio_by_accuracy,
                )
            )
    columns = ["network", "architecture", *asked, "validation_accuracy", "below_1e-3", "rule"]
    columns += ["epsilon", "published", "corrected"]
    columns += ["reoptimised", "one_shot", "one_shot_by_accuracy"]
    return pd.DataFrame(found, columns=columns)


def judged(geometry: pd.DataFrame, dimension: int) -> pd.DataFrame:
    """Which formula describes the measured transitions, by model.

    geometry: columns model, published, corrected, measured, as a `geometry` file has them.
    Returns per model and formula the number of transitions, the rms error over those that are
    neither at none nor at all, the largest error of all, what is allowed, and whether it holds.
    """
    rows = []
    for model, part in geometry.groupby("model"):
        between = part.corrected.between(0.02, 0.999)
        for formula in ("published", "corrected"):
            error = (part[formula] - part.measured).abs()
            allowed = ALLOWED[str(model)] / dimension
            rows.append(
                {
                    "model": model,
                    "formula": formula,
                    "transitions": len(part),
                    "rms_error": float(np.sqrt((error[between] ** 2).mean())),
                    "largest_error": float(error.max()),
                    "allowed": allowed,
                    "holds": bool(error.max() <= allowed),
                }
            )
    return pd.DataFrame(rows)


def by_name(files: Sequence[Stored], kind: str) -> dict[str, Stored]:
    """The files of a kind by the network they are about, which is their name."""
    found = {file.path.stem: file for file in files if file.attributes["kind"] == kind}
    if not found:
        raise InputError(f"no file of kind '{kind}' is given: there is nothing to tell")
    return found


def _spectra(files: Sequence[Stored]) -> Iterator[tuple[str, str, Stored]]:
    """Network and operator of every spectrum, and its file, which is named for both."""
    for stem, file in by_name(files, "spectrum").items():
        operator = str(file.config["operator"])
        yield stem.removesuffix(f"-{operator}"), operator, file
