"""Rules on depth: whether there is any, and how far it reaches."""

import statistics

from amlr_jax.data.check.facts import Facts
from amlr_jax.data.check.findings import FAULT, NOTE, WARNING, Examined, Finding
from amlr_jax.data.check.measures import EDGES, quantile

FAR_FROM_USUAL = 5.0  # times the usual share of valid pixels, up or down
_BEYOND = 0.05  # share of measurements that may be lost to a limit unsaid


def histogram(examined: Examined) -> list[tuple[str, int]]:
    """Metres as text, and the pixels measured there, of all frames."""
    counts = [0] * len(EDGES)
    for fact in examined.measured():
        counts = [a + int(b) for a, b in zip(counts, fact.measured.counts, strict=True)]
    ends = [f"{edge:g}" for edge in EDGES[1:]] + ["..."]
    starts = [f"{edge:g}" for edge in EDGES]
    names = [f"{a} - {b}" for a, b in zip(starts, ends, strict=True)]
    return list(zip(names, counts, strict=True))


def depth(examined: Examined) -> list[Finding]:
    """Range and valid share; frames without any, and those unlike the rest."""
    facts = examined.measured()
    if not facts:
        return [Finding("depth", FAULT, "no ground truth could be read")]
    findings = [_range(facts)]
    empty = tuple(fact.key for fact in facts if not fact.measured.share)
    if empty:
        text = f"{len(empty)} frames have no valid depth at all"
        findings.append(Finding("depth", FAULT, text, empty))
    odd = tuple(_unusual_shares(examined))
    if odd:
        text = f"{len(odd)} frames have far less or more valid depth than the usual"
        findings.append(Finding("depth", WARNING, text, odd))
    return findings + _limits(examined, facts)


def _range(facts: list[Facts]) -> Finding:
    every = [fact.measured for fact in facts]
    shares = [m.share for m in every]
    low, middle, far = (quantile(every, q) for q in (0.01, 0.5, 0.99))
    text = (
        f"valid share {statistics.mean(shares):.1%} of pixels "
        f"({min(shares):.1%} to {max(shares):.1%} in a frame); depth in metres: "
        f"median {middle:.3g}, 98 % between {low:.3g} and {far:.3g}"
    )
    return Finding("depth", NOTE, text)


def _unusual_shares(examined: Examined):
    """Against the median of the drive, or of the set where a drive is short."""
    whole = [fact.measured.share for fact in examined.measured()]
    for facts in examined.groups().values():
        facts = [fact for fact in facts if fact.measured]
        shares = [f.measured.share for f in facts] if len(facts) > 4 else whole
        usual = statistics.median(shares) if shares else 0.0
        for fact in facts:
            share = fact.measured.share
            far = share * FAR_FROM_USUAL < usual or share > usual * FAR_FROM_USUAL
            if share and usual and far:
                yield f"{fact.key} {share:.2%}, usual {usual:.2%}"


def _limits(examined: Examined, facts: list[Facts]) -> list[Finding]:
    """What a cap or the network's range takes away."""
    findings = []
    cap, limit = examined.layout.depth_cap, examined.max_depth
    if cap:
        share = statistics.mean(fact.measured.beyond for fact in facts)
        if share > _BEYOND:
            text = f"{share:.0%} of what is measured is beyond data.depth_cap={cap:g} m"
            findings.append(Finding("depth", WARNING, text))
    far = quantile([fact.measured for fact in facts], 1 - _BEYOND)
    if not cap and far > limit:
        text = (
            f"more than {_BEYOND:.0%} of what is measured is beyond model.max_depth="
            f"{limit:g} m, up to which the network predicts"
        )
        findings.append(Finding("depth", WARNING, text))
    return findings
