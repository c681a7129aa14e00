"""Listing of a folder with one sub-folder per class, or with those of the classes in sub-folders named as splits."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from common.audio.walk import AUDIO_SUFFIXES, HARMLESS, Found, walk_audio
from common.contracts.gold import Drop
from common.datasets.labels import canonical
from common.datasets.names import first_names, is_folder, near
from common.datasets.rows import SPLITS, Listing, Row, check_split_names
from common.errors import DataError

_SHOWN = 5


def list_folders(root: Path) -> Listing:
    """List the audio below `root`: `<class>/…`, or `<split>/<class>/…` where the top folders are named as splits.

    Raises:
        DataError: there is no such folder, a class folder gives no clip, or names of splits and of classes are mixed.
    """
    if not is_folder(root):
        raise DataError(f"audio folder {root} does not exist; correct `audio:` in the dataset file{near(root)}")
    walked = list(walk_audio(root))
    if walked and walked[0].source == "." and walked[0].reason == "unreadable_folder":
        raise DataError(f"audio folder {root}: {walked[0].detail}")
    depth = 2 if _is_by_split(walked, root) else 1
    if depth == 1:
        _check_no_splits_below(walked, root)
    listing = Listing()
    classes: dict[str, list[Found]] = {}
    for found in walked:
        parts = found.source.split("/")
        split = SPLITS.get(parts[0].lower()) if depth == 2 else None
        if (depth == 1 or split) and _may_be_class(found, depth):
            classes.setdefault("/".join(parts[:depth]), []).append(found)
        if not found.reason and len(parts) > depth:
            label = canonical(parts[depth - 1])
            listing.spellings.add(label, parts[depth - 1], "/".join(parts[:depth]))
            listing.rows.append(Row(root / found.source, found.source, label, split))
        elif not found.reason:
            detail = "it lies beside the class folders; move it into the folder of its class"
            listing.dropped.append(Drop(found.source, "no_label", detail, split))
        elif found.reason not in HARMLESS:
            listing.dropped.append(Drop(found.source, found.reason, found.detail, split))
        elif found.reason != "empty_folder":
            listing.ignored_files.append(found.source)
    _check_filled(classes, root)
    if not listing.rows:
        first = f"; {listing.dropped[0].source}: {listing.dropped[0].detail}" if listing.dropped else ""
        raise DataError(
            f"audio folder {root} holds no audio in sub-folders; expected one sub-folder per class with "
            f"{', '.join(sorted(AUDIO_SUFFIXES))} files, or a label file named by `labels:`{first}"
        )
    return listing


def _may_be_class(found: Found, depth: int) -> bool:
    """Whether it lies in a class folder, or is one that cannot be entered."""
    level = found.source.count("/")
    if level >= depth:
        return True
    if level < depth - 1 or found.source == ".":
        return False
    gone = found.reason == "broken_link" and not Path(found.source).suffix
    return gone or found.reason in ("unreadable_folder", "same_folder", "empty_folder")


def _is_by_split(walked: Sequence[Found], root: Path) -> bool:
    """Whether the top folders are splits; an error if only some of those with audio are, or a split has no classes."""
    tops: dict[str, list[Found]] = {}
    for found in walked:
        if found.source != "." and _may_be_class(found, 1):
            tops.setdefault(found.source.split("/")[0], []).append(found)
    splits = [top for top in tops if top.lower() in SPLITS]
    if not splits:
        return False
    others = [top for top in tops if top not in splits and any(found.reason not in HARMLESS for found in tops[top])]
    if others:
        named, beside = (first_names([f"{top}/" for top in names], _SHOWN) for names in (splits, others))
        raise DataError(
            f"audio folder {root}: {named} would be a split, but {beside} beside it holds audio too; "
            "put a folder for each class below train/, val/ and test/, or, if all are classes, rename what is named as "
            "a split (or name the classes in a label file)"
        )
    check_split_names(splits, f"audio folder {root}")
    for top in splits:
        if any(_may_be_class(found, 2) for found in tops[top]):
            continue
        loose = [found for found in tops[top] if "/" in found.source and found.reason not in HARMLESS]
        held = f"{len(loose)} audio file(s), such as {loose[0].source}" if loose else _why(tops[top])
        raise DataError(
            f"audio folder {root}: {top}/ is named as a split, but holds no class folders ({held}); expected "
            f"{top}/<class>/…, or a label file named by `labels:`"
        )
    return True


def _check_no_splits_below(walked: Sequence[Found], root: Path) -> None:
    for found in walked:
        parts = found.source.split("/")
        if len(parts) > 2 and parts[1].lower() in SPLITS and found.reason not in HARMLESS:
            raise DataError(
                f"audio folder {root}: {parts[0]}/{parts[1]}/ is named as a split below a class; put the splits on "
                f"top, as in {parts[1]}/{parts[0]}/, name them in a label file, or rename the folder"
            )


def _check_filled(classes: dict[str, list[Found]], root: Path) -> None:
    """Raise `DataError` for class folders without a clip."""
    empty = {name: found for name, found in classes.items() if not any(not each.reason for each in found)}
    named = [f"class folder {name} gives no clip ({_why(found)})" for name, found in empty.items()]
    if named:
        more = f"; and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
        raise DataError(
            f"audio folder {root}: {'; '.join(named[:_SHOWN])}{more}. Mend it, or, if it is no class, move it out or "
            "let its name begin with a dot"
        )


def _why(walked: Sequence[Found]) -> str:
    lost = [found for found in walked if found.reason not in HARMLESS]
    if not lost:
        files = [found.source for found in walked if found.reason != "empty_folder"]
        return f"{len(files)} file(s), none of them audio, such as {files[0]}" if files else "it is empty"
    count = Counter(found.reason for found in lost)
    first = {found.reason: found for found in reversed(lost)}
    return ", ".join(f"{reason}: {count[reason]}, {first[reason].source}: {first[reason].detail}" for reason in count)
