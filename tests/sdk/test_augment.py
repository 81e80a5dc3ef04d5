"""Augmentation: what is off changes nothing, one seed gives one result, and each setting does what it says."""

import pickle
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from pydantic import BaseModel, ValidationError

from genloom import Audio, DataError, Image, augment
from genloom.augment import (
    AudioAugment,
    ImageAugment,
    SpecAugment,
    TextAugment,
    mixup,
    one_hot,
    read_synonyms,
    stretch_audio,
)

RATE_HZ = 16_000
TEXT = "\tthe quick  brown fox,\njumps over the lazy dog\n\nagain and again \n"
SYNONYMS = {"quick": ("fast", "swift"), "fox": ("vixen",), "dog": ("hound",), "again": ("anew",)}


def rng(seed=0):
    return np.random.default_rng(seed)


def picture(height=24, width=36, channels=3):
    """Smooth colours, so that an interpolation can be compared."""
    y, x = np.mgrid[:height, :width]
    planes = [40 + 4 * x, 60 + 6 * y, 200 - 2 * x - 3 * y, 90 + x + y]
    return Image(np.stack(planes[:channels], axis=2).astype(np.uint8))


def tone(hz=440.0, seconds=1.0, channels=1, amplitude=0.5):
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    wave = amplitude * np.sin(2 * np.pi * hz * time)
    return Audio(np.tile(wave, (channels, 1)).astype(np.float32), RATE_HZ)


def dominant_hz(audio):
    wave = audio.waveform[0] * np.hanning(audio.waveform.shape[1])
    return np.abs(np.fft.rfft(wave)).argmax() / audio.duration_s


SETTINGS = {
    **{
        f"image-{name}": (ImageAugment(**{name: value}), picture())
        for name, value in {
            "flip": 0.5,
            "flip_vertical": 0.5,
            "crop": 0.5,
            "shift": 0.3,
            "rotate_degrees": 30,
            "brightness": 0.5,
            "contrast": 0.5,
            "saturation": 0.5,
            "hue": 0.3,
            "noise": 0.1,
            "erase": 0.7,
        }.items()
    },
    "audio-stretch": (AudioAugment(stretch=0.5), tone()),
    "audio-pitch": (AudioAugment(pitch_semitones=6), tone()),
    "audio-gain": (AudioAugment(gain_db=6), tone()),
    "audio-noise": (AudioAugment(noise_db=(5, 20)), tone()),
    "spectrogram": (
        SpecAugment(num_frequency_masks=2, num_time_masks=2),
        rng().normal(size=(80, 300)).astype(np.float32),
    ),
    "text-delete": (TextAugment(delete=0.3), TEXT),
    "text-swap": (TextAugment(swap=0.3), TEXT),
    "text-synonym": (TextAugment(synonym=0.5, synonyms=SYNONYMS), TEXT),
}


def raw(value):
    """The bytes of a result, before any file format rounds them."""
    if isinstance(value, Image):
        return value.array.tobytes()
    if isinstance(value, Audio):
        return value.waveform.tobytes()
    return value.tobytes() if isinstance(value, np.ndarray) else value


