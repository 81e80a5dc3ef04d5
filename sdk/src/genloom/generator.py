"""What a team writes: a `Generator` or a `Predictor`. Read this file to write one.

The class is a frozen pydantic model: its fields are its hyperparameters, so an instance is the
configuration of the model. Two classes inside it type what goes in: `Data`, the columns that it
learns from, and `Prompt`, what a caller may ask. The platform calls the methods:

    build(data)                 once a process       the network, not yet trained
    prepare(row, data)          on CPU workers       one row of the dataset → one example
    collate(examples)           on the trainer       examples → one batch
    loss(model, batch)          every step           one batch → its cost
    generate(model, prompts)    when asked           prompts → samples
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict

from genloom import data as _data
from genloom import prompt as _prompt
from genloom.data import Row
from genloom.errors import PluginError
from genloom.objective import Loss, Objective
from genloom.predictions import Prediction
from genloom.samples import Sample

if TYPE_CHECKING:
    from torch import Tensor, nn

CONTRACT = "1.0"
"""The version of this contract: another major version is another contract, a higher minor one adds."""

Example = Mapping[str, Any]
"""One prepared row: name → numpy array, CPU tensor or number."""
Batch = Mapping[str, Any]
"""Examples stacked: name → tensor whose first dimension is the batch."""


@dataclass(frozen=True)
class Likelihood:
    """How probable a model finds data; gives bits per character, and the like."""

    nats: "Tensor"
    """The negative log-likelihood of each example (or its upper bound, as an ELBO gives), [batch]."""
    units: "Tensor"
    """How many units (characters, pixels) each example holds, [batch]."""


class Trainable(BaseModel, ABC):
    """What generators and predictors share: everything that training needs."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=()
    )

    contract: ClassVar[str]
    """The contract version that the class was written for: write `contract = "1.0"`."""
    Data: ClassVar[type[_data.Data]] = _data.Data
    """The columns that it learns from."""
    Prompt: ClassVar[type[_prompt.Prompt]] = _prompt.Prompt
    """What a caller may ask."""

    @abstractmethod
    def build(self, data: Any) -> "nn.Module":
        """The network, with fresh weights.

        Args:
            data: This class's own `Data`: shapes, classes, vocabulary of the dataset.

        Returns:
            One module. Its children may be trained apart (see `objectives`). Keep on it whatever of
            `data` generation needs; buffers that `loss` changes are saved, restored and kept equal
            across the ranks. Draw weights from torch's global generator: the platform seeds it.
        """

    @abstractmethod
    def prepare(self, row: Row, data: Any) -> Example:
        """One row of the dataset as one example, on a CPU worker.

        Augment here, with `row.rng`. Columns that are optional in `Data` may be missing in the row.
        """

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Examples as one batch: stacked, or padded where a generator overrides it."""
        from torch.utils.data import default_collate

        batch: Batch = default_collate([dict(example) for example in examples])
        return batch

    def loss(self, model: Any, batch: Any) -> Loss:
        """The cost of a batch under the plain module `model`.

        Call the module or its children as often as needed; gradients, precision and parallelism
        are the platform's. A loss that draws random numbers draws them from torch's global generator.
        """
        raise PluginError(f"{type(self).__name__} defines neither loss() nor objectives()")

    def objectives(self) -> Sequence[Objective]:
        """The losses and the parts that they train; one that trains everything unless overridden."""
        return [Objective("loss", self.loss)]

    def likelihood(self, model: Any, batch: Any) -> Likelihood | None:
        """How probable the model finds each example, or None where it gives no likelihood."""
        return None

    def check_prompt(self, prompt: Any, data: Any) -> None:
        """Raise `genloom.PromptError` where this model cannot answer the prompt.

        Its type has been checked already; this is for what depends on the dataset, such as a label
        beyond its classes.
        """


class Generator(Trainable):
    """A model that makes samples."""

    makes: ClassVar[type[Sample]]
    """What it makes: `Image`, `Text`, `Audio` or `Notes`."""

    @abstractmethod
    def generate(self, model: Any, prompts: Sequence[Any]) -> Sequence[Sample]:
        """One sample for each prompt, in order.

        Args:
            model: The trained module, in evaluation mode, without gradients.
            prompts: This class's own `Prompt`s. Draw the randomness of each from its `seed` alone.
        """

    def stream(self, model: Any, prompt: Any) -> Iterator[Sample]:
        """The sample of one prompt in pieces, as they are made; all at once unless overridden."""
        yield from self.generate(model, [prompt])

    def running(self, model: Any) -> "RunningBatch | None":
        """A batch that prompts join and leave while it runs, for models that make a sample step by step.

        None unless overridden: whoever comes then waits until the batch before is done.

        Args:
            model: As `generate` gets it.
        """


class Piece(NamedTuple):
    """What a sample has grown by."""

    sample: Sample
    """The piece; a text's, joined, are what `generate` gives."""
    last: bool
    """Whether the sample is whole; its place is then free again."""


class RunningBatch(ABC):
    """Samples in the making, all taken a step further at a time (Yu et al., Orca, 2022, section 3.1).

    What a prompt gets must not depend on who else is in the batch, or when they came. One thread calls it.
    """

    places: int
    """How many samples it makes at once."""

    @abstractmethod
    def join(self, place: int, prompt: Any) -> None:
        """Begin a prompt's sample at a place that is free, from 0 to below `places`."""

    @abstractmethod
    def leave(self, place: int) -> None:
        """Give up the sample at a place: nobody waits for it any more."""

    @abstractmethod
    def step(self) -> Mapping[int, Piece]:
        """Take all samples a step further: the piece of each, by its place."""


class Predictor(Trainable):
    """A model that answers with labels, values, rankings or features.

    Its `Prompt` has the fields of a row without the target; `prepare` turns both into an example.
    """

    target: ClassVar[str] = "label"
    """The column that it learns to predict; its evaluation compares with it."""

    @abstractmethod
    def predict(self, model: Any, batch: Any) -> Sequence[Prediction]:
        """One prediction for each example of the batch, in order.

        Args:
            model: The trained module, in evaluation mode, without gradients.
            batch: As `collate` makes it, of rows that may lack the target.
        """
