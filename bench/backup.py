"""Back up, back up a change, restore and verify the same inputs with this project and its peers, in one run.

    python bench/backup.py [--scale S] [--runs N] [--work DIRECTORY] [--kinds KIND...] [--tools TOOL...]

Every tool gets an empty repository beside the others' on the same file system, a warm page cache and the
whole machine; tools take turns within a run and every figure is the median over the runs. What was restored
is compared with the source. Prints the tables and writes them, with the machine's description and every
single measurement, to bench/results/.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import generate
import measure
from tools import TOOLS, Tool

MIB = 1 << 20
RESULTS = Path(__file__).parent / "results"
SOURCES = {"image": "image/disk.raw", "tree": "tree/tree", "repeats": "repeats/file"}


@dataclass(frozen=True)
class Target:
    """A figure to reach: ours at most `factor` times the peer's."""

    kind: str
    figure: str
    peer: str
    factor: float


TARGETS = [
    Target("image", "full_seconds", "restic", 1 / 5),
    Target("image", "full_seconds", "borg", 1 / 3),
    Target("image", "full_stored_mib", "restic", 1.04),
    Target("image", "full_stored_mib", "borg", 1.04),
    Target("image", "increment_seconds", "restic", 1 / 10),
    Target("image", "increment_stored_mib", "restic", 1 / 8),
    Target("image", "restore_seconds", "restic", 1 / 5),
    Target("tree", "full_seconds", "restic", 1 / 5),
    Target("tree", "increment_seconds", "restic", 1 / 8),
    Target("tree", "restore_seconds", "restic", 1 / 2),
    Target("tree", "full_seconds", "tar", 1.3),
    Target("tree", "increment_seconds", "tar", 1.3),
    Target("tree", "restore_seconds", "tar", 1.3),
    Target("repeats", "full_stored_mib", "restic", 0.65),
    Target("repeats", "full_seconds", "restic", 1 / 4),
]
AT_MOST = {"mapped_seconds": 0.5, "peak_mib": 200.0}
AT_LEAST = {"verify_gb_per_second": 1.5}
"""Figures to reach that are no ratio."""

FIGURES = [
    "full_seconds",
    "full_cpu_seconds",
    "full_stored_mib",
    "increment_seconds",
    "increment_cpu_seconds",
    "increment_stored_mib",
    "mapped_seconds",
    "restore_seconds",
    "restore_cpu_seconds",
    "verify_gb_per_second",
    "peak_mib",
]


def same_content(left: Path, right: Path) -> bool:
    """Whether two files or trees hold the same bytes."""
    command = ["cmp", "-s"] if left.is_file() else ["diff", "-rq"]
    return subprocess.run([*command, left, right], stdout=subprocess.DEVNULL, check=False).returncode == 0


def measure_tool(
    tool: Tool, change: generate.ImageChange | generate.TreeChange | None, waste: Path
) -> dict[str, float]:
    """All figures of one tool on one input; leaves the input as it was, and what it restored in `waste`."""
    tool.prepare()
    empty_bytes = measure.stored_bytes(tool.repository)
    measure.warm(tool.source)
    full = tool.backup()
    full_bytes = measure.stored_bytes(tool.repository)
    costs = [full]
    figures = {
        "full_seconds": full.wall_seconds,
        "full_cpu_seconds": full.cpu_seconds,
        "full_stored_mib": (full_bytes - empty_bytes) / MIB,
    }
    is_undone = False
    if change is not None:
        change.make()
    try:
        measure.warm(tool.source)
        increment = tool.backup()
        figures["increment_seconds"] = increment.wall_seconds
        figures["increment_cpu_seconds"] = increment.cpu_seconds
        figures["increment_stored_mib"] = (measure.stored_bytes(tool.repository) - full_bytes) / MIB
        measure.warm(tool.repository)
        restore = tool.restore()
        figures["restore_seconds"] = restore.wall_seconds
        figures["restore_cpu_seconds"] = restore.cpu_seconds
        if not same_content(tool.source, tool.restored()):
            raise measure.CommandFailed(f"{tool.name} restored something else than {tool.source}")
        costs += [increment, restore]
        tool.target.rename(waste)
        measure.warm(tool.repository)
        verify = tool.verify()
        if verify is not None:
            figures["verify_gb_per_second"] = (
                measure.stored_bytes(tool.repository) / verify.wall_seconds / 1e9
            )
            costs.append(verify)
        if change is not None:
            change.undo()
            is_undone = True
        if isinstance(change, generate.ImageChange):
            mapped = _measure_mapped(tool, change, waste)
            if mapped is not None:
                figures["mapped_seconds"] = mapped.wall_seconds
                costs.append(mapped)
    finally:
        if change is not None and not is_undone:
            change.undo()
        shutil.rmtree(tool.place)
    figures["peak_mib"] = max(cost.peak_bytes for cost in costs) / MIB
    return figures


def _measure_mapped(tool: Tool, change: generate.ImageChange, waste: Path) -> measure.Cost | None:
    """What the change back costs when it is told; a wrong result ends the benchmark."""
    measure.warm(tool.source)
    mapped = tool.backup_changed(change.ranges())
    if mapped is not None:
        tool.restore()
        if not same_content(tool.source, tool.restored()):
            raise measure.CommandFailed(f"{tool.name} restored something else than {tool.source}")
        tool.target.rename(waste.with_name(waste.name + "-mapped"))
    return mapped