class TestEverySetting:
    @pytest.mark.parametrize("name", SETTINGS)
    def test_depends_on_the_seed_alone_and_leaves_global_randomness_as_it_was(self, name):
        augmented, value = SETTINGS[name]
        torch.manual_seed(1)
        once = [raw(augmented(value, rng(seed))) for seed in range(6)]
        torch.manual_seed(2)
        before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
        again = [raw(augmented(value, rng(seed))) for seed in range(6)]
        assert once == again
        assert len(set(once)) > 1
        assert torch.equal(before[0], torch.get_rng_state())
        assert (before[1] == np.random.get_state()[1]).all()
        assert before[2] == random.getstate()

    @pytest.mark.parametrize("name", SETTINGS)
    def test_does_not_write_into_its_input(self, name):
        augmented, value = SETTINGS[name]
        before = raw(value)
        for seed in range(3):
            augmented(value, rng(seed))
        assert raw(value) == before

    @pytest.mark.parametrize("kind", [ImageAugment, AudioAugment, SpecAugment, TextAugment])
    def test_is_off_by_default_and_then_returns_the_same_object_and_draws_nothing(self, kind):
        value = {ImageAugment: picture(), AudioAugment: tone(), TextAugment: TEXT}.get(
            kind, np.ones((4, 5))
        )
        generator = rng()
        before = generator.bit_generator.state
        assert kind()(value, generator) is value
        assert generator.bit_generator.state == before

    @pytest.mark.parametrize("kind", [ImageAugment, AudioAugment, SpecAugment, TextAugment])
    def test_is_documented_by_field_and_survives_pickling_and_json(self, kind):
        assert kind.model_json_schema()["type"] == "object"
        assert all(field.description for field in kind.model_fields.values())
        assert pickle.loads(pickle.dumps(kind())) == kind()
        assert kind.model_validate_json(kind().model_dump_json()) == kind()

    def test_is_read_as_part_of_a_generators_own_settings(self):
        class Painter(BaseModel):
            augment: ImageAugment = ImageAugment()

        assert Painter.model_validate({"augment": {"flip": 0.5, "crop": 0.8}}).augment == ImageAugment(
            flip=0.5, crop=0.8
        )

    @pytest.mark.parametrize(
        ("kind", "settings"),
        [
            (ImageAugment, {"flip": 1.1}),
            (ImageAugment, {"crop": 0}),
            (ImageAugment, {"hue": 0.6}),
            (ImageAugment, {"noise": float("nan")}),
            (ImageAugment, {"rotate_degrees": -1}),
            (ImageAugment, {"fliip": 0.5}),
            (AudioAugment, {"stretch": 0.6}),
            (AudioAugment, {"pitch_semitones": 25}),
            (AudioAugment, {"noise_db": [30, 10]}),
            (SpecAugment, {"num_time_masks": -1}),
            (SpecAugment, {"fill": float("inf")}),
            (TextAugment, {"delete": -0.1}),
            (TextAugment, {"synonym": 0.5}),
            (TextAugment, {"synonyms": {"word": []}}),
            (TextAugment, {"synonyms": {"word": [" "]}}),
        ],
    )
    def test_refuses_what_is_out_of_bounds(self, kind, settings):
        with pytest.raises(ValidationError):
            kind(**settings)


