"""The generators and the classifier of genloom-image, without the platform."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from genloom import ClassColumn, Image, ImageColumn, Label, PromptError, Row, Trainable
from genloom.errors import WrongDataset
from genloom.registry import available, load
from genloom_image import ImageClassifier, ImageGAN, ImageVAE
from genloom_image.classifier import moved
from genloom_image.gan import gradient_penalty
from genloom_image.networks import stages
from genloom_image.pictures import fitted
from genloom_image.vae import log_probability

NAMES = ("zero", "one", "two")
GENERATORS = [ImageVAE(latent=4, width=8), ImageGAN(latent=4, width=8)]
ALL = [*GENERATORS, ImageClassifier(width=4)]
SHAPES = [(8, 8, 1), (32, 32, 3), (12, 20, 4)]


@pytest.fixture(autouse=True)
def _one_thread_one_seed() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def facts(trainable: Trainable, shape: tuple[int, int, int] = (8, 8, 1), labels: bool = True) -> Any:
    height, width, channels = shape
    return trainable.Data.model_validate(
        {
            "image": ImageColumn(height=height, width=width, channels=channels),
            "label": ClassColumn(names=NAMES) if labels else None,
        }
    )


def rows(shape: tuple[int, int, int] = (8, 8, 1), count: int = 6) -> list[Row]:
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    return [Row({"image": Image(pixels[i]), "label": i % len(NAMES)}) for i in range(count)]


def batch_of(trainable: Trainable, data: Any, count: int = 6) -> Any:
    shape = (data.image.height, data.image.width, data.image.channels)
    return trainable.collate([trainable.prepare(row, data) for row in rows(shape, count)])


def prompt(trainable: Trainable, **fields: Any) -> Any:
    return trainable.Prompt.model_validate(fields)


def arrays(generator: Any, model: nn.Module, prompts: list[Any]) -> list[np.ndarray[Any, Any]]:
    with torch.no_grad():
        return [image.array for image in generator.generate(model.eval(), prompts)]


def untrained(generator: Any, shape: tuple[int, int, int] = (8, 8, 1)) -> nn.Module:
    """A network whose pictures use the whole range of grey, as those of a trained one do."""
    model = generator.build(facts(generator, shape))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
    return model.eval()


def test_the_package_offers_its_three_models_by_entry_points() -> None:
    models = {"image-vae": ImageVAE, "image-gan": ImageGAN, "image-classifier": ImageClassifier}
    for name, cls in models.items():
        assert available()[name].package == "genloom-image"
        assert load(name) is cls


@pytest.mark.parametrize("trainable", ALL, ids=lambda t: type(t).__name__)
def test_a_configuration_survives_json(trainable: Trainable) -> None:
    assert type(trainable).model_validate_json(trainable.model_dump_json()) == trainable


@pytest.mark.parametrize("trainable", ALL, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_objective_reaches_all_weights_of_its_parts(
    trainable: Trainable, shape: tuple[int, int, int]
) -> None:
    data = facts(trainable, shape)
    model = trainable.build(data)
    for objective in trainable.objectives():
        model.requires_grad_(False).zero_grad()
        parts = [model.get_submodule(part) for part in objective.parts] or [model]
        for part in parts:
            part.requires_grad_(True)
        loss = objective.loss(model, batch_of(trainable, data))
        loss.value.backward()
        assert loss.value.isfinite()
        assert loss.value.shape == ()
        for part in parts:
            assert all(p.grad is not None and p.grad.isfinite().all() for p in part.parameters())


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_seed_gives_one_picture_alone_and_among_sixteen(
    generator: Any, shape: tuple[int, int, int]
) -> None:
    model = untrained(generator, shape)
    prompts = [prompt(generator, seed=seed) for seed in range(16)]
    together = np.stack(arrays(generator, model, prompts)).astype(int)
    torch.manual_seed(99)
    alone = np.concatenate([arrays(generator, model, [one]) for one in prompts]).astype(int)
    assert together.shape == (16, *shape)
    assert np.abs(together - alone).max() <= 1
    assert (together[0] != together[1]).any()


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda t: type(t).__name__)
def test_a_label_that_is_left_out_is_drawn_from_the_seed(generator: Any) -> None:
    model = untrained(generator)
    drawn = arrays(generator, model, [prompt(generator, seed=seed) for seed in range(30)])
    by_label = [
        arrays(generator, model, [prompt(generator, seed=seed, label=label) for seed in range(30)])
        for label in range(3)
    ]
    matches = [[np.array_equal(drawn[s], by_label[k][s]) for k in range(3)] for s in range(30)]
    assert all(sum(row) == 1 for row in matches)
    assert {row.index(True) for row in matches} == {0, 1, 2}


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda t: type(t).__name__)
def test_a_dataset_without_labels_will_do(generator: Any) -> None:
    data = facts(generator, labels=False)
    example = generator.prepare(Row({"image": rows()[0]["image"]}), data)
    model = generator.build(data)
    for objective in generator.objectives():
        assert objective.loss(model, generator.collate([example, example])).value.isfinite()
    assert arrays(generator, model, [prompt(generator, seed=5)])[0].shape == (8, 8, 1)


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda t: type(t).__name__)
def test_labels_that_the_dataset_lacks_are_refused(generator: Any) -> None:
    generator.check_prompt(prompt(generator, label=2), facts(generator))
    generator.check_prompt(prompt(generator), facts(generator, labels=False))
    with pytest.raises(PromptError, match=r"label = 3: .* 3 classes; give 0 to 2"):
        generator.check_prompt(prompt(generator, label=3), facts(generator))
    with pytest.raises(PromptError, match=r"label = 0: .* without labels; leave label out"):
        generator.check_prompt(prompt(generator, label=0), facts(generator, labels=False))


@pytest.mark.parametrize("trainable", ALL, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize(
    ("height", "width", "words"),
    [
        (None, None, "differ in size"),
        (8, None, "differ in size"),
        (10, 8, r"image.height = 10: .* multiple of 4"),
        (8, 30, r"image.width = 30: .* width 32"),
        (4, 8, r"image.height = 4: .* height 8"),
    ],
)
def test_pictures_that_cannot_be_learnt_are_refused(
    trainable: Trainable, height: int | None, width: int | None, words: str
) -> None:
    data = facts(trainable).model_copy(update={"image": ImageColumn(height=height, width=width)})
    with pytest.raises(WrongDataset, match=words):
        trainable.build(data)


def test_feature_maps_shrink_to_four_pixels_and_no_further() -> None:
    assert stages((1, 8, 8), 8) == [(8, 8, 8), (16, 4, 4)]
    assert stages((3, 32, 64), 8)[-1] == (64, 4, 8)
    assert stages((3, 12, 20), 8)[-1] == (32, 3, 5)
    assert stages((3, 256, 256), 8)[-1] == (64, 4, 4)


def test_the_pixels_probabilities_sum_to_one() -> None:
    levels = torch.arange(256).float() / 255 * 2 - 1
    for location, log_scale in ((0.0, -1.0), (1.4, -3.0), (-0.3, -7.0), (5.0, 0.5)):
        nats = log_probability(levels, torch.tensor(location), torch.tensor(log_scale))
        assert nats.exp().sum().item() == pytest.approx(1, abs=1e-3)
        assert nats.isfinite().all()


def test_the_vae_reports_its_terms_and_bounds_the_likelihood() -> None:
    for beta in (1.0, 0.25):
        vae = ImageVAE(latent=4, width=8, beta=beta)
        data = facts(vae, (12, 12, 3))
        model, batch = vae.build(data), batch_of(vae, data)
        torch.manual_seed(4)
        loss = vae.loss(model, batch)
        torch.manual_seed(4)
        bound = vae.likelihood(model, batch)
        assert set(loss.metrics) == {"reconstruction", "kl"}
        terms = {name: float(value) for name, value in loss.metrics.items()}
        assert bound.units.tolist() == [12 * 12 * 3] * 6
        assert bound.nats.mean().item() == pytest.approx(sum(terms.values()), rel=1e-5)
        weighted = (terms["reconstruction"] + beta * terms["kl"]) / (12 * 12 * 3)
        assert loss.value.item() == pytest.approx(weighted, rel=1e-5)


class LinearCritic(nn.Module):
    """Scores pictures by their inner product with one weight: its slope is that weight everywhere."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        return (image * self.weight).flatten(1).sum(1)


