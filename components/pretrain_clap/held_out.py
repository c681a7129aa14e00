"""The figures of a CLAP on the corpus's held-out clips."""

from __future__ import annotations

from common.clap.retrieval import embed_features, matched_auc, rank_figures, retrieval_figures
from common.clap.scorer import ClapScorer
from common.clip_features import StoredFeatures
from common.text import template_caption


class HeldOut:
    """Retrieval on held-out clips.

    Args:
        stored: their features, captions and labels.
        channels: of the model's input: 1, or 4 for fused checkpoints.
    """

    def __init__(self, stored: StoredFeatures, channels: int = 1) -> None:
        self._stored, self._channels = stored, channels
        facts = [stored.facts(index) for index in range(len(stored))]
        self._captions: list[str] = [each["caption"] for each in facts]
        labels = [each["label"] for each in facts]
        prompts = [template_caption(label) if label is not None else None for label in labels]
        self._texts: list[str | None] = list(prompts if any(labels) else self._captions)

    @property
    def can_judge(self) -> bool:
        """Whether there are two texts to tell apart."""
        return len({text for text in self._texts if text is not None}) > 1

    def figures(self, scorer: ClapScorer) -> dict[str, float]:
        """Figures of label prompts where there are labels, else of captions; beside them always those of captions.

        Clips without a label are left out of the former where others have one.

        Returns:
            Those of `retrieval_figures` and `clips`; where there are two captions, `caption_auc` and those of
            `rank_figures`. Nothing where there is nothing to tell apart.
        """
        if not self.can_judge:
            return {}
        clips = (self._stored.clip(index).expand(-1, self._channels, -1, -1) for index in range(len(self._stored)))
        embedded = embed_features(scorer, clips)
        kept = [index for index, text in enumerate(self._texts) if text is not None]
        distinct = sorted({text for text in self._texts if text is not None})
        similarity = embedded[kept] @ scorer.embed_text(distinct).T
        own = [distinct.index(str(self._texts[index])) for index in kept]
        figures = {**retrieval_figures(similarity, own), "clips": float(len(kept))}
        captions = sorted(set(self._captions))
        if len(captions) < 2:
            return figures
        places = {caption: place for place, caption in enumerate(captions)}
        similarity = embedded @ scorer.embed_text(captions).T
        own = [places[caption] for caption in self._captions]
        return {**figures, "caption_auc": matched_auc(similarity, own), **rank_figures(similarity, own)}
