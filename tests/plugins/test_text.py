"""text-rnn: crops and masks, exact likelihoods, texts that depend on nothing but their prompt."""

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import genloom
from genloom import PromptError, Row, Text, TextColumn
from genloom.errors import WrongDataset
from genloom_text import TextRNN
from genloom_text.network import PADDING, CharacterRNN
from genloom_text.writing import GROUP, draw

TEXT = "it was the best of times, it was the worst of times"
DATA = TextRNN.Data(text=TextColumn(vocabulary=tuple(sorted(set(TEXT))), max_chars=40))
SMALL = TextRNN(width=24, embedding=8, context=12, dropout=0.0)
CELLS = [("lstm", 1), ("lstm", 2), ("gru", 1), ("gru", 2)]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks this small only get slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def built(generator: TextRNN = SMALL, seed: int = 0) -> CharacterRNN:
    torch.manual_seed(seed)
    model = generator.build(DATA).eval()
    with torch.no_grad():  # far from uniform, so that texts show every difference
        model.output.weight.mul_(12)
    return model


def batch_of(generator: TextRNN, texts: Sequence[str], seed: int = 0) -> genloom.Batch:
    rows = [Row({"text": text}, (seed, number)) for number, text in enumerate(texts)]
    return generator.collate([generator.prepare(row, DATA) for row in rows])


def nats_by_hand(model: CharacterRNN, text: str) -> float:
    """One character after the other, each from the whole of what came before."""
    symbols = [model.vocabulary.start, *model.vocabulary.encode(text).tolist()]
    total = 0.0
    for at, symbol in enumerate(symbols[1:], 1):
        logits, _ = model(torch.tensor([symbols[:at]]))
        total -= math.log(torch.softmax(logits[0, -1].double(), 0)[symbol].item())
    return total


def test_an_example_is_the_whole_passage_padded_to_the_longest():
    batch = batch_of(SMALL, ["the times", TEXT[:40], ""])
    assert batch["symbols"].shape == (3, 40)
    assert (batch["symbols"] != PADDING).sum(1).tolist() == [9, 40, 0]
    characters = "".join(DATA.text.vocabulary[symbol] for symbol in batch["symbols"][1].tolist())
    assert characters == TEXT[:40]


def test_crops_stay_inside_and_reach_every_character_about_as_often():
    counts, draws = np.zeros(40), 4000
    for seed in range(draws):
        offset = SMALL.prepare(Row({"text": TEXT[:40]}, (seed,)), DATA)["offset"]
        assert 0 <= offset <= 40 - SMALL.context
        counts[offset : offset + SMALL.context] += 1
    mean = draws * SMALL.context / 40
    assert counts.min() > 0.4 * mean
    assert counts.max() < 1.6 * mean


def test_a_passage_longer_than_the_model_was_built_for_is_refused():
    with pytest.raises(WrongDataset, match=r"41 characters.*none over 40.*passages of 40 or fewer"):
        SMALL.prepare(Row({"text": TEXT[:41]}), DATA)


def test_a_dataset_without_characters_is_refused():
    with pytest.raises(WrongDataset, match="no character"):
        SMALL.build(TextRNN.Data(text=TextColumn(max_chars=5)))


@pytest.mark.parametrize(("cell", "layers"), CELLS)
def test_the_network_reads_on_from_a_state_as_if_it_had_read_at_once(cell: str, layers: int):
    model = built(TextRNN(cell=cell, layers=layers, width=24, dropout=0.5))
    symbols = torch.randint(0, 10, (3, 9))
    with torch.no_grad():
        whole, end = model(symbols)
        first, state = model(symbols[:, :4])
        second, after = model(symbols[:, 4:], state)
    assert whole.shape == (3, 9, len(DATA.text.vocabulary) + 1)
    assert end.shape == (2 if cell == "lstm" else 1, layers, 3, 24)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(after, end)


@pytest.mark.parametrize(("cell", "layers"), CELLS)
def test_the_likelihood_is_the_sum_over_every_character_of_every_passage(cell: str, layers: int):
    generator = TextRNN(cell=cell, layers=layers, width=24, context=5)
    model, texts = built(generator), ["the times", TEXT[:40], "w"]
    with torch.no_grad():
        found = generator.likelihood(model, batch_of(generator, texts))
        by_hand = [nats_by_hand(model, text) for text in texts]
    assert found.units.tolist() == [9, 40, 1]
    assert found.nats.tolist() == pytest.approx(by_hand, rel=1e-4)


def test_an_unknown_character_costs_its_symbol_and_which_one_it_is():
    model, text = built(), "the €uro"
    with torch.no_grad():
        found = SMALL.likelihood(model, batch_of(SMALL, [text]))
        symbols = nats_by_hand(model, text)
    which = math.log(1_112_064 - len(DATA.text.vocabulary))
    assert found.nats.item() == pytest.approx(symbols + 2 * which, rel=1e-5)  # € and u
    assert found.units.item() == len(text)