class TestImages:
    everything = ImageAugment(
        flip=0.5,
        flip_vertical=0.5,
        crop=0.3,
        shift=0.2,
        rotate_degrees=180,
        brightness=0.5,
        contrast=0.5,
        saturation=0.5,
        hue=0.5,
        noise=0.1,
        erase=0.5,
    )

    @pytest.mark.parametrize("channels", [1, 3, 4])
    @pytest.mark.parametrize("size", [(24, 36), (1, 1), (1, 40)])
    def test_keep_their_size_channels_and_kind_of_pixels(self, channels, size):
        image = picture(*size, channels)
        for seed in range(10):
            array = self.everything(image, rng(seed)).array
            assert array.shape == image.array.shape
            assert array.dtype == np.uint8

    def test_are_mirrored(self):
        image = picture()
        across = ImageAugment(flip=1)(image, rng()).array
        down = ImageAugment(flip_vertical=1)(image, rng()).array
        assert (across == image.array[:, ::-1]).all()
        assert (down == image.array[::-1]).all()

    def test_mirrored_and_moved_are_what_moving_the_mirror_image_gives(self):
        both = ImageAugment(flip=1, crop=0.5, rotate_degrees=20)(picture(), rng())
        after_the_flip = rng()
        after_the_flip.random()
        mirrored = Image(np.ascontiguousarray(picture().array[:, ::-1]))
        assert both == ImageAugment(crop=0.5, rotate_degrees=20)(mirrored, after_the_flip)

    def test_of_even_chance_are_mirrored_about_half_the_time(self):
        image, generator = picture(), rng()
        flipped = sum(ImageAugment(flip=0.5)(image, generator) is not image for _ in range(400))
        assert 150 < flipped < 250

    def test_cropped_keep_at_least_the_share_and_no_more_stretch_than_four_thirds(self):
        # On a ramp, the range of values is the share of the edge that is seen.
        ramp_x, ramp_y = np.meshgrid(np.linspace(0, 255, 200), np.linspace(0, 255, 100))
        image = Image(np.stack([ramp_x, ramp_y, ramp_x], axis=2).astype(np.uint8))
        areas = []
        for seed in range(60):
            array = ImageAugment(crop=0.25)(image, rng(seed)).array.astype(float)
            wide, tall = np.ptp(array[:, :, 0]) / 255, np.ptp(array[:, :, 1]) / 255
            areas.append(wide * tall)
            assert 0.72 < wide / tall < 1.39
        assert 0.22 < min(areas) < 0.4
        assert 0.85 < max(areas) <= 1

    def test_shifted_move_by_whole_pixels_and_are_filled_by_their_reflection(self):
        image = picture(10, 20)
        around = np.pad(image.array, ((4, 4), (4, 4), (0, 0)), mode="symmetric")
        moves = set()
        for seed in range(40):
            shifted = ImageAugment(shift=0.2)(image, rng(seed)).array
            found = [
                (y, x)
                for y in range(-2, 3)
                for x in range(-4, 5)
                if (shifted == around[4 + y : 14 + y, 4 + x : 24 + x]).all()
            ]
            assert len(found) == 1
            moves.add(found[0])
        assert len(moves) > 15

    def test_turned_keep_their_colours_in_the_corners(self):
        white = Image(np.full((16, 24, 3), 255, np.uint8))
        assert ImageAugment(rotate_degrees=180)(white, rng()) == white

    def test_turned_are_turned_about_the_centre_without_changing_lengths(self):
        # A bar of 21 x 3 pixels in the middle, far enough from the border to have no reflection in view.
        bar = np.zeros((61, 81, 1), np.uint8)
        bar[29:32, 30:51] = 255
        for seed in range(10):
            array = ImageAugment(rotate_degrees=180)(Image(bar), rng(seed)).array[:, :, 0]
            y, x = np.nonzero(array > 127)
            assert abs(len(y) - 63) < 8
            assert abs(y.mean() - 30) < 0.3
            assert abs(x.mean() - 40) < 0.3
            assert 19 < np.hypot(np.ptp(x), np.ptp(y)) < 23

    @pytest.mark.parametrize("setting", ["brightness", "contrast", "saturation", "hue", "noise"])
    def test_keep_their_alpha_under_colour(self, setting):
        image = picture(channels=4)
        array = ImageAugment(**{setting: 0.4})(image, rng()).array
        assert (array[:, :, 3] == image.array[:, :, 3]).all()
        assert (array[:, :, :3] != image.array[:, :, :3]).any()

    def test_of_no_colour_keep_their_grey_under_saturation_and_hue(self):
        image = picture(channels=1)
        assert ImageAugment(saturation=1, hue=0.5)(image, rng()) == image

    def test_made_brighter_are_multiplied_by_one_factor(self):
        image = picture()
        for seed in range(5):
            factor = ImageAugment(brightness=0.2)(image, rng(seed)).array / image.array
            assert factor.min() > 0.78
            assert factor.max() < 1.22
            assert np.ptp(factor) < 0.03

    def test_of_other_contrast_keep_their_mean_grey(self):
        image = picture(channels=1)
        for seed in range(5):
            array = ImageAugment(contrast=0.5)(image, rng(seed)).array
            assert array.mean() == pytest.approx(image.array.mean(), abs=1)
            assert array.std() != pytest.approx(image.array.std(), rel=0.01)

    def test_of_other_saturation_keep_their_greys_and_of_another_hue_their_brightest_channel(self):
        image = picture()
        weights = [0.299, 0.587, 0.114]
        array = ImageAugment(saturation=0.3)(image, rng()).array
        assert np.abs(array @ weights - image.array @ weights).max() < 2
        turned = ImageAugment(hue=0.5)(image, rng()).array
        assert np.abs(turned.max(2).astype(int) - image.array.max(2)).max() <= 1

    def test_noise_has_the_standard_deviation_that_was_asked_for(self):
        grey = Image(np.full((100, 100, 3), 128, np.uint8))
        noise = ImageAugment(noise=0.05)(grey, rng()).array.astype(float) - 128
        assert noise.std() == pytest.approx(0.05 * 255, rel=0.05)
        assert abs(noise.mean()) < 0.5

    def test_erased_lose_one_rectangle_of_2_to_40_per_cent(self):
        image = Image(np.zeros((60, 80, 4), np.uint8))
        for seed in range(20):
            array = ImageAugment(erase=1)(image, rng(seed)).array
            y, x = np.nonzero(array.any(2))
            assert 0.015 < (np.ptp(y) + 1) * (np.ptp(x) + 1) / 4800 < 0.42
            assert len(y) > 0.99 * (np.ptp(y) + 1) * (np.ptp(x) + 1)
            assert not array[:, :, 3].any()

    def test_that_may_not_be_written_are_augmented_too(self):
        image = picture()
        image.array.flags.writeable = False
        assert self.everything(image, rng()) == self.everything(picture(), rng())


