"""Continuous batching, without HTTP and Ray."""

import asyncio
from contextlib import aclosing

import pytest
import torch

import genloom
from genloom import Piece, Text
from genloom_platform.serve.engine import Engine
from genloom_text.rnn import TextRNN


class Counted(genloom.RunningBatch):
    """Writes how many were in the batch, as often as a prompt asks; -1 cannot join, and -2 breaks it."""

    places = 4

    def __init__(self):
        self.left, self.begun = {}, []

    def join(self, place, prompt):
        if prompt["count"] == -1:
            raise ValueError("unlucky")
        self.left[place] = prompt["count"]
        self.begun.append(prompt["count"])

    def leave(self, place):
        del self.left[place]

    def step(self):
        if -2 in self.left.values():
            raise RuntimeError("broken")
        pieces = {}
        for place, left in list(self.left.items()):
            pieces[place] = Piece(Text(str(len(self.left))), left == 1)
            self.left[place] -= 1
        self.left = {place: left for place, left in self.left.items() if left}
        return pieces


@pytest.fixture
def counted():
    made = []

    def begin():
        made.append(Counted())
        return made[-1]

    engine = Engine(begin)
    yield engine, made
    engine.close()


async def text_of(engine, prompt):
    return "".join([str(piece) async for pieces in engine.write(prompt) for piece in pieces])


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20))


def test_prompts_join_a_batch_that_runs_and_share_its_steps(counted):
    async def both():
        first = asyncio.create_task(text_of(counted[0], {"count": 20_000}))
        await asyncio.sleep(0.05)
        second = await text_of(counted[0], {"count": 3})
        return await first, second

    first, second = run(both())
    assert second == "222"
    assert first.startswith("1")
    assert "222" in first
    assert first.endswith("1")
    assert len(counted[1]) == 1


def test_more_prompts_than_places_wait_and_come_in_the_order_of_their_coming(counted):
    async def many():
        return await asyncio.gather(*(text_of(counted[0], {"count": 100 + n}) for n in range(12)))

    assert [len(text) for text in run(many())] == [100 + n for n in range(12)]
    assert counted[1][0].begun == [100 + n for n in range(12)]


def test_a_prompt_that_cannot_join_fails_no_other(counted):
    async def three():
        return await asyncio.gather(
            *(text_of(counted[0], {"count": count}) for count in (1000, -1, 5)), return_exceptions=True
        )

    good, bad, other = run(three())
    assert (len(good), len(other)) == (1000, 5)
    assert str(bad) == "unlucky"


def test_a_step_that_fails_is_told_to_all_in_it_and_the_next_ones_are_made(counted):
    async def after():
        with pytest.raises(RuntimeError, match="broken"):
            await text_of(counted[0], {"count": -2})
        return await text_of(counted[0], {"count": 2})

    assert run(after()) == "11"
    assert len(counted[1]) == 2


def test_who_goes_in_the_middle_frees_the_place(counted):
    async def gone():
        async with aclosing(counted[0].write({"count": 10**9})) as pieces:
            await anext(pieces)
        while counted[1][0].left:
            await asyncio.sleep(0.01)
        return await text_of(counted[0], {"count": 1})

    assert run(gone()) == "1"


def test_a_text_is_the_same_in_a_running_batch_as_alone():
    torch.manual_seed(0)
    generator = TextRNN(width=32)
    column = genloom.TextColumn(max_chars=64, vocabulary=tuple("abcdef "))
    model = generator.build(TextRNN.Data(text=column)).eval()
    prompts = [TextRNN.Prompt(seed=seed, max_chars=10 + seed, start="ab") for seed in range(20)]
    engine = Engine(lambda: generator.running(model))

    async def together():
        return await asyncio.gather(*(text_of(engine, prompt) for prompt in prompts))

    written = run(together())
    engine.close()
    with torch.no_grad():
        assert written == [str(generator.generate(model, [prompt])[0]) for prompt in prompts]
