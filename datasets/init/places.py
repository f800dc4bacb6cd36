"""A folder or pattern for some files: one that stands for exactly these, or none."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from datasets.init.groups import Both, Group
from rsseg.segmentation.pairs import SplitConfig, find_pairs


def split_of_files(root: Path, pairs: Sequence[Both]) -> SplitConfig:
    """Return the places of images and label maps that give exactly the samples of some pairs.

    Raises:
        ValueError: If there are none; says why the first ones do not.
    """
    expected = {file for pair in pairs for file in pair.files}
    fault = ""
    images = list(_places([pair.image for pair in pairs]))
    labels = list(_places([pair.label for pair in pairs]))
    # Equal kinds of places fit each other the soonest.
    order = sorted(
        product(range(len(images)), range(len(labels))), key=lambda two: two[0] != two[1]
    )
    for image, label in order:
        place = SplitConfig(images=images[image], labels=labels[label])
        try:
            samples, _ = find_pairs(root, place, skip=True)
        except (ValueError, OSError) as error:
            fault = fault or str(error)
            continue
        if {(sample.image, sample.label) for sample in samples} == expected:
            return place
    folders = ", ".join(sorted({f"{pair.image.folder}/" for pair in pairs}))
    raise ValueError(fault or f"no folder or pattern stands for exactly the samples of {folders}")


def shared_files(root: Path, train: SplitConfig, test: SplitConfig) -> list[str]:
    """Return the files, below the root, that two splits share."""
    files = []
    for split in (train, test):
        pairs, _ = find_pairs(root, split, skip=True)
        files.append({path.resolve() for pair in pairs for path in (pair.image, pair.label)})
    base = root.resolve()
    return [str(p.relative_to(base)) if base in p.parents else str(p) for p in files[0] & files[1]]


def _places(groups: Sequence[Group]) -> Iterator[str]:
    """Yield folders and patterns that may stand for some groups, the plainest first."""
    folders = sorted({group.folder for group in groups})
    suffixes, kinds = {group.suffix for group in groups}, {group.kind for group in groups}
    suffix = suffixes.pop() if len(suffixes) == 1 else ""
    kind = kinds.pop() if len(kinds) == 1 else ".*"
    base = os.path.commonpath(folders) or "."
    file, prefix = f"*{suffix}{kind}", "" if base == "." else f"{base}/"
    yield base
    if len(folders) == 1:
        yield f"{prefix}{file}"
        return
    for shortest in (True, False):
        if wild := _wildcards(folders, shortest=shortest):
            yield f"{wild}/{file}"
    last = {folder.rpartition("/")[2] for folder in folders}
    if len(last) == 1:  # SCENE/rgb
        yield f"{prefix}**/{last.pop()}/{file}"
    yield f"{prefix}**/{file}"


def _wildcards(folders: Sequence[str], *, shortest: bool) -> str | None:
    """Return folders of one depth as one, with * for what differs; all of a part if `shortest`."""
    parts = [folder.split("/") for folder in folders]
    if len({len(part) for part in parts}) > 1:
        return None
    texts = []
    for column in zip(*parts, strict=True):
        if len({*column}) == 1:
            texts.append(column[0])
            continue
        begin = _common_begin(column)
        end = _common_begin([name[len(begin) :][::-1] for name in column])[::-1]
        texts.append("*" if shortest else f"{begin}*{end}")
    return "/".join(texts)


def _common_begin(names: Sequence[str]) -> str:
    """Return the letters that all names begin with."""
    short = min(names, key=len)
    return next(
        (
            short[:end]
            for end in range(len(short), 0, -1)
            if all(n.startswith(short[:end]) for n in names)
        ),
        "",
    )
