"""The same model on a default Ray Serve deployment with FastAPI and `@serve.batch`."""

from fastapi import FastAPI
from pydantic import BaseModel
from ray import serve

app = FastAPI()


class Asked(BaseModel):
    seed: int


@serve.deployment
@serve.ingress(app)
class Default:
    def __init__(self, load):
        self.model = load()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002)
    async def make(self, seeds):
        import torch

        prompts = [self.model.trainable.Prompt(seed=seed) for seed in seeds]
        with torch.inference_mode():
            return self.model.trainable.generate(self.model.module, prompts)

    @app.post("/ask")
    async def ask(self, asked: Asked):
        sample = await self.make(asked.seed)
        return {"sample": sample.to_json()}
