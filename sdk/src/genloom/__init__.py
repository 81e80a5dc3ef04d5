"""Genloom: write a generator in an afternoon, train it on a cluster, serve it."""

from genloom.client import connect, connect_async
from genloom.data import (
    AudioColumn,
    ClassColumn,
    Data,
    IdColumn,
    ImageColumn,
    NotesColumn,
    NumberColumn,
    Row,
    TensorColumn,
    TextColumn,
)
from genloom.errors import DataError, GenloomError, PromptError, WrongDataset
from genloom.formats import BadRow, Files, Format, SourceRow, Unit
from genloom.generator import (
    CONTRACT,
    Batch,
    Example,
    Generator,
    Likelihood,
    Piece,
    Predictor,
    RunningBatch,
    Trainable,
)
from genloom.objective import Loss, Objective, Optimizer
from genloom.predictions import Embedding, Label, Prediction, Ranking, Value
from genloom.pretrained import LoadedModel, ModelName, load_model
from genloom.prompt import Prompt
from genloom.samples import Audio, Image, Note, Notes, Sample, Text

__all__ = [
    "CONTRACT",
    "Audio",
    "AudioColumn",
    "BadRow",
    "Batch",
    "ClassColumn",
    "Data",
    "DataError",
    "Embedding",
    "Example",
    "Files",
    "Format",
    "Generator",
    "GenloomError",
    "IdColumn",
    "Image",
    "ImageColumn",
    "Label",
    "Likelihood",
    "LoadedModel",
    "Loss",
    "ModelName",
    "Note",
    "Notes",
    "NotesColumn",
    "NumberColumn",
    "Objective",
    "Optimizer",
    "Piece",
    "Prediction",
    "Predictor",
    "Prompt",
    "PromptError",
    "Ranking",
    "Row",
    "RunningBatch",
    "Sample",
    "SourceRow",
    "TensorColumn",
    "Text",
    "TextColumn",
    "Trainable",
    "Unit",
    "Value",
    "WrongDataset",
    "connect",
    "connect_async",
    "load_model",
]
