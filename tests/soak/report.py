"""What a soak counts, and how it tells."""

from collections import Counter
from collections.abc import Mapping

from .process import Figures

_SHOWN = 3


class Tally:
    """Counts of a run, and whatever did not hold in it."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.violations: dict[str, list[str]] = {}

    def violated(self, what: str, detail: str) -> None:
        self.violations.setdefault(what, []).append(detail)

    def verdict(self) -> str:
        if not self.violations:
            return "PASS"
        lines = ["FAIL"]
        for what, details in self.violations.items():
            lines.append(f"  {len(details)} x {what}")
            lines += [f"      {detail}" for detail in details[:_SHOWN]]
        return "\n".join(lines)


def section(title: str, counts: Mapping[str, int]) -> str:
    width = max(map(len, counts), default=0)
    return "\n".join((title, *(f"  {name:<{width}}  {counts[name]:>8}" for name in sorted(counts)), ""))


def figures_section(before: Figures | None, after: Figures | None) -> str:
    if before is None or after is None:
        return (
            "The host's memory, threads and open files were not measured: Linux tells them, once the soak has ended.\n"
        )
    rows = (
        ("", "before", "peak", "after"),
        ("memory, KiB", before.memory, after.peak, after.memory),
        ("objects", before.objects, "", after.objects),
        ("open files", before.files, "", after.files),
        ("threads", before.threads, "", after.threads),
    )
    return "\n".join(("Host", *(f"  {name:<11}  {a:>8}  {b:>8}  {c:>8}" for name, a, b, c in rows), ""))
