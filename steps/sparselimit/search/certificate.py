"""The certificate: what the search has found, and what it would have found.

Two claims are kept apart. *A network exists*: its weights are stored, so that anybody can check
what it scores. *Training does not find one*: of every network with so few weights so many starts
failed that success rates above some are excluded.

Racing drops some starts that would have succeeded. The share of those is measured on starts that
were trained to the end whatever their rank, and its upper bound f (of a 95% Wilson interval) lowers
what failures say: if a start succeeds with probability p, the search sees it succeed with
probability p (1 - f).

What is excluded is so for each network by itself, in the one order of batches that all starts see,
and for a network of which racing loses no larger a share than f, which is measured over all
networks together. The bound on p fails at 5% and the upper end f of its interval at 2.5%
(nominally): jointly they hold at 92.5% at least.
"""

import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from sparselimit.networks.mlp import MLP, positions
from sparselimit.search.exhaustive import initial_values
from sparselimit.search.gathering import Count, Found, Gathering
from sparselimit.statistics import ACCURACIES, excluded_rate, power, wilson
from sparselimit.store import Stored

# Fewest successes from which the share that racing loses is estimated. Where fewer runs reach an
# accuracy, the best so many stand for them: less accurate ones are lost more often, so that errs on
# the safe side.
FEWEST = 50
RATES = np.geomspace(1e-4, 1, 41)

WIDTHS = ["d1", "d2", "d3"]
KNOWN = {
    "accuracy": float,
    **dict.fromkeys(("weights", "network", *WIDTHS, "start"), int),
    "reached": float,
    "loss": float,
    "polished": bool,
    "successes": int,
    "starts": int,
}


def gather(shards: Iterable[Stored]) -> dict[str, np.ndarray | pd.DataFrame]:
    """Combine search shards, read one after another, into the content of a `frontier` file.

    Shards of the same networks with other starts add up. Raises InputError when a shard is missing,
    a shard or a start is given twice, shards were searched by different settings, or no run of one
    kept finite.
    """
    gathering = Gathering()
    for shard in shards:
        gathering.add(shard)
    gathering.check_complete()
    return certificate(gathering)


def certificate(gathering: Gathering) -> dict[str, np.ndarray | pd.DataFrame]:
    """The content of a `frontier` file; all networks in it are held in one shape."""
    counts = {k: gathering.counts[k] for k in sorted(gathering.counts)}
    best = [count.best for count in counts.values() if count.best]
    known = [
        (accuracy, found)
        for accuracy, (_, networks) in sorted(gathering.known.items())
        for _, found in sorted(networks.items())
    ]
    names = [found for _, found in known]
    frame = MLP(tuple(np.max([found.shape.sizes for found in best + names], axis=0).tolist()))
    protocol = str(gathering.settings["protocol"])
    tallies = {k: count.tally() for k, count in counts.items()}
    lost = lost_to_racing(gathering)
    stored_known = _networks(names, frame, protocol).items()
    return {
        "sizes": np.array(frame.sizes),
        "by_weights": _by_weights(counts, tallies),
        **_networks(best, frame, protocol),
        "accuracies": _fewest(gathering).join(lost),
        "exclusion": _exclusion(tallies, lost),
        "power": _power(tallies, lost),
        "known": _known(known, tallies),
        **{f"known_{name}": value for name, value in stored_known},
        "settings": pd.DataFrame(
            {
                "name": list(gathering.settings),
                "value": [json.dumps(value) for value in gathering.settings.values()],
            }
        ),
    }


def lost_to_racing(gathering: Gathering) -> pd.DataFrame:
    """For each of the accuracies, the share of runs reaching it that racing loses, in all.

    Columns: measured_at (the accuracy of the runs that it was measured on), calibration_runs and
    calibration_lost, lost_low and lost_high (Wilson, 95%). Without racing nothing is lost.
    """
    runs = pd.concat(gathering.calibration, ignore_index=True)
    accuracy = np.sort(runs.accuracy.to_numpy())
    enough = accuracy[-min(FEWEST, len(accuracy))] if len(accuracy) else 0.0
    measured_at = np.minimum(ACCURACIES, enough)
    reach = runs.accuracy.to_numpy()[:, None] >= measured_at
    n, lost = reach.sum(axis=0), (reach & runs.lost.to_numpy()[:, None]).sum(axis=0)
    low, high = wilson(lost, n)
    return pd.DataFrame(
        {
            "measured_at": measured_at,
            "calibration_runs": n,
            "calibration_lost": lost,
            "lost_low": low,
            "lost_high": high if gathering.raced else 0.0,
        }
    )


