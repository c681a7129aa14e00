"""From a name, file or text to a dataset."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from common.config.dataset import DatasetSpec
from common.datasets.registry import check_training_clips, dataset_names, fingerprint, resolve_dataset
from common.errors import ConfigError

EXAMPLE = """\
name: digits
labels: digits.csv            # path,label[,split][,group]
audio: recordings/
domain: spoken digits
test: split
licence: CC-BY-SA-4.0
"""


def test_paths_are_relative_to_the_file_and_inline_text_gives_the_same_dataset(tmp_path: Path) -> None:
    file = tmp_path / "my" / "digits.yaml"
    file.parent.mkdir()
    file.write_text(EXAMPLE)
    spec = resolve_dataset(str(file))
    assert spec.labels == tmp_path / "my" / "digits.csv" and spec.audio == tmp_path / "my" / "recordings"
    assert (spec.name, spec.domain, spec.test, spec.n, spec.licence) == (
        "digits",
        "spoken digits",
        "split",
        None,
        "CC-BY-SA-4.0",
    )
    values = spec.model_dump(mode="json", exclude_none=True)
    assert resolve_dataset(yaml.safe_dump(values)) == spec
    assert resolve_dataset(spec.model_dump_json()) == spec


def test_every_registered_dataset_resolves_and_the_demo_has_32_training_clips() -> None:
    assert all(resolve_dataset(name).name == name for name in dataset_names())
    assert resolve_dataset("demo").n == 32


def test_a_folder_is_a_dataset_of_its_sub_folders(tmp_path: Path) -> None:
    (tmp_path / "my sounds").mkdir()
    spec = resolve_dataset(str(tmp_path / "my sounds"))
    assert (spec.name, spec.labels, spec.audio) == ("my_sounds", None, tmp_path / "my sounds")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("dmo", "did you mean demo"),
        ("nowhere/digits.yaml", "cannot read dataset file nowhere/digits.yaml.*demo"),
        ("name: x\nlabel: y.csv\n", "did you mean labels"),
        ("name: x\nlabels: y.csv\n", "must be an absolute path"),
        ("name: x\n", "expected `labels:`"),
        ("name: 2024\naudio: /a\n", "name: .*put it in quotes"),
        ("name: x\naudio: /a\ndomain: yes\n", "domain: .*put it in quotes"),
        ("name: ../x\naudio: /a\n", r"name: expected a letter or digit, then at most 63 letters"),
        ("name: x\naudio: /a\nclasses: dog\n", r"classes: expected a list such as \[dog, rain\] \(found 'dog'\)"),
        ("name: x\naudio: /a\nmulti_label: yess\n", r"multi_label: expected true or false \(found 'yess'\)"),
        ("name: x\naudio: /a\ntest: halves\n", "test: expected `split` or a fraction"),
        ("name: x\naudio: /a\ntest: 20\n", "test: 20 is no fraction"),
        ("name: x\naudio: /a\nn: 0\n", "n: expected a whole number of at least 1"),
        ("name: x\naudio: /a\nn: yes\n", r"n: expected a whole number of at least 1 \(found true, as YAML reads yes"),
        ("name: x\naudio: /a\ntest: on\n", r"test: expected `split` or a fraction .*found true"),
        ("name: x\naudio: /a\ndomain: ''\n", "domain: expected some text, or leave the line out"),
        ("name: x\naudio: /a\nuse: noncommercial\n", "use: expected 'research', 'non-commercial' or 'any'"),
        ("name: a/../b\naudio: /a\n", "name: "),
        ("name: [\n", "no valid YAML"),
        ("name: x\naudio: /a\naudio: /b\n", "no valid YAML: 'audio' stands twice .*line 3"),
        ("- a\n- b\n", "expected lines such as"),
    ],
)
def test_what_is_wrong_is_said(source: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_dataset(source)


def test_the_place_that_a_command_notes_is_no_field_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "set.yaml").write_text("name: x\naudio: a\ngiven: y\n")
    with pytest.raises(ConfigError, match=r"unknown field of .*set\.yaml 'given'"):
        resolve_dataset(str(tmp_path / "set.yaml"))


def test_a_label_file_given_for_a_dataset_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "digits.csv").write_text("path,label\n")
    with pytest.raises(ConfigError, match=r"no dataset YAML; write a \.yaml"):
        resolve_dataset(str(tmp_path / "digits.csv"))


def test_the_fingerprint_sees_labels_and_audio_and_nothing_else(write_dataset: Callable[..., DatasetSpec]) -> None:
    rows = [("a.wav", "x"), ("b.wav", "y")]
    spec = write_dataset(rows)
    assert spec.labels is not None
    first = fingerprint(spec)
    (spec.labels.parent / "unlisted.wav").write_bytes(b"")
    assert fingerprint(spec) == first
    stat = (spec.labels.parent / "a.wav").stat()
    os.utime(spec.labels.parent / "a.wav", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    touched = fingerprint(spec)
    relabelled = fingerprint(write_dataset([("a.wav", "x"), ("b.wav", "z")]))
    (spec.labels.parent / "b.wav").unlink()
    assert len({first, touched, relabelled, fingerprint(spec)}) == 4


def test_an_impossible_number_of_training_clips_is_refused_before_any_audio_is_read(
    write_dataset: Callable[..., DatasetSpec],
) -> None:
    rows = [(f"{i}.wav", "xyz"[i % 3], "test" if i < 6 else "train") for i in range(20)]
    spec = write_dataset(rows, "path,label,split")
    for n in (None, 3, 14):
        check_training_clips(spec, n)
    for n in (2, 15):
        with pytest.raises(ConfigError, match="use N=3 to N=14"):
            check_training_clips(spec, n)


def test_resolving_imports_no_model_or_audio_library() -> None:
    code = (
        "import sys; from common.datasets.registry import resolve_dataset; resolve_dataset('demo'); "
        "assert not {'torch', 'numpy', 'soundfile'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})