class TestMixup:
    images = torch.from_numpy(rng().random((6, 3, 4, 4), np.float32))
    targets = one_hot(torch.arange(6), 6)

    def test_blends_images_and_targets_by_the_same_weight_and_partner(self):
        mixed, mixed_targets = mixup(self.images, self.targets, 1.0, 3)
        assert mixed.shape == self.images.shape
        assert mixed.dtype == torch.float32
        # Every example is its own class here, so the mixed targets are the weights themselves.
        assert torch.allclose(
            mixed, torch.einsum("bk,kchw->bchw", mixed_targets, self.images), atol=1e-6
        )
        assert torch.allclose(mixed_targets.sum(1), torch.ones(6))
        assert not torch.allclose(mixed, self.images)

    def test_is_linear_in_the_images(self):
        other = self.images.flip(3)
        mixed = [
            mixup(x, self.targets, 0.4, 7)[0] for x in (self.images, other, 2 * self.images + other)
        ]
        assert torch.allclose(mixed[2], 2 * mixed[0] + mixed[1], atol=1e-6)

    @pytest.mark.parametrize("source", [int, np.random.default_rng, torch.Generator().manual_seed])
    def test_depends_on_its_source_of_randomness_alone(self, source):
        before = torch.get_rng_state()
        once, again, other = (
            mixup(self.images, self.targets, 1.0, source(n))[0].clone() for n in (5, 5, 6)
        )
        assert torch.equal(once, again)
        assert not torch.equal(once, other)
        assert torch.equal(before, torch.get_rng_state())

    def test_advances_the_generator_that_it_draws_from(self):
        generator = torch.Generator().manual_seed(1)
        first, second = (mixup(self.images, self.targets, 1.0, generator)[0] for _ in range(2))
        assert not torch.equal(first, second)

    def test_keeps_half_precision_and_the_gradient(self):
        images = self.images.bfloat16().requires_grad_()
        mixed, _ = mixup(images, self.targets, 1.0, 1)
        assert mixed.dtype == torch.bfloat16
        mixed.sum().backward()
        assert images.grad is not None

    def test_is_off_at_alpha_0(self):
        images, targets = mixup(self.images, self.targets, 0, 1)
        assert images is self.images
        assert targets is self.targets

    @pytest.mark.parametrize(
        ("images", "targets", "alpha", "remedy"),
        [
            (images, torch.arange(6), 1.0, "one_hot"),
            ((images * 255).byte(), targets, 1.0, "floats"),
            (images, targets[:5], 1.0, "one target for each"),
            (images, targets, -1.0, "0 or more"),
            (images, targets, float("nan"), "0 or more"),
        ],
    )
    def test_refuses_what_it_cannot_blend(self, images, targets, alpha, remedy):
        with pytest.raises(ValueError, match=remedy):
            mixup(images, targets, alpha, 1)


