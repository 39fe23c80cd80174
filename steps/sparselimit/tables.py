"""The tables of the report, one function each: from result files to data frames.

Every function takes the stored files it is made from and returns a data frame with plain columns;
accuracies are fractions, `weights` count kept entries of weight matrices. There can be many files
with millions of runs, so each is reduced by itself before the next is looked at (`store.browse`).
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import count

import numpy as np
import pandas as pd

from sparselimit.accounts import extent, outcomes, splits, study_of
from sparselimit.curvature.quadrature import Spectrum, density
from sparselimit.errors import InputError
from sparselimit.figures.studies import is_control
from sparselimit.limits.bounds import REFUSALS
from sparselimit.limits.prediction import lanczos_runs
from sparselimit.limits.tables import curvature, gaps, judged, penalties, rows, variation
from sparselimit.pruning.classifiers.tables import baselines, hyperparameters, reached, rounds
from sparselimit.search.outcomes import complete
from sparselimit.statistics import ACCURACIES, best_quantiles, expected_best, wilson
from sparselimit.store import Stored

# Accuracies of which networks as small as those of the search have something to tell.
SEARCH_LEVELS = (0.6, 0.65, 0.7, 0.75, 0.8, 0.9, 0.95)

# Where networks are found, and which prediction answers for theory.
FOUND = ("frontier", "beam", "spiral-runs")
THEORY = {"operator": "ggn", "negative": "psd", "formula": "B"}

# Numbers of weights that were searched in vain: the first, and where they end.
SEARCHED = ["searched_from", "searched_below"]

RUN_GROUP = ["study", "method", "network", "target"]


def methods(files: Sequence[Stored]) -> pd.DataFrame:
    """From `spiral-runs`: what each method reached in each study, on each network, at each target.

    Accuracies over learning rates, schedules and seeds: median, a band from the 10th to the 90th
    percentile, least and greatest.
    """
    return _sorted(_methods_of(_spiral_runs(file)) for file in files)


def _methods_of(runs: pd.DataFrame) -> pd.DataFrame:
    groups = runs.groupby(RUN_GROUP)
    accuracy = groups.accuracy
    return groups.agg(
        width=("width", "first"),
        runs=("accuracy", "size"),
        steps=("steps", "sum"),
        weights=("weights", "median"),
        density=("density", "median"),
        effective_weights=("effective_weights", "median"),
        connected=("paths", lambda paths: (paths > 0).mean()),
        accuracy_median=("accuracy", "median"),
        diverged=("diverged_at", lambda steps: (steps >= 0).sum()),
    ).assign(
        accuracy_p10=accuracy.quantile(0.1),
        accuracy_p90=accuracy.quantile(0.9),
        accuracy_low=accuracy.min(),
        accuracy_high=accuracy.max(),
    )


def success(files: Sequence[Stored]) -> pd.DataFrame:
    """From `spiral-runs`: share of runs that reach each accuracy, with its 95% Wilson interval."""
    counts = [_successes(_spiral_runs(file), RUN_GROUP) for file in files]
    return _success_rates(pd.concat(counts), RUN_GROUP)


def connectivity(files: Sequence[Stored]) -> pd.DataFrame:
    """From `spiral-runs`: how the masks are connected before and after training; means over runs.

    A row is a layer: its weight matrix and the neurons it leads to (see `sparsity.connectivity` for
    the classes of neurons).
    """
    counts = ["weights", "effective_weights", "active", "constant", "dead", "unused"]
    keys = [*RUN_GROUP, "when", "layer"]

    def means(file: Stored) -> pd.DataFrame:
        layers = file.table("layers")
        own = file.table("runs")[["method", "network", "target"]].iloc[layers.run]
        layers = layers.assign(study=study_of(file), **own.reset_index(drop=True))
        return layers.groupby(keys)[counts].mean()

    return _sorted(means(file) for file in files)


def equal_budget(files: Sequence[Stored]) -> pd.DataFrame:
    """From `spiral-runs` and `search-shard`: methods beside the search at equal total SGD steps.

    A row is a method on a network at a target; its budget is all it spent there. The search is
    subsampled: a random choice of its starts, among all networks with as many weights, that costs
    the same. `search_expected` is the expected best accuracy of such a choice, `search_low` and
    `search_high` enclose 90% of them, `search_full` is the best of all starts. They are missing
    where the search has no networks of so many weights.
    """
    searched, runs = (_of_kind(files, kind) for kind in ("search-shard", "spiral-runs"))
    if not runs:
        raise InputError("no file of kind 'spiral-runs' is given: there is nothing to tell")
    starts = _searched(searched)
    table = _sorted(_budgets_of(_spiral_runs(file)) for file in runs)
    columns = ["search_expected", "search_low", "search_high", "search_full"]
    of_search = [
        _best_of_search(starts.get(target), steps)
        for target, steps in table[["target", "steps"]].to_numpy().tolist()
    ]
    return table.join(pd.DataFrame(of_search, columns=columns))


def _budgets_of(runs: pd.DataFrame) -> pd.DataFrame:
    return runs.groupby(RUN_GROUP).agg(
        runs=("accuracy", "size"),
        steps=("steps", "sum"),
        method_best=("accuracy", "max"),
        method_median=("accuracy", "median"),
    )


def _best_of_search(starts: pd.DataFrame | None, steps: int) -> tuple[float, ...]:
    if starts is None:
        return (np.nan,) * 4
    # A start costs what starts cost on average: which go on is found out on the way.
    n = int(starts.starts.sum())
    budget = min(max(1, round(steps * n / starts.steps.sum())), n)
    accuracy = _spread(starts)
    low, high = best_quantiles(accuracy, budget, [0.05, 0.95])
    return expected_best(accuracy, budget), low, high, accuracy.max()


def frontier(files: Sequence[Stored]) -> pd.DataFrame:
    """From `frontier`: for each number of weights the extent of the search and its best network."""
    return _only(files).table("by_weights")


def certificate(files: Sequence[Stored]) -> pd.DataFrame:
    """From `frontier`: for each accuracy the fewest weights of a network that is known to reach it.

    `networks` are known with so few; of the runs that reached `measured_at` and were trained to
    their end in any case, racing would have lost a share between lost_low and lost_high.
    """
    return _only(files).table("accuracies")


def from_above(files: Sequence[Stored]) -> pd.DataFrame:
    """From `beam`: the best network of each number of weights that removals from above lead to.

    Where `given_start` is true, all of them are masks of the initial network of a `study`.
    """
    parts = []
    for file in files:
        study = file.path.stem.removeprefix("beam").removeprefix("-")
        parts.append(file.table("by_weights").assign(given_start=bool(study), study=study))
    return pd.concat(parts, ignore_index=True)


def bracket(files: Sequence[Stored]) -> pd.DataFrame:
    """From `frontier` and `beam` and `spiral-runs`: how many weights each accuracy takes.

    `at_most` weights suffice, by a network that is stored, found by `source`: the search, the beam
    or a method. Of networks with `searched_from` weights or more, but fewer than `searched_below`,
    all were searched and none reached the accuracy (there are no such numbers where the two are
    equal); success rates above `excluded_rate` are excluded there at 95%.
    """
    search, beam = _only(_of_kind(files, "frontier")), _only(_of_kind(files, "beam"))
    found = [
        search.table("by_weights").assign(source="search"),
        beam.table("by_weights").assign(source="beam"),
        *map(_best_by_weights, _of_kind(files, "spiral-runs")),
    ]
    reached = pd.concat([rows[["source", "weights", "accuracy"]] for rows in found])
    best = search.table("by_weights")
    exclusion = search.table("exclusion")
    rows = []
    for accuracy in ACCURACIES:
        enough = reached[reached.accuracy >= accuracy].sort_values("weights", kind="stable")
        at_most, source = enough[["weights", "source"]].iloc[0] if len(enough) else (None, "")
        vain = _searched_in_vain(best, accuracy)
        failed = exclusion[(exclusion.accuracy == accuracy) & exclusion.weights.isin(vain)]
        excluded = failed.excluded_rate.max()
        rows.append((accuracy, at_most, source, vain.start, vain.stop, excluded))
    columns = ["accuracy", "at_most", "source", *SEARCHED, "excluded_rate"]
    return pd.DataFrame(rows, columns=columns).astype({"at_most": "Int64"})


def _searched_in_vain(best: pd.DataFrame, accuracy: float) -> range:
    """The numbers of weights, from the first that was searched on, that did not reach an accuracy.

    They end where one did or was not searched.
    """
    failed, first = set(best.weights[best.accuracy < accuracy]), int(best.weights.min())
    return range(first, next(weights for weights in count(first) if weights not in failed))


def known(files: Sequence[Stored]) -> pd.DataFrame:
    """From `frontier`: the sparsest networks of each accuracy, and how often training succeeds."""
    return _only(files).table("known")


def exclusion(files: Sequence[Stored]) -> pd.DataFrame:
    """From `frontier`: success rates that are excluded at 95% where training found nothing."""
    return _only(files).table("exclusion")


def power(files: Sequence[Stored]) -> pd.DataFrame:
    """From `frontier`: probability that a network of some success rate would have been found."""
    return _only(files).table("power")


def search_runs(files: Sequence[Stored]) -> pd.DataFrame:
    """From `search-shard`: how accuracy is distributed over the starts of all networks.

    Where starts race, the quantiles are those of the starts that were trained to the end whatever
    their rank (`runs` of them), a fair sample of full trainings; `best` is of all starts.
    """
    rows = []
    for weights, starts in _searched(files).items():
        fair = starts[starts.calibration] if starts.raced.any() else starts
        accuracy = _spread(fair)
        quantiles = np.quantile(accuracy, [0.5, 0.9, 0.99]) if len(accuracy) else [np.nan] * 3
        rows.append((weights, *quantiles, starts.accuracy.max(), len(accuracy)))
    return pd.DataFrame(rows, columns=["weights", "q50", "q90", "q99", "best", "runs"])


def search_success(files: Sequence[Stored]) -> pd.DataFrame:
    """From `search-shard`: how often networks of each number of weights succeed.

    A row is about one accuracy. `rate` is the share of all starts that reached it in training, with
    its 95% Wilson interval; what racing dropped counts as a failure, so that it is a lower bound.
    `networks_succeeded` had at least one such start, `best_rate` is the rate of the network that
    had most.
    """
    keys = ["weights", "network"]
    counts = pd.concat([_successes(_ended(file), keys, SEARCH_LEVELS) for file in files])
    networks = _success_rates(counts, keys, SEARCH_LEVELS).groupby(["weights", "accuracy"])
    table = networks.agg(
        networks=("runs", "size"),
        networks_succeeded=("successes", np.count_nonzero),
        best_rate=("rate", "max"),
        runs=("runs", "sum"),
        successes=("successes", "sum"),
    )
    return _rated(table.reset_index())


def _ended(shard: Stored) -> pd.DataFrame:
    """The starts of a shard; the accuracy of one that was not trained to its end is NaN."""
    runs = shard.table("runs").assign(weights=int(shard.config["weights"]))
    return runs.assign(accuracy=runs.accuracy.where(complete(runs.dropped, runs.calibration)))


def blocks(files: Sequence[Stored]) -> pd.DataFrame:
    """From `block-runs`: what each search reached at each number of weights, and how often.

    A row is about one accuracy: the share of runs that reach it, with its 95% Wilson interval.
    """
    keys = ["search", "weights"]
    extents, counts = [], []
    for file in files:
        runs, networks = file.table("runs"), file.table("networks").set_index("network")
        weights = networks.weights[runs.network].to_numpy()
        runs = runs.assign(search=file.path.parent.name, weights=weights)
        extent = runs.groupby(keys).agg(
            networks=("network", "nunique"),  # shards have no network in common
            steps=("steps", "sum"),
            best_accuracy=("accuracy", "max"),
        )
        extents.append(extent)
        counts.append(_successes(runs, keys))
    reduced = {"networks": "sum", "steps": "sum", "best_accuracy": "max"}
    extent = pd.concat(extents).groupby(keys).agg(reduced)
    return extent.reset_index().merge(_success_rates(pd.concat(counts), keys), on=keys)


def thresholds(files: Sequence[Stored]) -> pd.DataFrame:
    """From `frontier` and `spiral-runs`: fewest weights with which each accuracy was reached.

    One row per accuracy and source: the search, or a method in its best run at any width. `weights`
    is missing where the accuracy was not reached; `steps` is what the source spent in all.
    """
    search = frontier(_of_kind(files, "frontier")).assign(source="search")
    found = [search, *map(_best_by_weights, _of_kind(files, "spiral-runs"))]
    reached = pd.concat([rows[["source", "weights", "accuracy", "steps"]] for rows in found])
    rows = []
    for source, runs in reached.groupby("source"):
        for accuracy in ACCURACIES:
            fewest = runs.weights[runs.accuracy >= accuracy].min()
            rows.append((accuracy, source, fewest, runs.steps.sum(), runs.accuracy.max()))
    return pd.DataFrame(
        rows, columns=["accuracy", "source", "weights", "steps", "best_accuracy"]
    ).astype({"weights": "Int64"})


def networks(files: Sequence[Stored]) -> pd.DataFrame:
    """From `network`: size, penalty and quality of each trained classifier."""
    rows = []
    for file in files:
        parameters, prunable = file.array("parameters"), file.array("prunable")
        widths, given = file.array("widths"), file.config["state_dict"] is not None
        last = file.table("history").iloc[-1]
        rows.append(
            {
                "network": file.path.stem,
                "architecture": " ".join(map(str, [file.array("architecture")[0], *widths])),
                "parameters": len(parameters),
                "prunable": int(prunable.sum()),
                # How a network that came as a state dict was trained is not known.
                "l1": np.nan if given else float(file.config["l1"]),
                "below_1e-3": float((np.abs(parameters[prunable]) < 1e-3).mean()),
                "fit_loss": last.fit_loss,
                "fit_accuracy": last.fit_accuracy,
                "validation_accuracy": last.validation_accuracy,
            }
        )
    return pd.DataFrame(rows)


def sweeps(files: Sequence[Stored]) -> pd.DataFrame:
    """From `sweep`: loss and accuracy of each network at every pruning ratio."""
    return pd.concat([_named(file, "sweep") for file in files], ignore_index=True)


def bounds(files: Sequence[Stored]) -> pd.DataFrame:
    """From `bounds`: predicted limits and measured thresholds of each network."""
    return pd.concat([_named(file, "bounds") for file in files], ignore_index=True)


def sensitivity(files: Sequence[Stored]) -> pd.DataFrame:
    """From `bounds`: how each limit moves with the tolerance and with the scale of the weights."""
    return pd.concat([_named(file, "sensitivity") for file in files], ignore_index=True)


def spectra(files: Sequence[Stored]) -> pd.DataFrame:
    """From `spectrum`: smoothed density of the eigenvalues of each network, for plotting."""
    parts = []
    for file in files:
        spectrum = Spectrum.mixture([run.gauss() for run in lanczos_runs(file)])
        grid, values = density(spectrum)
        operator = str(file.config["operator"])
        name = file.path.stem.removesuffix(f"-{operator}")
        parts.append(
            pd.DataFrame({"eigenvalue": grid, "density": values}).assign(
                network=name, operator=operator
            )
        )
    return pd.concat(parts, ignore_index=True)


def meeting(files: Sequence[Stored]) -> pd.DataFrame:
    """From `spiral-limits` and `frontier` and `beam` and `spiral-runs`: limit beside truth.

    A row is an accuracy, a width of dense networks and a formula. `networks` is how many of that
    width were looked at; the formula made a prediction for `predicted` of them, and was refused for
    the others (`refused_...`). Losses, budget and predictions are medians over networks, the latter
    with least and greatest; pruning ratio and density are those of the median. Then what is known:
    the sparsest network of the accuracy, which numbers of weights were searched in vain
    (`bracket`), and the pruning method that got by with the fewest.
    """
    limits = _only(_of_kind(files, "spiral-limits"))
    rest = [file for file in files if file is not limits]
    dense = limits.table("networks")[["network", "d1", "weights", "loss"]]
    dense = dense.rename(columns={"d1": "width", "weights": "weights_dense", "loss": "dense_loss"})
    rows = limits.table("limits").join(dense, on="place")
    rows = rows.assign(kept=rows.kept.where(rows.refused == ""))
    keys = ["accuracy", "width", "network", "weights_dense", "operator", "negative", "formula"]
    groups = rows.groupby(keys, sort=False)
    table = groups.agg(
        networks=("place", "size"),
        dense_loss=("dense_loss", "median"),
        budget=("budget", "median"),
        predicted=("kept", "count"),
        predicted_weights=("kept", "median"),
        predicted_low=("kept", "min"),
        predicted_high=("kept", "max"),
        **{
            f"refused_{why}": ("refused", lambda refused, why=why: (refused == why).sum())
            for why in REFUSALS
        },
    ).reset_index()
    density = table.predicted_weights / table.weights_dense
    table = table.assign(density=density, pruning_ratio=1 - density)
    known = limits.table("known").rename(
        columns={"weights": "known_weights", "loss": "best_loss", "source": "known_source"}
    )
    known["known_weights"] = known.known_weights.where(known.known_weights >= 0)
    below = bracket(rest)[["accuracy", *SEARCHED]]
    return table.merge(known, on="accuracy").merge(below).merge(_best_methods(rest), how="left")


def _best_methods(files: Sequence[Stored]) -> pd.DataFrame:
    """For each accuracy the method that reached it with the fewest weights, and how many."""
    table = thresholds([*_of_kind(files, "frontier"), *_of_kind(files, "spiral-runs")])
    others = table.source.isin(["search", "dense"]) | table.source.map(is_control)
    fewest = table[~others].dropna(subset="weights").sort_values("weights", kind="stable")
    columns = {"source": "best_method", "weights": "best_method_weights"}
    return fewest.drop_duplicates("accuracy")[["accuracy", *columns]].rename(columns=columns)


def geometry(files: Sequence[Stored]) -> pd.DataFrame:
    """From `geometry`: width formulas beside exact minima over random subspaces."""
    return _only(files).table("geometry")


def verdict(files: Sequence[Stored]) -> pd.DataFrame:
    """From `geometry`: which width formula describes the measured transitions."""
    file = _only(files)
    return judged(file.table("geometry"), int(file.config["dimension"]))


def answers(files: Sequence[Stored]) -> pd.DataFrame:
    """From `frontier` and `beam` and `spiral-runs` and `spiral-limits`: the answer per accuracy.

    The sparsest network known and which numbers of weights were searched in vain (`bracket`), the
    method that got by with the fewest, its `gap` to the former, and how many
    weights theory says must stay of the widest dense networks that were looked at.
    """
    limits, rest = meeting(files), [file for kind in FOUND for file in _of_kind(files, kind)]
    table = bracket(rest).rename(columns={"at_most": "known_weights", "source": "known_source"})
    columns = {"best_method": "method", "best_method_weights": "method_weights"}
    table = table.merge(_best_methods(rest).rename(columns=columns), how="left")
    table = table.assign(gap=table.method_weights - table.known_weights)
    of_formula = (limits[list(THEORY)] == pd.Series(THEORY)).all(axis=1)
    theory = limits[of_formula & (limits.width == limits.width.max())]
    predicted = ["predicted", "predicted_weights", "predicted_low", "predicted_high"]
    return table.merge(theory[["accuracy", "weights_dense", "networks", *predicted]], how="left")


TABLES: dict[str, Callable[[Sequence[Stored]], pd.DataFrame]] = {
    function.__name__: function
    for function in (
        methods,
        success,
        connectivity,
        equal_budget,
        frontier,
        from_above,
        bracket,
        certificate,
        known,
        exclusion,
        power,
        search_runs,
        search_success,
        blocks,
        thresholds,
        networks,
        sweeps,
        baselines,
        hyperparameters,
        reached,
        rounds,
        bounds,
        sensitivity,
        gaps,
        penalties,
        spectra,
        curvature,
        rows,
        variation,
        meeting,
        geometry,
        verdict,
        splits,
        outcomes,
        answers,
        extent,
    )
}


def _spiral_runs(file: Stored) -> pd.DataFrame:
    """The runs of a file, with their study, density, and the largest width of their network."""
    runs = file.table("runs").assign(study=study_of(file))
    weights = 2 * runs.d1 + runs.d1 * runs.d2 + runs.d2 * runs.d3 + runs.d3
    return runs.assign(
        density=runs.weights / weights, width=runs[["d1", "d2", "d3"]].max(axis=1)
    ).reset_index(drop=True)


def _sorted(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Tables of groups, which no two files share, as one."""
    return pd.concat(parts).sort_index().reset_index()


