"""A predictor whose examples are pictures and labels as they are: what the stream itself costs."""

import genloom
from genloom import ClassColumn, ImageColumn


class Pictures(genloom.Predictor):
    """Only its `prepare` is used."""

    contract = "1.0"

    class Data(genloom.Data):
        image: ImageColumn
        label: ClassColumn

    def build(self, data):
        raise NotImplementedError

    def prepare(self, row, data):
        return {"image": row["image"].to_chw(), "label": row["label"]}

    def loss(self, model, batch):
        raise NotImplementedError

    def predict(self, model, batch):
        raise NotImplementedError
