"""Free replies of audio LLMs: what stands around the description goes, what is none is refused."""

from __future__ import annotations

import pytest

from common.captions.checks import check_sentence

DOG = "A dog barks twice in a small room."


@pytest.mark.parametrize(
    "reply",
    [
        DOG,
        f'"{DOG}"',
        f"“{DOG}”",
        f"**{DOG}**",
        f"- {DOG}",
        f"1. {DOG}",
        f"```\n{DOG}\n```",
        f"Caption: {DOG}",
        f"**Caption:** {DOG}",
        f"Description:\n\n{DOG}",
        f"Sure! {DOG}",
        f"Certainly, here you go: {DOG}",
        f"Sure, here is a one-sentence description of the recording:\n\n{DOG}",
        f"Here's the description: {DOG}",
        f"<think>\n\n</think>\n\n{DOG}",
        f"<think>It is a dog.</think>{DOG}",
        f'{{"caption": "{DOG}"}}',
        f'```json\n{{"caption": "{DOG}"}}\n```',
        "The audio contains a dog barks twice in a small room.",
        "This recording features *a dog barks twice* [in a small room]",
        "A dog barks\ntwice in a\tsmall room 🐶",
        "Sounds:\n- A dog barks twice in a small room",
    ],
)
def test_the_description_alone_is_kept(reply: str) -> None:
    sentence, reason = check_sentence(reply, 60, 0.9)
    assert (sentence.rstrip(".").lower(), reason) == (DOG.rstrip(".").lower(), None)


@pytest.mark.parametrize(
    ("reply", "kept"),
    [
        ("- a dog\n- wind.\n- a car", "a dog, wind, a car"),
        ("The sound is loud. Sure enough it ends.", "The sound is loud. Sure enough it ends."),
        ("A dog barks. " + "Then one more long sentence follows it " * 9, "A dog barks"),
        ("A bell at 9:30, then a bark: loud", "A bell at 9:30, then a bark: loud"),
    ],
)
def test_lists_and_long_replies_become_one_sentence(reply: str, kept: str) -> None:
    assert check_sentence(reply, 60, 0.9) == (kept, None)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "empty"),
        ("***", "empty"),
        ("I'm sorry, but I can't listen to audio.", "refused"),
        ("Sorry, no sound can be heard by me.", "refused"),
        ("As an AI language model, I cannot hear.", "refused"),
        ("I am unable to process this file.", "refused"),
        ("**I cannot** help with that.", "refused"),
        ("<think>It may be a dog", "cut_off"),
        ("一只狗在房间里叫了两声", "language"),
        ("Ein Hund bellt im Park und der Wind ist laut", "language"),
        ("The audio contains <b>a dog</b>", "characters"),
        ("word " * 80, "too_long"),
        ("a dog\x00", "unprintable"),
    ],
)
def test_what_is_no_description_is_refused(reply: str, reason: str) -> None:
    assert check_sentence(reply, 60, 0.9)[1] == reason
