"""How PostgreSQL carries a query out: its plan, what each step really read, and a picture of several side by side."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, text

from lib.database.transactions import write_transaction
from lib.workbook.plots import COLORS, new_axes, show_figure


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a plan that was carried out. Its rows go to the step above it."""

    name: str  # such as "Index Scan using ix_memory_newest_of_user"
    read: int  # rows that it looked at, also those that a filter threw away


@dataclass(frozen=True, slots=True)
class Plan:
    """A query's plan as it was carried out once; `steps[0]` gives the result."""

    steps: tuple[Step, ...]
    ms: float

    @property
    def read(self) -> int:
        """Rows that the step which read most had to look at."""
        return max(step.read for step in self.steps)

    @property
    def tables(self) -> set[str]:
        """Names of the tables, or partitions, that were read."""
        return {step.name.split(" on ")[1].split(" ")[0] for step in self.steps if " on " in step.name}

    def __str__(self) -> str:
        return "\n".join(f"{'  ' * depth}{step.name}: {step.read:,} rows" for depth, step in enumerate(self.steps))


def explain(engine: Engine | Connection, sql: str, **parameters: Any) -> Plan:
    """Carry a query out on PostgreSQL under EXPLAIN (ANALYZE); what it writes is rolled back.

    engine: of PostgreSQL. parameters: for the names like :user_id in the query.
    """
    with write_transaction(engine) as connection:
        savepoint = connection.begin_nested()
        [explained] = connection.scalar(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}"), parameters)
        savepoint.rollback()
    return Plan(tuple(_steps(explained["Plan"])), explained["Execution Time"])


def _steps(node: dict[str, Any]) -> list[Step]:
    loops = node["Actual Loops"]
    thrown_away = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    name = node["Node Type"]
    if "Index Name" in node:
        name += f" using {node['Index Name']}"
    if "Relation Name" in node:
        name += f" on {node['Relation Name']}"
    below = [step for inner in node.get("Plans", ()) for step in _steps(inner)]
    # To sort, a step looks at all that it gets, also where it hands on only the first.
    came = node["Plans"][0]["Actual Rows"] if node["Node Type"] == "Sort" else node["Actual Rows"] + thrown_away
    return [Step(name, round(came * loops)), *below]


def plans(by_name: Mapping[str, Plan], *, title: str, alt: str) -> None:
    """Plans side by side: a bar for each step, the result on top, as long as the number of rows that it looked at."""
    axes = new_axes(title, "rows that the step looked at (logarithmic)", "")
    y, names = 0.0, []
    for (name, plan), color in zip(by_name.items(), COLORS, strict=False):
        axes.text(1, y - 0.1, f" {name}: {plan.ms:.3g} ms", va="center", color=color, weight="bold")
        y += 0.7
        for step in plan.steps:
            axes.barh(y, max(step.read, 1), color=color, height=0.7)
            axes.text(max(step.read, 1) * 1.15, y, f"{step.read:,}", va="center", fontsize=9)
            names.append((y, _broken(step.name)))
            y += 1
        y += 0.4
    axes.figure.figure.set_size_inches(7, 0.9 + 0.36 * y)
    axes.set_yticks([at for at, _ in names], [label for _, label in names], fontsize=9)
    axes.set_xscale("log")
    axes.set_xlim(1, 4 * max(plan.read for plan in by_name.values()))
    axes.set_ylim(y, -0.7)
    axes.grid(visible=False)
    show_figure(axes, alt)


def _broken(name: str) -> str:
    """A step's name on two lines where it is long."""
    first, using, rest = name.partition(" using ")
    return f"{first}\n{rest.split(' on ')[0]}" if using else name
