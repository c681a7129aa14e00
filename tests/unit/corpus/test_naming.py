"""Which labels captions name, and what the doctor says of those that none names."""

from pathlib import Path

import pytest

from common.config.corpus import PrepareCorpusConfig
from common.corpus.naming import Names
from common.errors import DataError
from common.models.concepts import Nearness
from common.procedural.clips import CLASSES
from components.prepare_corpus.doctor import Named, check_corpus_labels, named_labels
from pipelines.commands import main


def corpus(folder: Path, rows: str, procedural_clips: int = 0) -> PrepareCorpusConfig:
    """A corpus whose captions are `rows`, with each file that they name; no audio is opened."""
    (folder / "captions.csv").write_text(rows)
    for row in rows.splitlines()[1:]:
        (folder / row.partition(",")[0]).touch()
    own = {"audio_dir": str(folder), "captions_file": str(folder / "captions.csv")}
    return PrepareCorpusConfig(source="folder", procedural_clips=procedural_clips, **own)


def test_a_text_names_a_label_by_all_its_words_in_any_form_and_the_longest_label_counts() -> None:
    names = Names(["dog", "dog_bark", "Crying_baby", "clap", "glass", "string"])
    assert names("a large dog, which barks") == {"dog_bark"}
    assert names("babies cry far away") == {"Crying_baby"}
    assert names("clapping and a dog") == {"clap", "dog"}
    assert names("glasses beside strings") == {"glass", "string"}
    assert names("a catalogue of dogma") == frozenset()


@pytest.mark.parametrize(
    "forms",
    [
        *("clap claps clapped clapping", "building buildings", "egg eggs", "speed speeds speeding", "axe axes"),
        *("circus circuses", "cry cries cried crying", "baby babies", "noise noises", "bus buses", "string strings"),
    ],
)
def test_every_form_of_a_word_names_the_label_of_every_other(forms: str) -> None:
    words = forms.split()
    assert all(Names([label])(f"the {word}") == {label} for label in words for word in words)


@pytest.mark.parametrize(
    ("label", "named", "other"),
    [
        ("baby's cry", "a baby’s crying", "a cry"),
        ("dogs, barking", "a dog that barks", "dogs"),
        ("rock_&_roll", "rock and roll", "rock"),
        ("Crème-brûlée", "a cre\u0300me brûlée torch", "creme"),
        ("狗叫", "一只狗在叫", "一只狗"),
        ("犬", "犬が吠えている", "猫"),
        ("बारिश", "तेज़ बारिश हो रही है", "बरश"),
    ],
)
def test_labels_of_any_script_and_punctuation_are_named_by_whole_words(label: str, named: str, other: str) -> None:
    names = Names([label])
    assert names(named) == {label} and names(other) == frozenset()


def test_a_clip_has_what_any_of_its_captions_names_and_the_longest_label_counts() -> None:
    names = Names(["dog", "dog_bark", "rain", "siren"])
    assert names.of_clip([(None, "a dog"), (None, "it barks like a dog")]) == {"dog_bark"}
    assert names.of_clip([(None, "a dog"), (None, "rain")]) == {"dog", "rain"}
    assert names.of_clip([("siren", "a dog"), (None, "rain")]) == {"siren", "rain"}
    assert names.of_clip([(None, "wind")]) == frozenset()


def test_a_label_of_signs_is_named_by_them_and_a_text_that_is_a_label_names_no_other() -> None:
    names = Names(["🐶", "🐱", "C", "C++", "-2", "2", "-"])
    assert names("🐶") == {"🐶"} and names("a 🐱 beside the 🐶") == {"🐶", "🐱"}
    assert (names("c++"), names("C"), names("-2"), names("well-known")) == ({"C++"}, {"C"}, {"-2"}, frozenset())
    assert names.of_clip([("C++", "a sound"), ("C++", "again")]) == {"C++"}


def test_of_a_text_the_shared_words_of_each_label_are_known() -> None:
    assert Names(["dog bark", "rain"]).shared("a dog") == {"dog bark": pytest.approx(1 / 3), "rain": 0}


def told(settings: PrepareCorpusConfig, *labels: str, several: bool = False) -> Named | None:
    return named_labels(settings, labels, several, 0)


def test_clips_are_counted_by_label_and_the_nearest_is_told_where_none_names_it(tmp_path: Path) -> None:
    rows = "file,caption,label\na.wav,dogs are barking,\nb.wav,a noise,dog bark\nc.wav,a hammer drill,\n"
    found = told(corpus(tmp_path, rows), "dog_bark", "drill press", "siren")
    near = [Nearness("drill press", "a hammer drill", 0.25), Nearness("siren", None, 0.0)]
    assert found == ({"dog_bark": 2, "drill press": 0, "siren": 0}, near)


def test_generated_clips_count_too(tmp_path: Path) -> None:
    procedural = PrepareCorpusConfig(source="procedural", clips=2 * len(CLASSES))
    assert told(procedural, CLASSES[0], "tuba") == ({CLASSES[0]: 2, "tuba": 0}, [Nearness("tuba", None, 0.0)])
    joined = corpus(tmp_path, f"file,caption\na.wav,{CLASSES[0]}\n", procedural_clips=len(CLASSES))
    assert told(joined, CLASSES[0]) == ({CLASSES[0]: 2}, [])


