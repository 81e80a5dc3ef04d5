"""A variational autoencoder of spectrograms that makes short sounds (Kingma & Welling 2014).

Change `Net`, `loss` and `generate` to what you have in mind; `python -m pytest` says whether it still
works. Write it as for one processor: devices, several workers and checkpoints are not your concern.
"""

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

import genloom
from genloom import Audio, AudioColumn, Example, Loss, Row

WINDOW, HOP = 512, 128
"""Values of a spectrogram's frame, and from one frame to the next."""
BINS = WINDOW // 2 + 1


def spectrum(waveform: Tensor) -> Tensor:
    """A waveform [time] as complex numbers [bins, frames]."""
    window = torch.hann_window(WINDOW, device=waveform.device)
    return torch.stft(waveform, WINDOW, HOP, window=window, return_complex=True)


def sound(loudness: Tensor, draw: torch.Generator, rounds: int = 32) -> Tensor:
    """A waveform [time] whose spectrogram has some magnitudes [bins, frames] (Griffin & Lim 1984)."""
    window = torch.hann_window(WINDOW)
    angle = 2 * torch.pi * torch.rand(loudness.shape, generator=draw)
    for _ in range(rounds):
        waveform = torch.istft(torch.polar(loudness, angle), WINDOW, HOP, window=window)
        angle = spectrum(waveform).angle()
    return torch.istft(torch.polar(loudness, angle), WINDOW, HOP, window=window)


class Net(nn.Module):
    """Spectrograms [batch, bins, frames] to latent numbers, and back. Layers go here."""

    def __init__(self, frames: int, rate_hz: int, latent: int, width: int) -> None:
        super().__init__()
        self.rate_hz, self.latent = rate_hz, latent
        self.encode = nn.Sequential(
            nn.Conv1d(BINS, width, 3, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(width * frames, 2 * latent),
        )
        self.decode = nn.Sequential(
            nn.Linear(latent, width * frames),
            nn.SiLU(),
            nn.Unflatten(1, (width, frames)),
            nn.Conv1d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv1d(width, BINS, 3, padding=1),
        )
        self.log_noise = nn.Parameter(torch.zeros(1))

    def forward(self, spectrogram: Tensor) -> tuple[Tensor, Tensor]:
        """The two terms of the negative ELBO in nats, each [batch]: the misfit and the divergence."""
        mean, log_variance = self.encode(spectrogram).chunk(2, 1)
        latent = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        error = ((self.decode(latent) - spectrogram) / self.log_noise.exp()) ** 2
        misfit = (error / 2 + self.log_noise).flatten(1).sum(1)
        return misfit, (mean**2 + log_variance.exp() - 1 - log_variance).sum(1) / 2


class MyGenerator(genloom.Generator):
    """Makes short sounds in the manner of its dataset."""

    contract = "1.0"
    makes = Audio

    # Fields are hyperparameters: `genloom train my-generator latent=64` sets one, a sweep tries many.
    latent: int = Field(default=8, ge=1)
    """Numbers that a sound is coded in."""
    width: int = Field(default=128, ge=1)
    """Channels of the convolutions."""
    longest_s: float = Field(default=2.0, gt=0.1)
    """Sounds are cut to this length in seconds, or to the dataset's longest if that is shorter."""

    class Data(genloom.Data):
        """The columns that it learns from."""

        audio: AudioColumn

    def length(self, data: Data) -> int:
        """Values of a waveform: whole hops."""
        return int(min(self.longest_s, data.audio.max_s) * data.audio.rate_hz) // HOP * HOP

    def build(self, data: Data) -> Net:
        """The network, untrained, for sounds such as the dataset's."""
        return Net(self.length(data) // HOP + 1, data.audio.rate_hz, self.latent, self.width)

    def prepare(self, row: Row, data: Data) -> Example:
        """One sound as roots of magnitudes, [bins, frames]: channels mixed, cut or padded."""
        waveform = np.zeros(self.length(data), np.float32)
        mixed = row["audio"].waveform.mean(0)[: len(waveform)]
        waveform[: len(mixed)] = mixed
        return {"spectrogram": spectrum(torch.from_numpy(waveform)).abs().sqrt()}

    def loss(self, model: Net, batch: dict[str, Tensor]) -> Loss:
        """The negative ELBO in nats, for each number of the spectrogram; metrics are for each sound."""
        misfit, kl = model(batch["spectrogram"])
        value = (misfit + kl).mean() / batch["spectrogram"][0].numel()
        return Loss(value, {"misfit": misfit.mean(), "kl": kl.mean()})

    def generate(self, model: Net, prompts: Sequence[genloom.Prompt]) -> Sequence[Audio]:
        """One sound a prompt, from its seed alone; one after another, so none depends on the others."""
        sounds: list[Audio] = []
        for prompt in prompts:
            draw = torch.Generator().manual_seed(prompt.seed)
            latent = torch.randn(1, model.latent, generator=draw).to(model.log_noise.device)
            loudness = model.decode(latent)[0].float().cpu().clamp(min=0) ** 2
            sounds.append(Audio(sound(loudness, draw).clamp(-1, 1).numpy(), model.rate_hz))
        return sounds