def _best_by_weights(file: Stored) -> pd.DataFrame:
    """From `spiral-runs`: the best accuracy of each method at each number of weights; all steps."""
    groups = file.table("runs").rename(columns={"method": "source"}).groupby(["source", "weights"])
    return groups.agg(accuracy=("accuracy", "max"), steps=("steps", "sum")).reset_index()


def _successes(
    runs: pd.DataFrame, keys: list[str], levels: Sequence[float] = ACCURACIES
) -> pd.DataFrame:
    """Of each group the number of runs, and how many of them reach each accuracy."""
    reached = pd.DataFrame({level: runs.accuracy >= level for level in levels})
    return reached.assign(runs=1, **runs[keys]).groupby(keys).sum()


def _success_rates(
    counts: pd.DataFrame, keys: list[str], levels: Sequence[float] = ACCURACIES
) -> pd.DataFrame:
    """Share of the runs of each group that reach each accuracy, with its 95% Wilson interval.

    `counts` are those of `_successes`, of one or several files.
    """
    counts = counts.groupby(keys).sum()
    rows = [
        counts[["runs"]].assign(successes=counts[level], accuracy=level).reset_index()
        for level in levels
    ]
    return _rated(pd.concat(rows, ignore_index=True))


def _rated(table: pd.DataFrame) -> pd.DataFrame:
    """With the share of `runs` that are `successes`, and its 95% Wilson interval."""
    low, high = wilson(table.successes, table.runs)
    return table.assign(rate=table.successes / table.runs, rate_low=low, rate_high=high)


