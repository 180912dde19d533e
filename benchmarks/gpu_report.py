"""Tables and a plot of what benchmarks.gpu wrote; needs no GPU.

    python -m benchmarks.gpu_report FILE [--markdown FILE] [--png FILE]

Without --markdown the tables are printed. The plot needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

SHARE_PROMISED, PEERS_PROMISED, LAUNCH_PROMISED = 0.85, 1.0, 15.0
#: The shapes that the promise speaks of: many channels, and 512 of them over a long time.
PROMISED_SHAPES = ((8, 65536, 1536), (1, 65536, 512))
#: The published grid: batch -> speed-up for 32, 64, 128, 256, 512 steps (arXiv 1611.01576, fig. 4).
PUBLISHED = {
    8: (5.5, 8.8, 11.0, 12.4, 16.9),
    16: (5.5, 6.7, 7.8, 8.3, 10.8),
    32: (4.2, 4.5, 4.9, 4.9, 6.4),
    64: (3.0, 3.0, 3.0, 3.0, 3.7),
    128: (2.1, 1.9, 2.0, 2.0, 2.4),
    256: (1.4, 1.4, 1.3, 1.3, 1.3),
}
STEPS = (32, 64, 128, 256, 512)

Record = dict[str, Any]


def markdown(record: Record) -> str:
    """Everything that was found, as Markdown."""
    versions = ", ".join(f"{k} {v}" for k, v in record["versions"].items())
    parts = [
        f"# {record['device']}, {record['date']}",
        f"`{record['command']}`, {versions}. A device-to-device copy moves "
        f"{record.get('copy_bytes_per_second', 0) / 1e9:.0f} GB/s, reads and writes both counted.",
    ]
    if record["tests"]:
        parts.append(f"tests/gpu: {record['tests']['said']}")
    parts += ["## Promises", table(("promise", "found", ""), promises(record))]
    parts += [
        "## Kernels",
        "Time of the bare operator; the share is its bytes over its time over a copy's bandwidth.",
        table(
            ("layer", "", "shape", "dtype", "ms", "MB", "of a copy", "schedule", "registers"),
            (
                (
                    r["layer"], r["what"], shape_text(r), r["dtype"], f"{r['milliseconds']:.3f}",
                    f"{r['bytes'] / 1e6:.0f}", f"{r['of_copy']:.0%}", r["schedule"],
                    registers(record, r),
                )
                for r in kernels(record)
            ),
        ),
        "## The plain scan, beside others'",
        "Through autograd on both sides, float32; ours over theirs in the last column.",
        table(("", "", "shape", "ms", "of a copy", "x ours"), peer_lines(record)),
    ]  # fmt: skip
    if record["absent"]:
        parts.append(
            "Not compared: " + "; ".join(f"{k} ({v})" for k, v in record["absent"].items())
        )
    parts += [
        "## Layers, forward and backward, on data",
        table(
            ("layer", "shape", "dtype", "ms"),
            (
                (r["layer"], shape_text(r), r["dtype"], f"{r['milliseconds']:.3f}")
                for r in of(record, "layer")
            ),
        ),
        "## A 320-unit QRNN layer against a cuDNN LSTM layer, inference",
        "How many times faster; in brackets what the paper reports (2016, another card).",
        table(("batch", *(f"T = {t}" for t in STEPS)), grid_lines(record)),
        "## Errors, the largest of values and gradients against float64",
        table(("case", "error"), ((k, f"{v:.1e}") for k, v in record["errors"].items())),
        "## Microseconds of the CPU a call",
        table(("call", "µs"), ((k, f"{v:.1f}") for k, v in record["launch_us"].items())),
    ]
    if record["tuned"]:
        parts += ["## Tuning", table(tuple(record["tuned"][0]), tuned_lines(record))]
    if record["failures"]:
        parts += ["## What failed or was left out", "\n".join(f"- {f}" for f in record["failures"])]
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def shape_text(row: Record) -> str:
    return "(" + ", ".join(str(n) for n in row["shape"]) + ")"


def of(record: Record, what: str) -> list[Record]:
    """The rows of one kind."""
    return [r for r in record["rows"] if r["what"] == what]


def kernels(record: Record) -> list[Record]:
    """The bare kernels' rows."""
    return [r for r in record["rows"] if r["schedule"]]


