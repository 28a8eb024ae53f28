"""Tables of the results of `dove eval`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dove_cli.render import cell, note, output

if TYPE_CHECKING:
    from dove_core.evaluation.compare import Difference

_CAUTION = {
    "trained on": "The scores show how well the model remembers, not how well it retrieves.",
    "chosen on": "The scores are validation scores; evaluate on a split that was not used to choose the checkpoint.",
}


def warn(result: Mapping[str, Any]) -> None:
    """Warn if the checkpoint was trained or chosen on the images."""
    seen = result["seen"]
    if seen == "unknown":
        note("this checkpoint is not in a run folder: dove cannot tell whether it was trained on these images")
    elif seen:
        note(f"ATTENTION: THIS CHECKPOINT WAS {seen.upper()} THESE IMAGES. {_CAUTION[seen]}")


def show_result(result: Mapping[str, Any]) -> None:
    """Show one result."""
    if result["task"] == "retrieval":
        _show_retrieval(result)
    else:
        _show_classes(result)


def show_suite(results: Sequence[Mapping[str, Any]], mean: Mapping[str, Any] | None) -> None:
    """Show the results of several sets, one a line, and the mean over the sets that SkyScript averages."""
    from rich.table import Table

    classes = [result for result in results if result["task"] != "retrieval"] + ([mean] if mean else [])
    if classes:
        rows = list(classes[0]["metrics"])
        table = Table("set", *(f"{row} top-{k}" for row in rows for k in (1, 5)), box=None)
        for result in classes:
            cells = [f"{result['metrics'][row][name]:.2f}" for row in rows for name in ("acc1", "acc5")]
            table.add_row(result["dataset"], *cells)
        output().print(table)
    for result in results:
        if result["task"] == "retrieval":
            _show_retrieval(result)


def show_differences(names: tuple[str, str], metric: str, found: Sequence[Difference]) -> None:
    """Show two results side by side."""
    from rich.table import Table

    table = Table(metric, *names, "difference", "", box=None)
    words = {True: "beyond chance", False: "within chance", None: "no interval"}
    for d in found:
        table.add_row(d.row, f"{d.first:.2f}", f"{d.second:.2f}", f"{d.difference:+.2f}", words[d.beyond])
    output().print(table)


def _show_retrieval(result: Mapping[str, Any]) -> None:
    from rich.table import Table

    rows = result["metrics"]
    names = [name for name in next(iter(rows.values())) if "_recall@" in name]
    short = [f"{'I2T' if name.startswith('image') else 'T2I'} R@{name.partition('@')[2]}" for name in names]
    heads = [head if head.endswith("R@1") else head[4:] for head in short]
    table = Table("", *heads, "mean recall", "95 %", box=None)
    for name, values in rows.items():
        label = f"reranked (best {result['rerank']})" if name == "reranked" else name
        low, high = values.get("mean_recall_low"), values.get("mean_recall_high")
        interval = "" if low is None else f"{low:.2f} to {high:.2f}"
        table.add_row(label, *(f"{values[n]:.2f}" for n in names), f"{values['mean_recall']:.2f}", interval)
    counts = f"{result['pictures']} images, {result['captions']} captions, {result['texts']} texts"
    heading = f"{result['dataset']} {result['split']}, protocol {result['protocol']}: {counts}"
    output().print(heading, highlight=False, markup=False)
    output().print(table)
    if any(f"{values['mean_recall_random_ties']:.2f}" != f"{values['mean_recall']:.2f}" for values in rows.values()):
        each = ", ".join(f"{name} {values['mean_recall_random_ties']:.2f}" for name, values in rows.items())
        output().print(f"mean recall with ties in random order: {each}", highlight=False, markup=False)


def _show_classes(result: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table("", "top-1", "top-5", "mean per class", box=None)
    for name, values in result["metrics"].items():
        table.add_row(name, *(f"{values[key]:.2f}" for key in ("acc1", "acc5", "mean_per_class_recall")))
    counts = f"{result['pictures']} images, {len(result['classes'])} classes"
    output().print(f"{result['dataset']} {result['split']}: {counts}", highlight=False, markup=False)
    output().print(table)
    each = Table("class", "images", "recognised, %", "mostly taken for", box=None)
    matrix = list(result["confusion"].values())[-1]
    for k, name in enumerate(result["classes"]):
        total, others = sum(matrix[k]), [0 if j == k else count for j, count in enumerate(matrix[k])]
        wrong = result["classes"][others.index(max(others))] if any(others) else ""
        share = f"{100 * matrix[k][k] / total:.1f}" if total else "-"
        each.add_row(cell(name), str(total), share, cell(wrong))
    output().print(each)