def change_of(kind: str, source: Path, seed: int) -> generate.ImageChange | generate.TreeChange | None:
    """The change that belongs to an input."""
    if kind == "image":
        return generate.ImageChange.load(source)
    return generate.TreeChange(source, seed) if kind == "tree" else None


Medians = dict[str, dict[str, dict[str, float]]]  # kind, tool, figure


def table(kind: str, rows: dict[str, dict[str, float]]) -> str:
    """One input's figures as a Markdown table."""
    lines = [
        f"### {kind}",
        "",
        "| tool | " + " | ".join(FIGURES) + " |",
        "|---|" + "---|" * len(FIGURES),
    ]
    for tool, figures in rows.items():
        cells = [f"{figures[name]:.2f}" if name in figures else "-" for name in FIGURES]
        lines.append(f"| {tool} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def verdicts(medians: Medians) -> str:
    """Our figures against what they are to reach."""
    lines = ["| input | figure | ours | against | ratio | to reach | |", "|---|---|---|---|---|---|---|"]
    for target in TARGETS:
        rows = medians.get(target.kind, {})
        if "vdr" not in rows or target.peer not in rows:
            continue
        ours, theirs = rows["vdr"][target.figure], rows[target.peer][target.figure]
        ratio = ours / theirs if theirs else float("inf")
        verdict = "reached" if ratio <= target.factor else "missed"
        lines.append(
            f"| {target.kind} | {target.figure} | {ours:.2f} | {target.peer} {theirs:.2f} "
            f"| {ratio:.3f} | {target.factor:.3f} | {verdict} |"
        )
    for kind, rows in medians.items():
        reached = rows.get("vdr", {})
        for figure, wanted in (AT_MOST | AT_LEAST).items():
            if figure not in reached:
                continue
            value = reached[figure]
            is_reached = value <= wanted if figure in AT_MOST else value >= wanted
            verdict = "reached" if is_reached else "missed"
            lines.append(f"| {kind} | {figure} | {value:.2f} | | | {wanted:g} | {verdict} |")
    return "\n".join(lines) + "\n"


def measure_all(arguments: argparse.Namespace) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Every measurement: kind, tool, one entry a run."""
    inputs = arguments.work / "inputs"
    inputs.mkdir(parents=True, exist_ok=True)
    generate.generate(inputs, arguments.kinds, arguments.scale, arguments.seed)
    # ext4 steps over inodes freed in the last minutes, one by one: a tool that restores after another's tree
    # was removed would pay for that. So everything is removed at the end.
    waste = arguments.work / "waste"
    shutil.rmtree(waste, ignore_errors=True)
    waste.mkdir()
    found: dict[str, dict[str, list[dict[str, float]]]] = defaultdict(lambda: defaultdict(list))
    for kind in arguments.kinds:
        source = (inputs / SOURCES[kind]).resolve()
        change = change_of(kind, source, arguments.seed)
        for run in range(arguments.runs):
            for name in arguments.tools:
                if name == "tar" and kind != "tree":
                    continue
                print(f"{kind}: run {run + 1} of {arguments.runs}, {name}", file=sys.stderr)
                tool = TOOLS[name]((arguments.work / "repositories" / name).resolve(), kind, source)
                found[kind][name].append(measure_tool(tool, change, waste / f"{kind}-{name}-{run}"))
    shutil.rmtree(waste)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=0.1, help="1 is the full size; default 0.1")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/vdr-bench"))
    parser.add_argument("--kinds", nargs="+", choices=generate.KINDS, default=list(generate.KINDS))
    parser.add_argument("--tools", nargs="+", choices=list(TOOLS), default=list(TOOLS))
    parser.add_argument(
        "--no-results", action="store_true", help="print only, write nothing to bench/results/"
    )
    arguments = parser.parse_args()
    machine = measure.machine(RESULTS)
    measure.compile_bytecode()
    found = measure_all(arguments)
    medians: Medians = {
        kind: {
            tool: {name: statistics.median(run[name] for run in runs) for name in runs[0]}
            for tool, runs in tools.items()
        }
        for kind, tools in found.items()
    }
    heading = f"Scale {arguments.scale}, medians of {arguments.runs}, {machine['time']}"
    text = "\n".join(
        [f"## {heading}\n", *(table(kind, rows) for kind, rows in medians.items()), verdicts(medians)]
    )
    print(text)
    if not arguments.no_results:
        name = f"backup-{str(machine['time'])[:16].replace(':', '')}-scale{arguments.scale:g}"
        RESULTS.mkdir(exist_ok=True)
        described = "\n".join(f"- {key}: {value}" for key, value in machine.items())
        (RESULTS / f"{name}.md").write_text(f"{text}\nMachine:\n\n{described}\n")
        saved = {"machine": machine, "targets": [asdict(t) for t in TARGETS], "measurements": found}
        (RESULTS / f"{name}.json").write_text(json.dumps(saved, indent=1) + "\n")


if __name__ == "__main__":
    main()