class TestAudio:
    def test_an_octave_up_doubles_the_frequency_and_keeps_the_length(self):
        higher = stretch_audio(tone(440), semitones=12)
        assert dominant_hz(higher) == pytest.approx(880, abs=3)
        assert higher.waveform.shape == (1, RATE_HZ)

    @pytest.mark.parametrize("tempo", [0.5, 0.8, 1.25, 2])
    def test_another_tempo_changes_the_length_and_keeps_the_frequency(self, tempo):
        stretched = stretch_audio(tone(440), tempo=tempo)
        assert stretched.waveform.shape[1] == pytest.approx(RATE_HZ / tempo, abs=2)
        assert dominant_hz(stretched) == pytest.approx(440, abs=3)

    def test_a_slow_tempo_draws_its_phases_from_the_seed(self):
        chord = Audio(tone(440).waveform / 2 + tone(620).waveform / 2, RATE_HZ)
        once, again, other = (stretch_audio(chord, tempo=0.3, seed=seed).waveform for seed in (1, 1, 2))
        assert (once == again).all()
        assert (once != other).any()

    def test_another_tempo_moves_a_click_in_proportion(self):
        waveform = np.zeros((1, RATE_HZ), np.float32)
        waveform[0, 12_000] = 1
        stretched = stretch_audio(Audio(waveform, RATE_HZ), tempo=1.25)
        assert np.abs(stretched.waveform).argmax() == pytest.approx(12_000 / 1.25, abs=40)

    def test_tempo_and_pitch_stay_within_what_was_asked_for(self):
        lengths, pitches = [], []
        for seed in range(12):
            changed = AudioAugment(stretch=0.2, pitch_semitones=2)(tone(440), rng(seed))
            lengths.append(RATE_HZ / changed.waveform.shape[1])
            pitches.append(12 * np.log2(dominant_hz(changed) / 440))
        assert 0.799 < min(lengths) < 0.9 < 1.1 < max(lengths) < 1.201
        assert -2.1 < min(pitches) < -0.5 < 0.5 < max(pitches) < 2.1

    def test_all_at_once_is_finite_and_within_full_scale_at_the_same_rate_and_channels(self):
        everything = AudioAugment(stretch=0.5, pitch_semitones=24, gain_db=40, noise_db=(-20, 0))
        loud = tone(channels=2, amplitude=1.0)
        for seed in range(8):
            changed = everything(loud, rng(seed))
            assert np.isfinite(changed.waveform).all()
            assert np.abs(changed.waveform).max() <= 1
            assert changed.waveform.dtype == np.float32
            assert (changed.waveform.shape[0], changed.rate_hz) == (2, RATE_HZ)

    @pytest.mark.parametrize("length", [0, 1, 100])
    @pytest.mark.parametrize("amplitude", [0.0, 1.0])
    def test_may_be_silent_or_very_short(self, length, amplitude):
        audio = Audio(np.full((1, length), amplitude, np.float32), RATE_HZ)
        everything = AudioAugment(stretch=0.2, pitch_semitones=2, gain_db=6, noise_db=(0, 10))
        changed = everything(audio, rng()).waveform
        assert changed.shape[1] == pytest.approx(length, rel=0.25, abs=1)
        assert np.isfinite(changed).all()
        assert amplitude or not changed.any()

    def test_noise_has_the_ratio_that_was_asked_for(self):
        clean = tone(amplitude=0.3)
        noise = AudioAugment(noise_db=(20, 20))(clean, rng()).waveform - clean.waveform
        ratio_db = 10 * np.log10(np.mean(clean.waveform**2) / np.mean(noise**2))
        assert ratio_db == pytest.approx(20, abs=0.2)

    def test_gain_scales_the_whole_sound_within_its_bounds(self):
        quiet = tone(amplitude=0.1)
        gains_db = []
        for seed in range(20):
            changed = AudioAugment(gain_db=6)(quiet, rng(seed)).waveform
            gain = np.abs(changed).max() / np.abs(quiet.waveform).max()
            assert np.allclose(changed, gain * quiet.waveform, atol=1e-6)
            gains_db.append(20 * np.log10(gain))
        assert -6.01 < min(gains_db) < -2 < 2 < max(gains_db) < 6.01

    def test_too_loud_is_made_softer_and_not_clipped(self):
        # A gain of 40 dB at the most: some seeds pass full scale, and a clipped sine is no sine.
        for seed in range(10):
            changed = AudioAugment(gain_db=40)(tone(amplitude=1.0), rng(seed)).waveform[0]
            assert np.abs(changed).max() / np.sqrt(np.mean(changed**2)) == pytest.approx(
                2**0.5, rel=1e-3
            )

    def test_of_any_memory_order_or_read_only_is_stretched_alike(self):
        left, right = tone(440, channels=2).waveform
        right = right[::-1]
        ordered = np.stack([left, right])
        transposed = np.stack([left, right], axis=1).T
        transposed.flags.writeable = False
        results = [
            stretch_audio(Audio(wave, RATE_HZ), tempo=1.2).waveform for wave in (ordered, transposed)
        ]
        assert (results[0] == results[1]).all()

    def test_of_a_rate_that_is_no_sounds_is_refused_before_it_hangs(self):
        with pytest.raises(ValueError, match=r"20 Hz .* resample"):
            AudioAugment(stretch=0.1)(Audio(np.ones((1, 100), np.float32), 20), rng())

    @pytest.mark.parametrize("tempo", [0, -1, float("nan"), float("inf")])
    def test_tempo_that_is_not_positive_is_refused(self, tempo):
        with pytest.raises(ValueError, match="positive tempo"):
            stretch_audio(tone(), tempo=tempo)


