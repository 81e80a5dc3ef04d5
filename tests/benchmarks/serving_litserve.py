"""The same model on LitServe: `python serving_litserve.py MODEL PORT`."""

import sys
from pathlib import Path

import litserve

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from benchmarks.serving_models import MODELS


class Pictures(litserve.LitAPI):
    def setup(self, device):
        self.model = MODELS[sys.argv[1]]()

    def decode_request(self, request):
        return self.model.trainable.Prompt(seed=request["seed"])

    def batch(self, inputs):
        return inputs

    @torch.inference_mode()
    def predict(self, prompts):
        return self.model.trainable.generate(self.model.module, prompts)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return {"sample": output.to_json()}


if __name__ == "__main__":
    api = Pictures(max_batch_size=64, batch_timeout=0.002)
    server = litserve.LitServer(api, accelerator="cpu", devices=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="error")