def _searched(files: Sequence[Stored]) -> dict[int, pd.DataFrame]:
    """All starts of the search, by number of weights: how many came to each accuracy.

    An accuracy is a share of the spiral's points, so there are few different ones. Of each:
    `calibration`, `accuracy`, how many `starts`, their `steps`, and whether any of them was dropped
    for its loss (`raced`).
    """
    keys = ["calibration", "accuracy"]
    reduced = {"starts": "sum", "steps": "sum", "raced": "any"}
    parts: dict[int, pd.DataFrame] = {}
    for file in files:
        runs = file.table("runs")
        counts = runs.assign(starts=1, raced=runs.dropped > 0).groupby(keys).agg(reduced)
        weights = int(file.config["weights"])
        both = pd.concat([parts[weights], counts]) if weights in parts else counts
        parts[weights] = both.groupby(keys).agg(reduced)
    return {weights: parts[weights].reset_index() for weights in sorted(parts)}


def _spread(starts: pd.DataFrame) -> np.ndarray:
    """The accuracies of starts that `_searched` has counted."""
    return np.repeat(starts.accuracy.to_numpy(), starts.starts)


def _named(file: Stored, table: str) -> pd.DataFrame:
    """A table with the name of the network it is about, which is the name of its file."""
    rows = file.table(table).copy()
    rows.insert(0, "network", file.path.stem)
    return rows


def _only(files: Sequence[Stored]) -> Stored:
    if len(files) != 1:
        raise InputError(f"{len(files)} files given where one is needed")
    return files[0]


def _of_kind(files: Sequence[Stored], kind: str) -> list[Stored]:
    return [file for file in files if file.attributes["kind"] == kind]