def test_nothing_is_known_without_captions_and_bad_ones_are_named(tmp_path: Path) -> None:
    assert told(PrepareCorpusConfig(source="none"), "dog") is None
    assert told(PrepareCorpusConfig(), "dog") is None
    with pytest.raises(DataError, match=r"captions\.csv"):
        told(corpus(tmp_path, "nonsense\n"), "dog")


def test_a_clip_counts_once_and_only_where_a_gold_clip_could_take_it(tmp_path: Path) -> None:
    rows = "file,caption\na.wav,a dog\na.wav,the dog again\nb.wav,a dog in the rain\nc.wav,a dog\nc.wav,rain\n"
    settings = corpus(tmp_path, rows)
    near = [Nearness("rain", "rain", 1.0)]
    assert told(settings, "dog", "rain") == ({"dog": 1, "rain": 0}, near)
    assert told(settings, "dog", "rain", several=True) == ({"dog": 3, "rain": 2}, [])


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("missing,a dog", "absent_audio 1.*with the suffix"),
        ("a.wav,a dog, barking", "columns 1"),
        ("../a.wav,a dog", "outside 1"),
    ],
)
def test_what_a_run_would_refuse_is_a_problem(row: str, expected: str, tmp_path: Path) -> None:
    settings = corpus(tmp_path, "file,caption\na.wav,a dog\nb.wav,rain\n")
    (tmp_path / "captions.csv").write_text(f"file,caption\na.wav,a dog\nb.wav,rain\n{row}\n")
    with pytest.raises(DataError, match=f"1 of 3 corpus clips are unusable.*{expected}"):
        told(settings, "dog")


def test_a_classifier_is_not_trained_on_a_corpus_without_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = corpus(tmp_path, "file,caption,label\na.wav,a dog,\nb.wav,rain,\n")
    with pytest.raises(DataError, match=r"captions\.csv: no clip has a label.* pretrain_classifier\.optim=null"):
        check_corpus_labels(settings, 0)
    own = f"prepare_corpus.source=folder prepare_corpus.audio_dir={tmp_path} prepare_corpus.captions_file="
    told = [f"--overrides={own}{tmp_path / 'captions.csv'}", "--preset=smoke"]
    assert main(["run-pipeline", f"--runs={tmp_path / 'runs'}", *told]) == 2
    assert "no clip has a label" in capsys.readouterr().err and not list((tmp_path / "runs").glob("*"))
    assert main(["doctor", "--methods=gold", *told]) == 1
    assert "no clip has a label" in capsys.readouterr().out
    check_corpus_labels(settings.model_copy(update={"procedural_clips": 2}), 0)
    check_corpus_labels(corpus(tmp_path, "file,caption,label\na.wav,a dog,dog\nb.wav,rain,\n"), 0)


def test_a_run_of_methods_by_label_alone_is_refused_where_no_class_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus(tmp_path, "file,caption\na.wav,a dog\nb.wav,a bird\n")
    for label in ("rain", "wind"):
        (tmp_path / "set" / label).mkdir(parents=True)
        (tmp_path / "set" / label / "1.wav").touch()
    own = f"prepare_corpus.source=folder prepare_corpus.audio_dir={tmp_path} prepare_corpus.captions_file="
    command = ["run-pipeline", f"--dataset={tmp_path / 'set'}", f"--runs={tmp_path / 'runs'}"]
    command += [f"--overrides={own}{tmp_path / 'captions.csv'}", "--methods=corpus_label"]
    assert main(command) == 2
    assert "name none of the classes of set (rain, wind): name other methods" in capsys.readouterr().err
    assert not list((tmp_path / "runs").glob("*"))


def test_without_the_audio_there_is_a_problem(tmp_path: Path) -> None:
    settings = corpus(tmp_path, "file,caption\na.wav,a dog\n").model_copy(update={"audio_dir": str(tmp_path / "away")})
    with pytest.raises(DataError, match="away is no folder"):
        told(settings, "dog")


def test_the_doctor_tells_what_the_corpus_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus(tmp_path, "file,caption\na.wav,the bark of a dog\nb.wav,a bird\n")
    own = f"prepare_corpus.source=folder prepare_corpus.audio_dir={tmp_path} prepare_corpus.captions_file="
    assert main(["doctor", f"--overrides={own}{tmp_path / 'captions.csv'}"]) == 0
    told = capsys.readouterr().out
    assert "corpus: its captions name 1 of 8 classes: dog bark 1\n" in told
    assert "  bird chirp: nearest is a bird (33% of the words)\n" in told
    assert "  siren: no caption shares a word with it\n" in told
    assert main(["doctor", f"--overrides={own}{tmp_path / 'missing.csv'}"]) == 1
    assert "missing.csv" in capsys.readouterr().out
    corpus(tmp_path, "file,caption\na.wav,a dog\na.wav,a bark\n")
    assert main(["doctor", f"--overrides={own}{tmp_path / 'captions.csv'}"]) == 1
    assert "names one clip; at least two are needed" in capsys.readouterr().out
    assert main(["doctor", "--overrides=prepare_corpus.source=folder"]) == 1
    assert "PROBLEM    this run takes captioned audio of your own: name it with" in capsys.readouterr().out
