"""`Samples`: what an endpoint made, with what it takes to make it again."""

import base64
import html
from collections.abc import Iterable, Sequence

from genloom.samples import Audio, Image, Notes, Sample

SHOWN_PIXELS = 128
"""A notebook shows smaller pictures as large as this."""


class Samples(list[Sample]):
    """Samples in the order of their prompts; a notebook shows them side by side."""

    def __init__(self, samples: Iterable[Sample], seeds: Sequence[int], model: str) -> None:
        """The samples of an answer.

        Args:
            samples: What was made.
            seeds: Of each; sent again to the same model, it gives the same sample.
            model: `name@version` of what made them.
        """
        super().__init__(samples)
        self.seeds, self.model = tuple(seeds), model

    def __repr__(self) -> str:
        each = [
            f"{_in_words(sample)} (seed {seed})" for sample, seed in zip(self, self.seeds, strict=False)
        ]
        return f"<{len(self)} of {self.model}: {', '.join(each)}>" if each else "<no samples>"

    def _repr_html_(self) -> str:
        cells = [
            f"<figure style='display: inline-block; margin: 4px'>{_as_html(sample)}"
            f"<figcaption>seed {seed}</figcaption></figure>"
            for sample, seed in zip(self, self.seeds, strict=False)
        ]
        return f"<div>{''.join(cells)}<p>{html.escape(self.model)}</p></div>"


def _in_words(sample: Sample) -> str:
    if isinstance(sample, Image):
        height, width, _ = sample.array.shape
        return f"Image {width}x{height}"
    if isinstance(sample, Audio):
        return f"Audio {sample.duration_s:.2f} s"
    return f"Notes {len(sample.notes)}" if isinstance(sample, Notes) else repr(str(sample))


def _as_html(sample: Sample) -> str:
    if isinstance(sample, Image):
        height, width, _ = sample.array.shape
        data = base64.b64encode(sample.to_bytes()).decode("ascii")
        shown = max(width, SHOWN_PIXELS)
        return (
            f"<img src='data:image/png;base64,{data}' width={shown} alt='{width}x{height} pixels' "
            f"style='image-rendering: {'pixelated' if width < SHOWN_PIXELS else 'auto'}'>"
        )
    if isinstance(sample, Audio):
        return sample._repr_html_()  # pyright: ignore[reportPrivateUsage]
    text = _in_words(sample) if isinstance(sample, Notes) else str(sample)
    return f"<pre style='white-space: pre-wrap'>{html.escape(text)}</pre>"
