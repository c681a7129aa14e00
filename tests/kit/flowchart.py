"""Mermaid flowcharts of the compiled pipelines, for `docs/ARCHITECTURE.md`.

`python -m tests.kit.flowchart docs/ARCHITECTURE.md` rewrites them between the file's markers.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipelines.dags.compile import PIPELINES, compile_pipeline

CROWDED = 8
"""Limit of arrows. An artifact with more readers is named in their boxes instead. A task that reads more artifacts gets
arrows only from tasks that no other path connects to it."""

MARKED = re.compile(r"(<!-- flowchart: (\w+) -->\n).*?(<!-- end of the flowchart -->)", re.DOTALL)


@dataclass(frozen=True)
class Box:
    """Box of a task, or of a group of tasks such as a loop.

    Attributes:
        key: key of the flowchart's node; the rounds of an unrolled loop share it.
        title: title on the run's page.
        inside: key of the enclosing group; "" = none.
        stage: name of the stage; "" = a group.
    """

    key: str
    title: str
    inside: str
    stage: str


@dataclass
class Graph:
    """Boxes and arrows of a pipeline.

    Attributes:
        boxes: boxes by key, in the order of the specification.
        artifacts: names of artifacts by (writer, reader).
        again: names of artifacts by (writer, reader), from one round to the next.
        order: pairs of boxes of which the second waits for the first.
    """

    boxes: dict[str, Box] = field(default_factory=dict)
    artifacts: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    again: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    order: set[tuple[str, str]] = field(default_factory=set)


def picture(spec: Mapping[str, Any]) -> str:
    """Draw a compiled pipeline as a Mermaid flowchart; another whole pipeline inside it becomes one box.

    Args:
        spec: first document of the compiled YAML.
    """
    graph = Graph()
    _Reader(spec, graph).read("", spec["root"]["dag"], {})
    everywhere = _everywhere(graph)
    drawn = _drawn(graph, everywhere)
    hidden = {pair for pair in drawn if _crowded(drawn, pair[1]) and _leads(drawn, *pair)}
    lines = ["flowchart TB", *_boxes(graph, "", everywhere)]
    for (source, target), names in sorted(drawn.items()):
        if (source, target) not in hidden:
            lines.append(f"  {source} -->|{', '.join(sorted(names))}| {target}")
    for (source, target), names in sorted(graph.again.items()):
        if source != target:
            lines.append(f"  {source} -.->|next round: {', '.join(sorted(names))}| {target}")
    for source, target in sorted(graph.order):
        inner = _within(graph, target)
        if not any(reader in inner and maker not in inner for maker, reader in drawn):
            lines.append(f"  {_shown(graph, source)} -.-> {_shown(graph, target)}")
    return "\n".join(lines) + "\n"


class _Reader:
    """Converts a pipeline specification to a `Graph`."""

    def __init__(self, spec: Mapping[str, Any], graph: Graph) -> None:
        self._components: Mapping[str, Any] = spec["components"]
        self._graph = graph
        self._made: dict[tuple[str, str], tuple[str, str]] = {}
        """From (task, output) of a group to the (task, output) inside that makes it; tasks with numbers of rounds."""

    def read(self, place: str, dag: Mapping[str, Any], inputs: Mapping[str, tuple[str, str]]) -> None:
        """Add the tasks of `dag`, writers first.

        Args:
            place: path of the group of tasks, with numbers of rounds; "" = the pipeline itself.
            dag: the group's part of the specification.
            inputs: (task, output) that makes each of the group's inputs.
        """
        tasks = dag["tasks"]
        for name in _sorted(tasks):
            task, own = tasks[name], f"{place}/{name}".lstrip("/")
            part = self._components[task["componentRef"]["name"]]
            wired = {}
            for label, source in task.get("inputs", {}).get("artifacts", {}).items():
                if found := self._source(place, source, inputs):
                    wired[label] = found
            nested = part.get("dag")
            opaque = nested is not None and task["componentRef"]["name"].removeprefix("comp-") in PIPELINES
            if nested is None or opaque:
                self._task(own, task, wired)
            else:
                self._group(own, task, nested)
                self.read(own, nested, wired)
                for output, chosen in nested.get("outputs", {}).get("artifacts", {}).items():
                    inner = chosen["artifactSelectors"][0]
                    key = (f"{own}/{inner['producerSubtask']}", inner["outputArtifactKey"])
                    self._made[own, output] = self._made.get(key, key)
            for before in task.get("dependentTasks", []):
                earlier = _key(f"{place}/{before}".lstrip("/"))
                if earlier != _key(own):
                    self._graph.order.add((earlier, _key(own)))

    def _source(
        self, place: str, source: Mapping[str, Any], inputs: Mapping[str, tuple[str, str]]
    ) -> tuple[str, str] | None:
        if "componentInputArtifact" in source:
            return inputs.get(str(source["componentInputArtifact"]))
        made = source["taskOutputArtifact"]
        key = (f"{place}/{made['producerTask']}".lstrip("/"), str(made["outputArtifactKey"]))
        return self._made.get(key, key)

    def _task(self, own: str, task: Mapping[str, Any], wired: Mapping[str, tuple[str, str]]) -> None:
        key, stage = _key(own), re.sub(r"-\d+$", "", task["componentRef"]["name"].removeprefix("comp-"))
        title = "the whole pipeline of a run" if stage in PIPELINES else task["taskInfo"]["name"]
        box = Box(key, title, _key(own.rpartition("/")[0]), stage.replace("-", "_"))
        self._graph.boxes.setdefault(key, box)
        for label, (maker, output) in wired.items():
            same = own.rpartition("/")[0] == maker.rpartition("/")[0]
            looped = not same and _key(own.rpartition("/")[0]) == _key(maker.rpartition("/")[0])
            arrows = self._graph.again if looped else self._graph.artifacts
            name = output if output == label else f"{output} as {label}"
            arrows.setdefault((_key(maker), key), set()).add(name)

    def _group(self, own: str, task: Mapping[str, Any], dag: Mapping[str, Any]) -> None:
        key, title = _key(own), task["taskInfo"]["name"]
        known = self._graph.boxes.get(key)
        if known is not None:
            title = f"{known.title.partition(' to ')[0]} to {title.rpartition(' ')[2]}"
        elif "parameterIterator" in task:
            title = f"for each of the {title}"
        elif "condition" in task.get("triggerPolicy", {}):
            title = f"{title}: only if it was asked for"
        self._graph.boxes[key] = Box(key, title, _key(own.rpartition("/")[0]), "")


def _sorted(tasks: Mapping[str, Any]) -> list[str]:
    """Sort task names topologically, each after those that it waits for."""
    done: list[str] = []

    def visit(name: str) -> None:
        if name not in done:
            for before in sorted(tasks[name].get("dependentTasks", [])):
                visit(before)
            done.append(name)

    for name in sorted(tasks):
        visit(name)
    return done


def _key(place: str) -> str:
    """Node key of a task: without the numbers of rounds, with the numbers of equal tasks in one group."""
    *groups, name = place.split("/")
    rounds = [re.sub(r"-round(-\d+)?$", "-round", part) for part in (*groups, name)]
    return "__".join(rounds).replace("-", "_")


def _everywhere(graph: Graph) -> set[str]:
    """Artifacts with too many readers for arrows."""
    readers = Counter(name for names in graph.artifacts.values() for name in names)
    return {name for name, count in readers.items() if count > CROWDED}


def _drawn(graph: Graph, everywhere: set[str]) -> dict[tuple[str, str], set[str]]:
    """Arrows of all artifacts except those `everywhere`, which stay where a task reads nothing else."""
    readers = {target for (_, target), names in graph.artifacts.items() if names - everywhere}
    drawn = {pair: names - everywhere if pair[1] in readers else names for pair, names in graph.artifacts.items()}
    return {pair: names for pair, names in drawn.items() if names}


def _crowded(drawn: Mapping[tuple[str, str], set[str]], target: str) -> bool:
    return sum(len(names) for pair, names in drawn.items() if pair[1] == target) > CROWDED


def _leads(drawn: Mapping[tuple[str, str], set[str]], source: str, target: str) -> bool:
    """Whether arrows lead from `source` to `target` through another box."""
    seen, queue = {source}, [source]
    while queue:
        here = queue.pop()
        for first, second in drawn:
            if first == here and (first, second) != (source, target) and second not in seen:
                seen.add(second)
                queue.append(second)
    return target in seen


def _within(graph: Graph, key: str) -> set[str]:
    """Keys of a box and of everything inside it."""
    return {key} | {inner for box in graph.boxes.values() if box.inside == key for inner in _within(graph, box.key)}


def _shown(graph: Graph, key: str) -> str:
    """Key of the box drawn for `key`; a group that contains only another group is not drawn."""
    members = [box for box in graph.boxes.values() if box.inside == key]
    return _shown(graph, members[0].key) if len(members) == 1 and not members[0].stage else key


def _boxes(graph: Graph, inside: str, everywhere: set[str], depth: int = 1) -> Iterator[str]:
    indent = "  " * depth
    for box in graph.boxes.values():
        if box.inside != inside:
            continue
        if box.stage:
            read = {name for pair, names in graph.artifacts.items() if pair[1] == box.key for name in names}
            also = "".join(f" + {name}" for name in sorted(read & everywhere))
            yield f'{indent}{box.key}["{box.title}<br>{box.stage}{also}"]'
        elif _shown(graph, box.key) != box.key:
            yield from _boxes(graph, box.key, everywhere, depth)
        else:
            yield f'{indent}subgraph {box.key}["{box.title}"]'
            yield from _boxes(graph, box.key, everywhere, depth + 1)
            yield f"{indent}end"


def flowchart(pipeline: str) -> str:
    """Draw a pipeline, compiled for this machine, as a fenced block of Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        compiled = compile_pipeline(Path(folder) / f"{pipeline}.yaml", pipeline=pipeline)
        return fenced(next(yaml.safe_load_all(compiled.read_text(encoding="utf-8"))))


def fenced(spec: Mapping[str, Any]) -> str:
    """Format `picture(spec)` as a fenced block of Markdown."""
    return f"```mermaid\n{picture(spec)}```\n"


def main(path: Path) -> None:
    """Rewrite the flowcharts of a Markdown file."""
    text = path.read_text(encoding="utf-8")
    path.write_text(MARKED.sub(lambda match: match[1] + flowchart(match[2]) + match[3], text), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
