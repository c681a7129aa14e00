"""Clips of datasets stay out of the corpus, in whatever way their ids are written."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from common.config.corpus import PrepareCorpusPlan
from common.config.methods import METHODS
from common.config.run import load_preset
from common.datasets.registry import corpus_id_files, resolve_dataset
from common.errors import ConfigError, DataError
from components.plan.planning import resolve
from components.prepare_corpus.excluded import ExcludedIds

DCASE = '-5QrBL6MzLg,60.000,70.000,"Train horn,Train","/m/0284vy3,/m/07jdr"\r\n'
DCASE_TABS = "-JMT0mK0Dbg_30.000_40.000.wav\t30.000\t40.000\tTrain horn\r\n"
AUDIOCAPS = 'audiocap_id,youtube_id,start_time,caption\n103541,rqfQRErjfk8,170,"A large crowd, cheering"\n'
LIST = "# our clips\nY2ceUOv8A3FE\n\n2hcY8kXQj60_30000\n"


def files(folder: Path) -> list[Path]:
    texts = {"testing_set.csv": DCASE, "evaluation.csv": DCASE_TABS, "test.csv": AUDIOCAPS, "ids.txt": LIST}
    for name, text in texts.items():
        (folder / name).write_text(text, newline="")
    return [folder / name for name in texts]


def test_ids_are_found_in_every_form_and_matched_in_every_form(tmp_path: Path) -> None:
    excluded = ExcludedIds.read(files(tmp_path))
    assert len(excluded.ids) == 5
    for one in ("-5QrBL6MzLg", "-JMT0mK0Dbg", "rqfQRErjfk8", "2ceUOv8A3FE", "2hcY8kXQj60"):
        forms = (one, f"Y{one}", f"{one}_60000", f"Y{one}.wav", f"a/{one}_60.000_70.000.flac")
        assert all(form in excluded for form in forms)
    assert not any(name in excluded for name in ("-5QrBL6MzLh", "dog.wav", "", "103541", None))


def test_the_digest_changes_with_the_ids_and_not_with_their_order(tmp_path: Path) -> None:
    paths = files(tmp_path)
    assert ExcludedIds.read(paths).digest == ExcludedIds.read(paths[::-1]).digest
    assert ExcludedIds.read(paths).digest != ExcludedIds.read(paths[1:]).digest != ExcludedIds(()).digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2ceUOv8A3FE\n#NAME?,60.0\n", "line 2"),
        ("2ceUOv8A3FE\ndog bark\n", "line 2"),
        ("103541\n", "line 1"),
        ("audiocap,caption\n1,x\n", "line 1"),
        ("caption,youtube_id\nx\n", "line 2"),
        ("# nothing\n", "holds no ids"),
        ("", "holds no ids"),
        ("x" * 10_000_000, "line 1"),
        ("\udcff\udcfe\n", "line 1"),
    ],
)
def test_a_line_that_names_no_clip_is_an_error_because_a_clip_missed_is_a_clip_leaked(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "ids.csv"
    path.write_text(text, errors="surrogateescape")
    tracemalloc.start()
    with pytest.raises(DataError, match=f"ids.csv.*{message}"):
        ExcludedIds.read([path])
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    with pytest.raises(DataError, match="No such file"):
        ExcludedIds.read([tmp_path / "none.csv"])


def dataset(folder: Path, ids: str) -> str:
    (folder / "clips").mkdir()
    path = folder / "cars.yaml"
    path.write_text(f"audio: clips\ncorpus_ids: {ids}\n")
    return str(path)


def test_the_files_of_a_dataset_are_found_beside_its_yaml(tmp_path: Path) -> None:
    files(tmp_path)
    spec = resolve_dataset(dataset(tmp_path, "[testing_set.csv, ./ids.txt, ids.txt]"))
    assert corpus_id_files(spec) == (str(tmp_path / "ids.txt"), str(tmp_path / "testing_set.csv"))
    assert resolve_dataset(spec.model_dump_json()) == spec


def test_one_file_needs_no_list_and_none_at_all_is_fine(tmp_path: Path) -> None:
    files(tmp_path)
    assert corpus_id_files(resolve_dataset(dataset(tmp_path, "ids.txt"))) == (str(tmp_path / "ids.txt"),)
    assert corpus_id_files(resolve_dataset("demo")) == ()


def test_files_of_registered_datasets_count_where_they_are_and_those_of_the_run_must_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path)
    registered = tmp_path / "registered"
    registered.mkdir()
    for name, ids in (("here", "../ids.txt"), ("elsewhere", "../absent.csv")):
        (registered / f"{name}.yaml").write_text(f"audio: clips\ncorpus_ids: {ids}\n")
    monkeypatch.setattr("common.datasets.registry.DATASETS_DIR", registered)
    spec = resolve_dataset(dataset(tmp_path, "testing_set.csv"))
    assert corpus_id_files(spec) == (str(tmp_path / "ids.txt"), str(tmp_path / "testing_set.csv"))
    with pytest.raises(ConfigError, match=r"absent\.csv does not exist; without it the pretraining corpus"):
        corpus_id_files(resolve_dataset("elsewhere"))


@pytest.mark.parametrize("ids", ["5", "[5]", "{a: b}"])
def test_other_values_are_config_errors(tmp_path: Path, ids: str) -> None:
    with pytest.raises(ConfigError, match="corpus_ids"):
        resolve_dataset(dataset(tmp_path, ids))


def test_plan_passes_the_files_on_for_a_corpus_of_clips_and_not_for_a_procedural_one(tmp_path: Path) -> None:
    files(tmp_path)
    spec = resolve_dataset(dataset(tmp_path, "ids.txt"))
    methods = {"synthio": METHODS["synthio"]}
    own = "prepare_corpus.audio_dir=/a prepare_corpus.captions_file=/a/c.csv"
    for preset, overrides, expected in (("paper", own, (str(tmp_path / "ids.txt"),)), ("smoke", "", ())):
        plans = resolve(
            load_preset(preset, overrides),
            spec,
            0,
            methods,
            1,
            {"preset": preset, "dataset": {}, "n": None, "command": ""},
        )
        assert PrepareCorpusPlan.model_validate(plans["prepare_corpus"]).excluded_ids_files == expected


ESC50 = "filename,fold,target,category,esc10,src_file,take\n1-100032-A-0.wav,1,0,dog,True,100032,A\n"
US8K = "slice_file_name,fsID,start,end,salience,fold,classID,class\n7061-6-0-0.wav,7061,0,4,1,5,6,gun_shot\n"
FSD50K_DEV = 'fname,labels,mids,split\n64760,"Rain,Water","/m/06mb1,/m/0838f",train\n16399,Bark,/m/05tny_,val\n'
FSD50K_EVAL = "fname,labels,mids\n37199,Bark,/m/05tny_\n"


def test_freesound_clips_are_found_by_number_in_the_tables_of_three_datasets(tmp_path: Path) -> None:
    tables = {"esc50.csv": ESC50, "us8k.csv": US8K, "dev.csv": FSD50K_DEV, "eval.csv": FSD50K_EVAL}
    for name, text in tables.items():
        (tmp_path / name).write_text(text)
    excluded = ExcludedIds.read([tmp_path / name for name in tables])
    assert len(excluded.ids) == 5
    for number in ("100032", "7061", "64760", "16399", "37199"):
        assert all(form in excluded for form in (number, f"{number}.wav", f"FreeSound_flac/{number}.flac"))
    assert not any(name in excluded for name in ("64761.wav", "64760-a.wav", "1", "dog.wav", ""))
    (tmp_path / "bad.csv").write_text("fname,labels\ndog bark,Bark\n")
    with pytest.raises(DataError, match=r"bad\.csv, line 2: expected the id of a Freesound clip in column 1"):
        ExcludedIds.read([tmp_path / "bad.csv"])


@pytest.mark.parametrize(
    ("name", "top", "files", "expected"),
    [
        ("esc50", "ESC-50-master", {"meta/esc50.csv": ESC50}, "100032.wav"),
        ("urbansound8k", "UrbanSound8K", {"metadata/UrbanSound8K.csv": US8K}, "7061"),
        (
            "fsd50k",
            ".",
            {"FSD50K.ground_truth/dev.csv": FSD50K_DEV, "FSD50K.ground_truth/eval.csv": FSD50K_EVAL},
            "37199",
        ),
        (
            "dcase2017_task4",
            ".",
            {
                "metadata/training_set.csv": DCASE,
                "metadata/testing_set.csv": "2ceUOv8A3FE,0.000,10.000,Car,/m/0k4j\n",
                "metadata/groundtruth_weak_label_evaluation_set.csv": DCASE_TABS,
            },
            "Y-JMT0mK0Dbg.wav",
        ),
    ],
)
def test_test_clips_of_a_registered_dataset_stay_out_of_the_corpus_of_every_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, top: str, files: dict[str, str], expected: str
) -> None:
    monkeypatch.setenv("SYNTHIO_DATA", str(tmp_path))
    for place, text in files.items():
        path = tmp_path / name / top / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, newline="")
    listed = corpus_id_files(resolve_dataset("demo"))
    assert listed == corpus_id_files(resolve_dataset(name)) and len(listed) == len(files)
    excluded = ExcludedIds.read(listed)
    assert expected in excluded and len(excluded.ids) >= len(files)
