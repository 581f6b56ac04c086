"""The sentences of docs/study.md: every one follows from the numbers, and changes with them."""

from __future__ import annotations

from typing import Any

from study_cells import DISTILLER_NAMES, IPCS, NUMBERS, OPTIMIZERS, RATIOS
from study_numbers import Difference, Table, join_names, subtract


def say_ladd(results: dict[str, Any]) -> list[str]:
    """Compare LADD with hard labels, and what labels add with what images add."""
    table = Table(results, "ladd")
    lines = []
    for ipc in IPCS:
        rows = [f"{name}, IPC {ipc}" for name in DISTILLER_NAMES]
        found = [subtract(table.values(row, "LADD"), table.values(row, "hard labels")) for row in rows]
        texts = [f"{difference.text} on {name}" for name, difference in zip(DISTILLER_NAMES, found, strict=True)]
        verdict = _verdict([difference.clear and difference.points > 0 for difference in found])
        lines.append(f"**LADD less hard labels, IPC {ipc}**: {join_names(texts)} points. {verdict}")
    for ipc in IPCS:
        labels = subtract(table.values(f"random, IPC {ipc}", "LADD"), table.values(f"random, IPC {ipc}", "hard labels"))
        images = subtract(
            table.values(f"dm, IPC {ipc}", "hard labels"), table.values(f"random, IPC {ipc}", "hard labels")
        )
        lines.append(
            f"**What adds more, IPC {ipc}**: to random digits with hard labels, dense labels add {labels.text} points, "
            f"distilling the images (dm) {images.text}."
        )
    return lines


def say_table6(results: dict[str, Any]) -> list[str]:
    """Hold the four statements that the paper makes of its Table 6 against ours."""
    table = Table(results, "table6")
    hard, soft, both, views_hard, views_soft, views_both, ladd = (table.values(row) for row in table.rows)
    return [
        _claim("full images: soft labels in place of hard ones change little (+0.3)", subtract(soft, hard), near=True),
        _claim("full images: both labels change little (+0.3)", subtract(both, hard), near=True),
        _claim("views with hard labels are no better than full images (-0.1)", subtract(views_hard, hard), near=True),
        _claim("views with dense labels are far better (+6.9)", subtract(views_soft, hard)),
        _claim("hard labels added to the views do not help (-0.4)", subtract(views_both, views_soft), near=True),
        _claim("full images with hard labels on top add something (+2.8)", subtract(ladd, views_soft)),
    ]


def say_losses(results: dict[str, Any]) -> list[str]:
    """Rank the losses under each optimiser, and say how far each moves from optimiser to optimiser."""
    table = Table(results, "losses")
    lines = []
    for optimizer in OPTIMIZERS:
        order = sorted(table.rows, key=lambda row: -table.mean(row, optimizer))
        ranks = ", ".join(f"{row} {table.mean(row, optimizer):.1f}" for row in order)
        rivals = [row for row in order if row != "GIFT"]
        found = subtract(table.values("GIFT", optimizer), table.values(rivals[0], optimizer))
        lines.append(f"**{optimizer}**: {ranks}. GIFT less the best of the others ({rivals[0]}): {found.text}.")
    spread = {row: _spread([table.mean(row, optimizer) for optimizer in OPTIMIZERS]) for row in table.rows}
    steadiest = min(spread, key=lambda row: spread[row])
    texts = ", ".join(f"{row} {points:.1f}" for row, points in sorted(spread.items(), key=lambda item: item[1]))
    lines.append(
        f"**Between the best and the worst optimiser** lie, in points: {texts}. GIFT's claim to be the one that "
        f"optimisers matter least to {'shows' if steadiest == 'GIFT' else f'does not show: {steadiest} is'} here."
    )
    found = subtract(table.values("GIFT", "SGD"), table.values("KL, T = 20", "SGD"))
    shows = "shows" if found.clear and found.points > 20 else "does not show"
    lines.append(
        f"**KL at T = 20 under SGD** (GIFT's Table 5: 1.5 and 1.9 %, against 43 and 53 with GIFT): GIFT is "
        f"{found.text} points away; the collapse {shows} here. Its gradient is smaller by T² = 400."
    )
    return lines


