"""Records passed between stages, one JSON object per line.

Audio sets are Hugging Face AudioFolders: `metadata.jsonl` (these records) beside FLAC files.
Clip ids derive from paths, recipes, replicates and indices, never from audio content.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import DataError
from common.records.text import template_caption
from common.storage import write_text


class Record(BaseModel):
    """Base of all records: frozen, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True)


class Labelled(Record):
    """What is heard in a clip."""

    label: str = Field(description="as the dataset spells it; of several the main one")
    label_id: int = Field(ge=0, description="index into the dataset's sorted list of labels")
    further_labels: tuple[str, ...] = Field(
        default=(), description="what else is heard, where clips have several labels"
    )

    @property
    def labels(self) -> tuple[str, ...]:
        """The main label, then the further ones."""
        return (self.label, *self.further_labels)


class GoldClip(Labelled):
    """A real labelled clip."""

    file_name: str = Field(description="FLAC file, relative to the folder of metadata.jsonl")
    clip_id: str
    group: str | None = Field(default=None, description="recording, speaker or artist; never on both sides of a split")
    source: str = Field(description="the user's path, relative to the audio root")
    duration_s: float = Field(gt=0)
    sample_rate_hz: int = Field(gt=0)


class Caption(Record):
    """A caption of a gold clip."""

    clip_id: str
    label: str
    label_id: int
    caption: str
    captioner: str = Field(description="what wrote it, with version")


class Written(Record):
    """A caption for a clip to be generated."""

    caption: str
    writer: str = Field(description="what wrote the caption, with version: LLM, grammar or template")
    prompt_hash: str = Field(default="", description="hash of the writer's input")


class Prompt(Labelled, Written):
    """What a clip to be generated is to be, and its descent. Records of generated clips extend it."""

    recipe: str
    replicate: int = Field(alias="seed")
    source_clip_id: str = Field(description="the gold clip that it augments")
    index: int = Field(ge=0, description="0 … augmentation_factor-1, or more with a surplus")
    round: int = Field(default=0, ge=0, description="0, or the round of self-reflection that revised it")
    parents: tuple[str, ...] = Field(default=(), description="clip ids whose elements went into the caption")
    history: tuple[dict[str, Any], ...] = Field(default=(), description="earlier rounds: caption, score, reason")

    @property
    def prompt_id(self) -> str:
        """Id of the clip to be generated."""
        return f"{self.recipe}.s{self.replicate}.{self.source_clip_id}.{self.index}.r{self.round}"

    @property
    def descent(self) -> dict[str, Any]:
        """Fields to build a record that extends this one from, or a prompt from such a record."""
        return {name: getattr(self, name) for name in Prompt.model_fields}

    @classmethod
    def of(cls, clip: GoldClip, **fields: Any) -> Self:
        """Record of a clip that augments a gold clip and has its labels."""
        return cls(
            source_clip_id=clip.clip_id, **{name: getattr(clip, name) for name in Labelled.model_fields}, **fields
        )


class SyntheticClip(Prompt):
    """A generated clip with everything needed to regenerate it."""

    file_name: str
    clip_id: str
    duration_s: float
    sample_rate_hz: int
    model_hash: str = Field(description="hash of the text-to-audio directory")
    sampling_seed: int
    sampler: dict[str, Any] = Field(description="steps, guidance scale, batch size and the like")
    gain_db: float = Field(description="applied to match the loudness of the source clip")
    signal: str = Field(default="ok", description="ok, or the reason code of the signal checks")
    clap_score: float | None = Field(default=None, description="cosine with the label prompt")
    clap_margin: float | None = Field(default=None, description="score minus that of the best other label")
    reason: str | None = Field(default=None, description="why the filter rejected it; null = accepted or not filtered")
    nearest_clip_id: str | None = Field(default=None, description="nearest gold clip by CLAP embedding")
    nearest_similarity: float | None = None
    second_probability: float | None = Field(default=None, description="of its label, by the filter's second judge")
    second_passes: bool | None = Field(default=None, description="whether that judge accepts it; null = not asked")


def template_prompts(clips: Iterable[GoldClip], replicate: int, count: int, recipe: str) -> list[Prompt]:
    """`count` prompts for each gold clip, all with the caption that names its labels and no more."""
    return [
        Prompt.of(
            clip,
            recipe=recipe,
            replicate=replicate,
            index=index,
            caption=template_caption(*clip.labels),
            writer="template",
            parents=(clip.clip_id,),
        )
        for clip in clips
        for index in range(count)
    ]


R = TypeVar("R", bound=Record)


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write records as JSON lines, atomically, in the given order."""
    write_text(path, "".join(record.model_dump_json() + "\n" for record in records))


def read_records(path: Path, kind: type[R]) -> list[R]:
    """Read JSON lines as records of `kind`. Raises DataError: the file is missing, or a line is not a valid record."""
    found, number = [], 0
    try:
        with path.open("rb") as lines:
            for line in lines:
                number += 1
                if line.strip():
                    found.append(kind.model_validate_json(line))
    except OSError as error:
        raise DataError(f"cannot read records of {kind.__name__} from {path}: {error.strerror}") from error
    except ValidationError as error:
        raise DataError(f"{path}, line {number}: no {kind.__name__}: {error.errors()[0]['msg']}") from error
    return found
