"""What generation asks: prompts, samples of the kind that is stated, and the same ones for a seed."""

import json
from collections.abc import Sequence
from typing import Any, cast

from genloom.errors import PromptError
from genloom.generator import Generator
from genloom.samples import Sample, Text
from genloom.testing.case import SEED, Case
from genloom.testing.comparing import apart
from genloom.testing.prompts import REMEDY, example_prompts
from genloom.testing.rules import Broken, Doubtful, Rule, rule

SEED_REMEDY = (
    "draw each prompt's randomness from its own torch.Generator().manual_seed(prompt.seed), "
    "and let no sample of a batch touch another (no BatchNorm in training mode)"
)


@rule(
    "prompts",
    "a prompt is the same after its way through JSON, and check_prompt raises PromptError or nothing",
    "give Prompt's fields types that JSON can hold",
    needs=("prompt's fields", "build"),
)
def prompts(case: Case) -> str:
    """To JSON and back, and accepted."""
    asked = example_prompts(case)
    for prompt in asked:
        back = case.cls.Prompt.model_validate_json(prompt.model_dump_json())
        if back != prompt:
            raise Broken(f"{prompt!r} became {back!r}")
        try:
            case.trainable.check_prompt(prompt, case.data)
        except PromptError as error:
            raise Broken(f"check_prompt refuses the kit's prompt: {error}", REMEDY) from error
    return f"{len(asked)} of them"


@rule(
    "generate",
    "generate(model, prompts) gives one sample of the stated kind for each prompt, in order",
    "return a list as long as prompts, of samples of the class that `makes` names",
    needs=("prompts", "makes", "loss"),
)
def generate(case: Case) -> str:
    """Of a batch, and of one prompt."""
    kind = _generator(case).makes
    asked = example_prompts(case)
    for some in (asked, asked[:1]):
        made: Any = _samples(case, some)
        if len(made) != len(some):
            raise Broken(f"{len(some)} prompts gave {len(made)} samples")
        wrong = [type(sample).__name__ for sample in made if not isinstance(sample, kind)]
        if wrong:
            raise Broken(f"a sample is {wrong[0]}, and makes is {kind.__name__}")
    return f"{len(asked)} of {kind.__name__}"


@rule(
    "samples travel",
    "a sample is the same after its way through JSON, and through a file",
    "make samples of the values that the class documents (finite, in its range)",
    needs=("generate",),
)
def samples_travel(case: Case) -> str:
    """To JSON and to bytes, and back."""
    for sample in _samples(case, example_prompts(case)):
        kind = type(sample)
        ways = {
            "JSON": kind.from_json(json.loads(json.dumps(sample.to_json()))),
            "bytes": kind.from_bytes(sample.to_bytes()),
        }
        for way, back in ways.items():
            if distance := apart(sample, back):
                raise Broken(f"after {way}: {distance}")
    return ""


@rule("same seed", "the same prompt gives the same sample again", SEED_REMEDY, needs=("generate",))
def same_seed(case: Case) -> str:
    """Twice, with torch's global generator in two different states."""
    asked = example_prompts(case)
    again = zip(_samples(case, asked, 1), _samples(case, asked, 2), strict=True)
    for prompt, (one, other) in zip(asked, again, strict=True):
        if distance := apart(one, other):
            raise Broken(f"seed {prompt.seed} gave two samples: {distance}")
    return ""


@rule(
    "same seed in a batch",
    "a prompt's sample is the same whatever else is in the batch, and wherever in it the prompt is",
    SEED_REMEDY,
    needs=("same seed",),
)
def same_in_batch(case: Case) -> str:
    """Alone, in a batch, and in the batch turned round."""
    asked = example_prompts(case)
    together = _samples(case, asked)
    turned = _samples(case, asked[::-1])[::-1]
    for place, prompt in enumerate(asked):
        (alone,) = _samples(case, [prompt])
        if distance := apart(alone, together[place]):
            raise Broken(f"seed {prompt.seed} alone and among {len(asked)}: {distance}")
        if distance := apart(turned[place], together[place]):
            raise Broken(f"seed {prompt.seed} at two places of a batch: {distance}")
    return ""