def test_the_gradient_penalty_of_a_linear_critic_is_that_of_its_weight() -> None:
    weight = torch.randn(1, 8, 8)
    critic = LinearCritic(weight * 3 / weight.norm())
    real, fake = torch.randn(2, 5, 1, 8, 8)
    with torch.no_grad():
        assert gradient_penalty(critic, real, fake, torch.zeros(5)).item() == pytest.approx(4, rel=1e-5)
    gradient_penalty(critic, real, fake, torch.zeros(5)).backward()
    # d/dw (|w| - 1)² = 2 (|w| - 1) w / |w|, of norm 4 at |w| = 3
    assert critic.weight.grad is not None
    assert critic.weight.grad.norm().item() == pytest.approx(4, rel=1e-5)


def test_the_gan_leaves_alone_the_part_that_is_frozen() -> None:
    gan = GENERATORS[1]
    data = facts(gan)
    model, batch = gan.build(data), batch_of(gan, data)
    critic, generator = gan.objectives()
    assert (critic.repeats, generator.repeats) == (5, 1)
    for objective, frozen in ((critic, "generator"), (generator, "critic")):
        model.requires_grad_(True).zero_grad()
        model.get_submodule(frozen).requires_grad_(False)
        objective.loss(model, batch).value.backward()
        assert all(p.grad is None for p in model.get_submodule(frozen).parameters())