def test_the_loss_is_the_mean_over_crops_of_their_mean_over_characters():
    model, texts = built(), [TEXT[:40], "times", TEXT[3:30]]
    batch = batch_of(SMALL, texts)
    loss = SMALL.loss(model, batch)
    crops = [text[at : at + 12] for text, at in zip(texts, batch["offset"].tolist(), strict=True)]
    with torch.no_grad():
        by_hand = np.mean([nats_by_hand(model, crop) / len(crop) for crop in crops])
    assert loss.value.item() == pytest.approx(by_hand, rel=1e-5)
    bits = float(loss.metrics["bits_per_character"])
    assert bits == pytest.approx(by_hand / math.log(2), rel=1e-5)


def test_padding_changes_neither_loss_nor_gradient():
    short, padded = (
        TextRNN.Data(text=TextColumn(vocabulary=DATA.text.vocabulary, max_chars=length))
        for length in (9, 40)
    )
    gradients: list[torch.Tensor] = []
    for data in (short, padded):
        model = built()
        example = SMALL.prepare(Row({"text": "the times"}), data)
        SMALL.loss(model, SMALL.collate([example])).value.backward()
        assert model.embedding.weight.grad is not None
        gradients.append(model.embedding.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def mixed_prompts(count: int = 20) -> list[TextRNN.Prompt]:
    """Starts, lengths, temperatures and seeds that all differ."""
    return [
        TextRNN.Prompt(
            start=TEXT[: 2 * number],
            max_chars=5 + 7 * (number % 5),
            temperature=0.5 + number / 10,
            top_p=1 - number / 40,
            seed=100 + number,
        )
        for number in range(count)
    ]


@pytest.mark.parametrize(("cell", "layers"), CELLS)
def test_a_prompt_gives_the_same_text_alone_in_a_batch_and_as_a_stream(cell: str, layers: int):
    generator = TextRNN(cell=cell, layers=layers, width=64)
    model, prompts = built(generator), mixed_prompts()
    with torch.no_grad():
        together = generator.generate(model, prompts)
        turned = generator.generate(model, prompts[::-1])[::-1]
        alone = [generator.generate(model, [prompt])[0] for prompt in prompts]
        streamed = [[piece.text for piece in generator.stream(model, prompt)] for prompt in prompts]
    assert together == turned == alone
    assert ["".join(pieces) for pieces in streamed] == [text.text for text in together]
    assert all(
        len(pieces) == prompt.max_chars for pieces, prompt in zip(streamed, prompts, strict=True)
    )
    assert len({text.text for text in together}) == len(prompts)


@pytest.mark.parametrize(("cell", "layers"), CELLS)
def test_a_prompt_gives_the_same_text_whoever_joins_and_leaves_while_it_is_written(
    cell: str, layers: int
):
    generator = TextRNN(cell=cell, layers=layers, width=64)
    model, prompts = built(generator), mixed_prompts()
    with torch.no_grad():
        whole = [text.text for text in generator.generate(model, prompts)]
        batch, places, written = generator.running(model), dict[int, int](), [""] * len(prompts)
        waiting, given_up = list(range(len(prompts))), len(prompts) - 1
        while waiting or places:
            if waiting:  # one more in every step, each at the first place that is free
                place = next(place for place in range(batch.places) if place not in places)
                places[place] = waiting.pop(0)
                batch.join(place, prompts[places[place]])
            for place, piece in batch.step().items():
                number = places[place]
                written[number] += str(piece.sample)
                if piece.last:
                    del places[place]
                elif number == given_up:
                    batch.leave(place)
                    del places[place]
    assert written[:given_up] == whole[:given_up]
    assert len(written[given_up]) == 1


@pytest.mark.parametrize(("cell", "layers"), CELLS)
def test_the_logits_are_the_same_to_the_last_bit_alone_and_at_every_place_of_a_batch(
    cell: str, layers: int
):
    # Texts alone would rarely tell: of a million characters, about one is drawn so near to an edge.
    generator = TextRNN(cell=cell, layers=layers, width=512 // layers)
    model = built(generator)
    prompt = TextRNN.Prompt(seed=99, max_chars=6, start="it was")
    others = [TextRNN.Prompt(seed=number, max_chars=12) for number in range(GROUP - 1)]
    seen: list[torch.Tensor] = []
    model.output.register_forward_hook(lambda module, read, logits: seen.append(logits[:, -1]))

    def logits_of(prompts: list[TextRNN.Prompt]) -> torch.Tensor:
        seen.clear()
        with torch.no_grad():
            generator.generate(model, prompts)
        steps = [logits for logits in seen if len(logits) > 1]  # of the group, after the starts
        return torch.stack([logits[prompts.index(prompt)] for logits in steps[: prompt.max_chars - 1]])

    alone = logits_of([prompt])
    assert len(alone) == prompt.max_chars - 1
    for place in range(GROUP):
        assert torch.equal(logits_of([*others[:place], prompt, *others[place:]]), alone)


def test_a_seed_decides_and_a_longer_text_goes_on_from_a_shorter_one():
    model = built()
    asked = [(1, 60), (1, 60), (2, 60), (1, 90)]
    prompts = [TextRNN.Prompt(seed=seed, max_chars=length) for seed, length in asked]
    with torch.no_grad():
        first, again, other, longer = SMALL.generate(model, prompts)
    assert first == again != other
    assert longer.text.startswith(first.text)


def test_at_temperature_0_the_likeliest_is_written_whatever_the_seed():
    model = built()
    prompts = [TextRNN.Prompt(seed=seed, max_chars=40, temperature=0) for seed in (1, 2)]
    with torch.no_grad():
        first, second = SMALL.generate(model, prompts)
        drawn, _ = SMALL.generate(
            model, [each.model_copy(update={"temperature": 1}) for each in prompts]
        )
    assert first == second != drawn


def test_the_sample_leaves_out_the_start_and_never_holds_the_unknown():
    model = built()
    with torch.no_grad():
        model.output.bias[-1] = 100  # the unknown symbol is nearly certain
        (text,) = SMALL.generate(model, [TextRNN.Prompt(start="the worst", max_chars=200, seed=3)])
    assert len(text.text) == 200
    assert set(text.text) <= set(DATA.text.vocabulary)
    assert not text.text.startswith("the worst")


def test_a_low_temperature_or_top_p_writes_the_likeliest_characters():
    model = built()
    model.output.weight.data.mul_(10)
    cold = TextRNN.Prompt(temperature=0.01, max_chars=30, seed=1)
    narrow = TextRNN.Prompt(top_p=1e-6, max_chars=30, seed=2)
    with torch.no_grad():
        one, other = SMALL.generate(model, [cold, narrow])
    assert one == other


@pytest.mark.parametrize(
    ("top_p", "expected"), [(1.0, [0.1, 0.6, 0.3]), (0.65, [0, 2 / 3, 1 / 3]), (0.6, [0, 1, 0])]
)
def test_draws_have_the_stated_probabilities(top_p: float, expected: list[float]):
    count = 20_000
    probabilities = torch.tensor([[0.1, 0.6, 0.3]], dtype=torch.float64).expand(count, 3)
    uniform = (torch.arange(count, dtype=torch.float64)[:, None] + 0.5) / count
    drawn = draw(probabilities, torch.full((count, 1), top_p, dtype=torch.float64), uniform)
    frequencies = torch.bincount(drawn, minlength=3) / count
    assert frequencies.tolist() == pytest.approx(expected, abs=2e-4)


def test_a_start_with_unknown_characters_is_refused_and_they_are_named():
    SMALL.check_prompt(TextRNN.Prompt(start="the best"), DATA)
    with pytest.raises(PromptError, match=r"'Z' \(U\+005A\), '\\xe9' \(U\+00E9\).*leave them out"):
        SMALL.check_prompt(TextRNN.Prompt(start="the éZZ"), DATA)
    with pytest.raises(PromptError, match="and 2 more"):
        SMALL.check_prompt(TextRNN.Prompt(start="0123456789"), DATA)


TOO_LONG = "a" * 4097


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", -1), ("max_chars", 0), ("max_chars", 4097), ("top_p", 0), ("start", TOO_LONG)],
)
def test_prompts_beyond_their_bounds_are_refused(field: str, value: object):
    with pytest.raises(ValidationError):
        TextRNN.Prompt.model_validate({field: value})


@pytest.mark.parametrize("wrong", [{"cell": "rnn"}, {"dropout": 1}, {"layers": 0}, {"hidden": 3}])
def test_hyperparameters_beyond_their_bounds_are_refused(wrong: dict[str, object]):
    with pytest.raises(ValidationError):
        TextRNN.model_validate(wrong)


def test_configuration_prompt_and_sample_survive_json():
    assert TextRNN.model_validate_json(SMALL.model_dump_json()) == SMALL
    prompt = TextRNN.Prompt(start="it\n", temperature=0.7)
    assert TextRNN.Prompt.model_validate_json(prompt.model_dump_json()) == prompt
    with torch.no_grad():
        (text,) = SMALL.generate(built(), [prompt])
    assert Text.from_json(json.loads(json.dumps(text.to_json()))) == text
    properties = TextRNN.Prompt.model_json_schema()["properties"]
    assert properties.keys() == {"seed", "start", "max_chars", "temperature", "top_p"}
    assert all(field["description"] for field in properties.values())


def test_it_learns_a_small_text_by_heart():
    torch.manual_seed(0)
    generator = TextRNN(width=64, embedding=16, context=40, dropout=0.0)
    model = generator.build(DATA)
    (objective,) = generator.objectives()
    assert objective.optimizer is not None
    optimizer = torch.optim.AdamW(model.parameters(), lr=objective.optimizer.lr)
    batch = batch_of(generator, [TEXT[:40]] * 4)
    for _ in range(120):
        optimizer.zero_grad()
        objective.loss(model, batch).value.backward()
        optimizer.step()
    with torch.no_grad():
        (text,) = generator.generate(
            model.eval(),
            [TextRNN.Prompt(start="it was the best", max_chars=25, temperature=0.1, seed=5)],
        )
    assert text.text == TEXT[15:40]


def test_it_is_installed_under_its_name():
    from genloom import registry

    assert registry.load("text-rnn") is TextRNN