def registers(record: Record, row: Record) -> str:
    """Registers, and spills where there are any."""
    used = record["usage"].get(f"{row['layer']} {row['dtype']}", {})
    found = used.get(f"{row['schedule']}_{row['what']}")
    if found is None:
        return ""
    spilled = f", {found['spill_stores']} B spilled" if found["spill_stores"] else ""
    return f"{found['registers']}{spilled}"


def scans(record: Record) -> list[Record]:
    """The plain scan by everyone, ours among them."""
    return [r for r in record["rows"] if r["what"] in ("forward", "backward") and not r["schedule"]]


def peer_lines(record: Record) -> list[tuple[str, ...]]:
    """A line a peer, direction and shape."""
    ours = {
        (r["what"], tuple(r["shape"])): r["milliseconds"]
        for r in scans(record)
        if r["layer"] == "seqc"
    }
    lines = []
    for r in sorted(scans(record), key=lambda r: (r["shape"], r["what"], r["milliseconds"])):
        base = ours.get((r["what"], tuple(r["shape"])))
        ratio = "" if base is None else f"{r['milliseconds'] / base:.2f}"
        took, share = f"{r['milliseconds']:.3f}", f"{r['of_copy']:.0%}"
        lines.append((r["layer"], r["what"], shape_text(r), took, share, ratio))
    return lines


def grid(record: Record) -> dict[tuple[int, int], float]:
    """(batch, steps) -> times faster than the LSTM."""
    took = {(r["layer"], *r["shape"][:2]): r["milliseconds"] for r in of(record, "grid")}
    return {
        (batch, steps): took["nn.LSTM", batch, steps] / ours
        for (name, batch, steps), ours in took.items()
        if name == "QRNN" and ("nn.LSTM", batch, steps) in took
    }


def grid_lines(record: Record) -> list[tuple[str, ...]]:
    """A line a batch."""
    found = grid(record)
    return [
        (
            str(batch),
            *(
                f"{found[batch, t]:.1f} ({was})" if (batch, t) in found else f"({was})"
                for t, was in zip(STEPS, published, strict=True)
            ),
        )
        for batch, published in PUBLISHED.items()
    ]


def tuned_lines(record: Record) -> list[tuple[str, ...]]:
    """A line a setting, the best of each layer and shape first."""
    rows = sorted(
        record["tuned"], key=lambda r: (r["layer"], r["shape"], -(r["forward"] + r["backward"]))
    )
    return [
        tuple(f"{v:.0%}" if isinstance(v, float) else str(v) for v in row.values()) for row in rows
    ]


def promises(record: Record) -> list[tuple[str, str, str]]:
    """Each promise of the GPU, what was found, and whether it is kept."""

    def verdict(values: Sequence[float], good: bool) -> str:
        return "not measured" if not values else "kept" if good else "MISSED"

    lines = []
    for shape in PROMISED_SHAPES:
        for what in ("forward", "backward"):
            found = [r for r in kernels(record) if tuple(r["shape"]) == shape and r["what"] == what]
            shares = [r["of_copy"] for r in found]
            text = ", ".join(f"{r['layer']} {r['dtype']} {r['of_copy']:.0%}" for r in found)
            good = bool(shares) and min(shares) >= SHARE_PROMISED
            promise = f"{what} at {shape}: at least {SHARE_PROMISED:.0%} of a copy's bandwidth"
            lines.append((promise, text, verdict(shares, good)))
    ratios = [float(line[-1]) for line in peer_lines(record) if line[0] != "seqc" and line[-1]]
    text = f"the best of them takes {min(ratios):.2f} x our time" if ratios else ""
    good = bool(ratios) and min(ratios) >= PEERS_PROMISED
    lines.append(("as fast as the best other kernel, or faster", text, verdict(ratios, good)))
    costs = [v for k, v in record["launch_us"].items() if k.endswith("kernel")]
    text = ", ".join(f"{k} {v:.1f} µs" for k, v in record["launch_us"].items())
    good = bool(costs) and max(costs) <= LAUNCH_PROMISED
    lines.append(
        (f"at most {LAUNCH_PROMISED:.0f} µs to launch a kernel", text, verdict(costs, good))
    )
    return lines