def _fewest(gathering: Gathering) -> pd.DataFrame:
    """For each accuracy the fewest weights with which it is known to be reached, -1 for none."""
    known = [gathering.known.get(accuracy, (-1, {})) for accuracy in ACCURACIES]
    return pd.DataFrame(
        {
            "accuracy": ACCURACIES,
            "weights": [weights for weights, _ in known],
            "networks": [len(networks) for _, networks in known],
        }
    )


def _by_weights(counts: Mapping[int, Count], tallies: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """For each number of weights the extent of the search and its best network."""
    rows = []
    for k, count in counts.items():
        totals = pd.DataFrame(count.totals)
        sums = totals.sum()
        assert count.best is not None
        best = count.best.row
        rows.append(
            {
                "weights": k,
                "networks": len(tallies[k]),
                "starts": int(tallies[k].starts.min()),
                "runs": int(sums.runs),
                "steps": sums.steps,
                "dead": sums.sample_dead / sums["sample"] if sums["sample"] else np.nan,
                "provably_dead": sums.provably_dead / sums.runs,
                **{name: int(best[name]) for name in ("network", *WIDTHS, "start")},
                **{name: best[name] for name in ("accuracy", "loss", "polished")},
                "sgd_accuracy": totals.sgd_accuracy.max(),
            }
        )
    return pd.DataFrame(rows)


def _exclusion(tallies: Mapping[int, pd.DataFrame], lost: pd.DataFrame) -> pd.DataFrame:
    """For each number of weights and accuracy: what is excluded of a network without a success.

    `starts` are those of the network that had fewest; `excluded_rate` is the success rate above
    which so many failures have a probability below 5%, for each network by itself, if racing loses
    no more of its successes than `lost_high`.
    """
    rows = []
    for k, tally in tallies.items():
        for accuracy, share in zip(ACCURACIES, lost.lost_high, strict=True):
            starts = int(tally.starts.min())
            rows.append(
                {
                    "weights": k,
                    "accuracy": accuracy,
                    "networks": len(tally),
                    "succeeded": int((tally[str(accuracy)] > 0).sum()),
                    "starts": starts,
                    "equivalents": starts * (1 - share),
                    "excluded_rate": _true_rate(float(excluded_rate(starts)), share),
                }
            )
    return pd.DataFrame(rows)


def _true_rate(seen: float, lost: float) -> float:
    """The success rate of which so much is seen when a share of the successes is lost."""
    return min(1.0, seen / (1 - lost)) if lost < 1 else 1.0


def _power(tallies: Mapping[int, pd.DataFrame], lost: pd.DataFrame) -> pd.DataFrame:
    """The probability that a network is found that reaches an accuracy from a share of its starts.

    One row for each number of weights, accuracy and such share (`rate`).
    """
    parts = []
    for k, tally in tallies.items():
        for accuracy, share in zip(ACCURACIES, lost.lost_high, strict=True):
            found = power(RATES * (1 - share), tally.starts.min())
            columns = {"weights": k, "accuracy": accuracy, "rate": RATES, "probability": found}
            parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def _known(
    known: Sequence[tuple[float, Found]], tallies: Mapping[int, pd.DataFrame]
) -> pd.DataFrame:
    """Every network known to reach an accuracy with the fewest weights, one row each.

    `successes` of its `starts` reached the accuracy in training alone; racing makes that a lower
    bound of what the full training of all starts would reach.
    """
    rows = []
    for accuracy, found in known:
        row = found.row
        tally = tallies[int(row["weights"])].loc[row["network"]]
        reached = {"accuracy": accuracy, "reached": row["accuracy"]}
        success = {"successes": tally[str(accuracy)], "starts": tally.starts}
        rows.append({**row, **reached, **success})
    table = pd.DataFrame(rows, columns=list(KNOWN)).astype(KNOWN)
    low, high = wilson(table.successes, table.starts)
    return table.assign(rate_low=low, rate_high=high)


def _networks(found: Sequence[Found], frame: MLP, protocol: str) -> dict[str, np.ndarray]:
    """Masks, trained parameters and initial values [n, ...] of networks, held in one shape.

    The initial values are those of the network's widths without a mask, as training began.
    """
    n = len(found)
    mask = np.zeros((n, frame.n_weights), dtype=bool)
    parameters, initial = np.zeros((2, n, frame.n_parameters), dtype=np.float32)
    for i, network in enumerate(found):
        own, start = network.shape, int(network.row["start"])
        where = positions(own, frame)
        mask[i, where[: own.n_weights]] = network.mask
        parameters[i, where] = network.parameters
        drawn = initial_values(own, network.mask, range(start, start + 1), protocol)
        initial[i, where] = drawn[0]
    return {"mask": mask, "parameters": parameters, "initial": initial}
