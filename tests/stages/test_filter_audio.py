from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile

from common.config.recipes import Recipe
from common.errors import DataError
from common.records.audio_folder import read_clips
from common.records.clips import SyntheticClip, write_records
from common.records.provenance import PROVENANCE, read_provenance, write_provenance
from common.storage import read_json, write_json
from common.storage.artifacts import SUMS_FILE
from common.storage.hashing import hash_file
from components.filter_audio.run import run
from tests.kit.clips import account
from tests.kit.gold import CLAP_LABELS, clap_gold, clap_synthetic, clap_synthetic_clip
from tests.kit.hashing import hash_dir
from tests.kit.models import write_clap

FILTERED, PLAIN = Recipe(alignment="dpo", captions="mixcap", filter=True), Recipe()
REPLICATES = (0, 1)
CODE = "test"
ACCOUNTS = frozenset({"filter.json", SUMS_FILE})
"""Files of accepted clips that tell of rounds, or of the files beside them."""


class Inputs(NamedTuple):
    gold: Path
    clap: Path
    synthetic: Path
    wrong: set[str]


def config(**settings: Any) -> dict[str, Any]:
    recipes = [recipe.model_dump() for recipe in (FILTERED, PLAIN)]
    return {"settings": settings, "replicates": [float(replicate) for replicate in REPLICATES], "recipes": recipes}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Per replicate and label of the filtered recipe 4 right and 2 wrong clips; of the plain one 1 of each; 1 silent."""
    root = tmp_path_factory.mktemp("filter")
    trained = write_clap(root / "trained", steps=150)
    for replicate in REPLICATES:
        shutil.copytree(trained, root / "clap" / str(replicate))
    clips, sounds = [], {}
    for replicate in REPLICATES:
        for number, label in enumerate(CLAP_LABELS):
            for recipe, count, right in ((FILTERED.name, 6, 4), (PLAIN.name, 2, 1)):
                for index in range(count):
                    clip = clap_synthetic_clip(label, recipe, replicate, index)
                    clips.append(clip)
                    if index >= right:
                        sounds[clip.clip_id] = CLAP_LABELS[(number + 1) % 3]
        clips.append(clap_synthetic_clip("noise", PLAIN.name, replicate, 9, signal="silence"))
    synthetic = clap_synthetic(root / "synthetic", clips, sounds)
    return Inputs(clap_gold(root / "gold"), root / "clap", synthetic, set(sounds))


def filter_round(
    inputs: Inputs,
    root: Path,
    synthetic: Path | None = None,
    previous: Path | None = None,
    code: str = CODE,
    **settings: Any,
) -> tuple[Path, Path, dict[str, Any]]:
    accepted, rejected = root / "accepted", root / "rejected"
    figures = run(
        str(synthetic or inputs.synthetic),
        str(inputs.gold),
        str(inputs.clap),
        str(accepted),
        str(rejected),
        str(root / "metrics.json"),
        config=config(**settings),
        code_version=code,
        previous_path=str(previous) if previous else None,
    )
    return accepted, rejected, dict(figures)


def hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def ids(folder: Path) -> set[str]:
    return {clip.clip_id for clip in read_clips(folder, SyntheticClip)}


def test_every_clip_ends_in_exactly_one_of_accepted_and_rejected(inputs: Inputs, tmp_path: Path) -> None:
    accepted, rejected, figures = filter_round(inputs, tmp_path)
    assert ids(accepted) | ids(rejected) == ids(inputs.synthetic) and not ids(accepted) & ids(rejected)
    assert figures["accepted"] == len(ids(accepted)) and figures["rejected"] == len(ids(rejected))
    assert all(clip.reason is None for clip in read_clips(accepted, SyntheticClip))
    assert all(clip.reason for clip in read_clips(rejected, SyntheticClip))
    account = read_json(accepted / "filter.json")
    assert {row["clip_id"] for row in account["candidates"]} == ids(inputs.synthetic)
    assert account["rounds"][0]["accepted"] == len(ids(accepted)) and set(account["thresholds"]) == {"0", "1"}


@pytest.mark.parametrize(
    "threshold",
    [
        {"kind": "margin", "percentile": None},
        {"kind": "margin", "percentile": 10},
        {"kind": "percentile", "percentile": 10},
    ],
)
def test_wrong_clips_are_rejected_more_often_than_right_ones(
    inputs: Inputs, tmp_path: Path, threshold: dict[str, Any]
) -> None:
    accepted, _, _ = filter_round(inputs, tmp_path, threshold=threshold)
    filtered = {clip_id for clip_id in ids(inputs.synthetic) if clip_id.startswith(FILTERED.name)}
    kept, wrong = ids(accepted) & filtered, inputs.wrong & filtered
    assert len(kept & wrong) / len(wrong) < 0.35 < 0.6 < len(kept - wrong) / len(filtered - wrong)


def test_the_second_judge_refuses_what_clap_lets_pass_and_the_account_tells_of_it(
    inputs: Inputs, tmp_path: Path
) -> None:
    everything = {"kind": "fixed", "min_score": -1}
    accepted, rejected, figures = filter_round(inputs, tmp_path, threshold=everything, second_judge={"kind": "stats"})
    filtered = {clip_id for clip_id in ids(inputs.synthetic) if clip_id.startswith(FILTERED.name)}
    kept, wrong = ids(accepted) & filtered, inputs.wrong & filtered
    assert len(kept & wrong) / len(wrong) < 0.2 < 0.8 < len(kept - wrong) / len(filtered - wrong)
    account = read_json(accepted / "filter.json")
    refused = figures["rejected_second_judge"]
    assert account["rounds"][0]["judged"] == {"clips": len(filtered), "clap": 0, "second": refused, "both": 0}
    assert all(entry["second_planted"]["recall"] > 0.8 for entry in account["thresholds"].values())
    for clip in (*read_clips(accepted, SyntheticClip), *read_clips(rejected, SyntheticClip)):
        assert (clip.second_passes is not None) == (clip.clip_id in filtered)
        assert clip.second_passes is None or clip.second_passes == (clip.reason is None)


def test_a_recipe_without_filter_keeps_all_but_failed_signals(inputs: Inputs, tmp_path: Path) -> None:
    accepted, rejected, figures = filter_round(inputs, tmp_path)
    plain = [clip for clip in read_clips(rejected, SyntheticClip) if clip.recipe == PLAIN.name]
    assert [clip.reason for clip in plain] == ["silence"] * 2 and figures["rejected_silence"] == 2
    assert sum(clip.recipe == PLAIN.name for clip in read_clips(accepted, SyntheticClip)) == 12


def test_audio_is_copied_byte_by_byte(inputs: Inputs, tmp_path: Path) -> None:
    accepted, rejected, _ = filter_round(inputs, tmp_path)
    for folder in (accepted, rejected):
        for clip in read_clips(folder, SyntheticClip):
            name = f"clips/{clip.file_name}"
            assert hash_file(folder / name) == hash_file(inputs.synthetic / name)


@pytest.mark.e2e
def test_filtering_repeats_bit_for_bit(inputs: Inputs, tmp_path: Path) -> None:
    hashes = []
    for name in ("first", "second"):
        accepted, rejected, _ = filter_round(inputs, tmp_path / name, code=name)
        hashes.append((hash_dir(accepted), hash_dir(rejected)))
    assert hashes[0] == hashes[1]


@pytest.mark.e2e
def test_scores_do_not_depend_on_batch_size_or_order(inputs: Inputs, tmp_path: Path) -> None:
    shuffled = Path(shutil.copytree(inputs.synthetic, tmp_path / "shuffled"))
    lines = (shuffled / "clips" / "metadata.jsonl").read_text().splitlines()
    (shuffled / "clips" / "metadata.jsonl").write_text("\n".join(sorted(lines, key=hash_text)) + "\n")
    found = []
    for size, folder in ((32, inputs.synthetic), (1, inputs.synthetic), (7, shuffled)):
        accepted, rejected, _ = filter_round(inputs, tmp_path / str(size), folder, batch_size=size)
        clips = [clip for part in (accepted, rejected) for clip in read_clips(part, SyntheticClip)]
        found.append({clip.clip_id: (clip.clap_score or 0.0, clip.clap_margin or 0.0) for clip in clips})
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        np.testing.assert_allclose([other[key] for key in found[0]], list(found[0].values()), atol=1e-4)


def test_a_clip_keeps_the_history_of_its_rounds_and_the_account_keeps_every_try(inputs: Inputs, tmp_path: Path) -> None:
    first, rejected, _ = filter_round(inputs, tmp_path / "r0")
    [failed, *_] = [clip for clip in read_clips(rejected, SyntheticClip) if clip.recipe == FILTERED.name]
    tried = {"round": 0, "caption": failed.caption, "score": failed.clap_score, "reason": failed.reason}
    again = clap_synthetic_clip(failed.label, FILTERED.name, failed.replicate, failed.index, round=1)
    again = again.model_copy(update={"caption": "another caption", "history": (tried,)})
    folder = clap_synthetic(tmp_path / "synthetic1", [again])
    second, _, _ = filter_round(inputs, tmp_path / "r1", folder, first, threshold={"kind": "fixed", "min_score": -1.0})
    [kept] = [clip for clip in read_clips(second, SyntheticClip) if clip.clip_id == again.clip_id]
    assert kept.history == (tried,)
    rows = [row for row in read_json(second / "filter.json")["candidates"] if row["clip_id"][:-1] == again.clip_id[:-1]]
    assert [(row["round"], row["caption"], row["reason"]) for row in rows] == [
        (0, failed.caption, failed.reason),
        (1, "another caption", None),
    ]
    assert rows[0]["score"] == failed.clap_score


def test_rounds_add_up(inputs: Inputs, tmp_path: Path) -> None:
    first, _, _ = filter_round(inputs, tmp_path / "r0")
    again = clap_synthetic(
        tmp_path / "synthetic1", [clap_synthetic_clip(label, FILTERED.name, 0, 5, round=1) for label in CLAP_LABELS]
    )
    second, rejected, figures = filter_round(inputs, tmp_path / "r1", again, first)
    assert ids(first) < ids(second) and ids(second) - ids(first) | ids(rejected) == ids(again)
    assert figures["accepted_total"] == len(ids(second))
    account = read_json(second / "filter.json")
    assert [row["round"] for row in account["rounds"]] == [0, 1]
    assert len(account["candidates"]) == len(ids(inputs.synthetic)) + 3
    for replicate in REPLICATES:
        rows = np.load(second / "embeddings" / f"{replicate}.npy")
        assert len(rows) == sum(clip.replicate == replicate for clip in read_clips(second, SyntheticClip))


def test_the_same_clip_generated_again_is_a_near_duplicate(inputs: Inputs, tmp_path: Path) -> None:
    first, _, _ = filter_round(inputs, tmp_path / "r0")
    repeated = next(clip for clip in read_clips(first, SyntheticClip) if clip.recipe == FILTERED.name)
    again = repeated.model_copy(update={"clip_id": "again", "file_name": "again.flac", "round": 1})
    folder = clap_synthetic(tmp_path / "synthetic1", [again])
    (folder / "clips" / "again.flac").write_bytes((first / "clips" / repeated.file_name).read_bytes())
    _, rejected, _ = filter_round(inputs, tmp_path / "r1", folder, first)
    assert [clip.reason for clip in read_clips(rejected, SyntheticClip)] == ["near_duplicate"]


def test_a_copy_of_a_gold_clip_is_rejected_as_such(inputs: Inputs, tmp_path: Path) -> None:
    clip = clap_synthetic_clip("noise", FILTERED.name, 0, 0)
    folder = clap_synthetic(tmp_path / "copied", [clip])
    audio, rate = soundfile.read(inputs.gold / "clips" / "g02.flac", dtype="float32")
    soundfile.write(folder / "clips" / clip.file_name, 0.5 * audio, rate)
    _, rejected, _ = filter_round(inputs, tmp_path, folder, threshold={"kind": "fixed", "min_score": -1.0})
    [record] = read_clips(rejected, SyntheticClip)
    assert record.reason == "near_copy" and record.nearest_clip_id == "g02"


def test_a_class_without_accepted_clips_is_named(inputs: Inputs, tmp_path: Path) -> None:
    accepted, _, figures = filter_round(inputs, tmp_path, threshold={"kind": "fixed", "min_score": 1.0})
    empty = read_json(accepted / "filter.json")["empty_classes"]
    expected = [
        {"seed": replicate, "recipe": FILTERED.name, "label": label}
        for replicate in REPLICATES
        for label in CLAP_LABELS
    ]
    assert empty == expected and figures["empty_classes"] == len(empty)


def test_a_replicate_of_another_run_is_an_error(inputs: Inputs, tmp_path: Path) -> None:
    folder = clap_synthetic(tmp_path / "s", [clap_synthetic_clip("noise", FILTERED.name, 7, 0)])
    with pytest.raises(DataError, match="clips of replicates \\[7\\]"):
        filter_round(inputs, tmp_path, folder)


def test_a_round_with_nothing_to_do_hands_on_without_importing_torch(inputs: Inputs, tmp_path: Path) -> None:
    first, _, _ = filter_round(inputs, tmp_path / "r0")
    empty = clap_synthetic(tmp_path / "empty", [])
    paths = [str(path) for path in (empty, inputs.gold, inputs.clap, *(tmp_path / name for name in ("a", "r", "m")))]
    script = (
        "import sys; from components.filter_audio.run import run\n"
        f"run(*{paths!r}, config={config()!r}, code_version='x', previous_path={str(first)!r})\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert hash_dir(tmp_path / "a", ACCOUNTS) == hash_dir(first, ACCOUNTS)
    assert ids(tmp_path / "r") == set()
    assert [row["accepted"] + row["rejected"] for row in read_json(tmp_path / "a" / "filter.json")["rounds"]][1] == 0


def test_a_whole_round_without_rejected_clips_loads_no_model(inputs: Inputs, tmp_path: Path) -> None:
    first, rejected, _ = filter_round(inputs, tmp_path / "r0", threshold={"kind": "fixed", "min_score": -1.0})
    write_records(rejected / "clips" / "metadata.jsonl", [])
    (rejected / SUMS_FILE).unlink(missing_ok=True)
    (tmp_path / "unread").mkdir()
    (tmp_path / "unread" / "model.safetensors").write_bytes(b"opening this fails")
    write_json(tmp_path / "previous" / "captions.json", {"writer": "w", "sources": {}, "rounds": []})
    shared = {"replicates": list(REPLICATES), "recipes": config()["recipes"]}
    script = f"""