def plot(record: Record, file: Path) -> None:
    """Shares of a copy's bandwidth, the plain scan beside others', and the QRNN grid."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, middle, right) = pyplot.subplots(
        1, 3, figsize=(19, 6), gridspec_kw={"width_ratios": (3, 2, 2)}, layout="constrained"
    )
    figure.suptitle(f"{record['device']}, {record['date'][:10]}")
    rows = kernels(record)
    labels = [f"{r['layer']} {shape_text(r)} {r['dtype'].replace('float', 'f')}" for r in rows]
    names = list(dict.fromkeys(labels))
    for offset, what in ((-0.2, "forward"), (0.2, "backward")):
        shares = {
            label: r["of_copy"] for label, r in zip(labels, rows, strict=True) if r["what"] == what
        }
        places = [names.index(label) + offset for label in shares]
        left.barh(places, [100 * s for s in shares.values()], 0.38, label=what)
    left.set_yticks(range(len(names)), names, fontsize=8)
    left.invert_yaxis()
    left.axvline(100 * SHARE_PROMISED, color="black", linestyle="--", linewidth=1, label="promised")
    left.set_xlabel("% of a copy's bandwidth")
    left.set_title("kernels")
    left.legend(loc="lower right")
    lines = [line for line in peer_lines(record) if line[-1]]
    middle.barh(
        range(len(lines)), [float(line[-1]) for line in lines],
        color=["tab:green" if line[0] == "seqc" else "tab:gray" for line in lines],
    )  # fmt: skip
    middle.set_yticks(range(len(lines)), [f"{n} {w} {s}" for n, w, s, *_ in lines], fontsize=8)
    middle.invert_yaxis()
    middle.axvline(1, color="black", linestyle="--", linewidth=1)
    middle.set_xlabel("x our time")
    middle.set_title("the plain scan h = a h + b, float32")
    found = grid(record)
    batches = list(PUBLISHED)
    values = [[found.get((b, t), float("nan")) for t in STEPS] for b in batches]
    right.imshow(values, cmap="YlGn", aspect="auto")
    for i, b in enumerate(batches):
        for j, t in enumerate(STEPS):
            if (b, t) in found:
                text = f"{found[b, t]:.1f}\n({PUBLISHED[b][j]})"
                right.text(j, i, text, ha="center", va="center", color="black", fontsize=9)
    right.set_xticks(range(len(STEPS)), STEPS)
    right.set_yticks(range(len(batches)), batches)
    right.set_xlabel("steps")
    right.set_ylabel("batch")
    right.set_title("QRNN layer, x faster than cuDNN's LSTM\n(in brackets: published)")
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_report", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("file", help="what benchmarks.gpu --json wrote")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables there")
    parser.add_argument("--png", metavar="FILE", help="plot them there")
    options = parser.parse_args()
    record = json.loads(Path(options.file).read_text())
    text = markdown(record)
    if options.markdown:
        Path(options.markdown).write_text(text)
    else:
        print(text)
    if options.png:
        try:
            plot(record, Path(options.png))
        except ModuleNotFoundError as error:
            print(f"{error}: pip install matplotlib, for --png", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