def test_the_classifier_names_pictures_without_being_told_their_class() -> None:
    classifier = ImageClassifier(width=4)
    data = facts(classifier)
    model = classifier.build(data).eval()
    unlabelled = [Row({"image": row["image"]}) for row in rows()]
    batch: Any = classifier.collate([classifier.prepare(row, data) for row in unlabelled])
    with torch.no_grad():
        answers = classifier.predict(model, batch)
    assert len(answers) == len(unlabelled)
    for answer in answers:
        assert isinstance(answer, Label)
        assert sum(answer.probabilities) == pytest.approx(1)
        assert answer.probabilities[answer.index] == max(answer.probabilities)
        assert answer.name == NAMES[answer.index]


def test_the_classifier_refuses_pictures_of_another_shape() -> None:
    classifier = ImageClassifier()
    ask = prompt(classifier, image=Image(np.zeros((8, 8, 1), np.uint8)))
    classifier.check_prompt(ask, facts(classifier))
    with pytest.raises(PromptError, match=r"8x8 pixels in grey: .* 32x32 in colour; resize"):
        classifier.check_prompt(ask, facts(classifier, (32, 32, 3)))


def test_the_classifier_moves_pictures_in_training_alone() -> None:
    classifier = ImageClassifier(width=4, dropout=0, shift=0.25)
    data = facts(classifier)
    model, batch = classifier.build(data), batch_of(classifier, data)
    training = {classifier.loss(model, batch).value.item() for _ in range(3)}
    model.eval()
    assert len(training) == 3
    assert len({classifier.loss(model, batch).value.item() for _ in range(3)}) == 1


def test_moved_pictures_are_the_same_pictures_elsewhere() -> None:
    image = torch.zeros(50, 1, 16, 16)
    image[:, :, 7:9, 7:9] = 1.0
    there = moved(image, 0.25)
    assert torch.allclose(there.sum((1, 2, 3)), torch.full((50,), 4.0), atol=1e-4)
    columns = (there.sum((1, 2)) * torch.arange(16)).sum(1) / 4
    assert (columns - 7.5).abs().max() <= 4 + 1e-4
    assert columns.std() > 1


def test_the_classifier_augments_in_training_alone_and_blends_its_batches():
    classifier = ImageClassifier.model_validate(
        {"augment": {"shift": 0.3, "noise": 0.1}, "mixup": 0.4, "shift": 0, "dropout": 0},
    )
    data = ImageClassifier.Data(
        image=ImageColumn(height=8, width=8, channels=1),
        label=ClassColumn(names=("a", "b")),
    )
    image = Image(np.random.default_rng(0).integers(0, 256, (8, 8, 1), np.uint8))
    still = classifier.prepare(Row({"image": image, "label": 0}, (1,)), data)["image"]
    moved = classifier.prepare(Row({"image": image, "label": 0}, (1,), training=True), data)["image"]
    assert (still == image.to_chw(-1, 1)).all()
    assert (still != moved).any()
    model = classifier.build(data)
    batch = {"image": torch.randn(16, 1, 8, 8), "label": torch.tensor([0, 1] * 8)}
    plain = ImageClassifier(shift=0, dropout=0)
    torch.manual_seed(0)
    blended = classifier.loss(model, batch).value
    assert blended != plain.loss(model, batch).value
    model.eval()
    assert classifier.loss(model, batch).value == plain.loss(model, batch).value


def test_a_picture_that_a_program_saved_with_more_channels_is_taken_where_it_loses_nothing():
    grey = Image(np.arange(64, dtype=np.uint8).reshape(8, 8, 1))
    opaque = np.full((8, 8, 1), 255, np.uint8)
    in_colour = Image(grey.array.repeat(3, axis=2))
    assert fitted(in_colour, 1) == grey
    assert fitted(Image(np.concatenate([in_colour.array, opaque], 2)), 1) == grey
    assert fitted(grey, 3) == in_colour
    coloured = Image(np.concatenate([in_colour.array[:, :, :2], opaque], 2))
    clear = Image(np.concatenate([in_colour.array, opaque - 1], 2))
    assert fitted(coloured, 1) == coloured
    assert fitted(clear, 3) == clear