class TestSpectrograms:
    def test_lose_at_most_the_bins_and_frames_that_were_allowed(self):
        spectrogram = np.ones((2, 40, 100), np.float16)
        masks = SpecAugment(
            num_frequency_masks=2, max_frequency_bins=5, num_time_masks=3, max_time_frames=7, fill=0
        )
        bins, frames = set(), set()
        for seed in range(60):
            masked = masks(spectrogram, rng(seed)) == 0
            rows, columns = masked[0].all(1), masked[0].all(0)
            assert (masked[0] == masked[1]).all()
            assert (masked[0] == (rows[:, None] | columns)).all()
            bins.add(int(rows.sum()))
            frames.add(int(columns.sum()))
        assert max(bins) in range(6, 11)
        assert max(frames) in range(11, 22)

    def test_masks_are_contiguous_and_reach_every_place(self):
        mask = SpecAugment(num_time_masks=1, max_time_frames=4, fill=0)
        reached = np.zeros(12, bool)
        for seed in range(200):
            frames = np.flatnonzero(mask(np.ones((3, 12)), rng(seed))[0] == 0)
            assert len(frames) <= 4
            assert not len(frames) or np.ptp(frames) == len(frames) - 1
            reached[frames] = True
        assert reached.all()

    def test_of_short_sounds_lose_no_more_than_a_share(self):
        mask = SpecAugment(num_time_masks=1, max_time_share=0.2, fill=0)
        lost = [(mask(np.ones((3, 20)), rng(seed))[0] == 0).sum() for seed in range(40)]
        assert max(lost) == 4

    def test_are_filled_by_their_mean_unless_told_and_keep_their_shape_and_dtype(self):
        spectrogram = np.arange(60, dtype=np.float32).reshape(6, 10)
        masks = SpecAugment(num_frequency_masks=1, max_frequency_bins=6)
        masked = masks(spectrogram, rng(1))
        changed = masked[masked != spectrogram]
        assert changed.size
        assert (changed == np.float32(29.5)).all()
        assert (masked.shape, masked.dtype) == (spectrogram.shape, spectrogram.dtype)

    @pytest.mark.parametrize("shape", [(3, 2), (1, 1), (80, 0)])
    def test_may_be_smaller_than_the_masks(self, shape):
        masks = SpecAugment(num_frequency_masks=3, num_time_masks=3)
        for seed in range(10):
            assert masks(np.ones(shape), rng(seed)).shape == shape

    def test_of_one_dimension_are_refused(self):
        with pytest.raises(ValueError, match="mel, time"):
            SpecAugment(num_time_masks=1)(np.ones(5), rng())