def say_views(results: dict[str, Any]) -> list[str]:
    """Say what more views do, and which size is best."""
    table = Table(results, "views")
    few, many = f"N = {NUMBERS[0]}", f"N = {NUMBERS[-1]}"
    lines = []
    found = {ratio: subtract(table.values(f"R = {ratio}", many), table.values(f"R = {ratio}", few)) for ratio in RATIOS}
    texts = join_names([f"{difference.text} at R = {ratio}" for ratio, difference in found.items()])
    grows = all(difference.clear and difference.points > 0 for difference in found.values())
    lines.append(
        f"**More views** ({few} to {many}): {texts} points. The paper's statement that accuracy grows with N "
        f"{'shows' if grows else 'does not show for every R'} here. The loss is the sum over views, so that more of "
        "them are also larger steps."
    )
    for number in NUMBERS:
        column = f"N = {number}"
        best = max(table.rows, key=lambda row: table.mean(row, column))
        rest = [row for row in table.rows if row != best]
        second = max(rest, key=lambda row: table.mean(row, column))
        gap = subtract(table.values(best, column), table.values(second, column))
        lines.append(
            f"**Best size at {column}**: {best}, {gap.text} points before {second} (the paper's choice is 5/8)."
        )
    return lines


def say_labeler(results: dict[str, Any]) -> list[str]:
    """Say which epoch's labels serve best, and how sure labelers get."""
    table = Table(results, "labeler")
    best = max(table.rows, key=table.mean)
    last = table.rows[-1]
    early, late = results["labelers"][0], results["labelers"][-1]
    lines = [f"**Best**: the labels of epoch {best}, {table.say(best)}."]
    if best != last:
        gap = subtract(table.values(best), table.values(last))
        shows = "shows" if gap.clear and gap.points > 0 else "does not show"
        lines.append(
            f"**Early labels before late ones**: epoch {best} less epoch {last} is {gap.text} points; that longer "
            f"training of the labeler hurts {shows} here."
        )
    else:
        lines.append(
            "**Early labels before late ones** (LADD, Fig. 5): does not show here, the last epoch is the best."
        )
    ten = subtract(table.values("10"), table.values("1"))
    lines.append(f"**Epoch 10, the paper's choice, less epoch 1**: {ten.text} points.")
    certain = "shows" if late["entropy"] < early["entropy"] else "does not show"
    lines.append(
        f"**How sure**: the mean highest probability goes from {early['top']:.2f} (epoch {early['epoch']}) to "
        f"{late['top']:.2f} (epoch {late['epoch']}), the entropy from {early['entropy']:.2f} to "
        f"{late['entropy']:.2f} nats; that labelers grow more certain {certain} here."
    )
    return lines


def say_encodings(results: dict[str, Any]) -> list[str]:
    """Compare every coding with float32."""
    table = Table(results, "encodings")
    lines = []
    for row in table.rows[1:]:
        gap = subtract(table.values(row), table.values("float32"))
        verdict = "a clear difference" if gap.clear else "no difference that five students can show"
        lines.append(f"**{row}** less float32: {gap.points:+.1f} ± {gap.error:.1f} points, {verdict}.")
    return lines


def _verdict(shows: list[bool]) -> str:
    if all(shows):
        return "A clear gain on all three."
    return f"A clear gain on {sum(shows)} of {len(shows)}." if any(shows) else "No clear gain."


def _spread(values: list[float]) -> float:
    return max(values) - min(values)


def _claim(claim: str, found: Difference, near: bool = False) -> str:
    """Return a statement of the paper, the number here, and whether it shows; `near`: that two are about equal."""
    if near:
        verdict = "does not show" if found.clear else "not contradicted"
    else:
        verdict = "shows" if found.clear and found.points > 0 else "does not show"
    return f"**{claim[0].upper()}{claim[1:]}**: {found.text} here; {verdict}."