import sys
from components.filter_audio.run import run as filter_audio
from components.revise_captions.run import run as revise_captions
from components.synthesize_audio.run import run as synthesize_audio

root, unread = {str(tmp_path)!r}, {str(tmp_path / "unread")!r}
gold, first, rejected = {str(inputs.gold)!r}, {str(first)!r}, {str(rejected)!r}
revise = dict(settings=dict(writer=dict(backend="endpoint")), rounds=3, **{shared!r})
revise_captions(gold, unread, root + "/previous", first, rejected, root + "/prompts", root + "/m1",
                config=revise, round=1, code_version="x")
synthesize = dict(settings=dict(sampler=dict()), template_clips_per_gold=1, **{shared!r})
synthesize_audio(unread, gold, root + "/synthetic", root + "/m2", config=synthesize, code_version="x",
                 aligned_path=unread, prompts_path=root + "/prompts")
filter_audio(root + "/synthetic", gold, unread, root + "/accepted", root + "/rejected", root + "/m3",
             config=dict(settings=dict(), **{shared!r}), code_version="x", previous_path=first)
heavy = {{"torch", "transformers", "diffusers", "httpx"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert ids(tmp_path / "accepted") == ids(first) and ids(tmp_path / "rejected") == set()
    assert read_json(tmp_path / "prompts" / "captions.json")["rounds"][0]["prompts"] == 0


def test_a_finished_replicate_is_not_made_again(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = filter_round(inputs, tmp_path / "a")

    def fail(*_: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr("components.filter_audio.replicate.Replicate.make", fail)
    second = filter_round(inputs, tmp_path / "b")
    assert hash_dir(first[0]) == hash_dir(second[0]) and first[2] == second[2]


def test_every_clip_takes_its_provenance_along_through_the_rounds(inputs: Inputs, tmp_path: Path) -> None:
    synthetic = Path(shutil.copytree(inputs.synthetic, tmp_path / "synthetic"))
    accounts = {clip.clip_id: account(clip.clip_id) for clip in read_clips(synthetic, SyntheticClip)}
    write_provenance(synthetic, (accounts[clip_id] for clip_id in sorted(accounts)))
    accepted, rejected, _ = filter_round(inputs, tmp_path / "first", synthetic)
    for folder in (accepted, rejected):
        for clip in read_clips(folder, SyntheticClip):
            assert read_provenance(folder, clip.clip_id) == accounts[clip.clip_id]
    empty = clap_synthetic(tmp_path / "empty", [], {})
    later, _, _ = filter_round(inputs, tmp_path / "second", empty, accepted)
    assert (later / PROVENANCE).read_bytes() == (accepted / PROVENANCE).read_bytes()