class TestTexts:
    def test_swapped_keep_their_words_and_all_their_whitespace(self):
        swap = TextAugment(swap=0.5)
        for seed in range(10):
            swapped = swap(TEXT, rng(seed))
            assert sorted(swapped.split()) == sorted(TEXT.split())
            assert whitespace(swapped) == whitespace(TEXT)

    def test_of_two_words_always_swapped_change_places_twice(self):
        assert TextAugment(swap=1)("one two", rng()) == "one two"
        assert {TextAugment(swap=0.5)("one two", rng(seed)) for seed in range(20)} == {
            "one two",
            "two one",
        }

    def test_lose_about_the_share_of_words_that_was_asked_for_and_keep_the_order(self):
        text = " ".join(f"w{number:04}" for number in range(2000))
        words = TextAugment(delete=0.3)(text, rng()).split(" ")
        assert 0.66 * 2000 < len(words) < 0.74 * 2000
        assert words == sorted(words)
        assert set(words) < set(text.split())

    def test_keep_their_lines_where_a_word_at_a_break_goes(self):
        for seed in range(40):
            shorter = TextAugment(delete=0.4)("a b c\nd e f", rng(seed))
            first, second = set(shorter) & set("abc"), set(shorter) & set("def")
            assert ("\n" in shorter) == bool(first and second)

    def test_keep_the_whitespace_at_their_ends_and_no_double_spaces(self):
        for seed in range(20):
            shorter = TextAugment(delete=0.5)("\t one two three four  ", rng(seed))
            assert shorter.startswith("\t ")
            assert shorter.endswith("  ")
            assert "  " not in shorter.strip()

    def test_never_become_empty(self):
        assert {TextAugment(delete=1)("one two", rng(seed)) for seed in range(20)} == {"one", "two"}

    @pytest.mark.parametrize("text", ["", "   ", "\n\t"])
    def test_without_words_stay_as_they_are(self, text):
        assert TextAugment(delete=1, swap=1, synonym=1, synonyms=SYNONYMS)(text, rng()) == text

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("a fox, (fox)", "a vixen, (vixen)"),
            ("Fox FOX fox!", "Vixen VIXEN vixen!"),
            ("foxes  stay", "foxes  stay"),
            ("… !", "… !"),
        ],
    )
    def test_get_synonyms_with_their_punctuation_and_capitals(self, text, expected):
        assert TextAugment(synonym=1, synonyms={"fox": ("vixen",)})(text, rng()) == expected

    @pytest.mark.parametrize(
        ("word", "synonym"), [("C++", "Rust"), ("पानी", "जल"), ("Haus", "Gebäude"), ("кот", "кошка")]
    )
    def test_get_synonyms_in_any_script(self, word, synonym):
        augmented = TextAugment(synonym=1, synonyms={word: (synonym,)})
        assert augmented(f"a {word} b", rng()) == f"a {synonym} b"

    def test_get_each_of_a_words_synonyms(self):
        augmented = TextAugment(synonym=1, synonyms=SYNONYMS)
        assert {augmented("quick", rng(seed)) for seed in range(20)} == {"fast", "swift"}


def whitespace(text):
    return "".join(char if char.isspace() else "" for char in text)


class TestSynonymFiles:
    def test_are_read_as_json(self, tmp_path):
        file = tmp_path / "words.json"
        file.write_text('{"fox": ["vixen", "Füchsin"], "dog": ["hound"]}', "utf-8")
        assert read_synonyms(file) == {"fox": ("vixen", "Füchsin"), "dog": ("hound",)}

    def test_are_read_as_csv_and_lines_of_one_word_add_up(self, tmp_path):
        file = tmp_path / "words.csv"
        file.write_text('\ufefffox,vixen\ndog, hound\n\nfox,"Reynard, the fox"\n', "utf-8")
        assert read_synonyms(str(file)) == {"fox": ("vixen", "Reynard, the fox"), "dog": ("hound",)}

    @pytest.mark.parametrize(
        ("name", "content", "rule"),
        [
            ("a.json", b"[1, 2]", "holds no synonyms"),
            ("a.json", b'{"fox": []}', "fox"),
            ("a.json", b'{"fox": ["vixen"', "line 1"),
            ("a.csv", b"fox,vixen\nfox\n", "line 2 has 1 values"),
            ("a.csv", b"fox,\n", "fox"),
            ("a.csv", b"fox,\xff\n", "UTF-8"),
        ],
    )
    def test_that_hold_none_are_refused_by_name_and_place(self, tmp_path, name, content, rule):
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(DataError, match=rule) as caught:
            read_synonyms(file)
        assert str(file) in str(caught.value)


def test_the_public_names_are_documented():
    assert all(getattr(augment, name).__doc__ for name in augment.__all__)
    assert augment.__all__ == sorted(augment.__all__, key=lambda name: (name[0].islower(), name))


@pytest.mark.parametrize("module", ["genloom", "genloom.augment"])
def test_importing_loads_no_heavy_library(module):
    heavy = {"torch", "torchvision", "numpy", "python_stretch", "scipy"}
    code = f"import sys, {module}; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