@rule(
    "seeds differ",
    "other seeds give other samples, where the prompt leaves something open",
    "draw something from prompt.seed, unless the prompt says all (as where pictures are enlarged)",
    needs=("same seed",),
)
def seeds_differ(case: Case) -> str:
    """One prompt under several seeds."""
    prompt = example_prompts(case)[0]
    asked = [prompt.model_copy(update={"seed": seed}) for seed in (11, 12, 13, 14)]
    first, *others = _samples(case, asked)
    if not any(apart(first, other) for other in others):
        raise Doubtful(f"{len(asked)} seeds gave one and the same sample")
    return ""


@rule(
    "weights say all",
    "the configuration and the model's saved state give the same samples in another process",
    "register_buffer what generation needs beside the weights, where build draws it at random or "
    "the loss learns it",
    needs=("same seed",),
)
def weights_say_all(case: Case) -> str:
    """The state goes into a model of other fresh weights, under a configuration read from JSON."""
    other = Case(case.cls, case.cls.model_validate_json(case.trainable.model_dump_json()))
    other.given_rows, other.given_data = case.rows, case.data
    restored = other.build(SEED + 1)
    restored.load_state_dict(case.model.state_dict())
    other.model = restored.eval()
    asked = example_prompts(case)
    for one, two in zip(_samples(case, asked), _samples(other, asked), strict=True):
        if distance := apart(one, two):
            raise Broken(f"a model that was saved and loaded makes another sample: {distance}")
    return ""


@rule(
    "stream",
    "stream(model, prompt) yields pieces of the stated kind; a text's, joined, are what generate gives",
    "let generate join the pieces that stream yields",
    needs=("same seed",),
)
def stream(case: Case) -> str:
    """The pieces of each prompt's sample."""
    subject, asked, count = _generator(case), example_prompts(case), 0
    for prompt, whole in zip(asked, _samples(case, asked), strict=True):
        with case.torch.no_grad(), case.seeded(SEED):
            pieces = list(subject.stream(case.model, prompt))
        wrong = [type(piece).__name__ for piece in pieces if not isinstance(piece, subject.makes)]
        if wrong or not pieces:
            raise Broken(
                f"it yielded {wrong[0] if wrong else 'nothing'}, and makes is {subject.makes.__name__}"
            )
        if isinstance(whole, Text):
            joined = Text("".join(cast(Text, piece).text for piece in pieces))
            if distance := apart(joined, whole):
                raise Broken(f"seed {prompt.seed}, joined and whole: {distance}")
        count += len(pieces)
    return f"{count} pieces of {len(asked)} samples"


@rule(
    "running batch",
    "where running(model) gives a batch, a sample is the one that generate gives, whoever joins it on the way",
    "let generate, stream and the running batch take the same steps, on shapes that do not depend on others",
    needs=("same seed",),
)
def running(case: Case) -> str:
    """Each prompt joins a step after the one before, at the last place that is free."""
    subject, asked = _generator(case), example_prompts(case)
    samples = _samples(case, asked)
    with case.torch.no_grad(), case.seeded(SEED):
        batch = subject.running(case.model)
        if batch is None:
            return "it has none"
        waiting, places = dict(enumerate(asked)), dict[int, int]()
        pieces: list[list[Sample]] = [[] for _ in asked]
        while waiting or places:
            free = [place for place in range(batch.places) if place not in places]
            if waiting and free:
                number = next(iter(waiting))
                batch.join(free[-1], waiting.pop(number))
                places[free[-1]] = number
            for place, piece in batch.step().items():
                pieces[places[place]].append(piece.sample)
                if piece.last:
                    del places[place]
    for prompt, whole, parts in zip(asked, samples, pieces, strict=True):
        joined = Text("".join(map(str, parts))) if isinstance(whole, Text) else parts[-1]
        if distance := apart(joined, whole):
            raise Broken(f"seed {prompt.seed}, in a running batch and alone: {distance}")
    return f"{len(asked)} samples at {batch.places} places"


def _samples(case: Case, asked: Sequence[Any], seed: int = SEED) -> Sequence[Sample]:
    """What a generator makes, as the platform asks it: without gradients, in evaluation mode."""
    case.model.eval()
    with case.torch.no_grad(), case.seeded(seed):
        return _generator(case).generate(case.model, asked)


def _generator(case: Case) -> Generator:
    assert isinstance(case.trainable, Generator)
    return case.trainable


RULES: tuple[Rule, ...] = (
    prompts,
    generate,
    samples_travel,
    same_seed,
    same_in_batch,
    seeds_differ,
    weights_say_all,
    stream,
    running,
)
